//! One sample, or more, of every record: every field is set to a value of its own somewhere.

use std::sync::Arc;

use model::array::{ArraySpec, MAX_TASK_ID, TaskSet};
use model::depend::{Dependency, Kind, Tasks, Term};
use model::exit::ExitStatus;
use model::gpu::{Gpu, GpuMode, MigInstance, MigProfile};
use model::gres::GresRequest;
use model::id::{
    BodyHash, BootId, Epoch, Gid, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, SpoolId, StepId,
    TaskIndex, Uid,
};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::reason::Reason;
use model::request::{JobRequest, MemoryRequest, Rare};
use model::time::{Span, Timestamp};
use scheduler_core::allocation::{Allocation, CpuIds, GresShare, NodeShare, Slice};
use scheduler_core::effect::RunKey;
use scheduler_core::gpu::shards::Lanes;
use scheduler_core::gpu::slice_set::SliceSet;
use scheduler_core::plan::policy::Prediction;
use scheduler_core::record::Record;
use scheduler_core::state::ArraySummary;
use scheduler_core::state::accounts::{
    Account, AdminLevel, Association, AssociationKey, Attributes, Qos, User,
};
use scheduler_core::state::aging::Aging;
use scheduler_core::state::job::{
    Active, ArrayRole, Bodies, Ended, Figure, Figures, Finish, Hold, Job, Limit, Owner, Pending, Phase,
    RequeueHow, RunStage, Step, StepNode, StepSpec, StopCause, Usage, WaitingArray,
};
use scheduler_core::state::node::{
    Admin, GresDefinition, Hardware, Incarnation, Link, NodeDefinition, Observed,
};
use scheduler_core::state::partition::{OverSubscribe, PartitionDefinition, PartitionState, PreemptMode};
use scheduler_core::state::prediction::{LastRuns, Predicted};
use scheduler_core::state::promise::{Cause, Held, Promise, PromiseChange};
use scheduler_core::state::reservation::{Repeat, Reservation};
use scheduler_core::state::spent::Charge;
use scheduler_core::tally::Tally;

/// Number of variants. Raise it with the arm that the compiler asks for in [`place`].
const VARIANTS: usize = 46;

/// A number for each variant. No wildcard: a new record does not compile until it has a sample below.
fn place(record: &Record) -> usize {
    match record {
        Record::Time(_) => 0,
        Record::WallAhead(_) => 38,
        Record::Owner(_) => 1,
        Record::NextJobId(_) => 2,
        Record::NodeDefined { .. } => 3,
        Record::NodeAdmin { .. } => 4,
        Record::NodeLink { .. } => 5,
        Record::NodeRegistered { .. } => 6,
        Record::NodeBusy { .. } => 7,
        Record::PartitionDefined { .. } => 8,
        Record::PartitionRemoved(_) => 9,
        Record::Job(_) => 10,
        Record::Array { .. } => 11,
        Record::ElementSplit { .. } => 12,
        Record::JobPriority { .. } => 13,
        Record::JobWaits { .. } => 14,
        Record::JobStarted { .. } => 15,
        Record::JobLimit { .. } => 16,
        Record::JobSuspended { .. } => 17,
        Record::JobFinishing { .. } => 18,
        Record::JobEnded { .. } => 19,
        Record::JobRequeued { .. } => 20,
        Record::JobPurged(_) => 21,
        Record::StepCreated { .. } => 22,
        Record::StepBegun { .. } => 23,
        Record::StepUnknown { .. } => 24,
        Record::StepNodeEnded { .. } => 25,
        Record::StepStopping { .. } => 26,
        Record::StepEnded { .. } => 27,
        Record::Cluster(..) => 28,
        Record::Account(..) => 29,
        Record::User(..) => 30,
        Record::Association(..) => 31,
        Record::Qos(..) => 32,
        Record::AccountNumbers { .. } => 33,
        Record::IdWraps(_) => 35,
        Record::Aging(_) => 34,
        Record::SlicesAsked { .. } => 39,
        Record::Promises { .. } => 36,
        Record::JobConfiguring { .. } => 37,
        Record::Restored(_) => 40,
        Record::Stranger { .. } => 41,
        Record::Reservation(..) => 42,
        Record::Charged(_) => 43,
        Record::Predicting(_) => 44,
        Record::LastRuns(..) => 45,
    }
}

fn words(list: &[&str]) -> Vec<Box<str>> {
    list.iter().map(|&word| word.into()).collect()
}

fn attributes(list: &[(&str, &str)]) -> Attributes {
    list.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

pub(crate) fn share(node: u32, first: u32, last: u32) -> NodeShare {
    NodeShare {
        node: NodeIdx(node),
        cpus: Cpus(last - first + 1),
        cpu_ids: CpuIds::from_ranges(vec![(first, last)]),
        memory: MemoryMib(1000),
        gres: vec![GresShare {
            kind: 0,
            count: 1,
            indices: CpuIds::from_ranges(vec![(0, 0)]),
            slices: vec![slice()],
        }],
        tasks: 2,
        shared: false,
    }
}

pub(crate) fn slice() -> Slice {
    Slice { gpu: 1, profile: "3g.20gb".into(), start: 4, size: 4 }
}

pub(crate) fn gpu() -> Gpu {
    let name = "3g.20gb";
    Gpu {
        index: 1,
        uuid: "GPU-1".into(),
        kind: "a100".into(),
        product: "NVIDIA A100".into(),
        memory_mib: 40_960,
        pci: "0000:3b:00.0".into(),
        cpu_ranges: vec![0, 3],
        core_ranges: vec![0, 1],
        links: vec![4, 0],
        minor: 2,
        mode: GpuMode::Dynamic,
        profiles: vec![MigProfile {
            id: 9,
            name: name.into(),
            compute_slices: 3,
            memory_slices: 4,
            memory_mib: 19_968,
            starts: vec![0, 4],
        }],
        instances: vec![MigInstance {
            profile: name.into(),
            start: 4,
            size: 4,
            gi: 2,
            ci: 3,
            uuid: "MIG-1".into(),
        }],
        fault: "lost".into(),
    }
}

pub(crate) fn allocation() -> Allocation {
    let counted = NodeShare { cpu_ids: CpuIds::new(), gres: Vec::new(), shared: true, ..share(1, 0, 3) };
    vec![share(0, 2, 5), counted].into()
}

pub(crate) fn node(name: &str) -> NodeDefinition {
    NodeDefinition {
        name: name.into(),
        hostname: "host".into(),
        address: "10.0.0.1".into(),
        port: 6818,
        cpus: Cpus(8),
        boards: 1,
        sockets: 2,
        cores_per_socket: 3,
        threads_per_core: 4,
        memory: MemoryMib(16_000),
        tmp_disk: MemoryMib(5),
        features: words(&["b", "a"]),
        gres: vec![
            GresDefinition { name: "gpu".into(), kind: "a100".into(), count: 4, indexed: true },
            GresDefinition { name: "shard".into(), kind: "".into(), count: 100, indexed: false },
        ],
        weight: 7,
        bind: true,
    }
}

fn observed() -> Observed {
    Observed {
        os: "Linux".into(),
        architecture: "x86_64".into(),
        version: "0.1".into(),
        boot_at: Some(Timestamp(1)),
        start_at: Some(Timestamp(2)),
        run_folder: "/run/x".into(),
        uid: Some(Uid(0)),
        lacks: words(&["no cgroup"]),
        cgroups: "v2 (memory)".into(),
        attested: words(&["memory beyond the limit is out of memory"]),
        gpus: vec![gpu()],
        hardware: Some(Hardware {
            cpus: Cpus(8),
            sockets: 2,
            cores_per_socket: 3,
            threads_per_core: 4,
            memory: MemoryMib(5),
            tmp_disk: MemoryMib(6),
            gpus: Some(7),
        }),
    }
}

pub(crate) fn partition(name: &str) -> PartitionDefinition {
    PartitionDefinition {
        name: name.into(),
        nodes: words(&["n1", "n2"]),
        nodes_text: "n[1-2]".into(),
        is_default: true,
        hidden: true,
        state: PartitionState::Drain,
        max_time: Some(Span(10)),
        default_time: Some(Span(9)),
        min_nodes: 1,
        max_nodes: Some(2),
        max_cpus_per_node: Some(3),
        priority_tier: 4,
        priority_job_factor: 5,
        oversubscribe: OverSubscribe::Force(4),
        preempt_mode: PreemptMode::Suspend,
        grace: Span(6),
        allow_accounts: words(&["c"]),
        deny_accounts: words(&["d"]),
        allow_groups: words(&["e"]),
        allow_qos: words(&["f"]),
        deny_qos: words(&["g"]),
        root_only: true,
        disable_root_jobs: true,
        def_mem_per_cpu: Some(MemoryMib(1)),
        def_mem_per_node: Some(MemoryMib(2)),
        max_mem_per_cpu: Some(MemoryMib(3)),
        max_mem_per_node: Some(MemoryMib(4)),
        shown: vec![("Key".into(), "Value".into()), ("Key".into(), "".into())],
    }
}

/// Every cause, with and without promises.
fn promises(each: &mut impl FnMut(Record)) {
    let causes = [
        Cause::Made,
        Cause::GivenBack,
        Cause::NodeLost,
        Cause::LimitRaised,
        Cause::HigherPriority,
        Cause::Reservation,
        Cause::Configuration,
        Cause::Clock,
        Cause::Outlived,
        Cause::NotPlanned,
        Cause::JobChanged,
    ];
    let held = |node| Held {
        node: NodeIdx(node),
        cpus: Cpus(4),
        memory: MemoryMib(5),
        gres: [0, 6, 0, 7, 0, 0],
        slices: SliceSet([0xf0, 0x0f]),
        shards: Lanes([0x0804, 7]),
    };
    let promise = |start| Promise {
        start: Timestamp(start),
        end: Timestamp(i64::MAX),
        partition: PartitionIdx(2),
        holds: vec![
            held(0),
            Held { gres: [0; 6], slices: SliceSet::EMPTY, shards: Lanes::default(), ..held(3) },
        ]
        .into(),
    };
    let change = |(at, cause): (u32, Cause)| PromiseChange {
        job: JobId(at),
        promises: (0..i64::from(at % 3)).map(promise).collect(),
        cause,
    };
    let changes = (1..).zip(causes).map(change).collect();
    each(Record::Promises { changes, given_back: Some(Timestamp(9)) });
    each(Record::Promises { changes: Vec::new(), given_back: None });
}

fn dependency() -> Dependency {
    let kinds = [
        Kind::After,
        Kind::AfterAny,
        Kind::AfterOk,
        Kind::AfterNotOk,
        Kind::AfterCorr,
        Kind::AfterBurstBuffer,
        Kind::Expand,
        Kind::Singleton,
    ];
    let tasks = [Tasks::Unsaid, Tasks::All, Tasks::One(0)];
    let term = |(at, kind): (u32, Kind)| Term {
        kind,
        job: JobId(at),
        tasks: tasks[at as usize % 3],
        delay_minutes: at,
    };
    // One term with "any" has no text of its own.
    Dependency { terms: (0..).zip(kinds).map(term).collect(), any: true }
}

fn pending() -> Pending {
    Pending {
        not_before: Some(Timestamp(1)),
        eligible: Some(Timestamp(2)),
        dependency: Dependency { terms: dependency().terms[..1].to_vec(), any: true },
        dependency_failed: true,
        kept_reason: Some(Reason::None),
    }
}

fn finish(requeue: Option<RequeueHow>) -> Finish {
    Finish {
        state: JobState::Timeout,
        exit: requeue.map(|_| ExitStatus { code: 3, signal: 15 }),
        reason: Reason::TimeLimit,
        detail: "more".into(),
        by: Some(Uid(0)),
        at: Timestamp(8),
        requeue,
    }
}

fn figures() -> Figures {
    let figure = |most| Figure { most, task: 2, node: NodeIdx(3), total: most + 1 };
    Figures {
        rss: figure(1),
        virtual_memory: figure(2),
        read: figure(3),
        written: figure(4),
        pages: figure(5),
        cpu_least: figure(6),
    }
}

pub(crate) fn step(id: StepId) -> Step {
    let spec = StepSpec {
        name: "hostname".into(),
        tasks: 4,
        cpus_per_task: 2,
        overlap: true,
        limit: Some(Span(5)),
        distribution: Some("block".into()),
        work_dir: "/w".into(),
        submit_line: "srun hostname".into(),
        launch: Some(BodyHash([7; 32])),
        key: Some(RequestKey([8; 16])),
        ranks: vec![vec![0, 2], vec![], vec![1, 3]],
    };
    let stages = [RunStage::Ordered, RunStage::Begun, RunStage::Ended, RunStage::Unknown];
    Step {
        id,
        spec: matches!(id, StepId::Number(_)).then(|| Arc::new(spec)),
        start: Timestamp(6),
        allocation: allocation(),
        nodes: (0..).zip(stages).map(|(at, stage)| StepNode { node: NodeIdx(at), stage }).collect(),
        end: Some(Timestamp(9)),
        state: JobState::Running,
        exit: ExitStatus { code: 1, signal: 0 },
        by: Some(Uid(5)),
        stop: Some(StopCause::Preemption),
        usage: Usage { user_us: 1, system_us: 2, max_rss: 3, figures: Some(Box::new(figures())) },
        held: vec![(NodeIdx(1), "cpus 0-1".into())],
    }
}

pub(crate) fn ended() -> Ended {
    Ended {
        state: JobState::Failed,
        exit: ExitStatus { code: 2, signal: 9 },
        derived_exit: ExitStatus { code: 255, signal: 0 },
        reason: Reason::NonZeroExitCode,
        detail: "detail".into(),
        by: Some(Uid(1)),
        eligible: Some(Timestamp(1)),
        start: Some(Timestamp(2)),
        end: Timestamp(3),
        limit: Some(Span(4)),
        partition: Some(PartitionIdx(0)),
        allocation: allocation(),
        suspended_total: Span(5),
        steps: vec![step(StepId::Batch).into(), step(StepId::Number(0)).into()],
    }
}

fn request() -> JobRequest {
    let gres = |count| vec![GresRequest { name: "gpu".into(), kind: None, count }];
    JobRequest {
        name: "job".into(),
        account: Some("acct".into()),
        work_dir: "/home".into(),
        submit_line: "sbatch x".into(),
        arguments: words(&["a", ""]),
        nodes: Some((1, None)),
        memory: Some(MemoryRequest::PerCpu(MemoryMib(5))),
        gpus_per_job: gres(2),
        time_limit: Some(None),
        nice: -3,
        requeue: Some(true),
        umask: 0o22,
        dependency: dependency(),
        array: Some(ArraySpec::parse("1,5-9:2%3", MAX_TASK_ID).unwrap()),
        rare: Some(Box::new(Rare { comment: Some("c".into()), ..Rare::default() })),
        ..JobRequest::default()
    }
}

pub(crate) fn job(id: u32, array: ArrayRole, phase: Phase) -> Job {
    Job {
        id: JobId(id),
        owner: Owner { uid: Uid(1000), gid: Gid(100) },
        key: RequestKey([id as u8; 16]),
        request: Arc::new(request()),
        bodies: Bodies { script: Some(BodyHash([1; 32])), environment: BodyHash([2; 32]) },
        account: "acct".into(),
        qos: "normal".into(),
        association: 4,
        partitions: vec![PartitionIdx(0), PartitionIdx(1)].into(),
        submit: Timestamp(11),
        limit: Limit::After(Span(60_000)),
        memory: Some(MemoryRequest::PerNode(MemoryMib(6))),
        priority: 7,
        hold: Hold::User,
        nice: -8,
        site_factor: -9,
        requeue: true,
        alloc_sid: 9,
        array,
        run: RunNumber(10),
        restarts: 11,
        predicted: Predicted::seconds(12),
        phase,
    }
}

fn active(finish: Option<Finish>) -> Active {
    Active {
        partition: PartitionIdx(1),
        allocation: allocation(),
        start: Timestamp(5),
        eligible: Some(Timestamp(4)),
        limit: Some(Span(3)),
        suspended_since: Some(Timestamp(6)),
        suspended_total: Span(7),
        stopped: true,
        steps: vec![
            step(StepId::Batch).into(),
            step(StepId::Interactive).into(),
            step(StepId::Number(3)).into(),
        ],
        next_step: 4,
        finish,
        derived_exit: ExitStatus { code: 1, signal: 0 },
        reason: Reason::JobHeldUser,
        configuring: Some("converting".into()),
    }
}

fn job_samples(each: &mut impl FnMut(Record)) {
    let mut put = |job: Job| each(Record::Job(Arc::new(job)));
    let waiting = |throttle| {
        let tasks = TaskSet::from_ids([0, 2, 4, 5, 6, 100]);
        ArrayRole::Waiting(Box::new(WaitingArray { tasks, throttle }))
    };
    put(job(1, ArrayRole::Single, Phase::Pending(pending())));
    put(job(2, waiting(None), Phase::Pending(Pending::default())));
    put(job(3, waiting(Some(0)), Phase::Ended(Arc::new(ended()))));
    let element = || ArrayRole::Element { array: JobId(2), index: TaskIndex(0) };
    put(job(4, element(), Phase::Active(Box::new(active(None)))));
    let hows = [
        None,
        Some(RequeueHow::Eligible),
        Some(RequeueHow::HeldUser),
        Some(RequeueHow::HeldAdmin),
        Some(RequeueHow::SpecialExit),
        Some(RequeueHow::LaunchFailed),
    ];
    for how in hows {
        put(job(5, element(), Phase::Active(Box::new(active(Some(finish(how)))))));
    }
    let plain = job(6, ArrayRole::Single, Phase::Pending(Pending::default()));
    put(Job {
        request: Arc::default(),
        bodies: Bodies { script: None, ..plain.bodies },
        account: "".into(),
        qos: "".into(),
        partitions: Arc::new([]),
        limit: Limit::Partition,
        memory: None,
        hold: Hold::None,
        run: RunNumber(0),
        ..plain.clone()
    });
    for (limit, hold) in [(Limit::Unlimited, Hold::Admin), (Limit::After(Span::ZERO), Hold::None)] {
        put(Job { limit, hold, memory: Some(MemoryRequest::PerGpu(MemoryMib(1))), ..plain.clone() });
    }
    let memory = Some(MemoryRequest::PerCpu(MemoryMib(0)));
    put(Job { memory, ..plain });
}

fn life_samples(each: &mut impl FnMut(Record)) {
    let (job, partition) = (JobId(4), PartitionIdx(1));
    let summary = ArraySummary { total: 6, ended: 1, failed: 2, unstarted: 3, running: 4, records: 5 };
    each(Record::Array { array: JobId(2), summary });
    each(Record::ElementSplit { array: JobId(2), index: TaskIndex(3), id: JobId(9) });
    each(Record::JobPriority { job, priority: u32::MAX, hold: Hold::Admin });
    each(Record::JobWaits { job, pending: pending() });
    each(Record::JobWaits { job, pending: Pending::default() });
    let start = |limit| Record::JobStarted {
        job,
        run: RunNumber(2),
        partition,
        allocation: allocation(),
        start: Timestamp(-5),
        limit,
    };
    each(start(None));
    each(start(Some(Span(5))));
    each(Record::JobLimit { job, limit: Limit::Unlimited, running: None });
    each(Record::JobLimit { job, limit: Limit::Partition, running: Some(Span(1)) });
    each(Record::JobConfiguring { job, what: Some("converting oci:/x".into()), at: Timestamp(3) });
    each(Record::JobConfiguring { job, what: None, at: Timestamp(4) });
    each(Record::JobSuspended { job, suspended: true, at: Timestamp(3) });
    each(Record::JobFinishing { job, finish: finish(Some(RequeueHow::Eligible)) });
    each(Record::JobEnded { job, ended: Arc::new(ended()) });
    let unstarted = Ended { start: None, partition: None, allocation: Arc::new([]), ..ended() };
    each(Record::JobEnded { job, ended: Arc::new(unstarted) });
    each(Record::JobRequeued {
        job,
        ended: Arc::new(ended()),
        pending: pending(),
        priority: 3,
        hold: Hold::User,
    });
    each(Record::JobPurged(job));
    promises(each);
}

fn step_samples(each: &mut impl FnMut(Record)) {
    let (job, node) = (JobId(4), NodeIdx(1));
    let hooks = model::id::Hook::ALL.map(StepId::Hook);
    let steps = [StepId::Batch, StepId::Interactive, StepId::Number(0), StepId::Extern];
    for id in steps.into_iter().chain(hooks) {
        each(Record::StepCreated { job, step: Arc::new(step(id)) });
        each(Record::StepBegun { job, step: id, node });
        each(Record::StepUnknown { job, step: id, node });
    }
    let step_id = StepId::Number(2);
    each(Record::StepCreated {
        job,
        step: Arc::new(Step {
            spec: Some(Arc::default()),
            end: None,
            stop: None,
            by: None,
            usage: Usage::default(),
            held: Vec::new(),
            ..step(step_id)
        }),
    });
    let exit = ExitStatus { code: 0, signal: 11 };
    let usage = Usage { user_us: u64::MAX, system_us: 0, max_rss: 1, figures: None };
    each(Record::StepNodeEnded { job, step: step_id, node, exit, usage, held: "".into() });
    let usage = Usage { figures: Some(Box::new(figures())), ..Usage::default() };
    each(Record::StepNodeEnded { job, step: step_id, node, exit, usage, held: "processes 7".into() });
    let causes = [
        StopCause::Cancel,
        StopCause::TimeLimit,
        StopCause::Requeue,
        StopCause::Preemption,
        StopCause::NodeFail,
        StopCause::JobEnd,
    ];
    for cause in causes {
        each(Record::StepStopping { job, step: step_id, cause, by: None });
    }
    each(Record::StepStopping { job, step: step_id, cause: StopCause::Cancel, by: Some(Uid(0)) });
    for state in JobState::ALL {
        each(Record::StepEnded { job, step: step_id, state, exit, at: Timestamp(4) });
    }
}

fn node_samples(each: &mut impl FnMut(Record)) {
    let at = NodeIdx(3);
    each(Record::NodeDefined { node: at, definition: Arc::new(node("n1")), removed: true });
    each(Record::NodeAdmin {
        node: at,
        admin: Admin {
            drain: true,
            down: true,
            resume_pending: true,
            invalid: true,
            reason: "why".into(),
            reason_uid: Some(Uid(0)),
            reason_at: Some(Timestamp(0)),
        },
    });
    each(Record::NodeAdmin { node: at, admin: Admin::default() });
    for link in [Link::Never, Link::Up, Link::Silent { since: Timestamp(4), timed_out: true }] {
        each(Record::NodeLink { node: at, link });
    }
    let incarnation = Incarnation { boot: BootId([1; 16]), spool: SpoolId([2; 16]) };
    each(Record::NodeRegistered { node: at, incarnation, observed: Arc::new(observed()) });
    each(Record::NodeRegistered { node: at, incarnation, observed: Arc::default() });
    each(Record::NodeBusy { node: at, at: Timestamp(77) });

    let defined = |definition| Record::PartitionDefined {
        partition: PartitionIdx(1),
        definition: Arc::new(definition),
        changed_at_run_time: true,
    };
    each(defined(partition("p")));
    let states = [PartitionState::Up, PartitionState::Down, PartitionState::Inactive];
    let sharings = [OverSubscribe::No, OverSubscribe::Exclusive, OverSubscribe::Yes(3)];
    let modes = [PreemptMode::Off, PreemptMode::Requeue, PreemptMode::Cancel];
    for ((state, oversubscribe), preempt_mode) in states.into_iter().zip(sharings).zip(modes) {
        each(defined(PartitionDefinition { state, oversubscribe, preempt_mode, ..partition("q") }));
    }
    each(defined(PartitionDefinition::named("bare")));
    each(Record::PartitionRemoved(PartitionIdx(2)));
}

fn account_samples(each: &mut impl FnMut(Record)) {
    let list = || attributes(&[("fairshare", "3"), ("maxjobs", "")]);
    each(Record::Cluster("c".into(), Some(list())));
    each(Record::Cluster("c".into(), Some(Attributes::default())));
    each(Record::Cluster("c".into(), None));
    let account = Account { description: "d".into(), organization: "o".into(), attributes: list() };
    each(Record::Account("a".into(), Some(Box::new(account))));
    each(Record::Account("a".into(), None));
    for admin_level in [AdminLevel::None, AdminLevel::Operator, AdminLevel::Administrator] {
        let user = User {
            default_account: "a".into(),
            admin_level,
            coordinates: words(&["a", "b"]),
            attributes: list(),
        };
        each(Record::User("u".into(), Some(Box::new(user))));
    }
    each(Record::User("u".into(), None));
    let key =
        AssociationKey { cluster: "c".into(), account: "a".into(), user: "u".into(), partition: "p".into() };
    let row = Association { id: 5, parent: "root".into(), attributes: list() };
    each(Record::Association(Box::new(key.clone()), Some(Box::new(row))));
    each(Record::Association(Box::new(key), None));
    each(Record::Qos("q".into(), Some(Box::new(Qos { id: 6, attributes: list() }))));
    each(Record::Qos("q".into(), None));
    each(Record::AccountNumbers { association: 7, qos: 8 });
}

fn charge_samples(each: &mut impl FnMut(Record)) {
    let mut tres_s = Tally::default();
    (tres_s.cpus, tres_s.memory, tres_s.nodes) = (1, u64::MAX, 3);
    let tres_s = tres_s.with_gres([("gpu".into(), 4), ("gpu:a100".into(), 2)]);
    each(Record::Charged(Box::new(Charge { associations: vec![5, 1], qos: vec![2], wall_s: 60, tres_s })));
    each(Record::Charged(Box::default()));
}

fn reservation_samples(each: &mut impl FnMut(Record)) {
    for repeat in [Repeat::Once, Repeat::Daily, Repeat::Weekly] {
        let row = Reservation {
            start: Timestamp(5),
            end: Timestamp(1 << 41),
            repeat,
            nodes: vec![NodeIdx(0), NodeIdx(3)],
            named_nodes: true,
            partition: "p".into(),
            users: vec![("u".into(), Uid(7))],
            accounts: words(&["a", "b"]),
            maintenance: true,
            overlap: true,
            ignore_jobs: true,
        };
        each(Record::Reservation("r".into(), Some(Arc::new(row))));
    }
    each(Record::Reservation("r".into(), Some(Arc::new(Reservation::default()))));
    each(Record::Reservation("r".into(), None));
}

/// All samples; panics if a variant has none.
pub(crate) fn all() -> Vec<Record> {
    let mut samples = vec![Record::Time(Timestamp(-1)), Record::Time(Timestamp(1 << 41))];
    samples.extend([Record::WallAhead(Span(-7_200_000)), Record::WallAhead(Span(1))]);
    samples.push(Record::Owner(Epoch(u64::MAX)));
    samples.push(Record::NextJobId(u32::MAX));
    samples.push(Record::IdWraps(3));
    let asked =
        scheduler_core::gpu::mix::Observed::of_parts([1, 2, 3, 4, 5, 6], 7).expect("counts from one on");
    samples.push(Record::SlicesAsked { asked, told: [6, 5, 4, 3, 2, 1] });
    samples.push(Record::Restored(9));
    samples.extend([Prediction::None, Prediction::Avg2].map(Record::Predicting));
    for earlier_s in [None, Some(0), Some(u32::MAX)] {
        samples.push(Record::LastRuns(Uid(7), LastRuns { earlier_s, last_s: 5 }));
    }
    samples.push(Record::Stranger {
        node: NodeIdx(2),
        run: RunKey { job: JobId(5), step: StepId::Number(0), run: RunNumber(7) },
        there: true,
    });
    samples.push(Record::Aging(Aging {
        weight: u32::MAX,
        max_age: Span(5),
        from_submit: true,
        base: Timestamp(-1),
        at: Timestamp(7),
    }));
    let mut each = |record| samples.push(record);
    node_samples(&mut each);
    job_samples(&mut each);
    life_samples(&mut each);
    step_samples(&mut each);
    account_samples(&mut each);
    reservation_samples(&mut each);
    charge_samples(&mut each);
    for wanted in 0..VARIANTS {
        assert!(samples.iter().any(|record| place(record) == wanted), "variant {wanted} has a sample");
    }
    samples
}
