//! A trace through the production machine and planner.
//!
//! Owns virtual time and the model of the executors: a launched run begins at once and ends by itself
//! after its run time. Everything that decides is the machine's and the planner's own.

mod owner;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use model::exit::ExitStatus;
use model::gpu::Gpu;
use model::id::{BodyHash, Gid, JobId, NodeIdx, RequestKey, Uid};
use model::quantity::{Cpus, MemoryMib};
use model::request::{JobRequest, MemoryRequest};
use model::time::{Span, Timestamp};
use scheduler_core::effect::{Answer, Asker, Effect, ReplyTo, RunKey};
use scheduler_core::input::{Input, OutcomeKind, Report, RunOutcome, Submit};
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::plan::policy::{Order, Policy};
use scheduler_core::plan::{Pass, Planner};
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::job::Usage;
use scheduler_core::state::node::NodeDefinition;
use scheduler_core::state::partition::PartitionDefinition;

use super::{Estimates, Layout, Need, Trace, TraceJob};
use owner::Journal;

/// User number of a trace's first user on a site's cluster: none is root.
const FIRST_USER: u32 = 1000;

/// So many requests are kept for jobs that ask for the same: few enough to stay in the processor's cache.
const REQUESTS_KEPT: usize = 512;

/// What tells requests apart: processors, limit in seconds, number of the need.
type Asked = (u32, i64, u32);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Processors of the machine.
    pub procs: u32,
    /// How passes plan.
    pub policy: Policy,
    /// What limits are made of.
    pub estimates: Estimates,
    /// How the processors are laid out.
    pub layout: Layout,
    /// How the planner knows what changed.
    pub planning: Planning,
}

/// How the planner knows what changed since its last pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planning {
    /// It follows the records.
    #[default]
    Following,
    /// It reads the whole state for each pass.
    Anew,
    /// Both, and they must agree at each pass.
    Both,
    /// It follows the records of one instant: before the next the scheduler ends, and another begins with what the
    /// journal says.
    Restarting,
}

/// What a replay sees at one instant.
pub struct Scene<'a> {
    /// The trace.
    pub jobs: &'a [TraceJob],
    places: &'a [u32],
    /// The machine's state.
    pub state: &'a State,
    /// Its configuration.
    pub settings: &'a Settings,
    /// Virtual time; zero is the first submission.
    pub now: Timestamp,
    /// Seconds of the trace at virtual time zero.
    pub origin: i64,
}

impl Scene<'_> {
    /// Place in the trace of a job of the machine.
    #[must_use]
    pub fn place(&self, job: JobId) -> Option<usize> {
        let place = self.places.get(job.0 as usize).copied().filter(|place| *place != u32::MAX);
        place.map(|place| place as usize)
    }
}

/// Looks on while a trace is replayed; changes nothing. All but what it overrides costs nothing.
pub trait Watch {
    /// Whether passes shall say why jobs wait and when they are planned to start. Costs time.
    fn wants_verdicts(&self) -> bool {
        false
    }
    /// So many jobs of the trace have been submitted; called once an instant.
    fn reached(&mut self, _submitted: usize) {}
    /// A pass was made and is about to be carried out.
    fn planned(&mut self, _scene: &Scene<'_>, _pass: &Pass) {}
    /// A job started.
    fn started(&mut self, _scene: &Scene<'_>, _job: JobId) {}
    /// A job ended.
    fn ended(&mut self, _scene: &Scene<'_>, _job: JobId) {}
}

/// Nobody looks on.
impl Watch for () {}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Start of each job by its place, seconds of the trace; -1: it never started.
    pub starts: Vec<i64>,
    /// Jobs that cannot run on this machine: place, and why.
    pub refused: Vec<(usize, String)>,
}

/// Runs jobs, which are in order of submission, and answers the start of each, seconds.
///
/// Cost: that of the scheduler for each job and pass.
///
/// # Panics
/// If the scheduler refuses a job, never starts one, or starts one that it was not given: bugs.
#[must_use]
pub fn run(jobs: &[TraceJob], options: Options) -> Vec<i64> {
    run_watched(jobs, options, &mut ())
}

/// The same with somebody who looks on.
///
/// # Panics
/// As [`run`].
pub fn run_watched(jobs: &[TraceJob], options: Options, watch: &mut impl Watch) -> Vec<i64> {
    let mut replay = Replay::new(jobs, &[], options, (settings(options), &[]), false, watch);
    replay.run();
    replay.starts
}

/// Runs a trace on a site's own cluster: jobs bring their nodes, memory, GRES and partition.
///
/// A partition that the cluster has not got is left to its default. Of `options`, processors and
/// layout do not count.
///
/// # Panics
/// If the scheduler starts a job that it was not given: a bug.
pub fn run_on_cluster(trace: &Trace, cluster: Settings, options: Options, watch: &mut impl Watch) -> Outcome {
    run_on_gpus(trace, cluster, &[], options, watch)
}

/// The same where each node's executor observes these GPUs.
///
/// # Panics
/// As [`run_on_cluster`].
pub fn run_on_gpus(
    trace: &Trace,
    cluster: Settings,
    gpus: &[Gpu],
    options: Options,
    watch: &mut impl Watch,
) -> Outcome {
    let mut cluster = Settings {
        min_job_age: Span::ZERO,
        max_job_count: u32::MAX,
        first_job_id: 1,
        max_job_id: u32::MAX - 1,
        policy: options.policy,
        ..cluster
    };
    if options.policy.order == Order::Multifactor {
        // Whoever sets priorities has to be an operator.
        let users: BTreeSet<u32> = trace.jobs.iter().map(|job| job.user).collect();
        cluster.administrators.extend(users.into_iter().map(|user| Uid(user + FIRST_USER)));
    }
    let mut replay = Replay::new(&trace.jobs, &trace.needs, options, (cluster, gpus), true, watch);
    replay.run();
    let Replay { starts, refused, .. } = replay;
    Outcome { starts, refused }
}

struct Replay<'a, W> {
    jobs: &'a [TraceJob],
    needs: &'a [Need],
    options: Options,
    machine: Machine,
    settings: Arc<Settings>,
    planner: Planner,
    /// Makes every plan a second time, from the state alone.
    second: Option<Planner>,
    /// All records, where the scheduler ends within the trace.
    journal: Option<Journal>,
    gpus: &'a [Gpu],
    out: Outbox,
    now: Timestamp,
    /// Seconds of the trace's first submission.
    origin: i64,
    /// Place in `jobs` by job id; `u32::MAX`: none.
    places: Vec<u32>,
    /// Ends of running jobs: when, place, and where in `runs` it stands which run that is.
    ends: BinaryHeap<Reverse<(i64, u32, u32)>>,
    /// Runs and their nodes, and places that are free again.
    runs: Vec<(NodeIdx, RunKey)>,
    free_runs: Vec<u32>,
    starts: Vec<i64>,
    pass_wanted: bool,
    askers: BTreeMap<u32, Asker>,
    /// Requests of late by a hash of what they are for: jobs that ask for the same share one as a rule.
    requests: Vec<Option<(Asked, Arc<JobRequest>)>>,
    /// The cluster is a site's: jobs may not fit it.
    site: bool,
    refused: Vec<(usize, String)>,
    watch: &'a mut W,
}

impl<'a, W: Watch> Replay<'a, W> {
    fn new(
        jobs: &'a [TraceJob],
        needs: &'a [Need],
        options: Options,
        (settings, gpus): (Settings, &'a [Gpu]),
        site: bool,
        watch: &'a mut W,
    ) -> Self {
        let settings = Arc::new(settings);
        let second = (options.planning == Planning::Both).then(|| Planner::new().without_verdicts());
        let mut replay = Self {
            jobs,
            needs,
            options,
            machine: Machine::new(State::default()),
            settings,
            planner: owner::planner(options.planning, watch.wants_verdicts()),
            second,
            journal: (options.planning == Planning::Restarting).then(Journal::default),
            gpus,
            out: Outbox::default(),
            now: Timestamp::ZERO,
            origin: jobs.first().map_or(0, |job| job.submit),
            places: vec![u32::MAX; jobs.len() + 1],
            ends: BinaryHeap::new(),
            runs: Vec::new(),
            free_runs: Vec::new(),
            starts: vec![-1; jobs.len()],
            pass_wanted: false,
            askers: BTreeMap::new(),
            requests: vec![None; REQUESTS_KEPT],
            site,
            refused: Vec::new(),
            watch,
        };
        replay.begin();
        replay
    }

    fn run(&mut self) {
        let mut next = 0;
        let mut wake = None;
        loop {
            let end = self.ends.peek().map(|Reverse((at, ..))| *at);
            let submit = self.jobs.get(next).map(|job| (job.submit - self.origin) * 1000);
            let wake_at = wake.map(|at: Timestamp| at.0);
            // The machine's own deadlines start no job here: they are met with the next input.
            let Some(now) = [end, submit, wake_at].into_iter().flatten().min() else { break };
            self.now = Timestamp(now);
            self.restart();
            while let Some(&Reverse((at, _, place))) = self.ends.peek()
                && at == now
            {
                self.ends.pop();
                self.free_runs.push(place);
                let (node, run) = self.runs[place as usize];
                self.end(node, run);
            }
            while next < self.jobs.len() && (self.jobs[next].submit - self.origin) * 1000 == now {
                self.submit(next);
                next += 1;
            }
            if wake_at == Some(now) {
                self.pass_wanted = true;
            }
            self.watch.reached(next);
            wake = self.pass().or(wake.filter(|at: &Timestamp| at.0 > now));
        }
        if self.site {
            self.give_up();
        }
        assert!(self.site || self.starts.iter().all(|start| *start >= 0), "every job of the trace starts");
    }

    /// Names the jobs that wait although nothing is to come.
    fn give_up(&mut self) {
        let state = self.machine.state();
        let verdicts = Planner::new().pass(state, &self.settings, self.now).verdicts;
        for verdict in verdicts {
            let place = self.places[verdict.job.0 as usize] as usize;
            self.refused.push((place, format!("never starts: {}", verdict.reason.text())));
        }
        self.refused.sort_unstable();
    }

    fn scene(&mut self) -> (Scene<'_>, &mut W) {
        let scene = Scene {
            jobs: self.jobs,
            places: &self.places,
            state: self.machine.state(),
            settings: &self.settings,
            now: self.now,
            origin: self.origin,
        };
        (scene, self.watch)
    }

    fn handle(&mut self, input: Input) {
        self.machine.handle(self.now, input, &mut self.out);
        for record in self.out.records.drain(..) {
            self.planner.observe(&record);
            if let Some(journal) = &mut self.journal {
                journal.add(&record);
            }
        }
        self.pass_wanted |= std::mem::take(&mut self.out.pass_wanted);
        let mut effects = std::mem::take(&mut self.out.effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        // The list's memory is used again.
        if self.out.effects.is_empty() {
            self.out.effects = effects;
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Answer(ReplyTo(place), Answer::Submitted { job, .. }) => {
                let place = u32::try_from(place).expect("a reply is a place");
                let id = job.0 as usize;
                if id >= self.places.len() {
                    self.places.resize(id + 1, u32::MAX);
                }
                self.places[id] = place;
            }
            Effect::Answer(ReplyTo(place), Answer::Refused(refused)) if self.site => {
                let place = usize::try_from(place).expect("a reply is a place");
                self.refused.push((place, format!("refused: {}", refused.refusal.text())));
            }
            Effect::Answer(ReplyTo(place), answer) => panic!("job {place} of the trace: {answer:?}"),
            Effect::Launch { node, run } => self.launch(node, run),
            Effect::Terminate { .. }
            | Effect::Signal { .. }
            | Effect::Suspend { .. }
            | Effect::ChangeLimit { .. }
            | Effect::Acknowledge { .. }
            | Effect::Announce { .. }
            | Effect::Hook { .. }
            | Effect::Session { .. } => {}
        }
    }

    fn launch(&mut self, node: NodeIdx, run: RunKey) {
        let place = self.places[run.job.0 as usize] as usize;
        assert_eq!(self.starts[place], -1, "a job starts once");
        self.starts[place] = self.now.as_secs() + self.origin;
        let end = self.now.0 + self.jobs[place].run * 1000;
        let place = u32::try_from(place).expect("job numbers have 32 bits");
        let stands = self.free_runs.pop().unwrap_or_else(|| {
            self.runs.push((node, run));
            u32::try_from(self.runs.len() - 1).expect("runs are counted in 32 bits")
        });
        self.runs[stands as usize] = (node, run);
        self.ends.push(Reverse((end, place, stands)));
        self.handle(Input::Report { node, run, report: Report::Begun { at: self.now } });
        let (scene, watch) = self.scene();
        watch.started(&scene, run.job);
    }

    fn end(&mut self, node: NodeIdx, run: RunKey) {
        let outcome = RunOutcome {
            kind: OutcomeKind::Exited,
            exit: ExitStatus::SUCCESS,
            ended: self.now,
            detail: "".into(),
            usage: Usage::default(),
            held: "".into(),
            stop_requested: false,
        };
        self.handle(Input::Report { node, run, report: Report::Ended(Box::new(outcome)) });
        let (scene, watch) = self.scene();
        watch.ended(&scene, run.job);
    }

    fn submit(&mut self, place: usize) {
        let job = self.jobs[place];
        let limit = limit_of(&job, self.options.estimates);
        let (layout, needs, settings) = (self.options.layout, self.needs, &self.settings);
        let asked = (job.procs, limit, job.need);
        let kept = &mut self.requests[place_of(asked)];
        let request = match kept {
            Some((known, request)) if *known == asked => Arc::clone(request),
            _ => {
                let need = (job.need as usize).checked_sub(1).and_then(|need| needs.get(need));
                let request = Arc::new(match need {
                    Some(need) => site_request(need, job.procs, limit, settings),
                    None => plain_request(layout, job.procs, limit),
                });
                *kept = Some((asked, Arc::clone(&request)));
                request
            }
        };
        let uid = if self.site { job.user + FIRST_USER } else { job.user };
        let asker = self.askers.entry(job.user).or_insert_with(|| Asker {
            uid: Uid(uid),
            gid: Gid(uid),
            name: format!("u{}", job.user).into(),
            groups: Arc::from([]),
        });
        let mut key = [0; 16];
        key[..8].copy_from_slice(&(place as u64).to_le_bytes());
        let submit = Submit {
            reply: ReplyTo(place as u64),
            asker: asker.clone(),
            key: RequestKey(key),
            request,
            script: Some(BodyHash([0; 32])),
            environment: BodyHash([0; 32]),
            alloc_sid: 0,
            test_only: false,
        };
        self.handle(Input::Submit(Box::new(submit)));
    }

    /// Runs a pass if one is wanted; answers when the next is wanted at the latest.
    fn pass(&mut self) -> Option<Timestamp> {
        if !std::mem::take(&mut self.pass_wanted) {
            return None;
        }
        let pass = self.planner.pass(self.machine.state(), &self.settings, self.now);
        if let Some(second) = &mut self.second {
            let anew = second.pass(self.machine.state(), &self.settings, self.now);
            assert_eq!(pass.plan, anew.plan, "at {:?} a plan made anew differs", self.now);
        }
        let (scene, watch) = self.scene();
        watch.planned(&scene, &pass);
        if !pass.plan.is_empty() {
            let proposed = pass.plan.starts.len();
            let before = self.ends.len();
            self.handle(Input::Plan(pass.plan));
            assert_eq!(self.ends.len() - before, proposed, "every proposal holds when it is checked again");
            // What the plan itself changed was foreseen by the pass that made it.
            self.pass_wanted = false;
        }
        pass.wake
    }
}

fn limit_of(job: &TraceJob, estimates: Estimates) -> i64 {
    match estimates {
        Estimates::User => job.estimate,
        Estimates::Perfect => job.run,
    }
}

/// Where a request is kept. Cost: O(1).
fn place_of((procs, limit, need): Asked) -> usize {
    let word = u64::from(need) << 48 ^ u64::from(procs) << 28 ^ limit.cast_unsigned();
    // The upper bits of a product depend on all bits of the factor.
    (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize % REQUESTS_KEPT
}

/// Processors alone.
fn plain_request(layout: Layout, procs: u32, limit: i64) -> JobRequest {
    let nodes = match layout {
        Layout::OneNode => 1,
        Layout::Nodes => procs,
    };
    JobRequest {
        name: "trace".into(),
        work_dir: "/".into(),
        nodes: Some((nodes, Some(nodes))),
        ntasks: Some(procs),
        time_limit: Some(Some(Span::from_secs(limit))),
        ..JobRequest::default()
    }
}

/// What the job was given on the cluster that it ran on.
fn site_request(need: &Need, procs: u32, limit: i64, settings: &Settings) -> JobRequest {
    let known = |name: &str| settings.partitions.iter().any(|partition| &*partition.name == name);
    let mut request = JobRequest {
        name: "trace".into(),
        work_dir: "/".into(),
        nodes: need.nodes.map(|nodes| (nodes, Some(nodes))),
        ntasks: Some(procs),
        time_limit: Some(Some(Span::from_secs(limit))),
        memory: need.memory.map(MemoryRequest::PerNode),
        partition: need.partition.clone().filter(|name| known(name)),
        ..JobRequest::default()
    };
    let nodes = u64::from(need.nodes.unwrap_or(1));
    for item in &need.gres {
        let mut share = item.clone();
        share.count = item.count.div_ceil(nodes);
        request.gres_per_node.push(share);
    }
    if need.priority.is_some() && settings.policy.order == Order::Multifactor {
        request.rare_mut().priority = need.priority;
    }
    request
}

fn settings(options: Options) -> Settings {
    let node = |name: String, cpus: u32| NodeDefinition {
        hostname: name.clone().into(),
        address: name.clone().into(),
        name: name.into(),
        port: 0,
        cpus: Cpus(cpus),
        boards: 1,
        sockets: 1,
        cores_per_socket: cpus,
        threads_per_core: 1,
        memory: MemoryMib(0),
        tmp_disk: MemoryMib(0),
        features: Vec::new(),
        gres: Vec::new(),
        weight: 1,
        bind: false,
    };
    let nodes: Vec<NodeDefinition> = match options.layout {
        Layout::OneNode => vec![node("machine".to_owned(), options.procs)],
        Layout::Nodes => (0..options.procs).map(|place| node(format!("p{place}"), 1)).collect(),
    };
    let partition = PartitionDefinition {
        nodes: nodes.iter().map(|node| node.name.clone()).collect(),
        is_default: true,
        ..PartitionDefinition::named("trace")
    };
    Settings {
        nodes,
        partitions: vec![partition],
        track_memory: false,
        whole_cores: false,
        kill_wait: Span::ZERO,
        min_job_age: Span::ZERO,
        max_job_count: u32::MAX,
        multifactor: false,
        policy: options.policy,
        ..Settings::named("trace")
    }
}
