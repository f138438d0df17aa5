//! The life of one run: start the tasks, keep the clock, serve the socket, end everything, write the outcome.
//!
//! ```text
//!  Running ── last task ended ──► Clearing ── no process left ──► Epilogs ──► Delivering ──► outcome, exit
//!                                  (kills what the tasks left)   (may be none)  (the client takes the rest)
//! ```
//!
//! One thread, one `poll`. Time is monotonic; the wall clock is only noted. The step's end is decided by
//! the kernel ("no child left"), never by a list of pids.

mod clock;
mod helper;
mod sample;
mod serve;
mod shelf;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use executor_supervisor::frame::{Cause, Frame, Stream};
use executor_supervisor::outcome::{Exit, Kind, Outcome};
use executor_supervisor::spec::mpi::Server;
use executor_supervisor::spec::{Spec, Stdio, Task};
use nix::libc;

use self::shelf::Shelf;
use crate::child::{self, Ends, NOTED, SETUP_FAILED_SIGNAL};
use crate::door::Door;
use crate::pmi::Desk;
use crate::session::Session;
use crate::streams::{Input, Output, Streams};
use crate::sys::{self, Forked, Reaped, Status};
use crate::tree::Tree;

/// Slurm's exit status of what ended for want of memory: signal 125, which there is not.
const OUT_OF_MEMORY: Exit = Exit { code: 0, signal: 125 };
/// A larger environment is let go when the tasks have it, bytes.
const ENVIRONMENT_KEPT: usize = 64 << 10;
/// How long task epilogs may take.
const EPILOG_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Clearing,
    Epilogs,
    Delivering,
}

/// Who wanted the step to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Asked(Cause),
    OwnLimit,
    BadExit,
    ClientLost,
}

struct Stop {
    why: Why,
    kill_at: Instant,
}

struct TaskState {
    rank: u32,
    pid: i32,
    exit: Option<Exit>,
    /// What the child says before exec, read when it is dead: nobody is woken for an exec.
    report: Option<OwnedFd>,
    /// What it came to.
    peak: sample::Peak,
}

impl TaskState {
    /// One that could not be started.
    fn unborn(rank: u32) -> Self {
        Self { rank, pid: 0, exit: None, report: None, peak: sample::Peak::default() }
    }
}

/// See the module comment.
pub(crate) struct Run {
    spec: Spec,
    tasks: Vec<TaskState>,
    tree: Tree,
    streams: Streams,
    /// What serves MPI tasks, where this process does.
    desk: Option<Box<Desk>>,
    /// The program that serves them in its place, while tasks run.
    helper: Option<i32>,
    door: Door,
    sessions: Vec<Session>,
    /// Numbered events for the client, sent in this order.
    events: Vec<Frame>,
    /// Writers of notes: children, but none of the step's processes.
    helpers: Vec<(i32, Instant)>,
    phase: Phase,
    stop: Option<Stop>,
    /// What the step is ended by stands in its output.
    end_told: bool,
    kill_again: Option<(Instant, Duration)>,
    begun: Instant,
    begun_ms: i64,
    suspended_since: Option<Instant>,
    suspended_total: Duration,
    warning_due: bool,
    client_lost_at: Option<Instant>,
    client_left: bool,
    /// The client was here once.
    client_seen: bool,
    delivering_since: Option<Instant>,
    user_us: u64,
    system_us: u64,
    max_rss_bytes: u64,
    /// What the kernel holds the step to, in words.
    held: String,
    /// When the tasks are looked at again.
    sample_at: Option<Instant>,
    /// Told already.
    oom_kills: u64,
    detail: String,
    /// A task did not get into its container.
    shut_out: bool,
}

impl Run {
    pub(crate) fn new(spec: Spec, tree: Tree, (detail, held): (String, String), door: Door) -> Self {
        let now = Instant::now();
        Self {
            warning_due: spec.warning.is_some(),
            client_lost_at: (!spec.cookie.is_empty()).then_some(now),
            sample_at: sample::first(&spec, now),
            held,
            spec,
            tasks: Vec::new(),
            tree,
            streams: Streams::new(),
            desk: None,
            helper: None,
            door,
            sessions: Vec::new(),
            events: Vec::new(),
            helpers: Vec::new(),
            phase: Phase::Running,
            stop: None,
            end_told: false,
            kill_again: None,
            begun: now,
            begun_ms: sys::now_ms(),
            suspended_since: None,
            suspended_total: Duration::ZERO,
            client_left: false,
            client_seen: false,
            delivering_since: None,
            user_us: 0,
            system_us: 0,
            max_rss_bytes: 0,
            oom_kills: 0,
            detail,
            shut_out: false,
        }
    }

    /// Starts the tasks and stays until nothing is left of them. And whether it was [plain](Self::is_plain).
    pub(crate) fn go(mut self, signals: &OwnedFd) -> (Outcome, bool) {
        self.start_tasks();
        // Needed again only by epilogs. A small one stays all the same: freeing its many pieces gives the system nothing
        // back, and copies the pages that the child has until it execs.
        let size: usize = self.spec.environment.iter().map(Vec::len).sum();
        if self.spec.task_epilogs.is_empty() && size > ENVIRONMENT_KEPT {
            self.spec.environment = Vec::new();
        }
        while !self.is_over() {
            self.wait(signals);
            self.reap();
            self.keep_time();
            self.exchange();
            self.advance();
            self.serve();
        }
        // What was never waited for (a parent may ignore its children) is in the kernel's count alone.
        if let Some((user_us, system_us)) = self.tree.cpu_times() {
            self.user_us = self.user_us.max(user_us);
            self.system_us = self.system_us.max(system_us);
        }
        self.tree.remove();
        self.clean_up_after_helper();
        let plain = self.is_plain();
        (self.outcome(), plain)
    }

    /// Whether all that this process did was to start a batch script and to see it end: it has no more open than before,
    /// and may have another run. Nobody spoke to it, nothing was killed, and no other process was made.
    fn is_plain(&self) -> bool {
        let lean = self.spec.environment.iter().map(Vec::len).sum::<usize>() <= ENVIRONMENT_KEPT;
        let alone =
            self.spec.mpi.is_none() && self.spec.container.is_none() && self.spec.task_epilogs.is_empty();
        let undisturbed = self.stop.is_none() && self.detail.is_empty() && !self.tree.was_killed();
        Door::can_wait(&self.spec)
            && self.door.was_never_open()
            && self.spec.tasks.len() == 1
            && lean
            && alone
            && undisturbed
            && self.oom_kills == 0
            && self.helpers.is_empty()
    }

    fn start_tasks(&mut self) {
        let mut files = SharedFiles::default();
        self.open_desk();
        if let Err(sentence) = self.start_helper() {
            self.shut_out = true;
            self.note_detail(sentence.clone());
            self.say(&format!("cannot serve this step's tasks: {sentence}"));
            for index in 0..self.spec.tasks.len() {
                let rank = self.spec.tasks[index].rank;
                self.tasks.push(TaskState::unborn(rank));
                self.task_ended(index, Exit { code: 1, signal: 0 });
            }
            return;
        }
        let mut shelf = Shelf::of(self.spec.tasks.len());
        for index in 0..self.spec.tasks.len() {
            if let Err(error) = self.start_task(index, &mut files, shelf.as_mut()) {
                let rank = self.spec.tasks[index].rank;
                self.note_detail(format!("task {rank} could not be started: {error}"));
                self.tasks.push(TaskState::unborn(rank));
                if let Some(desk) = &mut self.desk {
                    desk.never_started(index);
                }
                self.task_ended(index, Exit { code: 0, signal: SETUP_FAILED_SIGNAL });
            }
        }
        if let Some(mut shelf) = shelf {
            shelf.settle();
        }
    }

    /// Serves the tasks of an MPI program where that is this process's to do.
    fn open_desk(&mut self) {
        let Some(mpi) = self.spec.mpi.as_deref().filter(|mpi| mpi.server == Server::Pmi) else { return };
        self.desk = Some(Box::new(Desk::new(&self.spec, mpi)));
        self.streams.outputs.push(Output::exchange());
        self.streams.exchange = Some(Input::new(Stream::Exchange));
    }

    fn start_task(
        &mut self,
        index: usize,
        files: &mut SharedFiles,
        shelf: Option<&mut Shelf>,
    ) -> std::io::Result<()> {
        let own = |fd| if shelf.is_some() { Shelf::above(fd) } else { Ok(fd) };
        let task = &self.spec.tasks[index];
        let rank = task.rank;
        let mut ends = Ends::default();
        files.meet(&self.spec.tasks, index, &mut ends)?;
        if task.stdout == Stdio::Pty {
            let (controller, terminal) = sys::open_pty(self.spec.window.0, self.spec.window.1)?;
            sys::own_terminal(terminal.as_fd(), self.spec.uid);
            self.streams.outputs.push(Output::new(rank, Stream::Output, sys::keep(controller.as_raw_fd())?)?);
            self.streams.input.add(rank, sys::keep(controller.as_raw_fd())?, true)?;
            self.streams.terminal = Some(controller);
            ends.terminal = Some(terminal);
        } else {
            if task.stdin == Stdio::Stream {
                let (reader, writer) = sys::pipe()?;
                self.streams.input.add(rank, own(writer)?, false)?;
                ends.streams[0] = Some(reader);
            }
            for (place, stdio, stream) in
                [(1, &task.stdout, Stream::Output), (2, &task.stderr, Stream::Error)]
            {
                if *stdio == Stdio::Stream {
                    let (reader, writer) = sys::pipe()?;
                    self.streams.outputs.push(Output::new(rank, stream, own(reader)?)?);
                    ends.streams[place] = Some(writer);
                }
            }
        }
        if let Some(desk) = &mut self.desk {
            ends.pmi = Some(desk.open(index)?);
        }
        let (report, told) = sys::pipe()?;
        let report = own(report)?;
        let shelf = shelf.and_then(|shelf| shelf.takes(&ends, &told).then_some(shelf));
        let forked = match self.tree.fork(shelf.is_some()) {
            Err(error) if self.tree.has_cgroup() && !self.spec.cgroup_holds => {
                // The kernel will not have it there (an odd mount, a limit): track by descent instead.
                self.note_detail(format!("the step's cgroup could not be used: {error}"));
                self.tree.give_cgroup_up();
                self.tree.fork(shelf.is_some())?
            }
            result => result?,
        };
        match forked {
            Forked::Child => {
                if let Some(Err(error)) = shelf.map(|shelf| shelf.leave()) {
                    child::give_up(&format!("no files of its own: {error}"), &told);
                }
                child::become_task(&mut self.spec, index, ends, &self.tree, &told)
            }
            Forked::Parent(pid) => {
                if let Some(shelf) = shelf {
                    shelf.hold(pid, ends, told);
                }
                sys::set_nonblocking(report.as_fd())?;
                let peak = sample::Peak::default();
                self.tasks.push(TaskState { rank, pid, exit: None, report: Some(report), peak });
                Ok(())
            }
        }
    }

    fn note_detail(&mut self, sentence: String) {
        if self.detail.is_empty() {
            self.detail = sentence;
        }
    }

    fn wait(&mut self, signals: &OwnedFd) {
        const READ: i16 = libc::POLLIN;
        let mut fds = vec![entry(signals.as_raw_fd(), READ), entry(self.door.raw(), READ)];
        for session in &self.sessions {
            let events = if session.wants_to_write() { READ | libc::POLLOUT } else { READ };
            fds.push(entry(session.stream().as_raw_fd(), events));
        }
        let outputs_at = fds.len();
        fds.extend(self.streams.outputs.iter().map(|output| entry(raw(output.wants()), READ)));
        let desk_at = fds.len();
        let sockets = self.desk.as_mut().into_iter().flat_map(|desk| desk.sockets());
        fds.extend(
            sockets
                .map(|(socket, waits)| entry(raw(socket), if waits { READ | libc::POLLOUT } else { READ })),
        );
        let desk_end = fds.len();
        let guests = self.sessions.iter().filter_map(|session| session.input.as_deref());
        let inputs = std::iter::once(&self.streams.input).chain(guests);
        fds.extend(inputs.flat_map(Input::wanting).map(|fd| entry(fd.as_raw_fd(), libc::POLLOUT)));
        if sys::poll(&mut fds, self.timeout_ms()).is_err() {
            return;
        }
        if fds[0].revents != 0 && sys::drain(signals.as_fd()) {
            self.door.hurry();
        }
        for (output, seen) in self.streams.outputs.iter_mut().zip(&fds[outputs_at..]) {
            if seen.revents != 0 {
                let _ = output.fill();
            }
        }
        self.show();
        self.streams.input.feed();
        self.sessions.iter_mut().filter_map(|session| session.input.as_mut()).for_each(|input| input.feed());
        for (task, seen) in fds[desk_at..desk_end].iter().enumerate() {
            if let (true, Some(desk)) = (seen.revents != 0, &mut self.desk) {
                desk.serve(task);
            }
        }
        for index in 0..outputs_at - 2 {
            let seen = fds[2 + index].revents;
            if seen & libc::POLLOUT != 0 {
                self.sessions[index].flush();
            }
            if seen & !libc::POLLOUT != 0 {
                self.receive(index);
            }
        }
        if fds[1].revents != 0
            && let Some(session) = self.door.admit()
        {
            self.admit(session);
        }
    }

    /// Passes on what the tasks' server has for the other nodes, and ends the step where it says so.
    fn exchange(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        let (bytes, abort) = (desk.take_exchange(), desk.take_abort());
        if let Some(output) = self.streams.outputs.first_mut().filter(|_| !bytes.is_empty()) {
            output.push(&bytes);
        }
        if let Some(text) = abort {
            let note = format!("*** STEP {}.{}: {text} ***", self.spec.job_id, self.spec.step);
            self.end_step(Why::BadExit, self.spec.kill_wait_ms, &note);
        }
    }

    /// The end of the pipe means that exec has happened; words mean that it will not.
    fn read_report(&mut self, index: usize) {
        let Some(report) = &self.tasks[index].report else { return };
        let mut buffer = [0_u8; 2048];
        match sys::read(report.as_fd(), &mut buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(count) if count > 0 && buffer[0] == NOTED => {
                self.note_detail(String::from_utf8_lossy(&buffer[1..count]).into_owned());
            }
            Ok(count) if count > 0 => {
                let sentence = String::from_utf8_lossy(&buffer[..count]).into_owned();
                self.shut_out |= self.spec.container.is_some();
                self.note_detail(sentence);
                // The wait status of this child is not the task's.
                self.task_ended(index, Exit { code: 0, signal: SETUP_FAILED_SIGNAL });
            }
            _ => self.tasks[index].report = None,
        }
    }

    fn timeout_ms(&self) -> i32 {
        let now = Instant::now();
        let next = [
            self.limit_at(),
            self.warning_at(),
            self.first_kill_at(),
            self.kill_again.map(|(at, _)| at),
            self.client_deadline(),
            self.door.due(),
            self.sample_at,
        ];
        match next.into_iter().flatten().min() {
            // Rounded up, so that the deadline is past on waking.
            Some(at) => i32::try_from(at.saturating_duration_since(now).as_millis() + 1).unwrap_or(i32::MAX),
            None => -1,
        }
    }

    /// Takes the dead away; notices the end of tasks and of everything.
    fn reap(&mut self) {
        loop {
            match sys::reap() {
                Ok(Reaped::Child { pid, status, user_us, system_us, max_rss_bytes }) => {
                    self.user_us += user_us;
                    self.system_us += system_us;
                    self.max_rss_bytes = self.max_rss_bytes.max(max_rss_bytes);
                    self.helpers.retain(|(helper, _)| *helper != pid);
                    if self.helper == Some(pid) {
                        self.helper = None;
                        self.helper_lost();
                    }
                    if let Some(index) = self.tasks.iter().position(|task| task.pid == pid) {
                        // Its last words count before its status does.
                        self.read_report(index);
                        self.tasks[index].peak.at_least(user_us + system_us, max_rss_bytes);
                        let exit = match status {
                            Status::Code(code) => Exit { code, signal: 0 },
                            Status::Signal(9) if self.tree.oom_kills() > 0 => OUT_OF_MEMORY,
                            Status::Signal(signal) => Exit { code: 0, signal },
                        };
                        self.task_ended(index, exit);
                    }
                }
                Ok(Reaped::Alive) | Err(_) => break,
                Ok(Reaped::Empty) => {
                    self.nothing_left();
                    break;
                }
            }
        }
    }

    fn task_ended(&mut self, index: usize, exit: Exit) {
        let task = &mut self.tasks[index];
        task.report = None;
        if task.exit.is_some() {
            return;
        }
        task.exit = Some(exit);
        let number = self.next_event();
        self.events.push(Frame::Exited { number, rank: self.tasks[index].rank, exit });
        let others = self.tasks.iter().any(|task| task.exit.is_none());
        if exit != Exit::default() && self.spec.kill_on_bad_exit && others && self.stop.is_none() {
            self.end_step(Why::BadExit, self.spec.kill_wait_ms, "");
        }
    }

    /// Slurm's line.
    fn tell_oom(&mut self) {
        let (count, plural) = (self.oom_kills, if self.oom_kills == 1 { "" } else { "s" });
        let step = format!("{}.{}", self.spec.job_id, self.spec.step);
        self.say(&format!(
            "Detected {count} oom_kill event{plural} in StepId={step}. Some of the step tasks have been OOM Killed."
        ));
    }

    fn next_event(&self) -> u32 {
        u32::try_from(self.events.len() + 1).unwrap_or(u32::MAX)
    }

    /// No process is left: the phases that wait for that go on.
    fn nothing_left(&mut self) {
        if self.tasks.iter().any(|task| task.exit.is_none()) {
            // Cannot be: a task ends only by being reaped. Were it so, waiting would be for ever.
            for index in 0..self.tasks.len() {
                self.task_ended(index, Exit { code: 0, signal: SETUP_FAILED_SIGNAL });
            }
        }
        self.kill_again = None;
        if self.phase != Phase::Delivering && self.oom_kills == 0 {
            self.oom_kills = self.tree.oom_kills();
            if self.oom_kills > 0 {
                self.tell_oom();
                // Who writes that down is waited for.
                if !self.helpers.is_empty() {
                    return;
                }
            }
        }
        match self.phase {
            Phase::Running | Phase::Clearing => {
                if self.spec.task_epilogs.is_empty() || !self.start_epilogs() {
                    self.deliver();
                } else {
                    self.phase = Phase::Epilogs;
                    self.kill_again = Some((Instant::now() + EPILOG_MAX, clock::KILL_AGAIN));
                }
            }
            Phase::Epilogs => self.deliver(),
            Phase::Delivering => {}
        }
    }

    fn start_epilogs(&mut self) -> bool {
        let mut started = false;
        for task in &self.spec.tasks {
            for epilog in &self.spec.task_epilogs {
                match self.tree.fork(false) {
                    Ok(Forked::Child) => child::become_epilog(&self.spec, task, &self.tree, epilog),
                    Ok(Forked::Parent(_)) => started = true,
                    Err(_) => {}
                }
            }
        }
        started
    }

    fn deliver(&mut self) {
        self.phase = Phase::Delivering;
        self.delivering_since = Some(Instant::now());
    }

    /// Moves on when the last task has ended but something of it lives.
    fn advance(&mut self) {
        let all_ended = self.tasks.iter().all(|task| task.exit.is_some());
        if self.phase == Phase::Running && all_ended {
            self.phase = Phase::Clearing;
            self.suspended_since = None;
            self.dismiss_helper();
            self.kill_everything();
        }
        if self.phase == Phase::Delivering {
            self.streams.outputs.iter_mut().for_each(Output::finish);
            self.show();
        }
    }

    fn is_over(&self) -> bool {
        let lost_client = matches!(self.stop, Some(Stop { why: Why::ClientLost, .. }));
        let nobody = self.spec.cookie.is_empty() || self.client_left || lost_client;
        self.phase == Phase::Delivering && nobody && !self.sessions.iter().any(Session::wants_to_write)
    }

    fn outcome(self) -> Outcome {
        let account = Box::new(self.account());
        let tasks: Vec<Exit> = self.tasks.iter().map(|task| task.exit.unwrap_or_default()).collect();
        let worst = tasks.iter().copied().max_by_key(|exit| exit.badness()).unwrap_or_default();
        let kind = match self.stop.as_ref().map(|stop| stop.why) {
            Some(Why::OwnLimit | Why::Asked(Cause::TimeLimit)) => Kind::TimeLimit,
            Some(Why::Asked(_)) => Kind::Cancelled,
            _ if self.oom_kills > 0 => Kind::OutOfMemory,
            None if self.shut_out => Kind::LaunchFailed,
            Some(Why::BadExit | Why::ClientLost) | None => Kind::Exited,
        };
        let exit = if self.spec.is_batch() { tasks.first().copied().unwrap_or_default() } else { worst };
        Outcome {
            kind,
            exit: if kind == Kind::OutOfMemory { OUT_OF_MEMORY } else { exit },
            begun_ms: self.begun_ms,
            ended_ms: sys::now_ms(),
            user_us: self.user_us,
            system_us: self.system_us,
            max_rss_bytes: account.rss.most,
            account,
            stop_requested: matches!(
                self.stop.as_ref().map(|stop| stop.why),
                Some(Why::OwnLimit | Why::Asked(_))
            ),
            tasks,
            detail: self.detail,
        }
    }
}

/// Output files that one task empties and later ones append to: those wait until that is done, or what they had
/// written would be lost.
#[derive(Default)]
struct SharedFiles {
    /// By path; what is read ends when the file has been emptied.
    emptied: Vec<(Vec<u8>, OwnedFd)>,
}

impl SharedFiles {
    /// What the task at `index` has to wait for, and what those behind it wait for.
    fn meet(&mut self, tasks: &[Task], index: usize, ends: &mut Ends) -> std::io::Result<()> {
        for path in outputs(&tasks[index], false) {
            if let Some((_, end)) = self.emptied.iter().find(|(known, _)| known == path) {
                ends.emptied.push(end.try_clone()?);
            }
        }
        let behind = &tasks[index + 1..];
        let shared =
            |path: &&Vec<u8>| behind.iter().any(|task| outputs(task, false).any(|other| other == *path));
        let shared: Vec<Vec<u8>> = outputs(&tasks[index], true).filter(shared).cloned().collect();
        if !shared.is_empty() {
            let (end, opening) = sys::pipe()?;
            for path in shared {
                self.emptied.push((path, end.try_clone()?));
            }
            ends.opening = Some(opening);
        }
        Ok(())
    }
}

/// The files that a task writes its streams to, those that it empties or those that it does not.
fn outputs(task: &Task, emptied: bool) -> impl Iterator<Item = &Vec<u8>> {
    [&task.stdout, &task.stderr].into_iter().filter_map(move |stdio| match stdio {
        Stdio::File { path, truncate } if *truncate == emptied => Some(path),
        _ => None,
    })
}

fn entry(fd: i32, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// The number of an open descriptor; -1, which poll passes over, for none.
fn raw(fd: Option<&OwnedFd>) -> i32 {
    fd.map_or(-1, AsRawFd::as_raw_fd)
}
