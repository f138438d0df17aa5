//! Serving a step: its streams, srun's signals, the tasks' ends, until all is said.

use std::io::{self, Read};
use std::time::Duration;

use executor_supervisor::frame::{self, ABORTED, CHUNK, Cause, Frame, Scope};
use executor_supervisor::outcome::Exit;
use model::array::TaskSet;
use model::exit::ExitStatus;
use proto::v1::{CreateStepReply, JobFilter, ListJobsRequest};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::exchange::Hub;
use super::output::Output;
use super::report::Report;
use super::request::{self, Input, Plan};
use super::terminal::{self, Raw};
use crate::api::{Client, has_ended};
use crate::attach::{Event, Order, Orders, Step, as_seen_here};
use crate::option::Parsed;
use crate::{connect, say};

/// How long failures of tasks are collected before they are told together.
const GATHER: Duration = Duration::from_millis(150);
/// How often the scheduler is asked whether a silent step is still there. The first times come sooner: its launch may have
/// failed.
const CHECK: Duration = Duration::from_secs(2);
const CHECK_FIRST: Duration = Duration::from_millis(125);
/// Time from SIGTERM to SIGKILL without a configuration, ms.
const KILL_WAIT_MS: u64 = 30_000;
/// Within this time a second Ctrl-C reaches the tasks, and a third one kills them.
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
    /// A bad exit has ended the others.
    ending: bool,
    /// The step is ended by more than its tasks, which was said.
    aborted: bool,
    /// It was not started: a node's prolog failed.
    prolog_failed: bool,
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
            report: Report::new((manner.verbose > 0).then(|| self.step_name())),
            output: Output::open(output, error, append, manner.label && !manner.pty, tasks)?,
            names: request::node_names(self.reply),
            tasks,
            open: self.reply.nodes.len(),
            tell_at: None,
            lost: Vec::new(),
            hub: Hub::new(self.reply.nodes.len()),
            ending: false,
            aborted: false,
            prolog_failed: false,
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
        if course.prolog_failed {
            return Ok(self.tell_prolog().await);
        }
        let name = self.step_name();
        if course.report.terminated && !course.aborted {
            say::err(format!("srun: Force Terminated StepId={name}"));
        }
        let failed = !course.lost.is_empty() || course.report.ended < course.tasks;
        let (status, worst) = (course.report.status(), course.report.worst());
        // What nobody can tell the end of has not ended well, for srun and for its job.
        let lost = failed && status == 0;
        Ok(if lost { (1, Exit { code: 1, signal: 0 }) } else { (status, worst) })
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
        let mut pause = CHECK_FIRST;
        let mut check_at = Instant::now() + pause;
        let mut gone: u32 = 0;
        let mut interrupts = Interrupts::default();
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
                    say::err(format!("srun: First task exited {}s ago", self.plan.wait_seconds));
                    self.tell_states(course);
                    say::err(format!("srun: Terminating StepId={}", self.step_name()));
                    self.abort(&orders, course);
                }
                number = signals.next() => {
                    self.signalled(number, &orders, &mut interrupts, course);
                }
                () = sleep_until(check_at) => {
                    pause = (pause * 2).min(CHECK);
                    check_at = Instant::now() + pause;
                    let over = match self.standing().await {
                        Standing::Lives => false,
                        Standing::PrologFailed => {
                            course.prolog_failed = true;
                            return Ok(());
                        }
                        Standing::Over => true,
                    };
                    gone = if over { gone + 1 } else { 0 };
                    // The supervisors had time to say the rest.
                    if gone >= 3 {
                        course.lost.push(
                            "Job step aborted: it is over and cannot be reached; what its tasks said last is lost"
                                .to_owned(),
                        );
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self, event: Event, course: &mut Course, orders: &Orders) -> io::Result<()> {
        match event {
            Event::Attached { node } => {
                if self.parsed.first().manner.verbose > 0 {
                    let name = course.names.get(node).map_or("?", String::as_str);
                    let count = self.reply.nodes.get(node).map_or(0, |node| node.ranks.len());
                    say::err(format!("srun: Node {name}, {count} tasks started"));
                }
            }
            Event::Data { rank, stream, bytes } => course.output.write(rank, stream, &bytes)?,
            Event::Close { rank, stream } => course.output.close(rank, stream)?,
            Event::Note { text } if text.starts_with(ABORTED) => {
                if !std::mem::replace(&mut course.aborted, true) {
                    say::err(text);
                }
            }
            Event::Note { text } => say::err(text),
            Event::Exchange { node, bytes } => {
                let said = course.hub.take(node, &bytes);
                for (node, bytes) in said.messages {
                    orders.exchange(node, bytes);
                }
                if let Some(reason) = said.abort {
                    say::error("srun", reason);
                    self.end(orders, Cause::Cancel, kill_wait_ms());
                }
            }
            Event::Exited { node, rank, exit } => {
                course.report.add(node, rank, exit);
                let ends = self.plan.kill_on_bad_exit && exit != Exit::default() && !course.ending;
                if ends && course.report.ended < course.tasks {
                    course.ending = true;
                    self.tell(course);
                    say::err(format!("srun: Terminating StepId={}", self.step_name()));
                    // Its own node's supervisor ends what is there; the other nodes hear of it from here.
                    if self.reply.nodes.len() > 1 {
                        self.end(orders, Cause::TaskFailure, kill_wait_ms());
                    }
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
        course.report.tell(&course.names).iter().for_each(|line| line.say("srun"));
    }

    fn step_name(&self) -> String {
        request::step_name(self.job_id, &self.reply.step_id)
    }

    /// Which tasks run and which have ended, in Slurm's lines.
    fn tell_states(&self, course: &Course) {
        let name = self.step_name();
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

    /// What the scheduler knows of the step.
    async fn standing(&self) -> Standing {
        let filter = JobFilter { job_ids: vec![self.job_id], ..JobFilter::default() };
        let request =
            ListJobsRequest { filter: Some(filter), include_ended: true, with_steps: true, all: true };
        // Where nobody answers, nothing is known.
        let Ok((jobs, _)) = self.client.list_jobs(request).await else { return Standing::Lives };
        let Some(job) = jobs.iter().find(|job| job.job_id == self.job_id) else { return Standing::Over };
        let step = job.steps.iter().find(|step| step.step_id == self.reply.step_id);
        let prolog = u32::from(ExitStatus::PROLOG_FAILED.signal);
        match step.filter(|step| step.end_ms.is_some()) {
            Some(step) if step.exit.as_ref().is_some_and(|exit| exit.signal == prolog) => {
                Standing::PrologFailed
            }
            Some(_) => Standing::Over,
            None if has_ended(job) => Standing::Over,
            None => Standing::Lives,
        }
    }

    /// Slurm's words for a step that could not be started for a node's prolog; srun's status, and its end.
    async fn tell_prolog(&self) -> (u8, Exit) {
        let names = request::node_names(self.reply);
        let known = self.client.list_nodes(names.clone()).await.unwrap_or_default();
        let failed = |name: &&String| {
            known.iter().any(|node| node.name == **name && node.reason.starts_with("Prolog error"))
        };
        for name in names.iter().filter(failed) {
            let step = self.step_name();
            say::error(
                "srun",
                format!("Task launch for StepId={step} failed on node {name}: Job prolog failed"),
            );
        }
        say::error("srun", "Application launch failed: Job prolog failed");
        say::err("srun: Job step aborted");
        let signal = ExitStatus::PROLOG_FAILED.signal;
        (128 + signal, Exit { code: 0, signal: u32::from(signal) })
    }

    /// Acts on a signal that srun got.
    fn signalled(&self, number: i32, orders: &Orders, interrupts: &mut Interrupts, course: &mut Course) {
        let lately = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < AGAIN);
        if self.parsed.first().manner.ignored_signals.contains(&number) {
            return;
        }
        match number {
            libc_signal::INT => {
                let manner = &self.parsed.first().manner;
                let again = lately(interrupts.warned) || manner.quit_on_interrupt || manner.disable_status;
                if again && lately(interrupts.sent) {
                    self.force(orders, course);
                } else if again {
                    interrupts.sent = Some(Instant::now());
                    say::err(format!("srun: sending Ctrl-C to StepId={}", self.step_name()));
                    orders.send(&Frame::Signal { signal: 2, scope: Scope::Steps });
                } else {
                    interrupts.warned = Some(Instant::now());
                    say::err("srun: interrupt (one more within 1 sec to abort)");
                    self.tell_states(course);
                }
            }
            libc_signal::TERM | libc_signal::HUP => self.force(orders, course),
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
    }

    fn force(&self, orders: &Orders, course: &mut Course) {
        say::err("srun: forcing job termination");
        self.abort(orders, course);
    }

    /// Kills the step.
    fn abort(&self, orders: &Orders, course: &mut Course) {
        if !std::mem::replace(&mut course.aborted, true) {
            say::err(frame::aborted(kill_wait_ms()));
        }
        self.end(orders, Cause::Cancel, 0);
    }

    fn end(&self, orders: &Orders, cause: Cause, kill_wait_ms: u64) {
        orders.send(&Frame::Terminate { cause, kill_wait_ms, note: String::new() });
    }
}

/// How a step stands at the scheduler.
enum Standing {
    Lives,
    Over,
    PrologFailed,
}

/// When Ctrl-C was pressed.
#[derive(Default)]
struct Interrupts {
    /// And answered with what another one would do.
    warned: Option<Instant>,
    /// And sent to the tasks.
    sent: Option<Instant>,
}

/// KillWait of the configuration.
fn kill_wait_ms() -> u64 {
    let configured = connect::conf_value("KillWait").and_then(|text| text.parse::<u64>().ok());
    configured.map_or(KILL_WAIT_MS, |seconds| seconds.saturating_mul(1000))
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
