//! Clients: each submits one job, repeats its call until it is answered, and may cancel.

use std::sync::Arc;

use model::depend::Dependency;
use model::gres::GresRequest;
use model::id::{BodyHash, Gid, JobId, RequestKey, Uid};
use model::quantity::MemoryMib;
use model::request::{JobRequest, MemoryRequest, Sharing};
use model::time::{Span, Timestamp};

use scheduler_core::effect::{Answer, Asker, ReplyTo, Selector};
use scheduler_core::input::{Command, Input, JobFilter, Submit};

use super::oracle::Oracle;
use super::{Agenda, Event, Options, cards};

#[derive(Clone, Debug)]
enum Wish {
    /// Not called yet.
    New,
    /// Called, not answered: the same request with every repetition.
    Submit(Arc<JobRequest>),
    /// Has its job and wants it gone.
    Cancel(JobId),
    /// Wants nothing more.
    Content,
}

/// All clients.
pub(super) struct Clients {
    wishes: Vec<Wish>,
    acknowledged: Vec<JobId>,
    /// They ask for what an administrator changes, too.
    administered: bool,
    /// They ask for slices of GPUs.
    slices: bool,
}

impl Clients {
    pub(super) fn new(options: &Options, slices: bool) -> Self {
        let wishes = vec![Wish::New; options.jobs as usize];
        Self { wishes, acknowledged: Vec::new(), administered: options.administrator, slices }
    }

    pub(super) fn all_answered(&self) -> bool {
        self.wishes.iter().all(|wish| matches!(wish, Wish::Content))
    }

    /// Sends, or sends again.
    pub(super) fn call(&mut self, client: usize, wall_ahead: i64, agenda: &mut Agenda) {
        let wish = &mut self.wishes[client];
        match wish {
            Wish::New => {
                let mut request = request(&self.acknowledged, wall_ahead, self.administered, agenda);
                if self.slices && agenda.random.one_in(2) {
                    request.gres_per_node = cards::request(&mut agenda.random);
                }
                *wish = Wish::Submit(Arc::new(request));
            }
            Wish::Submit(_) | Wish::Cancel(_) => {}
            Wish::Content => return,
        }
        let (there, again) = (agenda.soon(30), 5000 + agenda.soon(5000));
        agenda.after(there, Event::CallArrives(client));
        agenda.after(again, Event::Call(client));
    }

    /// What the scheduler gets.
    pub(super) fn input(&self, client: usize) -> Option<Input> {
        let reply = ReplyTo(client as u64);
        let asker = Asker {
            uid: Uid(1000),
            gid: Gid(1000),
            name: "sim".into(),
            groups: Arc::from([Box::<str>::from("sim")]),
        };
        match &self.wishes[client] {
            Wish::Submit(request) => {
                let mut key = [0; 16];
                key[..8].copy_from_slice(&(client as u64).to_le_bytes());
                Some(Input::Submit(Box::new(Submit {
                    reply,
                    asker,
                    key: RequestKey(key),
                    request: Arc::clone(request),
                    script: Some(BodyHash([1; 32])),
                    environment: BodyHash([2; 32]),
                    alloc_sid: 0,
                    test_only: false,
                })))
            }
            Wish::Cancel(job) => {
                let jobs = vec![Selector { job: *job, tasks: None, step: None }];
                let filter = JobFilter::default();
                let command = Command::Cancel { jobs, filter, signal: None, batch_only: false, full: false };
                Some(Input::Command { reply, asker, command: Box::new(command) })
            }
            Wish::New | Wish::Content => None,
        }
    }

    /// The answer leaves; one in ten is lost on the way.
    pub(super) fn answer(&mut self, reply: ReplyTo, answer: Answer, agenda: &mut Agenda) {
        if agenda.random.one_in(10) {
            return;
        }
        let delay = agenda.soon(30);
        let client = usize::try_from(reply.0).expect("a reply names a client");
        agenda.after(delay, Event::AnswerArrives(client, answer));
    }

    /// True if it acknowledges a job for the first time.
    pub(super) fn answered(
        &mut self,
        client: usize,
        answer: &Answer,
        agenda: &mut Agenda,
        oracle: &mut Oracle,
    ) -> Result<bool, String> {
        match (&self.wishes[client], answer) {
            (Wish::Submit(_), Answer::Submitted { job, .. }) => {
                oracle.acknowledged(*job)?;
                self.acknowledged.push(*job);
                self.wishes[client] = Wish::Content;
                if agenda.random.one_in(5) {
                    self.wishes[client] = Wish::Cancel(*job);
                    let delay = agenda.soon(20_000);
                    agenda.after(delay, Event::Call(client));
                }
                Ok(true)
            }
            (Wish::Submit(_), Answer::Refused(_)) | (Wish::Cancel(_), Answer::Outcomes(_)) => {
                self.wishes[client] = Wish::Content;
                Ok(false)
            }
            _ => Ok(false),
        }
    }
}

fn request(earlier: &[JobId], wall_ahead: i64, administered: bool, agenda: &mut Agenda) -> JobRequest {
    let wall = agenda.now + wall_ahead;
    let random = &mut agenda.random;
    let ntasks = u32::try_from(1 + random.below(6)).expect("few tasks");
    let mut request = JobRequest {
        name: "sim".into(),
        work_dir: "/".into(),
        ntasks: Some(ntasks),
        ..JobRequest::default()
    };
    if random.one_in(4) {
        // Seconds to hours ahead, by the wall clock as it is now.
        let most = random.pick(&[20_000_u64, 7_200_000]).expect("two spans");
        let ahead = i64::try_from(random.below(most)).expect("hours are small");
        request.begin = Some(Timestamp(wall + ahead));
    }
    if random.one_in(4) {
        let limit = 1000 + i64::try_from(random.below(60_000)).expect("a minute is small");
        request.time_limit = Some(Some(Span(limit)));
    }
    if random.one_in(4) {
        // Some may run for less than they would like.
        let most = request.time_limit.flatten().map_or(180_000, |limit| limit.0.unsigned_abs());
        let least = i64::try_from(1 + random.below(most)).expect("minutes are small");
        request.rare_mut().time_min = Some(Span(least));
    }
    request.requeue = random.one_in(4).then_some(false);
    if random.one_in(3) {
        let kinds = [("gpu", None), ("gpu", Some("a")), ("gpu", Some("b")), ("shard", None)];
        let (name, kind) = random.pick(&kinds[..if administered { 4 } else { 3 }]).expect("some kinds");
        let most = if kind == Some("b") { 1 } else { 2 };
        let count = 1 + random.below(most);
        request.gres_per_node = vec![GresRequest { name: name.into(), kind: kind.map(Into::into), count }];
    }
    if random.one_in(4) {
        let mib = random.pick(&[200, 1000, 3000, 4000]).expect("four amounts");
        request.memory = Some(MemoryRequest::PerNode(MemoryMib(mib)));
    }
    if random.one_in(6) {
        request.sharing = Sharing::Exclusive;
    }
    if random.one_in(4) {
        let licenses = random.pick(&["matlab", "matlab:2", "vasp", "matlab:3,vasp"]).expect("four lists");
        request.rare_mut().licenses = Some(licenses.into());
    }
    if administered && random.one_in(3) {
        request.partition = Some(random.pick(&["second", "main,second"]).expect("two lists").into());
    }
    if administered && random.one_in(4) {
        request.qos = Some("some".into());
    }
    // Few sorts of priorities, so that jobs come before others that wait.
    request.nice = random.pick(&[0, 0, 50, 100]).expect("three priorities");
    if random.one_in(5) {
        let last = 1 + random.below(6);
        request.array = model::array::ArraySpec::parse(&format!("1-{last}%3"), 1000).ok();
    }
    if let (true, Some(other)) = (random.one_in(3), random.pick(earlier)) {
        let kind = random.pick(&["after", "afterok", "afterany", "afternotok"]).expect("four kinds");
        request.rare_mut().kill_on_invalid_dep = Some(true);
        request.dependency = Dependency::parse(&format!("{kind}:{other}")).expect("a dependency");
    }
    request
}
