//! Inputs of the machine ⇄ bytes, for recordings that are replayed (`sluice-scheduler --record-inputs`).
//!
//! A recording is read by the version that wrote it: fields stand one after the other without names or
//! numbers, and [`FORMAT`] tells formats apart. Each struct below names all of its fields, and each match
//! all variants, so that an addition to the vocabulary does not compile until it is recorded.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use model::array::TaskSet;
use model::config::topology::{Plugin, Topology, Unit};
use model::config::{Notice, Place};
use model::exit::ExitStatus;
use model::gpu::{Gpu, GpuMode, MigInstance, MigProfile};
use model::gres::GresRequest;
use model::id::{
    BodyHash, BootId, Epoch, Gid, Hook, JobId, NodeIdx, PartitionIdx, RequestKey, RunNumber, SpoolId, StepId,
    TaskIndex, Uid,
};
use model::job::JobState;
use model::quantity::{Cpus, MemoryMib};
use model::request::JobRequest;
use model::time::{Span, Timestamp};
use prost::Message;
use scheduler_core::allocation::{CpuIds, GresShare, NodeShare, Slice};
use scheduler_core::effect::{Asker, ReplyTo, RunKey, Selector};
use scheduler_core::gpu::shards::Lanes;
use scheduler_core::gpu::slice_set::SliceSet;
use scheduler_core::input::{
    AccountChange, Command, Defragment, Input, JobFilter, OutcomeKind, Plan, PlannedPromises, PlannedStart,
    Registration, Report, RunOutcome, StepRequest, Submit,
};
use scheduler_core::plan::policy::{Candidates, Order, Policy, Prediction};
use scheduler_core::record::Record;
use scheduler_core::settings::{
    DeviceFacts, Enforce, Hooks, KeptCores, PriorityRules, PriorityWeights, Settings,
};
use scheduler_core::state::accounts::{Account, AdminLevel, Association, AssociationKey, Qos, User};
use scheduler_core::state::job::{Figure, Figures, Usage};
use scheduler_core::state::node::{GresDefinition, Hardware, NodeDefinition, Observed};
use scheduler_core::state::partition::{OverSubscribe, PartitionDefinition, PartitionState, PreemptMode};
use scheduler_core::state::promise::{Cause, Held, Promise, PromiseChange};

use crate::allocation::{state_in, state_out};
use crate::{Digest, Error};

/// What a recording begins with; changes with the vocabulary, in its last digit. Format 5 added how large a node says
/// that it is.
pub const FORMAT: &[u8; 16] = b"sluice inputs 6\n";

/// Adds an input's bytes to `into`. Cost: O(size).
pub fn encode_input(input: &Input, into: &mut Vec<u8>) {
    input.put(into);
}

/// Reads one input.
///
/// # Errors
/// Bytes that are none, or more than one.
pub fn decode_input(mut bytes: &[u8]) -> Result<Input, Error> {
    let input = Input::take(&mut bytes)?;
    if bytes.is_empty() { Ok(input) } else { Err(WRONG) }
}

/// One piece of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An owner begins; the records of its state follow.
    Begin,
    /// A record of that state.
    Record(Record),
    /// What the machine handled, and when.
    Input(Timestamp, Input),
    /// The owner ended in a state of this digest, after so many inputs.
    End {
        /// Of the state.
        digest: Digest,
        /// How many.
        inputs: u64,
    },
}

/// Adds a piece with its length. Cost: O(size).
pub fn encode_frame(frame: &Frame, into: &mut Vec<u8>) {
    let begin = into.len();
    0_u32.put(into);
    match frame {
        Frame::Begin => into.push(0),
        Frame::Record(record) => {
            into.push(1);
            crate::encode_record(record, into);
        }
        Frame::Input(now, input) => {
            into.push(2);
            now.put(into);
            input.put(into);
        }
        Frame::End { digest, inputs } => {
            into.push(3);
            digest.put(into);
            inputs.put(into);
        }
    }
    let length = u32::try_from(into.len() - begin - 4).expect("a piece is below 4 GiB");
    into[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
}

/// Reads the next piece. `None`: nothing is left, or the last piece was cut off.
///
/// # Errors
/// A piece that is none.
pub fn decode_frame(from: &mut &[u8]) -> Result<Option<Frame>, Error> {
    let mut ahead = *from;
    let Ok(length) = u32::take(&mut ahead) else { return Ok(None) };
    let Some((mut piece, rest)) = ahead.split_at_checked(length as usize) else { return Ok(None) };
    let frame = match u8::take(&mut piece)? {
        0 => Frame::Begin,
        1 => {
            let record = crate::read_record(std::mem::take(&mut piece))?;
            Frame::Record(record.ok_or(WRONG)?)
        }
        2 => Frame::Input(Word::take(&mut piece)?, Word::take(&mut piece)?),
        3 => Frame::End { digest: Word::take(&mut piece)?, inputs: Word::take(&mut piece)? },
        _ => return Err(WRONG),
    };
    if !piece.is_empty() {
        return Err(WRONG);
    }
    *from = rest;
    Ok(Some(frame))
}

const WRONG: Error = Error::Field { field: "input" };

/// Something that stands in a recording.
trait Word: Sized {
    fn put(&self, into: &mut Vec<u8>);
    fn take(from: &mut &[u8]) -> Result<Self, Error>;
}

fn bytes<'a>(from: &mut &'a [u8], count: usize) -> Result<&'a [u8], Error> {
    let (taken, rest) = from.split_at_checked(count).ok_or(WRONG)?;
    *from = rest;
    Ok(taken)
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Word for $type {
            fn put(&self, into: &mut Vec<u8>) {
                into.extend(self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Result<Self, Error> {
                let taken = bytes(from, size_of::<Self>())?;
                Ok(Self::from_le_bytes(taken.try_into().expect("as many as were asked for")))
            }
        }
    )*};
}
integers!(u8 u16 u32 u64 i32 i64);

/// Types with one field, which is public and has no name.
macro_rules! wrappers {
    ($($type:ident)*) => {$(
        impl Word for $type {
            fn put(&self, into: &mut Vec<u8>) {
                self.0.put(into);
            }
            fn take(from: &mut &[u8]) -> Result<Self, Error> {
                Ok(Self(Word::take(from)?))
            }
        }
    )*};
}
wrappers!(BodyHash BootId Epoch Gid JobId NodeIdx PartitionIdx RequestKey RunNumber SpoolId TaskIndex Uid);
wrappers!(Cpus Lanes MemoryMib ReplyTo SliceSet Span Timestamp);

/// Structs with all of their fields.
macro_rules! structs {
    ($($type:ident { $($field:ident)* })*) => {$(
        impl Word for $type {
            fn put(&self, into: &mut Vec<u8>) {
                let Self { $($field),* } = self;
                $($field.put(into);)*
            }
            fn take(from: &mut &[u8]) -> Result<Self, Error> {
                $(let $field = Word::take(from)?;)*
                Ok(Self { $($field),* })
            }
        }
    )*};
}

/// Enums with all of their variants, each with its number; fields of a variant have names here, whether
/// they have some there or not.
macro_rules! enums {
    ($($type:ident { $($number:literal $variant:ident $(($($inner:ident)*))? $({ $($field:ident)* })?,)* })*) => {$(
        impl Word for $type {
            fn put(&self, into: &mut Vec<u8>) {
                match self {$(
                    Self::$variant $(($($inner),*))? $({ $($field),* })? => {
                        into.push($number);
                        $($($inner.put(into);)*)?
                        $($($field.put(into);)*)?
                    }
                )*}
            }
            fn take(from: &mut &[u8]) -> Result<Self, Error> {
                Ok(match u8::take(from)? {
                    $($number => {
                        $($(let $inner = Word::take(from)?;)*)?
                        $($(let $field = Word::take(from)?;)*)?
                        Self::$variant $(($($inner),*))? $({ $($field),* })?
                    })*
                    _ => return Err(WRONG),
                })
            }
        }
    )*};
}

structs! {
    Submit { reply asker key request script environment alloc_sid test_only }
    Asker { uid gid name groups }
    Selector { job tasks step }
    RunKey { job step run }
    JobFilter { uids states partitions names accounts qos }
    StepRequest {
        key name ntasks nodes cpus_per_task ntasks_per_node memory_per_node memory_per_cpu nodelist exclude
        gres_per_node gres_none gpus_per_job gpus_per_task exclusive exact overlap overcommit whole relative
        limit distribution work_dir submit_line launch
    }
    Registration { session name boot spool runs observed definition }
    Observed { os architecture version boot_at start_at run_folder uid lacks attested cgroups gpus hardware }
    Hardware { cpus sockets cores_per_socket threads_per_core memory tmp_disk gpus }
    RunOutcome { kind exit ended detail usage stop_requested held }
    ExitStatus { code signal }
    Usage { user_us system_us max_rss figures }
    Figures { rss virtual_memory read written pages cpu_least }
    Figure { most task node total }
    Plan { starts promises defragment }
    Defragment { room_for moved gain cost }
    PlannedPromises { changes given_back }
    PromiseChange { job promises cause }
    Promise { start end partition holds }
    Held { node cpus memory gres slices shards }
    PlannedStart { job partition allocation shortened }
    NodeShare { node cpus cpu_ids memory gres tasks shared }
    GresShare { kind count indices slices }
    Slice { gpu profile start size }
    Gpu { index uuid kind product memory_mib pci cpu_ranges core_ranges links minor mode profiles instances fault }
    MigProfile { id name compute_slices memory_slices memory_mib starts }
    MigInstance { profile start size gi ci uuid }
    GresRequest { name kind count }
    Account { description organization attributes }
    User { default_account admin_level coordinates attributes }
    AssociationKey { cluster account user partition }
    Association { id parent attributes }
    Qos { id attributes }
    Enforce { associations limits qos }
    PriorityWeights { age fairshare job_size partition qos assoc }
    PriorityRules {
        favor_small relative_to_time accrue_always increase_only raw_assoc raw_partition raw_qos raw_tres
    }
    Policy { order depth keep sweep_after candidates prediction }
    Settings {
        cluster nodes partitions dynamic_nodes config_overrides administrators kill_wait min_job_age first_job_id max_job_id
        max_job_count max_array_size requeue_default requeue_delay def_mem_per_cpu def_mem_per_node licenses
        enforce weights priority_max_age multifactor node_timeout requeue_without_evidence return_to_service
        enforce_partition_limits kill_invalid_dependency whole_cores track_memory backfill_depth policy tres
        lease_grace slice_create slice_destroy tres_weights priority_rules priority_calc_period block_cores shards_of_several one_task_per_core least_loaded
        pack_nodes
        topology switch_wait_max max_array_tasks hooks defragment devices enforce_binding
        one_task_per_sharing kept_cores
    }
    Hooks { controller_prolog controller_epilog nodes allocation contain defer_batch hold_failed }
    NodeDefinition {
        name hostname address port cpus boards sockets cores_per_socket threads_per_core memory tmp_disk
        features gres weight bind
    }
    GresDefinition { name kind count indexed }
    DeviceFacts { node name kind cores links }
    KeptCores { node per_gpu }
    Topology { plugin optional units block_sizes ways notices }
    Unit { name nodes switches level link_speed place }
    Place { file line }
    Notice { place message }
    PartitionDefinition {
        name nodes nodes_text is_default hidden state max_time default_time min_nodes max_nodes
        max_cpus_per_node priority_tier priority_job_factor oversubscribe preempt_mode grace allow_accounts
        deny_accounts allow_groups allow_qos deny_qos root_only disable_root_jobs def_mem_per_cpu
        def_mem_per_node max_mem_per_cpu max_mem_per_node shown
    }
}

enums! {
    Input {
        0 Owned(epoch),
        1 Configure(settings),
        2 Submit(submit),
        3 Command { reply asker command },
        4 Registered(registration),
        5 Disconnected { node },
        6 Report { node run report },
        7 Deadline,
        8 Plan(plan),
        9 IdsHeld(ids),
        10 ClockSet { wall_ahead },
        11 GpusObserved { node gpus },
        12 HookEnded { run exit detail },
    }
    Command {
        0 Cancel { jobs filter signal batch_only full },
        1 Hold { jobs as_user },
        2 Release(jobs),
        3 Requeue { jobs hold special_exit },
        4 Suspend(jobs),
        5 Resume(jobs),
        6 UpdateJob { job changes },
        7 UpdateNodes { nodes changes },
        8 UpdatePartition { name changes create },
        9 DeletePartition(name),
        10 EndAllocation { job exit },
        11 Notify { job text },
        12 CreateStep { job step },
        13 ChangeAccounts(changes),
        14 UpdateReservation { name changes create },
        15 DeleteReservation(name),
    }
    AccountChange {
        0 Cluster(name row),
        1 Account(name row),
        2 User(name row),
        3 Association(key row),
        4 Qos(name row),
    }
    Report { 0 Intended, 1 Begun { at }, 2 Ended(outcome), 3 Unknown, 4 Preparing(what), }
    OutcomeKind { 0 Exited, 1 TimeLimit, 2 Cancelled, 3 LaunchFailed, 4 Lost, 5 OutOfMemory, 6 PrologFailed, 7 NodeUnable, }
    Cause {
        0 Made, 1 GivenBack, 2 NodeLost, 3 LimitRaised, 4 HigherPriority, 5 Reservation, 6 Configuration,
        7 Clock, 8 Outlived, 9 NotPlanned, 10 JobChanged,
    }
    StepId { 0 Batch, 1 Interactive, 2 Number(number), 3 Extern, 4 Hook(hook), }
    Hook { 0 Prolog, 1 Epilog, 2 ControllerProlog, 3 ControllerEpilog, }
    AdminLevel { 0 None, 1 Operator, 2 Administrator, }
    Order { 0 Multifactor, 1 Fcfs, 2 Limit, 3 Area, 4 F1, }
    Candidates { 0 Queue, 1 Limit, 2 Area, }
    Prediction { 0 None, 1 Avg2, }
    GpuMode { 0 Whole, 1 Fixed, 2 Dynamic, }
    Plugin { 0 Tree, 1 Block, }
    PartitionState { 0 Up, 1 Down, 2 Drain, 3 Inactive, }
    OverSubscribe { 0 No, 1 Exclusive, 2 Yes(count), 3 Force(count), }
    PreemptMode { 0 Off, 1 Requeue, 2 Cancel, 3 Suspend, }
}

impl Word for bool {
    fn put(&self, into: &mut Vec<u8>) {
        into.push(u8::from(*self));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WRONG),
        }
    }
}

impl<T: Word, const N: usize> Word for [T; N] {
    fn put(&self, into: &mut Vec<u8>) {
        self.iter().for_each(|item| item.put(into));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        let items: Vec<T> = (0..N).map(|_| T::take(from)).collect::<Result<_, Error>>()?;
        items.try_into().map_err(|_| WRONG)
    }
}

impl Word for Box<str> {
    fn put(&self, into: &mut Vec<u8>) {
        put_count(self.len(), into);
        into.extend(self.as_bytes());
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        let count = u32::take(from)? as usize;
        let text = std::str::from_utf8(bytes(from, count)?).map_err(|_| WRONG)?;
        Ok(text.into())
    }
}

impl Word for Arc<str> {
    fn put(&self, into: &mut Vec<u8>) {
        Box::<str>::from(&**self).put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        Box::<str>::take(from).map(Self::from)
    }
}

impl Word for String {
    fn put(&self, into: &mut Vec<u8>) {
        Box::<str>::from(&**self).put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        Box::<str>::take(from).map(Self::from)
    }
}

impl Word for Arc<Path> {
    fn put(&self, into: &mut Vec<u8>) {
        self.as_os_str().as_encoded_bytes().to_vec().put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        Ok(Path::new(OsStr::from_bytes(&Vec::<u8>::take(from)?)).into())
    }
}

fn put_count(count: usize, into: &mut Vec<u8>) {
    u32::try_from(count).expect("an input is below 4 GiB").put(into);
}

impl<T: Word> Word for Option<T> {
    fn put(&self, into: &mut Vec<u8>) {
        self.is_some().put(into);
        if let Some(value) = self {
            value.put(into);
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        bool::take(from)?.then(|| T::take(from)).transpose()
    }
}

impl<T: Word> Word for Vec<T> {
    fn put(&self, into: &mut Vec<u8>) {
        put_count(self.len(), into);
        self.iter().for_each(|item| item.put(into));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        let count = u32::take(from)?;
        (0..count).map(|_| T::take(from)).collect()
    }
}

impl<T: Word + Clone> Word for Arc<[T]> {
    fn put(&self, into: &mut Vec<u8>) {
        put_count(self.len(), into);
        self.iter().for_each(|item| item.put(into));
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        Vec::take(from).map(Self::from)
    }
}

impl<T: Word> Word for Box<T> {
    fn put(&self, into: &mut Vec<u8>) {
        (**self).put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        T::take(from).map(Self::new)
    }
}

impl<T: Word> Word for Arc<T> {
    fn put(&self, into: &mut Vec<u8>) {
        (**self).put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        T::take(from).map(Self::new)
    }
}

impl<A: Word, B: Word> Word for (A, B) {
    fn put(&self, into: &mut Vec<u8>) {
        self.0.put(into);
        self.1.put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl<K: Word + Ord, V: Word> Word for BTreeMap<K, V> {
    fn put(&self, into: &mut Vec<u8>) {
        put_count(self.len(), into);
        for (key, value) in self {
            key.put(into);
            value.put(into);
        }
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        let count = u32::take(from)?;
        (0..count).map(|_| <(K, V)>::take(from)).collect()
    }
}

impl Word for CpuIds {
    fn put(&self, into: &mut Vec<u8>) {
        self.ranges().to_vec().put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        let ranges: Vec<(u32, u32)> = Word::take(from)?;
        if ranges.iter().any(|(first, last)| first > last) {
            return Err(WRONG);
        }
        Ok(Self::from_ranges(ranges))
    }
}

impl Word for TaskSet {
    fn put(&self, into: &mut Vec<u8>) {
        let ranges: Vec<((u32, u32), u32)> =
            self.ranges().map(|(first, last, step)| ((first, last), step)).collect();
        ranges.put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        let ranges: Vec<((u32, u32), u32)> = Word::take(from)?;
        let ranges = ranges.into_iter().map(|((first, last), step)| (first, last, step));
        Self::from_ranges(ranges).ok_or(WRONG)
    }
}

impl Word for JobState {
    fn put(&self, into: &mut Vec<u8>) {
        Box::<str>::from(state_out(*self)).put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        state_in(&Box::<str>::take(from)?)
    }
}

/// As it comes over the wire.
impl Word for JobRequest {
    fn put(&self, into: &mut Vec<u8>) {
        proto::convert::request::outwards(self).encode_to_vec().put(into);
    }
    fn take(from: &mut &[u8]) -> Result<Self, Error> {
        let wire = proto::v1::JobRequest::decode(&*Vec::<u8>::take(from)?)?;
        proto::convert::request::inwards(wire).map_err(Error::Request)
    }
}

#[cfg(test)]
mod tests {
    use scheduler_core::state::promise::PLANNED_KINDS;

    use super::*;

    fn back(input: &Input) {
        let mut written = Vec::new();
        encode_input(input, &mut written);
        assert_eq!(&decode_input(&written).unwrap(), input);
        for cut in [0, written.len() / 2, written.len().saturating_sub(1)] {
            assert!(decode_input(&written[..cut]).is_err(), "{cut} bytes of {input:?}");
        }
        written.push(0);
        assert!(decode_input(&written).is_err(), "more than {input:?}");
    }

    fn asker() -> Asker {
        let groups = Arc::from([Box::<str>::from("g"), "h".into()]);
        Asker { uid: Uid(7), gid: Gid(8), name: "ann".into(), groups }
    }

    #[test]
    fn inputs_come_back() {
        let run = RunKey { job: JobId(4), step: StepId::Number(2), run: RunNumber(3) };
        let outcome = RunOutcome {
            kind: OutcomeKind::OutOfMemory,
            exit: ExitStatus { code: 1, signal: 9 },
            ended: Timestamp(77),
            detail: "too much".into(),
            usage: Usage { user_us: 1, system_us: 2, max_rss: 3, figures: None },
            held: "cpus 0".into(),
            stop_requested: true,
        };
        let selector = Selector { job: JobId(4), tasks: Some(vec![TaskIndex(3)]), step: Some(StepId::Batch) };
        let filter =
            JobFilter { states: vec![JobState::Pending], uids: vec![Uid(7)], ..JobFilter::default() };
        let command =
            |command| Input::Command { reply: ReplyTo(5), asker: asker(), command: Box::new(command) };
        let attributes = BTreeMap::from([("priority".into(), "4".into())]);
        let request = JobRequest {
            name: "job".into(),
            work_dir: "/".into(),
            ntasks: Some(3),
            time_limit: Some(Some(Span::from_secs(60))),
            ..JobRequest::default()
        };
        let share = NodeShare {
            node: NodeIdx(1),
            cpus: Cpus(2),
            cpu_ids: CpuIds::from_ranges(vec![(0, 1)]),
            memory: MemoryMib(100),
            gres: vec![GresShare {
                kind: 0,
                count: 1,
                indices: CpuIds::from_ranges(vec![(3, 3)]),
                slices: vec![crate::sample::slice()],
            }],
            tasks: 2,
            shared: true,
        };
        let start = PlannedStart {
            job: JobId(4),
            partition: PartitionIdx(0),
            allocation: Arc::from([share]),
            shortened: Some(Span::from_mins(7)),
        };
        let held = Held {
            node: NodeIdx(1),
            cpus: Cpus(2),
            memory: MemoryMib(3),
            gres: [7; PLANNED_KINDS],
            slices: SliceSet([9, 11]),
            shards: Lanes([10, 12]),
        };
        let promise = Promise {
            start: Timestamp(5),
            end: Timestamp(i64::MAX),
            partition: PartitionIdx(1),
            holds: Arc::from([held]),
        };
        let change = PromiseChange { job: JobId(4), promises: vec![promise], cause: Cause::JobChanged };
        let promises = PlannedPromises { changes: vec![change], given_back: Some(Timestamp(4)) };
        let moves =
            Defragment { room_for: JobId(9), moved: vec![JobId(3), JobId(7)], gain: 28_800, cost: 60 };
        let inputs = [
            Input::Owned(Epoch(9)),
            Input::Configure(Arc::new(Settings {
                partitions: vec![PartitionDefinition::named("p")],
                licenses: BTreeMap::from([("matlab".into(), 4)]),
                ..Settings::named("c")
            })),
            Input::Submit(Box::new(Submit {
                reply: ReplyTo(1),
                asker: asker(),
                key: RequestKey([3; 16]),
                request: Arc::new(request),
                script: Some(BodyHash([1; 32])),
                environment: BodyHash([2; 32]),
                alloc_sid: 12,
                test_only: false,
            })),
            command(Command::Cancel {
                jobs: vec![selector.clone()],
                filter,
                signal: Some(9),
                batch_only: true,
                full: false,
            }),
            command(Command::UpdateJob { job: selector, changes: vec![("Nice".into(), "3".into())] }),
            command(Command::CreateStep { job: JobId(4), step: Box::default() }),
            command(Command::ChangeAccounts(vec![
                AccountChange::Qos("q".into(), Some(Qos { id: 1, attributes })),
                AccountChange::Account("a".into(), None),
            ])),
            Input::Report { node: NodeIdx(1), run, report: Report::Ended(Box::new(outcome)) },
            Input::Report { node: NodeIdx(1), run, report: Report::Begun { at: Timestamp(5) } },
            Input::Disconnected { node: NodeIdx(1) },
            Input::GpusObserved { node: NodeIdx(1), gpus: vec![crate::sample::gpu()] },
            Input::Deadline,
            Input::Plan(Plan { starts: vec![start], promises: Some(promises), defragment: Some(moves) }),
        ];
        inputs.iter().for_each(back);
    }
}
