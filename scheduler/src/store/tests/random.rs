//! Random records that fit the state: the life of jobs as the machine would write it, in every order.

use std::sync::Arc;

use journal::memory::Dice;
use model::array::{ArraySpec, TaskSet};
use model::exit::ExitStatus;
use model::id::{
    BodyHash, Epoch, Gid, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, StepId, TaskIndex, Uid,
};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use model::request::JobRequest;
use model::time::{Span, Timestamp};
use prost::bytes::Bytes;
use scheduler_core::allocation::{Allocation, CpuIds, NodeShare};
use scheduler_core::apply::apply;
use scheduler_core::plan::policy::Prediction;
use scheduler_core::record::Record;
use scheduler_core::state::State;
use scheduler_core::state::accounts::{Account, Attributes};
use scheduler_core::state::job::{
    ArrayRole, Bodies, Ended, Finish, Hold, Job, Limit, Owner, Pending, Phase, RequeueHow, RunStage, Step,
    StepNode, StepSpec, Usage, WaitingArray,
};
use scheduler_core::state::node::{Admin, Link, NodeDefinition};
use scheduler_core::state::partition::PartitionDefinition;

use crate::store::bodies;

const NODES: u32 = 3;

/// Makes records, and the state that they make.
pub(super) struct Random {
    pub(super) state: State,
    pub(super) dice: Dice,
    /// Bodies that the latest records refer to.
    pub(super) bodies: Vec<(BodyHash, Bytes)>,
    next_job: u32,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: State::default(), dice: Dice::new(seed), bodies: Vec::new(), next_job: 1 }
    }

    fn emit(&mut self, out: &mut Vec<Record>, record: Record) {
        apply(&mut self.state, &record);
        out.push(record);
    }

    /// The first records of an owner; the very first time also nodes and a partition.
    pub(super) fn own(&mut self, epoch: Epoch) -> Vec<Record> {
        let mut out = Vec::new();
        self.emit(&mut out, Record::Owner(epoch));
        if !self.state.nodes.is_empty() {
            return out;
        }
        for place in 0..NODES {
            let definition = Arc::new(NodeDefinition { name: format!("n{place}").into(), ..node() });
            self.emit(&mut out, Record::NodeDefined { node: NodeIdx(place), definition, removed: false });
            self.emit(&mut out, Record::NodeLink { node: NodeIdx(place), link: Link::Up });
        }
        let nodes = (0..NODES).map(|place| format!("n{place}").into()).collect();
        let definition = PartitionDefinition { nodes, ..PartitionDefinition::named("p") };
        self.emit(
            &mut out,
            Record::PartitionDefined {
                partition: PartitionIdx(0),
                definition: Arc::new(definition),
                changed_at_run_time: false,
            },
        );
        out
    }

    /// One to six records that belong together.
    pub(super) fn batch(&mut self) -> Vec<Record> {
        self.bodies.clear();
        let mut out = Vec::new();
        let now = self.state.now.saturating_add(Span(1 + self.dice.below(5000) as i64));
        self.emit(&mut out, Record::Time(now));
        for _ in 0..=self.dice.below(4) {
            self.one(&mut out);
        }
        out
    }

    fn one(&mut self, out: &mut Vec<Record>) {
        let pending: Vec<JobId> = self.some(|job| job.pending().is_some());
        let active: Vec<JobId> = self.some(|job| job.active().is_some());
        let ended: Vec<JobId> = self.some(|job| job.ended().is_some());
        match self.dice.below(12) {
            0..=2 => self.submit(out),
            3 | 4 => self.pick(&pending).into_iter().for_each(|id| self.start(id, out)),
            5 => self.pick(&active).into_iter().for_each(|id| self.step(id, out)),
            6 | 7 => self.pick(&active).into_iter().for_each(|id| self.end(id, out)),
            8 => self.pick(&active).into_iter().for_each(|id| self.requeue(id, out)),
            9 => self.pick(&ended).into_iter().for_each(|id| self.emit(out, Record::JobPurged(id))),
            10 => self.pick(&pending).into_iter().for_each(|job| {
                let priority = self.dice.below(1000) as u32;
                self.emit(out, Record::JobPriority { job, priority, hold: Hold::None });
            }),
            _ => self.administrate(out),
        }
    }

    fn some(&self, wanted: impl Fn(&Job) -> bool) -> Vec<JobId> {
        self.state.jobs.values().filter(|job| wanted(job)).map(|job| job.id).collect()
    }

    fn pick(&mut self, ids: &[JobId]) -> Option<JobId> {
        (!ids.is_empty()).then(|| ids[self.dice.below(ids.len() as u64) as usize])
    }

    fn body(&mut self) -> BodyHash {
        let kind = self.dice.below(40);
        let length = 20 + (kind * 13) as usize;
        let body: Bytes = vec![kind as u8 + 1; length].into();
        let hash = bodies::hash(&body);
        self.bodies.push((hash, body));
        hash
    }

    fn submit(&mut self, out: &mut Vec<Record>) {
        let id = JobId(self.next_job);
        self.next_job += 1;
        let array = self.dice.one_in(4).then(|| ArraySpec::parse("0-3", 10).expect("it is an array"));
        let role = match &array {
            None => ArrayRole::Single,
            Some(spec) => {
                ArrayRole::Waiting(Box::new(WaitingArray { tasks: spec.tasks.clone(), throttle: None }))
            }
        };
        let (script, environment) = (self.body(), self.body());
        let request = JobRequest { name: format!("job{id}").into(), array, ..JobRequest::default() };
        let job = Job {
            id,
            owner: Owner { uid: Uid(1000 + id.0 % 3), gid: Gid(100) },
            key: RequestKey(u128::from(id.0).to_be_bytes()),
            request: Arc::new(request),
            bodies: Bodies { script: Some(script), environment },
            account: if id.0.is_multiple_of(2) { "even" } else { "odd" }.into(),
            qos: "normal".into(),
            association: 0,
            partitions: Arc::new([PartitionIdx(0)]),
            submit: self.state.now,
            limit: Limit::Partition,
            memory: None,
            priority: 1,
            hold: Hold::None,
            nice: 0,
            site_factor: 0,
            requeue: true,
            alloc_sid: 0,
            array: role,
            run: RunNumber(0),
            restarts: 0,
            predicted: self.state.predictions.of(Uid(1000 + id.0 % 3)),
            phase: Phase::Pending(Pending { eligible: Some(self.state.now), ..Pending::default() }),
        };
        self.emit(out, Record::NextJobId(self.next_job));
        self.emit(out, Record::Job(Arc::new(job)));
    }

    fn start(&mut self, id: JobId, out: &mut Vec<Record>) {
        let job = &self.state.jobs[&id];
        let waiting: Option<TaskSet> = match &job.array {
            ArrayRole::Waiting(waiting) => Some(waiting.tasks.clone()),
            ArrayRole::Single | ArrayRole::Element { .. } => None,
        };
        let mut started = id;
        if let Some(tasks) = waiting {
            let index = tasks.first().expect("a waiting array has elements");
            if tasks.len() > 1 {
                started = JobId(self.next_job);
                self.next_job += 1;
            }
            self.emit(out, Record::ElementSplit { array: id, index: TaskIndex(index), id: started });
        }
        let share = NodeShare {
            node: NodeIdx(self.dice.below(u64::from(NODES)) as u32),
            cpus: Cpus(1),
            cpu_ids: CpuIds::new(),
            memory: MemoryMib(10),
            gres: Vec::new(),
            tasks: 1,
            shared: false,
        };
        let run = RunNumber(self.state.jobs[&started].run.0 + 1);
        let (allocation, start): (Allocation, Timestamp) = (Arc::new([share]), self.state.now);
        let partition = PartitionIdx(0);
        let limit = Some(Span::from_mins(5));
        self.emit(out, Record::JobStarted { job: started, run, partition, allocation, start, limit });
    }

    fn step(&mut self, id: JobId, out: &mut Vec<Record>) {
        let job = &self.state.jobs[&id];
        let Some(active) = job.active() else { return };
        let (allocation, number) = (Arc::clone(&active.allocation), active.next_step);
        let launch = Some(self.body());
        let node = allocation[0].node;
        let (step_id, start) = (StepId::Number(number), self.state.now);
        let step = Step {
            id: step_id,
            spec: Some(Arc::new(StepSpec { name: "s".into(), launch, ..StepSpec::default() })),
            start,
            allocation,
            nodes: vec![StepNode { node, stage: RunStage::Ordered }],
            end: None,
            state: JobState::Running,
            exit: ExitStatus::SUCCESS,
            by: None,
            stop: None,
            usage: Usage::default(),
            held: Vec::new(),
        };
        self.emit(out, Record::StepCreated { job: id, step: Arc::new(step) });
        if self.dice.one_in(2) {
            self.emit(out, Record::StepBegun { job: id, step: step_id, node });
            let exit = ExitStatus::from_code(self.dice.below(3) as i32);
            let usage = Usage { user_us: 5, system_us: 6, max_rss: 7, figures: None };
            let held = "cpus 0".into();
            self.emit(out, Record::StepNodeEnded { job: id, step: step_id, node, exit, usage, held });
            let at = self.state.now;
            self.emit(
                out,
                Record::StepEnded { job: id, step: step_id, state: JobState::Completed, exit, at },
            );
        }
    }

    fn ended(&self, id: JobId, state: JobState) -> Option<Arc<Ended>> {
        let active = self.state.jobs[&id].active()?;
        Some(Arc::new(Ended {
            state,
            exit: ExitStatus::SUCCESS,
            derived_exit: active.derived_exit,
            reason: Reason::None,
            detail: "".into(),
            by: None,
            eligible: active.eligible,
            start: Some(active.start),
            end: self.state.now,
            limit: active.limit,
            partition: Some(active.partition),
            allocation: Arc::clone(&active.allocation),
            suspended_total: active.suspended_total,
            steps: active.steps.clone(),
        }))
    }

    fn end(&mut self, id: JobId, out: &mut Vec<Record>) {
        if self.dice.one_in(3) && self.state.jobs[&id].active().is_some_and(|active| active.finish.is_none())
        {
            let finish = Finish {
                state: JobState::Cancelled,
                exit: None,
                reason: Reason::None,
                detail: "".into(),
                by: Some(Uid(0)),
                at: self.state.now,
                requeue: None,
            };
            return self.emit(out, Record::JobFinishing { job: id, finish });
        }
        if let Some(ended) = self.ended(id, JobState::Completed) {
            self.emit(out, Record::JobEnded { job: id, ended });
        }
    }

    fn requeue(&mut self, id: JobId, out: &mut Vec<Record>) {
        let how = RequeueHow::Eligible;
        let Some(ended) = self.ended(id, JobState::Requeued) else { return };
        assert_eq!(how, RequeueHow::Eligible);
        let pending = Pending { eligible: Some(self.state.now), ..Pending::default() };
        self.emit(out, Record::JobRequeued { job: id, ended, pending, priority: 1, hold: Hold::None });
    }

    fn administrate(&mut self, out: &mut Vec<Record>) {
        let node = NodeIdx(self.dice.below(u64::from(NODES)) as u32);
        match self.dice.below(4) {
            0 => {
                let admin = Admin { drain: self.dice.one_in(2), reason: "r".into(), ..Admin::default() };
                self.emit(out, Record::NodeAdmin { node, admin });
            }
            1 => {
                let link = Link::Silent { since: self.state.now, timed_out: false };
                self.emit(out, Record::NodeLink { node, link });
            }
            2 => {
                let made = if self.dice.one_in(4) { Prediction::None } else { Prediction::Avg2 };
                self.emit(out, Record::Predicting(made));
            }
            _ => {
                let attributes: Attributes = [("fairshare".into(), "1".into())].into();
                let row = self.dice.one_in(2).then(|| Box::new(Account { attributes, ..Account::default() }));
                self.emit(out, Record::Account("a".into(), row));
            }
        }
    }
}

fn node() -> NodeDefinition {
    NodeDefinition {
        name: "".into(),
        hostname: "".into(),
        address: "".into(),
        port: 0,
        cpus: Cpus(100_000),
        boards: 1,
        sockets: 1,
        cores_per_socket: 1,
        threads_per_core: 1,
        memory: MemoryMib(1 << 30),
        tmp_disk: MemoryMib(0),
        features: Vec::new(),
        gres: Vec::new(),
        weight: 1,
        bind: false,
    }
}
