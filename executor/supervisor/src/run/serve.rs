//! The run's socket: who is let in, what they may ask, what the client is sent.

use executor_supervisor::frame::{ALL_RANKS, Cause, Frame, Position, Stream, Usage, VERSION};
use std::os::fd::AsFd;
use std::time::Instant;

use super::{Phase, Run, Why};
use crate::session::{Role, Session};
use crate::sys;

/// Connections at one time of the job's owner, and of root with the executor's user: the former cannot
/// keep the latter out. More are closed at once.
const SESSIONS_MAX: usize = 16;

impl Run {
    pub(super) fn receive(&mut self, index: usize) {
        let frames = self.sessions[index].receive();
        for frame in frames {
            let uid = self.sessions[index].uid;
            let is_client = matches!(self.sessions[index].role, Role::Client { .. });
            let answer = match frame {
                Frame::Attach { version, cookie, received } => {
                    self.attach(index, version, &cookie, &received);
                    None
                }
                Frame::Watch { version, input } => {
                    self.watch(index, version, input);
                    None
                }
                frame if is_client => self.obey_client(index, frame),
                frame if matches!(self.sessions[index].role, Role::Watcher { .. }) => {
                    self.obey_watcher(index, frame)
                }
                frame => Some(self.obey_visitor(frame, uid)),
            };
            if let Some(answer) = answer {
                self.sessions[index].send(&answer);
            }
        }
    }

    pub(super) fn attach(&mut self, index: usize, version: u16, cookie: &[u8], received: &[Position]) {
        let reason = if version != VERSION {
            Some("another version of the frames is spoken here")
        } else if self.spec.cookie.is_empty() || cookie != self.spec.cookie {
            Some("wrong cookie")
        } else {
            None
        };
        if let Some(reason) = reason {
            self.sessions[index].send(&refused(reason));
            self.sessions[index].closing = true;
            return;
        }
        // Whoever was attached before is the same client's broken connection.
        for other in &mut self.sessions {
            if matches!(other.role, Role::Client { .. }) {
                // Nothing more is sent there: the streams go on elsewhere.
                other.role = Role::Visitor;
                other.gone = true;
            }
        }
        self.streams.rewind(received);
        let welcome = Frame::Welcome {
            version: VERSION,
            ranks: self.tasks.iter().map(|task| task.rank).collect(),
            input_offset: self.streams.input.end(),
        };
        let session = &mut self.sessions[index];
        session.gone = false;
        session.role = Role::Client { events_sent: 0, ended_sent: false };
        session.send(&welcome);
        self.client_lost_at = None;
        self.client_seen = true;
    }

    /// Lets somebody look on. Who was let in at all is the job's owner, or may do anything.
    fn watch(&mut self, index: usize, version: u16, input: Option<u32>) {
        let reason = if version != VERSION {
            Some("another version of the frames is spoken here")
        } else if self.spec.cookie.is_empty() {
            Some("its streams are files")
        } else if !matches!(self.sessions[index].role, Role::Visitor) {
            Some("it is attached")
        } else {
            None
        };
        // Where its input cannot be joined, it only looks on.
        let input = input.and_then(|rank| self.streams.input.beside(rank).ok());
        if let Some(reason) = reason {
            self.sessions[index].send(&refused(reason));
            self.sessions[index].closing = true;
            return;
        }
        self.show();
        let ranks = self.tasks.iter().map(|task| task.rank).collect();
        let session = &mut self.sessions[index];
        session.role = Role::Watcher { events_sent: 0, ended_sent: false };
        session.input = input.map(Box::new);
        session.send(&Frame::Welcome { version: VERSION, ranks, input_offset: 0 });
        for frame in self.streams.kept() {
            if session.has_room_to_watch() {
                session.send(&frame);
            }
        }
    }

    fn obey_watcher(&mut self, index: usize, frame: Frame) -> Option<Frame> {
        let session = &mut self.sessions[index];
        match (frame, session.input.as_mut()) {
            (Frame::Data { position, bytes }, Some(input)) if is_input(position.rank, position.stream) => {
                session.gone |= !input.push(position.offset, &bytes);
            }
            (Frame::Close { position }, Some(input)) if is_input(position.rank, position.stream) => {
                input.close();
            }
            // Input that nobody takes.
            (Frame::Data { .. } | Frame::Close { .. }, None) => {}
            (frame @ Frame::Signal { .. }, _) => {
                let uid = session.uid;
                self.obey_visitor(frame, uid);
            }
            (Frame::Window { rows, columns }, _) => {
                if let Some(terminal) = &self.streams.terminal {
                    sys::set_window(terminal.as_fd(), rows, columns);
                }
            }
            _ => session.gone = true,
        }
        None
    }

    /// Shows watchers what was read since the last time.
    pub(super) fn show(&mut self) {
        let watches = |session: &Session| matches!(session.role, Role::Watcher { .. });
        if !self.sessions.iter().any(watches) {
            return self.streams.show_nobody();
        }
        let frames = self.streams.show();
        for session in self.sessions.iter_mut().filter(|session| watches(session)) {
            for frame in &frames {
                if session.has_room_to_watch() {
                    session.send(frame);
                }
            }
        }
    }

    pub(super) fn obey_client(&mut self, index: usize, frame: Frame) -> Option<Frame> {
        match frame {
            Frame::Data { position, bytes } if is_input(position.rank, position.stream) => {
                if !self.streams.input.push(position.offset, &bytes) {
                    self.sessions[index].gone = true;
                }
            }
            Frame::Data { position, bytes } if position.stream == Stream::Exchange => {
                if !self.take_exchange(position.offset, &bytes) {
                    self.sessions[index].gone = true;
                }
            }
            Frame::Close { position } if is_input(position.rank, position.stream) => {
                self.streams.input.close();
            }
            Frame::Ack { position } => self.streams.acknowledge(position),
            Frame::Window { rows, columns } => {
                if let Some(terminal) = &self.streams.terminal {
                    sys::set_window(terminal.as_fd(), rows, columns);
                }
            }
            Frame::Signal { signal, scope } => self.signal(signal, scope),
            Frame::Terminate { cause, kill_wait_ms, note } => {
                self.end_step(client_may(cause), kill_wait_ms, &note);
            }
            Frame::Leave => {
                self.client_left = true;
                self.sessions[index].gone = true;
            }
            _ => self.sessions[index].gone = true,
        }
        None
    }

    /// Bytes of the exchange for who serves the tasks. False: they make no sense.
    fn take_exchange(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let Some(input) = &mut self.streams.exchange else { return false };
        let known = usize::try_from(input.end().saturating_sub(offset)).unwrap_or(usize::MAX);
        if !input.push(offset, bytes) {
            return false;
        }
        let new = bytes.get(known..).unwrap_or_default();
        self.desk.as_mut().is_none_or(|desk| desk.arrived(new))
    }

    /// One-shot commands: the executor's, or the job's owner where it is their right.
    pub(super) fn obey_visitor(&mut self, frame: Frame, uid: u32) -> Frame {
        let commands = uid == 0 || uid == sys::effective_uid();
        match frame {
            Frame::Signal { signal, scope } => self.signal(signal, scope),
            Frame::Terminate { cause, kill_wait_ms, note } => {
                let why = if commands { Why::Asked(cause) } else { client_may(cause) };
                self.end_step(why, kill_wait_ms, &note);
            }
            Frame::AskUsage => return Frame::Usage(self.usage()),
            Frame::AskAccount => {
                self.sample();
                return Frame::Account(Box::new(self.account()));
            }
            Frame::Suspend if commands => {
                if self.stop.is_none() && self.phase == Phase::Running {
                    self.suspend(true);
                }
            }
            Frame::Resume if commands => self.suspend(false),
            Frame::Limit { limit_ms } if commands => self.change_limit(limit_ms),
            Frame::Announce { text } if commands => self.say(&text),
            _ => return refused("permission denied"),
        }
        Frame::Done
    }

    /// What lives now, and what was waited for. A question costs a look into every process; nobody asks for nothing.
    fn usage(&mut self) -> Usage {
        let mut usage = self.tree.usage(&self.helper_pids());
        self.sample();
        if let [only] = &mut self.tasks[..] {
            // All that was seen is the only task's, and the second look is at another moment.
            only.peak.at_least(0, usage.rss_bytes);
        }
        usage.max_rss_bytes = self.account().rss.most;
        // The kernel's count holds the dead too; without it the dead are those that were waited for.
        match self.tree.cpu_times() {
            Some((user_us, system_us)) => (usage.user_us, usage.system_us) = (user_us, system_us),
            None => {
                usage.user_us += self.user_us;
                usage.system_us += self.system_us;
            }
        }
        usage
    }

    /// The warning keeps its distance from the limit.
    pub(super) fn change_limit(&mut self, limit_ms: Option<u64>) {
        if let (Some(warning), Some(old), Some(new)) = (&mut self.spec.warning, self.spec.limit_ms, limit_ms)
        {
            warning.after_ms = warning.after_ms.saturating_add(new).saturating_sub(old);
        }
        self.spec.limit_ms = limit_ms;
    }

    /// Sends what there is to send; forgets connections that are gone.
    pub(super) fn serve(&mut self) {
        let all_said = self.phase == Phase::Delivering && self.streams.is_delivered();
        let all_shown = self.phase == Phase::Delivering && self.streams.has_ended();
        for session in &mut self.sessions {
            if let Role::Client { events_sent, ended_sent } = session.role {
                let mut sent = events_sent;
                while session.has_room() && sent < self.events.len() {
                    session.send(&self.events[sent]);
                    sent += 1;
                }
                while session.has_room()
                    && let Some(frame) = self.streams.next_frame()
                {
                    session.send(&frame);
                }
                let end_now = all_said && sent == self.events.len() && !ended_sent;
                if end_now {
                    session.send(&Frame::Ended);
                }
                session.role = Role::Client { events_sent: sent, ended_sent: ended_sent || end_now };
            }
            if let Role::Watcher { events_sent, ended_sent } = session.role {
                let mut sent = events_sent;
                while session.has_room() && sent < self.events.len() {
                    session.send(&self.events[sent]);
                    sent += 1;
                }
                if let Some(frame) = session.input.as_mut().and_then(|input| input.next_frame()) {
                    session.send(&frame);
                }
                let end_now = all_shown && sent == self.events.len() && !ended_sent;
                if end_now {
                    session.send(&Frame::Ended);
                }
                session.role = Role::Watcher { events_sent: sent, ended_sent: ended_sent || end_now };
            }
            session.flush();
        }
        let mut lost = false;
        self.sessions.retain(|session| {
            if session.gone
                && let Role::Client { ended_sent, .. } = session.role
            {
                lost = true;
                self.client_left |= ended_sent;
            }
            !session.gone
        });
        let attached = self.sessions.iter().any(|session| matches!(session.role, Role::Client { .. }));
        if lost && !attached {
            self.client_lost_at = Some(Instant::now());
        }
    }

    /// Strangers get nothing, not even a place in the list.
    pub(super) fn admit(&mut self, session: Session) {
        let commands = |uid: u32| uid == 0 || uid == sys::effective_uid();
        let same = |other: &&Session| commands(other.uid) == commands(session.uid);
        let known = commands(session.uid) || session.uid == self.spec.uid;
        if known && self.sessions.iter().filter(same).count() < SESSIONS_MAX {
            self.sessions.push(session);
        }
    }
}

/// Reasons that a step's own user can have.
fn client_may(cause: Cause) -> Why {
    if cause == Cause::TaskFailure { Why::BadExit } else { Why::Asked(Cause::Cancel) }
}

fn is_input(rank: u32, stream: Stream) -> bool {
    rank == ALL_RANKS && stream == Stream::Input
}

fn refused(reason: &str) -> Frame {
    Frame::Refused { reason: reason.to_owned() }
}
