//! How `sluice top` looks: a line of totals, the nodes with bars, the queue, the keys.

use model::job::JobState;
use proto::v1::{Job, Node};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table};

use super::super::gpus::Bar;
use super::super::{job, node};
use super::screen::{Act, Screen};
use crate::table::units::{elapsed, memory};

/// Rows of nodes that are shown at most; the rest is counted.
const NODES_SHOWN: usize = 12;
/// Lines of GPUs that are shown at most; the rest is counted.
const GPUS_SHOWN: usize = 8;
/// Width of a bar.
const BAR: usize = 10;

const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().fg(Color::DarkGray);

/// Paints everything.
pub(super) fn paint(frame: &mut Frame<'_>, screen: &mut Screen) {
    let shown = screen.nodes.len().min(NODES_SHOWN);
    let height = u16::try_from(shown + 1 + usize::from(screen.nodes.len() > shown)).unwrap_or(1);
    let gpus = gpu_lines(screen);
    let [top, nodes, slices, jobs, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height + 1),
        Constraint::Length(u16::try_from(gpus.len()).unwrap_or(0)),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(totals(screen), top);
    frame.render_widget(node_table(&screen.nodes), nodes);
    frame.render_widget(Paragraph::new(gpus), slices);
    let table = job_table(screen);
    frame.render_stateful_widget(table, jobs, &mut screen.table);
    frame.render_widget(foot(screen), bottom);
    if let Some(lines) = &screen.explained {
        explanation(frame, lines);
    }
}

fn totals(screen: &Screen) -> Line<'static> {
    let sum = |of: fn(&Node) -> u64| screen.nodes.iter().map(of).sum::<u64>();
    let (cpus, of_cpus) = (sum(|node| u64::from(node.cpus_allocated)), sum(|node| u64::from(node.cpus)));
    let waiting = |job: &&Job| job::state(job) == JobState::Pending;
    let wait: u32 =
        screen.jobs.iter().filter(waiting).map(|job| job::tasks(job).map_or(1, |tasks| tasks.len())).sum();
    let run = screen.jobs.iter().filter(|job| !waiting(job)).count();
    Line::from(vec![
        Span::styled("sluice ", HEAD),
        Span::raw(format!(
            "{} nodes  {cpus}/{of_cpus} CPUs  {}/{} memory  {run} run, {wait} wait",
            screen.nodes.len(),
            memory(sum(|node| node.memory_allocated_mib), true),
            memory(sum(|node| node.memory_mib), true),
        )),
        Span::styled(if screen.only_own { "  (own jobs)" } else { "" }, DIM),
    ])
}

/// `####......` of a part of a whole.
fn bar(part: u64, whole: u64) -> String {
    let filled =
        (part * BAR as u64).checked_div(whole).map_or(0, |cells| usize::try_from(cells).unwrap_or(BAR));
    let filled = filled.min(BAR);
    // Something in use shows, however little.
    let filled = if part > 0 { filled.max(1) } else { filled };
    format!("{}{}", "#".repeat(filled), ".".repeat(BAR - filled))
}

fn node_table(nodes: &[Node]) -> Table<'static> {
    let mut rows: Vec<Row<'static>> = nodes.iter().take(NODES_SHOWN).map(node_row).collect();
    if nodes.len() > NODES_SHOWN {
        rows.push(Row::new([format!("… {} more", nodes.len() - NODES_SHOWN)]).style(DIM));
    }
    let widths = [
        Constraint::Length(12),
        Constraint::Length(14),
        Constraint::Length(22),
        Constraint::Length(26),
        Constraint::Min(10),
    ];
    Table::new(rows, widths).header(Row::new(["NODE", "STATE", "CPUS", "MEMORY", "DEVICES"]).style(HEAD))
}

fn node_row(one: &Node) -> Row<'static> {
    let state = node::long(one);
    let style = match one.state.as_str() {
        "DOWN" => Style::new().fg(Color::Red),
        _ if one.drain || one.not_responding => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    };
    let devices =
        if one.gres.is_empty() { String::new() } else { format!("{} used of {}", one.gres_used, one.gres) };
    Row::new([
        Cell::new(one.name.clone()),
        Cell::new(state).style(style),
        Cell::new(format!(
            "{} {}/{}",
            bar(one.cpus_allocated.into(), one.cpus.into()),
            one.cpus_allocated,
            one.cpus
        )),
        Cell::new(format!(
            "{} {}/{}",
            bar(one.memory_allocated_mib, one.memory_mib),
            memory(one.memory_allocated_mib, true),
            memory(one.memory_mib, true)
        )),
        Cell::new(devices),
    ])
}

/// A line for each GPU, and an empty one behind them.
fn gpu_lines(screen: &Screen) -> Vec<Line<'static>> {
    let line = |bar: &Bar| {
        let free = bar
            .free_ms
            .map_or_else(String::new, |at| format!("  {} left", elapsed((at - screen.now_ms).max(0) / 1000)));
        Line::from(vec![
            Span::raw(format!("{:<14} ", bar.name)),
            Span::raw(bar.text.clone()),
            Span::styled(free, DIM),
        ])
    };
    let mut lines: Vec<Line<'static>> = screen.gpus.iter().take(GPUS_SHOWN).map(line).collect();
    if screen.gpus.len() > GPUS_SHOWN {
        lines
            .push(Line::styled(format!("… {} more GPUs (sluice gpus)", screen.gpus.len() - GPUS_SHOWN), DIM));
    }
    if !lines.is_empty() {
        lines.push(Line::default());
    }
    lines
}

fn job_table(screen: &Screen) -> Table<'static> {
    let rows: Vec<Row<'static>> = screen.jobs.iter().map(|job| job_row(screen, job)).collect();
    let widths = [
        Constraint::Length(14),
        Constraint::Length(10),
        Constraint::Length(16),
        Constraint::Length(10),
        Constraint::Length(3),
        Constraint::Length(12),
        Constraint::Length(5),
        Constraint::Min(12),
    ];
    let head = ["JOBID", "PARTITION", "NAME", "USER", "ST", "TIME", "NODES", "NODELIST(REASON)"];
    Table::new(rows, widths)
        .header(Row::new(head).style(HEAD))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
}

fn job_row(screen: &Screen, job: &Job) -> Row<'static> {
    let state = job::state(job);
    let (time, place) = if state == JobState::Pending {
        let planned = job
            .planned_start_ms
            .map_or_else(String::new, |at| format!("in {}", elapsed((at - screen.now_ms).max(0) / 1000)));
        let on = job.planned_nodes.as_deref().filter(|nodes| !nodes.is_empty());
        (
            planned,
            format!(
                "({}){}",
                job::reason(job),
                on.map_or_else(String::new, |nodes| format!(" then {nodes}"))
            ),
        )
    } else {
        (elapsed(job::run_ms(job, screen.now_ms) / 1000), job.node_list.clone())
    };
    let row = Row::new([
        job::id(job),
        job.partition.clone(),
        job::request(job).name.clone(),
        job.user.clone(),
        state.short().to_owned(),
        time,
        job::nodes_text(job),
        place,
    ]);
    if screen.is_own(job) { row } else { row.style(DIM) }
}

fn foot(screen: &Screen) -> Line<'static> {
    match &screen.question {
        Some(Act::Cancel(job)) => {
            let tasks = if job.tasks.is_empty() { String::new() } else { format!("_{}", job.tasks) };
            let text = format!("cancel job {}{tasks}? y/n", job.job_id);
            Line::styled(text, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
        }
        Some(Act::Hold(_) | Act::Release(_)) | None if !screen.note.is_empty() => {
            Line::styled(screen.note.clone(), Style::new().fg(Color::Yellow))
        }
        _ => Line::styled("e explain  h hold  r release  c cancel  u own/all  q quit", DIM),
    }
}

/// The text of `sluice why` over the picture.
fn explanation(frame: &mut Frame<'_>, lines: &[String]) {
    let whole = frame.area();
    let wanted = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let height = wanted.min(whole.height.saturating_sub(2)).max(3);
    let area = Rect {
        x: whole.x + 1,
        y: whole.y + whole.height.saturating_sub(height) / 2,
        width: whole.width.saturating_sub(2),
        height: height.min(whole.height),
    };
    let text: Vec<Line<'_>> = lines.iter().map(|line| Line::raw(line.as_str())).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(text).block(Block::bordered().title(" why (any key goes back) ")),
        area,
    );
}

#[cfg(test)]
mod tests {
    use proto::v1::{Gpu, GpuMode, GresAllocation, JobRequest, NodeAllocation, Slice};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn screen() -> Screen {
        let mut screen = Screen::new(5);
        let request = |name: &str| Some(JobRequest { name: name.to_owned(), ..JobRequest::default() });
        let node = Node {
            name: "g1".to_owned(),
            state: "MIXED".to_owned(),
            cpus: 8,
            cpus_allocated: 6,
            memory_mib: 16384,
            memory_allocated_mib: 4096,
            gres: "gpu:a100:4".to_owned(),
            gres_used: "gpu:a100:1".to_owned(),
            ..Node::default()
        };
        let running = Job {
            job_id: 7,
            uid: 5,
            user: "ann".to_owned(),
            partition: "main".to_owned(),
            state: "RUNNING".to_owned(),
            start_ms: Some(0),
            node_list: "g1".to_owned(),
            num_nodes: 1,
            request: request("train"),
            ..Job::default()
        };
        let waiting = Job {
            job_id: 8,
            state: "PENDING".to_owned(),
            reason: "Resources".to_owned(),
            planned_start_ms: Some(125_000),
            planned_nodes: Some("g1".to_owned()),
            start_ms: None,
            node_list: String::new(),
            request: request("next"),
            ..running.clone()
        };
        screen.take(vec![node], vec![waiting, running], 65_000);
        screen
    }

    fn picture(screen: &mut Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(110, 12)).unwrap();
        terminal.draw(|frame| paint(frame, screen)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..110).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..12).map(|y| row(y).trim_end().to_owned() + "\n").collect()
    }

    #[test]
    fn the_whole_picture() {
        let wanted = "\
sluice 1 nodes  6/8 CPUs  4G/16G memory  1 run, 1 wait
NODE         STATE          CPUS                   MEMORY                     DEVICES
g1           mixed          #######... 6/8         ##........ 4G/16G          gpu:a100:1 used of gpu:a100:4

JOBID          PARTITION  NAME             USER       ST  TIME         NODES NODELIST(REASON)
7              main       train            ann        R   1:05         1     g1
8              main       next             ann        PD  in 1:00      1     (Resources) then g1




e explain  h hold  r release  c cancel  u own/all  q quit
";
        assert_eq!(picture(&mut screen()), wanted);
    }

    /// Slices stand as bars between nodes and queue, others' too where only own jobs are listed.
    #[test]
    fn slices_are_bars() {
        let mut screen = screen();
        screen.only_own = true;
        let mut nodes = std::mem::take(&mut screen.nodes);
        let gpu = |index| Gpu { index, mode: GpuMode::GpuDynamic.into(), ..Gpu::default() };
        nodes[0].gpus = (0..9).map(gpu).collect();
        let slice = Slice { gpu: 0, profile: "3g.20gb".to_owned(), start: 4, size: 4 };
        let gres = vec![GresAllocation { name: "gpu".to_owned(), slices: vec![slice], ..Default::default() }];
        let held = NodeAllocation { node: "g1".to_owned(), gres, ..Default::default() };
        let other = Job {
            job_id: 12,
            uid: 6,
            allocation: vec![held],
            end_ms: Some(125_000),
            ..screen.jobs[0].clone()
        };
        let jobs = std::mem::take(&mut screen.jobs);
        screen.take(nodes, jobs.into_iter().chain([other]).collect(), 65_000);
        let mut terminal = Terminal::new(TestBackend::new(110, 24)).unwrap();
        terminal.draw(|frame| paint(frame, &mut screen)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..110).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        let rows: Vec<String> = (0..24).map(|y| row(y).trim_end().to_owned()).collect();
        assert_eq!(rows[4], "g1 GPU 0       |....|....|....|....|3g.20gb 12         |  1:00 left");
        assert_eq!(rows[5], "g1 GPU 1       |....|....|....|....|....|....|....|....|");
        assert_eq!(rows[12], "… 1 more GPUs (sluice gpus)");
        assert!(rows[14].starts_with("JOBID"), "{rows:#?}");
        assert!(!rows.iter().any(|row| row.starts_with("12 ")), "{rows:#?}");
    }

    #[test]
    fn an_explanation_covers_it() {
        let mut screen = screen();
        screen.explained = Some(vec!["job 8 waits (Resources)".to_owned()]);
        let shown = picture(&mut screen);
        assert!(
            shown.contains("why (any key goes back)") && shown.contains("job 8 waits (Resources)"),
            "{shown}"
        );
    }

    #[test]
    fn a_window_of_any_size_is_painted() {
        for (width, height) in [(1, 1), (20, 3), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let mut screen = screen();
            screen.explained = Some(vec!["x".repeat(400); 50]);
            terminal.draw(|frame| paint(frame, &mut screen)).unwrap();
        }
    }
}
