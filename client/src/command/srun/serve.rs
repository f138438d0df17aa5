//! Serving a step: its streams, srun's signals, the tasks' ends, until all is said.

use std::io::{self, Read};
use std::time::Duration;

use executor_supervisor::frame::{CHUNK, Cause, Frame, Scope};
use executor_supervisor::outcome::Exit;
use model::array::TaskSet;
use proto::v1::{CreateStepReply, JobFilter, ListJobsRequest};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep_until};

use super::exchange::Hub;
use super::output::Output;
use super::report::Report;
use super::request::{self, Input, Plan};
use super::terminal::{self, Raw};
use crate::api::{Client, has_ended};
use crate::attach::{Event, Order, Orders, Step, as_seen_here};
use crate::option::Parsed;
use crate::say;

/// How long failures of tasks are collected before they are told together.
const GATHER: Duration = Duration::from_millis(150);
/// How often the scheduler is asked whether a silent step is still there.
const CHECK: Duration = Duration::from_secs(2);
/// Time from SIGTERM to SIGKILL where srun itself ends the step, ms.
const KILL_WAIT_MS: u64 = 30_000;
/// Within this time a second Ctrl-C reaches the tasks.
const AGAIN: Duration = Duration::from_secs(1);

/// A step that was made.
pub(super) struct Served<'a> {
    pub parsed: &'a Parsed,
    pub plan: &'a Plan,
    pub client: &'a Client,
    pub job_id: u32,
    pub reply: &'a CreateStepReply,
    pub cookie: &'a [u8],
}

/// What holds while a step is served.
struct Course {
    report: Report,
    output: Output,
    names: Vec<String>,
    tasks: u32,
    open: usize,
    tell_at: Option<Instant>,
    lost: Vec<String>,
    /// Where the nodes' parts of a fence meet.
    hub: Hub,
    /// A bad exit has ended the others; when that becomes more than a signal.
    ending: bool,
    force_at: Option<Instant>,
    /// `--wait` is over.
    waited: bool,
}

impl Served<'_> {
    /// Serves the step to its end: srun's status, and the worst end of a task.
    pub(super) async fn serve(&self) -> io::Result<(u8, Exit)> {
        let manner = &self.parsed.first().manner;
        let request = &self.parsed.first().request;
        let tasks = self.reply.nodes.iter().map(|node| node.ranks.len() as u32).sum();
        let (output, error) = self.plan.places(self.job_id, &self.reply.step_id, &request.name);
        let append = request::appends(request.files.open_mode);
        let mut course = Course {
            report: Report::default(),
            output: Output::open(output, error, append, manner.label && !manner.pty, tasks)?,
            names: request::node_names(self.reply),
            tasks,
            open: self.reply.nodes.len(),
            tell_at: None,
            lost: Vec::new(),
            hub: Hub::new(self.reply.nodes.len()),
            ending: false,
            force_at: None,
            waited: false,
        };
        let raw = manner.pty.then(Raw::enter);
        let sockets = self.reply.nodes.iter().map(|node| as_seen_here(&node.socket)).collect();
        let mut step = Step::attach(sockets, self.cookie);
        self.feed(step.orders());
        self.follow(&mut step, &mut course).await?;
        drop(raw);
        self.tell(&mut course);
        for reason in &course.lost {
            say::error("srun", reason);
        }
        let name = request::step_name(self.job_id, &self.reply.step_id);
        if course.report.terminated {
            say::err(format!("srun: Force Terminated StepId={name}"));
        }
        let failed = !course.lost.is_empty() || course.report.ended < course.tasks;
        let status = course.report.status();
        Ok((if failed && status == 0 { 1 } else { status }, course.report.worst()))
    }

    /// Starts what carries the input.
    fn feed(&self, orders: Orders) {
        let source: Box<dyn Read + Send> = match &self.plan.input {
            Input::Own(_) => Box::new(io::stdin()),
            Input::File(path) => match std::fs::File::open(path) {
                Ok(file) => Box::new(file),
                Err(error) => {
                    say::error(
                        "srun",
                        format!(
                            "Could not open stdin file {}: {}",
                            path.display(),
                            super::super::os_text(&error)
                        ),
                    );
                    Box::new(io::empty())
                }
            },
            Input::Nothing | Input::Supervisor(_) => return,
        };
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(4);
        // A thread of its own, because a read of a terminal cannot be taken back; it goes with the process.
        std::thread::spawn(move || copy(source, &sender));
        tokio::spawn(async move {
            while let Some(bytes) = receiver.recv().await {
                orders.input(&Order::Input(bytes)).await;
            }
            orders.input(&Order::CloseInput).await;
        });
    }

    async fn follow(&self, step: &mut Step, course: &mut Course) -> io::Result<()> {
        let orders = step.orders();
        let mut signals = Signals::take()?;
        let mut check = interval(CHECK);
        check.reset();
        let (mut gone, mut interrupted): (u32, Option<Instant>) = (0, None);
        let mut first_end: Option<Instant> = None;
        let patience = Some(self.plan.wait_seconds).filter(|&seconds| seconds > 0);
        while course.open > 0 {
            let tell_at = course.tell_at;
            let wait_until = first_end.zip(patience).map(|(end, s)| end + Duration::from_secs(u64::from(s)));
            tokio::select! {
                event = step.events.recv() => match event {
                    Some(event) => {
                        gone = 0;
                        self.take(event, course, &orders)?;
                        if course.report.ended > 0 {
                            first_end.get_or_insert_with(Instant::now);
                        }
                    }
                    None => return Ok(()),
                },
                () = until(tell_at) => self.tell(course),
                () = until(wait_until), if !course.waited => {
                    course.waited = true;
                    self.tell_who_is_late(course);
                    self.end(&orders, "");
                }
                () = until(course.force_at) => {
                    course.force_at = None;
                    self.end(&orders, "");
                }
                number = signals.next() => {
                    if self.signalled(number, &orders, &mut interrupted) {
                        return Ok(());
                    }
                }
                _ = check.tick() => {
                    gone = if self.is_over().await { gone + 1 } else { 0 };
                    // The supervisors had time to say the rest.
                    if gone >= 3 {
                        course.lost.push("Job step aborted: its tasks cannot be reached any more".to_owned());
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self, event: Event, course: &mut Course, orders: &Orders) -> io::Result<()> {
        match event {
            Event::Data { rank, stream, bytes } => course.output.write(rank, stream, &bytes)?,
            Event::Close { rank, stream } => course.output.close(rank, stream)?,
            Event::Note { text } => say::err(text),
            Event::Exchange { node, bytes } => {
                let said = course.hub.take(node, &bytes);
                for (node, bytes) in said.messages {
                    orders.exchange(node, bytes);
                }
                if let Some(reason) = said.abort {
                    say::error("srun", reason);
                    self.end(orders, "");
                }
            }
            Event::Exited { node, rank, exit } => {
                course.report.add(node, rank, exit);
                // Its own node's supervisor ends what is there; the other nodes hear of it from here.
                let ends = self.plan.kill_on_bad_exit && exit != Exit::default() && !course.ending;
                if ends && self.reply.nodes.len() > 1 {
                    course.ending = true;
                    course.force_at = Some(Instant::now() + Duration::from_millis(KILL_WAIT_MS));
                    orders.send(&Frame::Signal { signal: 15, scope: Scope::Steps });
                }
                if course.report.has_untold() {
                    course.tell_at.get_or_insert_with(|| Instant::now() + GATHER);
                }
            }
            Event::Ended { .. } => course.open -= 1,
            Event::Lost { node, reason } => {
                course.open -= 1;
                let name = course.names.get(node).map_or("?", String::as_str);
                course.lost.push(format!("{name}: the step's tasks cannot be reached: {reason}"));
            }
        }
        Ok(())
    }

    fn tell(&self, course: &mut Course) {
        course.tell_at = None;
        for line in course.report.tell(&course.names) {
            say::error("srun", line);
        }
    }

    /// Slurm's lines when `--wait` is over.
    fn tell_who_is_late(&self, course: &Course) {
        let name = request::step_name(self.job_id, &self.reply.step_id);
        say::err(format!("srun: First task exited {}s ago", self.plan.wait_seconds));
        let (ended, running): (Vec<u32>, Vec<u32>) =
            (0..course.tasks).partition(|rank| course.report.has_ended(*rank));
        for (ranks, state) in [(running, "running"), (ended, "exited")] {
            if !ranks.is_empty() {
                let word = if ranks.len() == 1 { "task" } else { "tasks" };
                say::err(format!(
                    "srun: StepId={name} {word} {}: {state}",
                    TaskSet::from_ids(ranks).text(None)
                ));
            }
        }
    }

    /// Whether the scheduler knows that the step is over.
    async fn is_over(&self) -> bool {
        let filter = JobFilter { job_ids: vec![self.job_id], ..JobFilter::default() };
        let request =
            ListJobsRequest { filter: Some(filter), include_ended: true, with_steps: true, all: true };
        // Where nobody answers, nothing is known.
        let Ok((jobs, _)) = self.client.list_jobs(request).await else { return false };
        let Some(job) = jobs.iter().find(|job| job.job_id == self.job_id) else { return true };
        let step = job.steps.iter().find(|step| step.step_id == self.reply.step_id);
        has_ended(job) || step.is_some_and(|step| step.end_ms.is_some())
    }

    /// Acts on a signal that srun got. True: srun is to go at once.
    fn signalled(&self, number: i32, orders: &Orders, interrupted: &mut Option<Instant>) -> bool {
        match number {
            libc_signal::INT => {
                let again = interrupted.is_some_and(|at| at.elapsed() < AGAIN);
                *interrupted = Some(Instant::now());
                if again || self.parsed.first().manner.quit_on_interrupt {
                    let name = request::step_name(self.job_id, &self.reply.step_id);
                    say::err(format!("srun: sending Ctrl-C to StepId={name}"));
                    orders.send(&Frame::Signal { signal: 2, scope: Scope::Steps });
                } else {
                    say::err("srun: interrupt (one more within 1 sec to abort)");
                }
            }
            libc_signal::TERM | libc_signal::HUP => {
                say::err("srun: forcing job termination");
                self.end(orders, "");
            }
            libc_signal::WINCH => {
                if self.parsed.first().manner.pty {
                    let (rows, columns) = terminal::size();
                    orders.send(&Frame::Window { rows, columns });
                }
            }
            other => {
                let signal = u32::try_from(other).unwrap_or(0);
                orders.send(&Frame::Signal { signal, scope: Scope::Steps });
            }
        }
        false
    }

    fn end(&self, orders: &Orders, note: &str) {
        let frame =
            Frame::Terminate { cause: Cause::Cancel, kill_wait_ms: KILL_WAIT_MS, note: note.to_owned() };
        orders.send(&frame);
    }
}

fn copy(mut source: Box<dyn Read + Send>, sender: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if sender.blocking_send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Input that cannot be read has ended.
            Err(_) => return,
        }
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Numbers of the signals that srun takes.
mod libc_signal {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const USR1: i32 = 10;
    pub(super) const USR2: i32 = 12;
    pub(super) const ALRM: i32 = 14;
    pub(super) const TERM: i32 = 15;
    pub(super) const CONT: i32 = 18;
    pub(super) const WINCH: i32 = 28;
}

/// The signals that srun takes while it serves a step.
struct Signals(Vec<(i32, Signal)>);

impl Signals {
    fn take() -> io::Result<Self> {
        use libc_signal::{ALRM, CONT, HUP, INT, QUIT, TERM, USR1, USR2, WINCH};
        let all = [HUP, INT, QUIT, USR1, USR2, ALRM, TERM, CONT, WINCH];
        let taken = all.into_iter().map(|number| Ok((number, signal(SignalKind::from_raw(number))?)));
        taken.collect::<io::Result<Vec<_>>>().map(Self)
    }

    /// The number of the next one.
    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
