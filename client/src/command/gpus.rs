//! `sluice gpus [NODE…] [--json]`: every GPU's slices, who has them and until when, drawn.
//!
//! What is drawn is what the scheduler says: the GPUs that a driver shows, and the slices in the allocations of running
//! jobs that the asker may see.

use std::fmt::Write;

use proto::v1::{self, Gpu, GpuMode, Job, Node};
use serde_json::{Value, json};

use super::{Call, block_on, job};
use crate::getopt::Spec;
use crate::getopt::Takes::Nothing;
use crate::table::units::{clock, memory};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Help,
    Json,
}

const OPTIONS: &[Spec<O>] =
    &[Spec::new(O::Help, b'h', "help", Nothing), Spec::long(O::Json, "json", Nothing)];

const HELP: &str = "\
Usage: sluice gpus [NODE…] [--json]

Draws every GPU that a driver shows: its slices, the jobs that have them, and until when.
";

/// Memory slices of a GPU.
const SLICES: u32 = 8;
/// Letters for one memory slice.
const CELL: usize = 8;

/// A part of a GPU: free, or a job's.
struct Piece<'a> {
    /// First memory slice, and how many; a whole GPU has all.
    start: u32,
    size: u32,
    /// Empty: the whole GPU.
    profile: &'a str,
    /// How many shards of a GPU that several jobs share; 0: it is not shared.
    shards: u32,
    job: Option<&'a Job>,
}

/// One box: first slice, slices, what it is, whose.
type Cell = (u32, u32, String, String);

/// Runs the verb: 0, 1 where nobody answers or a node is not there, 2 for words that make no sense.
pub(crate) fn run(call: &Call) -> u8 {
    let Ok(words) = call.split(OPTIONS) else { return 2 };
    if words.options.iter().any(|given| given.id == O::Help) {
        say::out(HELP);
        return 0;
    }
    let names: Vec<String> = words.operands.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let answer = block_on(async {
        let client = super::connect_to_ask().await?;
        let nodes = client.list_nodes(Vec::new()).await?;
        let filter = v1::JobFilter::default();
        let request =
            v1::ListJobsRequest { filter: Some(filter), include_ended: false, with_steps: false, all: true };
        let (jobs, now_ms) = client.list_jobs(request).await?;
        Ok((nodes, jobs, now_ms))
    });
    let (nodes, jobs, now_ms) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            say::error(&call.program, say::reason(&error));
            say::explain(&call.program, &error);
            return 1;
        }
    };
    let mut status = 0;
    for name in names.iter().filter(|name| !nodes.iter().any(|node| node.name == **name)) {
        say::error(&call.program, format!("node {name} is not known"));
        status = 1;
    }
    let chosen: Vec<&Node> =
        nodes.iter().filter(|node| names.is_empty() || names.contains(&node.name)).collect();
    if words.options.iter().any(|given| given.id == O::Json) {
        let all: Vec<Value> = chosen.iter().map(|node| object(node, &jobs)).collect();
        let document = json!({ "nodes": all });
        say::out(format!("{document:#}\n"));
        return status;
    }
    let text: String = chosen.iter().map(|node| drawn(node, &jobs, now_ms)).collect();
    match text.is_empty() && status == 0 {
        true => say::out("no node shows a GPU through a driver\n"),
        false => say::out(text),
    }
    status
}

/// What jobs hold of a GPU, by first slice, with what lies between.
fn pieces<'a>(node: &Node, gpu: &'a Gpu, jobs: &'a [Job]) -> Vec<Piece<'a>> {
    let mut found: Vec<Piece<'a>> = Vec::new();
    for job in jobs {
        let here = job.allocation.iter().filter(|held| held.node == node.name);
        for gres in
            here.flat_map(|held| &held.gres).filter(|gres| matches!(gres.name.as_str(), "gpu" | "shard"))
        {
            if gres.slices.is_empty() && gres.indices.contains(&gpu.index) {
                found.push(Piece { start: 0, size: SLICES, profile: "", shards: 0, job: Some(job) });
            }
            for slice in gres.slices.iter().filter(|slice| slice.gpu == gpu.index) {
                let (start, size) = match slice.profile.is_empty() {
                    true => (0, SLICES),
                    false => (slice.start, slice.size.max(1)),
                };
                let shards = if slice.profile.is_empty() { slice.size } else { 0 };
                found.push(Piece { start, size, profile: &slice.profile, shards, job: Some(job) });
            }
        }
    }
    let taken = |piece: &Piece<'_>, found: &[Piece<'_>]| {
        found
            .iter()
            .any(|other| other.start < piece.start + piece.size && piece.start < other.start + other.size)
    };
    for there in gpu.instances.iter().filter(|_| gpu.mode() == GpuMode::GpuFixed) {
        let piece =
            Piece { start: there.start, size: there.size, profile: &there.profile, shards: 0, job: None };
        if !taken(&piece, &found) {
            found.push(piece);
        }
    }
    found.sort_by_key(|piece| piece.start);
    found
}

fn drawn(node: &Node, jobs: &[Job], now_ms: i64) -> String {
    if node.gpus.is_empty() {
        return String::new();
    }
    let mut out = format!("{}: {} GPUs\n", node.name, node.gpus.len());
    for lack in node.lacks.iter().filter(|lack| lack.contains("pretended")) {
        let _ = writeln!(out, "  ! {lack}");
    }
    for gpu in &node.gpus {
        out.push_str(&head(node, gpu));
        if !gpu.fault.is_empty() {
            let _ = writeln!(out, "    out of service: {}", gpu.fault);
        }
        let pieces = pieces(node, gpu, jobs);
        if gpu.mode() != GpuMode::GpuWhole {
            out.push_str(&boxes(gpu, &pieces));
        } else if pieces.is_empty() && gpu.fault.is_empty() {
            out.push_str("    free\n");
        }
        for piece in &pieces {
            let Some(job) = piece.job else { continue };
            let what = match (piece.profile, piece.shards) {
                ("", 0) => "whole".to_owned(),
                ("", 1) => "1 shard".to_owned(),
                ("", many) => format!("{many} shards"),
                (profile, _) => profile.to_owned(),
            };
            let until = job.end_ms.map_or_else(
                || "without an end".to_owned(),
                |end| {
                    let left = clock(end.saturating_sub(now_ms).max(0) / 1000);
                    format!("until {} ({left} left)", local::date(end))
                },
            );
            let _ = writeln!(
                out,
                "    {what:<10} at {}  job {} of {} ({}), {until}",
                piece.start,
                job::id(job),
                job.user,
                job::request(job).name
            );
        }
    }
    out
}

/// One GPU in a line, for `sluice top`.
pub(super) struct Bar {
    /// Node and number.
    pub name: String,
    /// Its memory slices from left to right, each piece with what it is and whose.
    pub text: String,
    /// When the first of what jobs hold there is free again, if that is known.
    pub free_ms: Option<i64>,
}

/// Letters of a memory slice in a [`Bar`].
const BAR_CELL: usize = 5;

/// The GPUs that drivers show, in the order of nodes and GPUs; `jobs` are all that run.
pub(super) fn bars(nodes: &[Node], jobs: &[Job]) -> Vec<Bar> {
    let of_node = |node: &'_ Node| {
        let bar = |gpu: &Gpu| {
            let pieces = pieces(node, gpu, jobs);
            let ends = pieces.iter().filter_map(|piece| piece.job?.end_ms);
            let text =
                if gpu.fault.is_empty() { strip(&pieces) } else { format!("out of service: {}", gpu.fault) };
            Bar { name: format!("{} GPU {}", node.name, gpu.index), text, free_ms: ends.min() }
        };
        node.gpus.iter().map(bar).collect::<Vec<_>>()
    };
    nodes.iter().flat_map(of_node).collect()
}

/// `|.....|1g.5gb 13  |.....` of the pieces of a GPU. Of those that lie at one place, as shards do, the first is named
/// and the others are counted.
fn strip(pieces: &[Piece<'_>]) -> String {
    let mut out = String::new();
    let mut at = 0;
    for piece in pieces
        .iter()
        .enumerate()
        .filter(|(place, piece)| piece.shards == 0 || *place == 0)
        .map(|(_, piece)| piece)
    {
        while at < piece.start {
            out += &format!("|{}", ".".repeat(BAR_CELL - 1));
            at += 1;
        }
        let owner = piece.job.map_or_else(|| "free".to_owned(), job::id);
        let what = if piece.profile.is_empty() { "job" } else { piece.profile };
        let others = pieces.len().saturating_sub(1);
        let text = match piece.shards > 0 && others > 0 {
            true => format!("{what} {owner} and {others} more"),
            false => format!("{what} {owner}"),
        };
        let width = piece.size as usize * BAR_CELL - 1;
        out += &format!("|{:<width$}", text.chars().take(width).collect::<String>());
        at = at.max(piece.start + piece.size);
    }
    out += &format!("|{}", ".".repeat(BAR_CELL - 1)).repeat(SLICES.saturating_sub(at) as usize);
    out + "|"
}

fn mode(gpu: &Gpu) -> &'static str {
    match gpu.mode() {
        GpuMode::GpuWhole => "whole",
        GpuMode::GpuFixed => "fixed slices",
        GpuMode::GpuDynamic => "dynamic slices",
    }
}

fn head(node: &Node, gpu: &Gpu) -> String {
    let mut out =
        format!("  GPU {}  {}  {}  {}", gpu.index, gpu.kind, memory(gpu.memory_mib, true), mode(gpu));
    if let Some(now) = node.gpu_vitals.iter().find(|one| one.index == gpu.index) {
        if let Some(percent) = now.utilisation {
            let _ = write!(out, "  {percent}% busy");
        }
        if let Some(mib) = now.memory_used_mib {
            let _ = write!(out, "  {} used", memory(mib, true));
        }
        if let Some(degrees) = now.temperature {
            let _ = write!(out, "  {degrees} C");
        }
    }
    out + "\n"
}

/// The memory slices of a GPU in a row: one box for each piece, dots for what is free.
fn boxes(gpu: &Gpu, pieces: &[Piece<'_>]) -> String {
    let mut cells: Vec<Cell> = Vec::new();
    let mut at = 0;
    let free = if gpu.mode() == GpuMode::GpuDynamic { "" } else { "no slice" };
    for piece in pieces {
        while at < piece.start {
            cells.push((at, 1, free.to_owned(), String::new()));
            at += 1;
        }
        let owner = piece.job.map_or_else(|| "free".to_owned(), job::id);
        cells.push((piece.start, piece.size, piece.profile.to_owned(), owner));
        at = at.max(piece.start + piece.size);
    }
    cells.extend((at..SLICES).map(|at| (at, 1, free.to_owned(), String::new())));
    let width = |size: u32| size as usize * (CELL + 1) - 1;
    let line = |left: char, cross: char, right: char| {
        let bars: Vec<String> = cells.iter().map(|(_, size, _, _)| "─".repeat(width(*size))).collect();
        format!("    {left}{}{right}\n", bars.join(&cross.to_string()))
    };
    let row = |text: &dyn Fn(&Cell) -> String| {
        let parts: Vec<String> = cells
            .iter()
            .map(|cell| {
                let (text, width) = (text(cell), width(cell.1));
                format!("{:^width$}", text.chars().take(width).collect::<String>())
            })
            .collect();
        format!("    │{}│\n", parts.join("│"))
    };
    let mut out = line('┌', '┬', '┐');
    out.push_str(&row(&|(_, _, profile, _)| profile.clone()));
    out.push_str(&row(&|(start, _, _, owner)| {
        if owner.is_empty() { format!("·{start}") } else { owner.clone() }
    }));
    out.push_str(&line('└', '┴', '┘'));
    out
}

fn object(node: &Node, jobs: &[Job]) -> Value {
    let gpu = |gpu: &Gpu| {
        let slice = |piece: &Piece<'_>| {
            json!({
                "shards": Some(piece.shards).filter(|shards| *shards > 0),
                "profile": Some(piece.profile).filter(|profile| !profile.is_empty()),
                "start": piece.start,
                "size": piece.size,
                "job": piece.job.map(|job| job.job_id),
                "job_name": piece.job.map(job::id),
                "user": piece.job.map(|job| job.user.clone()),
                "end": piece.job.and_then(|job| job.end_ms).map(|ms| ms.div_euclid(1000)),
            })
        };
        let instance = |there: &v1::MigInstance| {
            json!({
                "profile": there.profile, "start": there.start, "size": there.size,
                "gi": there.gi, "ci": there.ci, "uuid": there.uuid,
            })
        };
        let profile = |profile: &v1::MigProfile| {
            json!({
                "id": profile.id, "name": profile.name, "memory_mib": profile.memory_mib,
                "memory_slices": profile.memory_slices, "starts": profile.starts,
            })
        };
        let now = node.gpu_vitals.iter().find(|one| one.index == gpu.index);
        json!({
            "index": gpu.index, "uuid": gpu.uuid, "kind": gpu.kind, "product": gpu.product,
            "memory_mib": gpu.memory_mib, "pci": gpu.pci, "minor": gpu.minor,
            "cpu_ranges": gpu.cpu_ranges,
            "mode": mode(gpu).split(' ').next(),
            "fault": Some(&gpu.fault).filter(|fault| !fault.is_empty()),
            "profiles": gpu.profiles.iter().map(profile).collect::<Vec<_>>(),
            "instances": gpu.instances.iter().map(instance).collect::<Vec<_>>(),
            "allocated": pieces(node, gpu, jobs).iter().filter(|piece| piece.job.is_some()).map(slice).collect::<Vec<_>>(),
            "utilisation_percent": now.and_then(|now| now.utilisation),
            "memory_used_mib": now.and_then(|now| now.memory_used_mib),
            "temperature_celsius": now.and_then(|now| now.temperature),
            "throttle_reasons": now.and_then(|now| now.throttle),
        })
    };
    json!({
        "node": node.name,
        "pretended": node.lacks.iter().any(|lack| lack.contains("pretended")),
        "gpus": node.gpus.iter().map(gpu).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (Node, Vec<Job>) {
        let gpu = |index, mode: GpuMode| Gpu {
            index,
            kind: "a100".into(),
            memory_mib: 40_960,
            mode: mode.into(),
            ..Gpu::default()
        };
        let lacks = vec!["the GPUs of this node are pretended (fake NVML): nothing computes on them".into()];
        let gpus = vec![gpu(0, GpuMode::GpuDynamic), gpu(1, GpuMode::GpuWhole)];
        let node = Node { name: "n1".into(), gpus, lacks, ..Node::default() };
        let slice = |gpu, profile: &str, start, size| v1::Slice { gpu, profile: profile.into(), start, size };
        let job = |job_id, slices| {
            let gres = vec![v1::GresAllocation { name: "gpu".into(), slices, ..Default::default() }];
            let held = v1::NodeAllocation { node: "n1".into(), gres, ..Default::default() };
            Job {
                job_id,
                user: "alice".into(),
                allocation: vec![held],
                end_ms: Some(90_000),
                ..Job::default()
            }
        };
        (
            node,
            vec![
                job(12, vec![slice(0, "3g.20gb", 4, 4)]),
                job(13, vec![slice(0, "1g.5gb", 1, 1)]),
                job(14, vec![slice(1, "", 0, 0)]),
            ],
        )
    }

    #[test]
    fn slices_are_drawn_where_they_lie() {
        let (node, jobs) = world();
        let text = drawn(&node, &jobs, 30_000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "n1: 2 GPUs");
        assert!(lines[1].contains("pretended"), "{text}");
        assert_eq!(lines[3], "    ┌────────┬────────┬────────┬────────┬───────────────────────────────────┐");
        assert_eq!(lines[4], "    │        │ 1g.5gb │        │        │              3g.20gb              │");
        assert_eq!(lines[5], "    │   ·0   │   13   │   ·2   │   ·3   │                12                 │");
        assert!(text.contains("1g.5gb     at 1  job 13 of alice"), "{text}");
        assert!(text.contains("(00:01:00 left)") || text.contains("(1:00 left)"), "{text}");
        assert!(text.contains("whole      at 0  job 14"), "{text}");
    }

    #[test]
    fn a_gpu_is_a_line_of_its_slices() {
        let (node, jobs) = world();
        let bars = bars(&[node], &jobs);
        assert_eq!((&*bars[0].name, bars[0].free_ms), ("n1 GPU 0", Some(90_000)));
        assert_eq!(bars[0].text, "|....|1g.5|....|....|3g.20gb 12         |");
        assert_eq!(bars[1].text, "|job 14                                 |");
    }

    #[test]
    fn the_document_says_the_same() {
        let (node, jobs) = world();
        let found = object(&node, &jobs);
        assert_eq!(found["pretended"], true);
        assert_eq!(found["gpus"][0]["allocated"][0]["job"], 13);
        assert_eq!(found["gpus"][0]["allocated"][1]["start"], 4);
        assert_eq!(found["gpus"][1]["mode"], "whole");
    }
}
