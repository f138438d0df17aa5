//! One input: space for it, the machine's word on it, and what comes of it into the batch.

use std::panic::{AssertUnwindSafe, catch_unwind};

use model::id::JobId;
use model::job::JobState;
use model::refusal::Refusal;
use model::time::Timestamp;
use scheduler_core::effect::{Answer, Asker, Effect, Refused, ReplyTo};
use scheduler_core::input::{Command, Input, Submit};
use scheduler_core::record::Record;
use scheduler_core::state::job::Bodies;

use super::Owner;
use super::batch::Release;
use super::keeper::{self, Room};
use crate::inbox::{Body, Item, Reply};
use crate::metrics::Metrics;
use crate::store::Class;
use crate::store::history::request_digest;

/// What a job's record may be larger than its request, bytes.
const JOB_OVERHEAD: u64 = 4096;
/// With fewer ids left, the machine learns which ones history holds: before it needs them.
const IDS_NEAR: u32 = 100_000;
/// Most space that is promised to one command, bytes.
const COMMAND_BYTES_MAX: u64 = 2 << 20;

impl Owner<'_> {
    /// A submission: refused without space for it, else handled; its bodies go with its record.
    ///
    /// It comes back where this batch has no room for it.
    pub(super) fn submit(&mut self, submit: Box<Submit>, bodies: Vec<Body>, reply: Reply) -> Option<Item> {
        let bytes = request_bytes(&submit) + JOB_OVERHEAD;
        match self.room(Class::Admission, bytes, &bodies) {
            Room::Yes => {}
            Room::NextBatch => return Some(Item::Submit { submit, bodies, reply }),
            Room::Full if submit.test_only => {}
            Room::Full | Room::Fenced => {
                self.refuse_for_space(reply);
                return None;
            }
        }
        if !submit.test_only
            && let Some(answer) = self.answer_of_the_past(&submit)
        {
            self.batch.releases.push(Release::Answer(reply, answer));
            return None;
        }
        if !self.tell_held_ids() {
            let lines = vec!["the history cannot be read; retry with the same key".into()];
            let refused = Refused { refusal: Refusal::TooManyJobs, lines };
            self.batch.releases.push(Release::Answer(reply, Answer::Refused(refused)));
            return None;
        }
        let mut submit = submit;
        submit.reply = self.expect_answer(reply);
        let before = self.batch.update.records.len();
        self.handle(Input::Submit(submit));
        let stored =
            self.batch.update.records[before..].iter().any(|record| matches!(record, Record::Job(_)));
        if stored {
            self.parts.metrics.submitted.one();
            self.take_bodies(bodies);
        }
        None
    }

    /// Before ids come round, and once in each round, the machine learns which of them history holds. `false`: that
    /// cannot be read.
    pub(super) fn tell_held_ids(&mut self) -> bool {
        let state = self.machine.state();
        let round = state.id_wraps;
        let left = self.settings.max_job_id.saturating_sub(state.next_job_id);
        if (round == 0 && left > IDS_NEAR) || self.held_told == Some(round) {
            return true;
        }
        let mut ids = match self.store.history().job_ids() {
            Ok(ids) => ids,
            Err(error) => {
                tracing::error!("ids come round, and history cannot be read: {error}");
                return false;
            }
        };
        // Jobs that the machine has forgotten and whose rows are not made yet.
        let view = self.parts.views.read();
        for id in view.state.jobs.keys().filter(|id| state.job(**id).is_none()) {
            ids.insert(id.0);
        }
        drop(view);
        self.held_told = Some(round);
        self.handle(Input::IdsHeld(Box::new(ids)));
        true
    }

    /// The answer to a repeated call whose job has left the memory.
    fn answer_of_the_past(&self, submit: &Submit) -> Option<Answer> {
        let (uid, key) = (submit.asker.uid, submit.key);
        // The machine knows what the state holds.
        let held = self.machine.state().index.keys.contains_key(&(uid, key));
        if held || !self.parts.keys.may_hold((uid, key)) {
            return None;
        }
        let row = match self.store.history().find_key(uid, key, self.now) {
            Ok(row) => row?,
            Err(error) => {
                tracing::error!("a repeated call cannot be looked up: {error}");
                let lines = vec!["the history cannot be read; retry with the same key".into()];
                return Some(Answer::Refused(Refused { refusal: Refusal::KeyReused, lines }));
            }
        };
        let bodies = Bodies { script: submit.script, environment: submit.environment };
        if row.request_digest == request_digest(&submit.request, &bodies) {
            let job = JobId(row.job.array_job_id.unwrap_or(row.job.job_id));
            return Some(Answer::Submitted { job, warnings: Vec::new() });
        }
        Some(Answer::Refused(Refused::from(Refusal::KeyReused)))
    }

    /// Jobs that the next call of the machine purges: their keys are remembered before it forgets them.
    fn note_purges(&self) {
        let state = self.machine.state();
        let oldest = self.now.saturating_sub(self.settings.min_job_age);
        for (end, id) in state.index.ended.iter().take_while(|(end, _)| *end <= oldest) {
            if let Some(job) = state.job(*id) {
                self.parts.keys.note((job.owner.uid, job.key), *end, self.now);
            }
        }
    }

    /// Jobs whose end came so late that they were purged in the same call: only the views still have them.
    fn note_late_ends(&self) {
        for record in &self.out.records {
            let Record::JobPurged(id) = record else { continue };
            let end = self.out.records.iter().find_map(|record| match record {
                Record::JobEnded { job, ended } if job == id => Some(ended.end),
                _ => None,
            });
            let Some(end) = end else { continue };
            let view = self.parts.views.read();
            let made = |record: &Record| match record {
                Record::Job(job) if job.id == *id => Some((job.owner.uid, job.key)),
                _ => None,
            };
            let call = view.state.job(*id).map(|job| (job.owner.uid, job.key));
            let call =
                call.or_else(|| self.batch.update.records.iter().chain(&self.out.records).find_map(made));
            if let Some(call) = call {
                self.parts.keys.note(call, end, self.now);
            }
        }
    }

    /// A command; only one that makes a step brings a body, and only that admits work.
    pub(super) fn command(
        &mut self,
        asker: Asker,
        command: Box<Command>,
        body: Option<Body>,
        reply: Reply,
    ) -> Option<Item> {
        let bodies: Vec<Body> = body.iter().cloned().collect();
        let class = if ends_work(&command) { Class::Essential } else { Class::Admission };
        match self.room(class, self.command_bytes(&command), &bodies) {
            Room::Yes => {}
            Room::NextBatch => return Some(Item::Command { asker, command, body, reply }),
            Room::Full | Room::Fenced => {
                self.refuse_for_space(reply);
                return None;
            }
        }
        let reply = self.expect_answer(reply);
        let before = self.batch.update.records.len();
        self.handle(Input::Command { reply, asker, command });
        let records = &self.batch.update.records[before..];
        if records.iter().any(|record| matches!(record, Record::StepCreated { .. })) {
            self.take_bodies(bodies);
        }
        None
    }

    fn room(&mut self, class: Class, record_bytes: u64, bodies: &[Body]) -> Room {
        let lengths: Vec<usize> = bodies.iter().map(|body| body.bytes.len()).collect();
        let room = keeper::admit(&self.store, &mut self.stored, class, record_bytes, &lengths);
        if room == Room::Fenced {
            self.fence();
        }
        room
    }

    fn refuse_for_space(&mut self, reply: Reply) {
        self.parts.metrics.disk_full.one();
        let refused = Answer::Refused(Refused::from(Refusal::DiskFull));
        self.batch.releases.push(Release::Answer(reply, refused));
    }

    /// A bound of the records of a command, bytes: for each job that it may change, a changed job.
    fn command_bytes(&self, command: &Command) -> u64 {
        let live = self.machine.state().jobs.len() as u64;
        let jobs = match command {
            Command::Cancel { jobs, .. } if jobs.is_empty() => live,
            Command::Cancel { jobs, .. }
            | Command::Hold { jobs, .. }
            | Command::Release(jobs)
            | Command::Requeue { jobs, .. }
            | Command::Suspend(jobs)
            | Command::Resume(jobs) => jobs.len() as u64,
            Command::ChangeAccounts(changes) => changes.len() as u64,
            _ => 1,
        };
        // Beyond this the promise is only a hint: the frame takes what space there is.
        (JOB_OVERHEAD + jobs * 512).min(COMMAND_BYTES_MAX)
    }

    fn take_bodies(&mut self, bodies: Vec<Body>) {
        for body in bodies {
            self.stored.push_body(body.hash, body.bytes);
        }
    }

    fn expect_answer(&mut self, reply: Reply) -> ReplyTo {
        self.last_reply += 1;
        let to = ReplyTo(self.last_reply);
        self.replies.insert(to, reply);
        to
    }

    /// The machine handles one input now; what comes of it joins the batch.
    ///
    /// An assertion in the machine is a bug: the input is noted beside the journal and the process ends.
    /// Nothing of the batch is stored, and the next start recovers what was.
    pub(super) fn handle(&mut self, input: Input) {
        let now = self.tick();
        self.handle_at(now, input);
    }

    /// The same, at an instant that was looked at before and is not before that of any other input.
    pub(super) fn handle_at(&mut self, now: Timestamp, input: Input) {
        self.parts.metrics.inputs.one();
        if self.suspects.holds(&input) {
            self.refuse_suspect(input);
            return;
        }
        self.note_purges();
        if let Some(recording) = &mut self.recording {
            recording.input(now, &input);
        }
        let suspect = input.clone();
        let (machine, out) = (&mut self.machine, &mut self.out);
        let handled = catch_unwind(AssertUnwindSafe(|| machine.handle(now, input, out)));
        if handled.is_err() {
            self.suspects.note(&suspect);
            tracing::error!("the machine asserted; its state is recovered by the next start");
            std::process::abort();
        }
        self.note_late_ends();
        self.absorb();
    }

    /// An input that made the machine assert before is refused; nothing else is known to be safe.
    fn refuse_suspect(&mut self, input: Input) {
        tracing::error!("an input that made the machine assert before is refused");
        let reply = match input {
            Input::Submit(submit) => submit.reply,
            Input::Command { reply, .. } => reply,
            Input::Registered(registration) => {
                let refused = Some("this registration made the scheduler stop before".into());
                let session = Effect::Session { session: registration.session, node: None, refused };
                self.batch.releases.push(Release::Effect(session));
                return;
            }
            _ => return,
        };
        if let Some(reply) = self.replies.remove(&reply) {
            let refused = Refused {
                refusal: Refusal::NotSupported,
                lines: vec!["this request made the scheduler stop before; it is not tried again".into()],
            };
            self.batch.releases.push(Release::Answer(reply, Answer::Refused(refused)));
        }
    }

    /// Takes what the machine brought.
    fn absorb(&mut self) {
        if self.out.pass_wanted {
            self.out.pass_wanted = false;
            self.planning.want();
        }
        for record in self.out.records.drain(..) {
            self.planning.observe(&record);
            count(&self.parts.metrics, &record);
            self.stored.push(&record);
            self.batch.update.records.push(record);
        }
        for effect in std::mem::take(&mut self.out.effects) {
            match effect {
                Effect::Answer(to, answer) => {
                    // A reply that is not known was given up by an earlier owner.
                    if let Some(reply) = self.replies.remove(&to) {
                        self.batch.releases.push(Release::Answer(reply, answer));
                    }
                }
                Effect::Session { session, node: Some(node), .. } => {
                    self.sessions.insert(session, node);
                    self.current.insert(node, session);
                    self.batch.releases.push(Release::Effect(effect));
                }
                _ => self.batch.releases.push(Release::Effect(effect)),
            }
        }
    }
}

/// Bytes of a request's texts: what its record will be, within the overhead.
fn request_bytes(submit: &Submit) -> u64 {
    let request = &submit.request;
    let texts = [&request.name, &request.work_dir, &request.submit_line, &request.submit_host];
    let arguments = request.arguments.iter();
    let options = [
        &request.account,
        &request.qos,
        &request.partition,
        &request.command,
        &request.files.stdin,
        &request.files.stdout,
        &request.files.stderr,
        &request.constraint,
    ];
    let length = |text: &str| text.len() as u64 + 8;
    let lists = request.gres_per_node.len()
        + request.gpus_per_job.len()
        + request.gpus_per_node.len()
        + request.gpus_per_task.len()
        + request.gpus_per_socket.len()
        + request.dependency.terms.len();
    let array = request.array.as_ref().map_or(0, |array| array.tasks.runs() as u64 * 32);
    texts.into_iter().map(|text| length(text)).sum::<u64>()
        + arguments.map(|text| length(text)).sum::<u64>()
        + options.into_iter().flatten().map(|text| length(text)).sum::<u64>()
        + rare_bytes(request.rare())
        + lists as u64 * 64
        + array
}

fn rare_bytes(rare: &model::request::Rare) -> u64 {
    let texts = [
        &rare.comment,
        &rare.wckey,
        &rare.reservation,
        &rare.licenses,
        &rare.prefer,
        &rare.cluster_constraint,
        &rare.nodelist,
        &rare.exclude,
        &rare.gpu_bind,
        &rare.tres_per_task,
        &rare.tres_bind,
        &rare.gres_flags,
        &rare.distribution,
        &rare.hint,
        &rare.network,
        &rare.burst_buffer,
        &rare.mcs_label,
        &rare.mail_type,
        &rare.mail_user,
        &rare.container,
        &rare.container_id,
        &rare.extra,
        &rare.profile,
        &rare.acctg_freq,
    ];
    texts.into_iter().flatten().map(|text| text.len() as u64 + 8).sum::<u64>()
        + rare.rlimits.len() as u64 * 64
        + rare.container_options.as_deref().map_or(0, container_bytes)
}

fn container_bytes(options: &model::container::Options) -> u64 {
    let mounts = options.mounts.iter().flat_map(|mount| [&mount.source, &mount.target]);
    let texts = mounts.chain(&options.environment).chain(&options.work_dir);
    64 + texts.map(|text| text.len() as u64 + 16).sum::<u64>()
}

/// Whether a command only ends or frees: it may use the reserve of a full disk.
fn ends_work(command: &Command) -> bool {
    matches!(command, Command::Cancel { .. } | Command::EndAllocation { .. } | Command::Hold { .. })
}

/// Counts what a record says.
fn count(metrics: &Metrics, record: &Record) {
    match record {
        Record::JobStarted { .. } => metrics.started.one(),
        Record::JobPurged(_) => metrics.purged.one(),
        Record::JobEnded { ended, .. } => {
            metrics.ended.one();
            match ended.state {
                JobState::Completed => metrics.completed.one(),
                JobState::Cancelled => metrics.cancelled.one(),
                _ => metrics.failed.one(),
            }
        }
        _ => {}
    }
}
