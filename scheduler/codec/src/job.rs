//! Jobs: what was asked, the phases of a life, ends.

use std::sync::Arc;

use model::array::ArraySpec;
use model::depend::{Dependency, Kind, Tasks, Term};
use model::id::{Gid, JobId, PartitionIdx, RunNumber, TaskIndex, Uid};
use model::quantity::MemoryMib;
use model::request::{JobRequest, MemoryRequest};
use model::time::{Span, Timestamp};
use proto::convert::request;
use proto::journal_v1 as w;
use scheduler_core::state::job::{
    Active, ArrayRole, Bodies, Ended, Finish, Hold, Job, Limit, Owner, Pending, Phase, RequeueHow,
    WaitingArray,
};
use scheduler_core::state::prediction::Predicted;

use crate::allocation::{
    allocation_in, allocation_out, exit_in, exit_out, hash_in, hash_out, key_in, key_out, reason_in,
    reason_out, state_in, state_out, tasks_in, tasks_out,
};
use crate::error::{Error, need};
use crate::step::{step_in, step_out};

fn dependency_out(dependency: &Dependency) -> Option<w::Dependency> {
    use w::term::Kind as Wire;
    if dependency.terms.is_empty() && !dependency.any {
        return None;
    }
    let term = |term: &Term| {
        let kind = match term.kind {
            Kind::After => Wire::After,
            Kind::AfterAny => Wire::AfterAny,
            Kind::AfterOk => Wire::AfterOk,
            Kind::AfterNotOk => Wire::AfterNotOk,
            Kind::AfterCorr => Wire::AfterCorr,
            Kind::AfterBurstBuffer => Wire::AfterBurstBuffer,
            Kind::Expand => Wire::Expand,
            Kind::Singleton => Wire::Singleton,
        };
        let (all_tasks, task) = match term.tasks {
            Tasks::Unsaid => (false, None),
            Tasks::All => (true, None),
            Tasks::One(task) => (false, Some(task)),
        };
        w::Term { kind: kind.into(), job: term.job.0, all_tasks, task, delay_minutes: term.delay_minutes }
    };
    Some(w::Dependency { terms: dependency.terms.iter().map(term).collect(), any: dependency.any })
}

fn dependency_in(wire: Option<w::Dependency>) -> Result<Dependency, Error> {
    use w::term::Kind as Wire;
    let Some(wire) = wire else { return Ok(Dependency::default()) };
    let term = |term: w::Term| {
        let kind = match Wire::try_from(term.kind) {
            Ok(Wire::After) => Kind::After,
            Ok(Wire::AfterAny) => Kind::AfterAny,
            Ok(Wire::AfterOk) => Kind::AfterOk,
            Ok(Wire::AfterNotOk) => Kind::AfterNotOk,
            Ok(Wire::AfterCorr) => Kind::AfterCorr,
            Ok(Wire::AfterBurstBuffer) => Kind::AfterBurstBuffer,
            Ok(Wire::Expand) => Kind::Expand,
            Ok(Wire::Singleton) => Kind::Singleton,
            Ok(Wire::Newer) | Err(_) => return Err(Error::Field { field: "dependency" }),
        };
        let tasks = match (term.all_tasks, term.task) {
            (true, _) => Tasks::All,
            (false, Some(task)) => Tasks::One(task),
            (false, None) => Tasks::Unsaid,
        };
        Ok(Term { kind, job: JobId(term.job), tasks, delay_minutes: term.delay_minutes })
    };
    Ok(Dependency { terms: wire.terms.into_iter().map(term).collect::<Result<_, Error>>()?, any: wire.any })
}

pub(crate) fn hold_out(hold: Hold) -> i32 {
    match hold {
        Hold::None => w::Hold::None,
        Hold::User => w::Hold::User,
        Hold::Admin => w::Hold::Admin,
    }
    .into()
}

pub(crate) fn hold_in(wire: i32) -> Result<Hold, Error> {
    match w::Hold::try_from(wire) {
        Ok(w::Hold::None) => Ok(Hold::None),
        Ok(w::Hold::User) => Ok(Hold::User),
        Ok(w::Hold::Admin) => Ok(Hold::Admin),
        Ok(w::Hold::Newer) | Err(_) => Err(Error::Field { field: "hold" }),
    }
}

pub(crate) fn limit_out(limit: Limit) -> Option<w::Limit> {
    use w::limit::Limit as Wire;
    let limit = match limit {
        Limit::Partition => Wire::Partition(true),
        Limit::Unlimited => Wire::Unlimited(true),
        Limit::After(span) => Wire::AfterMs(span.0),
    };
    Some(w::Limit { limit: Some(limit) })
}

pub(crate) fn limit_in(wire: Option<w::Limit>) -> Result<Limit, Error> {
    use w::limit::Limit as Wire;
    Ok(match need("limit", wire.and_then(|wire| wire.limit))? {
        Wire::Partition(_) => Limit::Partition,
        Wire::Unlimited(_) => Limit::Unlimited,
        Wire::AfterMs(ms) => Limit::After(Span(ms)),
    })
}

pub(crate) fn pending_out(pending: &Pending) -> w::Pending {
    w::Pending {
        not_before_ms: pending.not_before.map(|at| at.0),
        eligible_ms: pending.eligible.map(|at| at.0),
        dependency: dependency_out(&pending.dependency),
        dependency_failed: pending.dependency_failed,
        kept_reason: pending.kept_reason.map(reason_out),
    }
}

pub(crate) fn pending_in(wire: Option<w::Pending>) -> Result<Pending, Error> {
    let wire = need("pending", wire)?;
    Ok(Pending {
        not_before: wire.not_before_ms.map(Timestamp),
        eligible: wire.eligible_ms.map(Timestamp),
        dependency: dependency_in(wire.dependency)?,
        dependency_failed: wire.dependency_failed,
        kept_reason: wire.kept_reason.as_deref().map(reason_in).transpose()?,
    })
}

pub(crate) fn finish_out(finish: &Finish) -> w::Finish {
    use w::finish::Requeue;
    let requeue = match finish.requeue {
        None => Requeue::No,
        Some(RequeueHow::Eligible) => Requeue::Eligible,
        Some(RequeueHow::HeldUser) => Requeue::HeldUser,
        Some(RequeueHow::HeldAdmin) => Requeue::HeldAdmin,
        Some(RequeueHow::SpecialExit) => Requeue::SpecialExit,
        Some(RequeueHow::LaunchFailed) => Requeue::LaunchFailed,
    };
    w::Finish {
        state: state_out(finish.state),
        exit: finish.exit.map(exit_out),
        reason: reason_out(finish.reason),
        detail: finish.detail.to_string(),
        by: finish.by.map(|uid| uid.0),
        at_ms: finish.at.0,
        requeue: requeue.into(),
    }
}

pub(crate) fn finish_in(wire: w::Finish) -> Result<Finish, Error> {
    use w::finish::Requeue;
    let requeue = match Requeue::try_from(wire.requeue) {
        Ok(Requeue::No) => None,
        Ok(Requeue::Eligible) => Some(RequeueHow::Eligible),
        Ok(Requeue::HeldUser) => Some(RequeueHow::HeldUser),
        Ok(Requeue::HeldAdmin) => Some(RequeueHow::HeldAdmin),
        Ok(Requeue::SpecialExit) => Some(RequeueHow::SpecialExit),
        Ok(Requeue::LaunchFailed) => Some(RequeueHow::LaunchFailed),
        Err(_) => return Err(Error::Field { field: "requeue" }),
    };
    Ok(Finish {
        state: state_in(&wire.state)?,
        exit: wire.exit.map(|exit| exit_in(Some(exit))).transpose()?,
        reason: reason_in(&wire.reason)?,
        detail: wire.detail.into(),
        by: wire.by.map(Uid),
        at: Timestamp(wire.at_ms),
        requeue,
    })
}

fn active_out(active: &Active) -> w::Active {
    w::Active {
        partition: active.partition.0,
        allocation: allocation_out(&active.allocation),
        start_ms: active.start.0,
        eligible_ms: active.eligible.map(|at| at.0),
        limit_ms: active.limit.map(|span| span.0),
        suspended_since_ms: active.suspended_since.map(|at| at.0),
        stopped: active.stopped,
        suspended_total_ms: active.suspended_total.0,
        steps: active.steps.iter().map(|step| step_out(step)).collect(),
        next_step: active.next_step,
        finish: active.finish.as_ref().map(finish_out),
        derived_exit: Some(exit_out(active.derived_exit)),
        reason: reason_out(active.reason),
        configuring: active.configuring.as_deref().map(str::to_owned),
    }
}

fn active_in(wire: w::Active) -> Result<Active, Error> {
    Ok(Active {
        partition: PartitionIdx(wire.partition),
        allocation: allocation_in(wire.allocation)?,
        start: Timestamp(wire.start_ms),
        eligible: wire.eligible_ms.map(Timestamp),
        limit: wire.limit_ms.map(Span),
        suspended_since: wire.suspended_since_ms.map(Timestamp),
        suspended_total: Span(wire.suspended_total_ms),
        stopped: wire.stopped,
        steps: wire
            .steps
            .into_iter()
            .map(|step| step_in(step).map(Arc::new))
            .collect::<Result<_, Error>>()?,
        next_step: wire.next_step,
        finish: wire.finish.map(finish_in).transpose()?,
        derived_exit: exit_in(wire.derived_exit)?,
        reason: reason_in(&wire.reason)?,
        configuring: wire.configuring.map(String::into_boxed_str),
    })
}

pub(crate) fn ended_out(ended: &Ended) -> w::Ended {
    w::Ended {
        state: state_out(ended.state),
        exit: Some(exit_out(ended.exit)),
        derived_exit: Some(exit_out(ended.derived_exit)),
        reason: reason_out(ended.reason),
        detail: ended.detail.to_string(),
        by: ended.by.map(|uid| uid.0),
        eligible_ms: ended.eligible.map(|at| at.0),
        start_ms: ended.start.map(|at| at.0),
        end_ms: ended.end.0,
        limit_ms: ended.limit.map(|span| span.0),
        partition: ended.partition.map(|idx| idx.0),
        allocation: allocation_out(&ended.allocation),
        suspended_total_ms: ended.suspended_total.0,
        steps: ended.steps.iter().map(|step| step_out(step)).collect(),
    }
}

pub(crate) fn ended_in(wire: Option<w::Ended>) -> Result<Ended, Error> {
    let wire = need("ended", wire)?;
    Ok(Ended {
        state: state_in(&wire.state)?,
        exit: exit_in(wire.exit)?,
        derived_exit: exit_in(wire.derived_exit)?,
        reason: reason_in(&wire.reason)?,
        detail: wire.detail.into(),
        by: wire.by.map(Uid),
        eligible: wire.eligible_ms.map(Timestamp),
        start: wire.start_ms.map(Timestamp),
        end: Timestamp(wire.end_ms),
        limit: wire.limit_ms.map(Span),
        partition: wire.partition.map(PartitionIdx),
        allocation: allocation_in(wire.allocation)?,
        suspended_total: Span(wire.suspended_total_ms),
        steps: wire
            .steps
            .into_iter()
            .map(|step| step_in(step).map(Arc::new))
            .collect::<Result<_, Error>>()?,
    })
}

pub(crate) fn job_out(job: &Job) -> w::Job {
    let mut wire_request = request::outwards(&job.request);
    // Both have forms of their own beside it, which hold more than their text does.
    wire_request.array.clear();
    wire_request.dependency.clear();
    let request_array = job.request.array.as_ref().map(|spec| w::ArraySpec {
        tasks: tasks_out(&spec.tasks),
        throttle: spec.throttle,
        step: spec.step,
    });
    w::Job {
        id: job.id.0,
        uid: job.owner.uid.0,
        gid: job.owner.gid.0,
        key: key_out(Some(job.key)),
        request: Some(Box::new(wire_request)),
        request_array,
        request_dependency: dependency_out(&job.request.dependency),
        script: hash_out(job.bodies.script),
        environment: hash_out(Some(job.bodies.environment)),
        account: job.account.to_string(),
        qos: job.qos.to_string(),
        association: job.association,
        partitions: job.partitions.iter().map(|idx| idx.0).collect(),
        submit_ms: job.submit.0,
        limit: limit_out(job.limit),
        memory: job.memory.map(|memory| match memory {
            MemoryRequest::PerNode(amount) => w::job::Memory::MemoryMibPerNode(amount.0),
            MemoryRequest::PerCpu(amount) => w::job::Memory::MemoryMibPerCpu(amount.0),
            MemoryRequest::PerGpu(amount) => w::job::Memory::MemoryMibPerGpu(amount.0),
        }),
        priority: job.priority,
        hold: hold_out(job.hold),
        nice: job.nice,
        site_factor: job.site_factor,
        requeue: job.requeue,
        alloc_sid: job.alloc_sid,
        array: match &job.array {
            ArrayRole::Single => None,
            ArrayRole::Waiting(waiting) => Some(w::job::Array::Waiting(w::WaitingArray {
                tasks: tasks_out(&waiting.tasks),
                throttle: waiting.throttle,
            })),
            ArrayRole::Element { array, index } => {
                Some(w::job::Array::Element(w::ArrayElement { array: array.0, index: index.0 }))
            }
        },
        run: job.run.0,
        restarts: job.restarts,
        predicted_s: job.predicted.as_secs(),
        phase: Some(match &job.phase {
            Phase::Pending(pending) => w::job::Phase::Pending(pending_out(pending)),
            Phase::Active(active) => w::job::Phase::Active(active_out(active)),
            Phase::Ended(ended) => w::job::Phase::Ended(ended_out(ended)),
        }),
    }
}

fn request_in(
    wire: Option<Box<proto::v1::JobRequest>>,
    array: Option<w::ArraySpec>,
    dependency: Option<w::Dependency>,
) -> Result<JobRequest, Error> {
    let mut read = request::inwards(*need("request", wire)?).map_err(Error::Request)?;
    let spec = |spec: w::ArraySpec| {
        Ok::<_, Error>(ArraySpec { tasks: tasks_in(&spec.tasks)?, throttle: spec.throttle, step: spec.step })
    };
    read.array = array.map(spec).transpose()?;
    read.dependency = dependency_in(dependency)?;
    Ok(read)
}

pub(crate) fn job_in(wire: w::Job) -> Result<Job, Error> {
    let array = match wire.array {
        None => ArrayRole::Single,
        Some(w::job::Array::Waiting(waiting)) => ArrayRole::Waiting(Box::new(WaitingArray {
            tasks: tasks_in(&waiting.tasks)?,
            throttle: waiting.throttle,
        })),
        Some(w::job::Array::Element(element)) => {
            ArrayRole::Element { array: JobId(element.array), index: TaskIndex(element.index) }
        }
    };
    let phase = match need("phase", wire.phase)? {
        w::job::Phase::Pending(pending) => Phase::Pending(pending_in(Some(pending))?),
        w::job::Phase::Active(active) => Phase::Active(Box::new(active_in(active)?)),
        w::job::Phase::Ended(ended) => Phase::Ended(Arc::new(ended_in(Some(ended))?)),
    };
    Ok(Job {
        id: JobId(wire.id),
        owner: Owner { uid: Uid(wire.uid), gid: Gid(wire.gid) },
        key: need("key", key_in(&wire.key)?)?,
        request: Arc::new(request_in(wire.request, wire.request_array, wire.request_dependency)?),
        bodies: Bodies {
            script: hash_in("script", &wire.script)?,
            environment: need("environment", hash_in("environment", &wire.environment)?)?,
        },
        account: wire.account.into(),
        qos: wire.qos.into(),
        association: wire.association,
        partitions: wire.partitions.into_iter().map(PartitionIdx).collect(),
        submit: Timestamp(wire.submit_ms),
        limit: limit_in(wire.limit)?,
        memory: wire.memory.map(|memory| match memory {
            w::job::Memory::MemoryMibPerNode(mib) => MemoryRequest::PerNode(MemoryMib(mib)),
            w::job::Memory::MemoryMibPerCpu(mib) => MemoryRequest::PerCpu(MemoryMib(mib)),
            w::job::Memory::MemoryMibPerGpu(mib) => MemoryRequest::PerGpu(MemoryMib(mib)),
        }),
        priority: wire.priority,
        hold: hold_in(wire.hold)?,
        nice: wire.nice,
        site_factor: wire.site_factor,
        requeue: wire.requeue,
        alloc_sid: wire.alloc_sid,
        array,
        run: RunNumber(wire.run),
        restarts: wire.restarts,
        predicted: wire.predicted_s.map_or_else(Predicted::default, Predicted::seconds),
        phase,
    })
}
