//! From a request to a job, or a refusal. Nothing is stored for a refused request.

mod account;
mod shared;

use std::sync::Arc;

use model::array::TaskSet;
use model::depend::{Dependency, Kind as DependencyKind, Tasks};
use model::gpu_bind::GpuBind;
use model::id::{JobId, PartitionIdx, RunNumber};
use model::refusal::Refusal;
use model::request::{JobRequest, Kind, MemoryRequest, Sharing};
use model::time::Span;

use crate::effect::{Answer, Refused};
use crate::gpu::inventory;
use crate::input::Submit;
use crate::machine::Call;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::settings::Settings;
use crate::state::State;
use crate::state::accounts::AdminLevel;
use crate::state::job::{ArrayRole, Bodies, Hold, Job, Limit, Owner, Pending, Phase, WaitingArray};
use crate::state::partition::PartitionState;
use crate::{authorise, licenses, place, priority};

pub(crate) use account::charge;
pub(crate) use shared::Shared;

/// The shortest time limit that a job with a deadline is given.
const LEAST_LIMIT: Span = Span::from_mins(1);

/// The most arrivals that one job counts as: an array of many elements is one wish.
const ARRIVALS_MAX: u64 = 64;

impl Call<'_> {
    /// A submission: the same key and request give the same job.
    pub(crate) fn submit(&mut self, mut submit: Submit) {
        let reply = submit.reply;
        let level = authorise::level(self.state(), self.settings(), &submit.asker);
        if let Some(request) = as_far_as_allowed(&submit.request, level, self.settings().switch_wait_max) {
            submit.request = Arc::new(request);
        }
        if let Some(answer) = self.repeated(&submit) {
            return self.answer(reply, answer);
        }
        let job = match self.admit(&submit) {
            Ok(job) => job,
            Err(refused) => return self.refuse(reply, refused),
        };
        if submit.test_only {
            let answer = self.would_start(&job);
            return self.answer(reply, answer);
        }
        let id = job.id;
        if job.hold == Hold::None && !self.machine.able.knows(&job) {
            self.machine.able.note(&job);
        }
        if job.request.rare().priority.is_some() {
            self.machine.oldest_wait = model::time::Timestamp(i64::MIN);
        }
        if !planted::is(Bug::ForgetId) {
            self.emit(Record::NextJobId(next_id(self.settings(), id)));
        }
        if planted::is(Bug::DropSubmit) && id.0.is_multiple_of(8) {
            return self.answer(reply, Answer::Submitted { job: id, warnings: Vec::new() });
        }
        self.count_slices(&job);
        self.machine.shared.note(&job);
        self.emit(Record::Job(Arc::new(job)));
        self.refresh(id);
        self.machine.arm(id);
        self.out.pass_wanted = true;
        self.answer(reply, Answer::Submitted { job: id, warnings: Vec::new() });
    }

    fn repeated(&self, submit: &Submit) -> Option<Answer> {
        if submit.test_only || planted::is(Bug::ForgetKey) {
            return None;
        }
        let id = *self.state().index.keys.get(&(submit.asker.uid, submit.key))?;
        let job = self.job(id);
        let same = job.bodies.script == submit.script
            && job.bodies.environment == submit.environment
            && (job.request == submit.request || job.restarts > 0);
        Some(if same {
            Answer::Submitted { job: id, warnings: Vec::new() }
        } else {
            Answer::Refused(Refusal::KeyReused.into())
        })
    }

    fn admit(&self, submit: &Submit) -> Result<Job, Refused> {
        let (state, settings) = (self.state(), self.settings());
        let request = &submit.request;
        if state.jobs.len() >= settings.max_job_count as usize {
            return Err(Refusal::TooManyJobs.into());
        }
        if request.kind == Kind::Batch && submit.script.is_none() {
            return Err(Refusal::ScriptMissing.into());
        }
        let level = authorise::level(state, settings, &submit.asker);
        if request.nice < 0 && level < AdminLevel::Operator {
            return Err(Refusal::InvalidNice.into());
        }
        let shared = &self.machine.shared;
        let partitions = partitions(state, request, submit, level, shared)?;
        let charge = account::charge(state, settings, &submit.asker, request, shared)?;
        check_supported(request)?;
        // What is held cannot be had at once.
        if request.hold && request.rare().immediate.is_some_and(|seconds| seconds > 0) {
            return Err(Refusal::InvalidDependency.into());
        }
        check_words(state, settings, request)?;
        check_dependency(state, submit)?;
        if let Some(name) = request.rare().reservation.as_deref() {
            crate::reservation::check_access(state, name, submit.asker.uid, &charge.account)?;
        }
        let id = self.free_id().ok_or(Refused::from(Refusal::TooManyJobs))?;
        let mut job = Job {
            id,
            owner: Owner { uid: submit.asker.uid, gid: submit.asker.gid },
            key: submit.key,
            request: Arc::clone(request),
            bodies: Bodies { script: submit.script, environment: submit.environment },
            limit: charge.limit(request),
            account: charge.account,
            qos: charge.qos,
            association: charge.association,
            partitions,
            submit: self.now,
            memory: request.memory,
            priority: 0,
            hold: hold(request, level),
            nice: request.nice,
            site_factor: 0,
            requeue: request.requeue.unwrap_or(settings.requeue_default),
            alloc_sid: submit.alloc_sid,
            array: array_role(request, settings)?,
            run: self.first_run_of(id),
            restarts: 0,
            predicted: state.predictions.of(submit.asker.uid),
            phase: Phase::Pending(Pending {
                not_before: request.begin.map(|wall| state.own_time(wall)).filter(|begin| *begin > self.now),
                dependency: with_whole_arrays(state, &request.dependency),
                ..Pending::default()
            }),
        };
        job.memory = default_memory(state, settings, &job);
        account::check_limits(state, settings, &job)?;
        if let Phase::Pending(pending) = &mut job.phase
            && job.hold == Hold::None
            && pending.not_before.is_none()
            && pending.dependency.is_empty()
        {
            // Said with the job itself: a second record for each submission would say nothing else.
            pending.eligible = Some(self.now);
        }
        check_deadline(&job, state.wall_time(self.now))?;
        check_least_limit(state, &job)?;
        if !self.machine.able.knows(&job) {
            place::could_ever_run(state, settings, &job)?;
        }
        check_immediate_states(state, &job)?;
        if job.hold == Hold::None {
            job.priority = priority::priority(state, settings, &job);
        }
        Ok(job)
    }

    /// Adds the slices that a job asks for to the mix by which starts are chosen.
    ///
    /// Cost: O(nodes) for a job that asks for some, else O(request).
    fn count_slices(&mut self, job: &Job) {
        let request = &*job.request;
        let lists = [
            &request.gres_per_node,
            &request.gpus_per_job,
            &request.gpus_per_node,
            &request.gpus_per_task,
            &request.gpus_per_socket,
        ];
        let slices = &self.state().slices;
        let (mut asked, mut told, mut any) = (slices.asked.clone(), slices.told, false);
        for gres in lists.into_iter().flatten().filter(|gres| gres.is_gpu()) {
            let Some(kind) = gres.kind.as_deref().filter(|kind| inventory::is_slice(kind)) else { continue };
            let inventories = self.state().nodes.iter().filter_map(|node| node.inventory.as_deref());
            let Some(class) = inventories.into_iter().find_map(|one| one.class_of(kind)) else { continue };
            let arrivals = gres.count.saturating_mul(u64::from(job.elements())).min(ARRIVALS_MAX);
            for _ in 0..arrivals {
                any = true;
                if asked.saw(class) {
                    told = asked.mix().weights();
                }
            }
        }
        if any {
            self.emit(Record::SlicesAsked { asked, told });
        }
    }

    /// The next job id that nothing uses.
    pub(crate) fn free_id(&self) -> Option<JobId> {
        let (state, settings) = (self.state(), self.settings());
        let held = self.machine.held_ids.as_ref();
        let runs = held.map_or(0, TaskSet::runs);
        let mut id = state.next_job_id.clamp(settings.first_job_id, settings.max_job_id);
        // Each step passes a job, an array, or a run of ids that history holds; going round once is enough.
        for _ in 0..=state.jobs.len() + state.arrays.len() + runs + 1 {
            match held.and_then(|held| held.run_end(id)) {
                Some(last) => id = next_id(settings, JobId(last)),
                None if !state.jobs.contains_key(&JobId(id)) && !state.arrays.contains_key(&JobId(id)) => {
                    return Some(JobId(id));
                }
                None => id = next_id(settings, JobId(id)),
            }
        }
        None
    }

    /// The run number before the first start. An id beyond the counter's place has come round with it already.
    fn first_run_of(&self, id: JobId) -> RunNumber {
        let state = self.state();
        if id.0 < state.next_job_id {
            RunNumber(State::runs_from(state.id_wraps + 1))
        } else {
            state.first_run()
        }
    }

    /// When and where the job would start if nobody else came: now, or when the jobs that run have
    /// reached their limits.
    fn would_start(&self, job: &Job) -> Answer {
        let (state, settings) = (self.state(), self.settings());
        let idle = state.idle_cluster();
        for (cluster, start) in [(state, self.now), (&idle, self.all_ended_by())] {
            for &idx in job.partitions.iter() {
                let Some(allocation) = place::place(cluster, settings, job, idx) else { continue };
                let partition = cluster.partition(idx).expect("a place is in a partition");
                return Answer::WouldStart {
                    start,
                    cpus: allocation.iter().map(|share| share.cpus.0).sum(),
                    nodes: state.node_names(&allocation).into(),
                    partition: partition.definition.name.clone(),
                };
            }
        }
        Answer::Refused(Refusal::NodeConfigUnavailable.into())
    }

    fn all_ended_by(&self) -> model::time::Timestamp {
        let running = self.state().index.running.iter().filter_map(|id| self.job(*id).active());
        running.filter_map(crate::state::job::Active::limit_end).max().unwrap_or(self.now).max(self.now)
    }
}

/// The id after `id`; wraps to the first.
pub(crate) fn next_id(settings: &Settings, id: JobId) -> u32 {
    if id.0 >= settings.max_job_id { settings.first_job_id } else { id.0 + 1 }
}

/// The request without what counts for nothing here: a priority that no operator gave, a wait for
/// switches beyond the site's longest. `None`: it stays as it is.
fn as_far_as_allowed(request: &JobRequest, level: AdminLevel, longest: Span) -> Option<JobRequest> {
    let rare = request.rare();
    let priority = rare.priority.is_some() && level < AdminLevel::Operator;
    let switches = rare.switches.is_some_and(|(_, wait)| wait.is_none_or(|wait| wait > longest));
    // A job that is to be done by a moment and says nothing of its time runs as long as is left.
    let least = rare.deadline.is_some() && rare.time_min.is_none() && request.time_limit.is_none();
    if !priority && !switches && !least {
        return None;
    }
    let mut request = request.clone();
    let rare = request.rare_mut();
    if least {
        rare.time_min = Some(LEAST_LIMIT);
    }
    if priority {
        rare.priority = None;
    }
    rare.switches = rare.switches.map(|(count, wait)| (count, Some(wait.unwrap_or(longest).min(longest))));
    Some(request)
}

/// `--hold`; `--priority=0` holds only where an operator says it, since only operators set priorities.
fn hold(request: &JobRequest, level: AdminLevel) -> Hold {
    let by_priority = request.rare().priority == Some(0) && level >= AdminLevel::Operator;
    if request.hold || by_priority { Hold::User } else { Hold::None }
}

fn partitions(
    state: &State,
    request: &JobRequest,
    submit: &Submit,
    level: AdminLevel,
    shared: &Shared,
) -> Result<Arc<[PartitionIdx]>, Refused> {
    // A list without a name in it is none.
    let named = request.partition.as_deref().filter(|names| names.split(',').any(|name| !name.is_empty()));
    let chosen = match named {
        Some(names) => {
            let mut chosen = Vec::new();
            for name in names.split(',').filter(|name| !name.is_empty()) {
                let idx = state.partition_named(name).ok_or_else(|| Refused {
                    refusal: Refusal::InvalidPartitionName,
                    lines: vec![format!("invalid partition specified: {name}").into()],
                })?;
                if !chosen.contains(&idx) {
                    chosen.push(idx);
                }
            }
            shared.list(&chosen)
        }
        None => {
            let mut all = state.index.partition_by_name.values();
            let default = all.find(|idx| state.partition(**idx).is_some_and(|one| one.definition.is_default));
            shared.list(default.map(std::slice::from_ref).unwrap_or_default())
        }
    };
    if chosen.is_empty() {
        return Err(Refusal::DefaultPartitionNotSet.into());
    }
    for &idx in chosen.iter() {
        let definition = &state.partition(idx).expect("a named partition exists").definition;
        if definition.root_only && level != AdminLevel::Administrator
            || definition.disable_root_jobs && submit.asker.uid.0 == 0
        {
            return Err(Refusal::AccessDenied.into());
        }
        let in_group = definition.allow_groups.is_empty()
            || level == AdminLevel::Administrator
            || definition.allow_groups.iter().any(|group| submit.asker.groups.contains(group));
        if !in_group {
            return Err(Refusal::PartitionGroup.into());
        }
    }
    Ok(chosen)
}

/// A partition that takes no submissions refuses the job, after the job was found to make sense.
fn check_immediate_states(state: &State, job: &Job) -> Result<(), Refused> {
    for &idx in job.partitions.iter() {
        let definition = &state.partition(idx).expect("a job's partition exists at its admission").definition;
        match definition.state {
            PartitionState::Up | PartitionState::Down => {}
            PartitionState::Drain | PartitionState::Inactive => {
                return Err(Refusal::PartitionNotAvailable.into());
            }
        }
    }
    Ok(())
}

fn array_role(request: &JobRequest, settings: &Settings) -> Result<ArrayRole, Refused> {
    let Some(spec) = &request.array else { return Ok(ArrayRole::Single) };
    let last = spec.tasks.last().ok_or(Refused::from(Refusal::InvalidArray))?;
    if last >= settings.max_array_size || spec.tasks.len() > settings.max_array_tasks {
        return Err(Refusal::InvalidArray.into());
    }
    let tasks: TaskSet = spec.tasks.clone();
    let throttle = (spec.throttle > 0).then_some(spec.throttle);
    Ok(ArrayRole::Waiting(Box::new(WaitingArray { tasks, throttle })))
}

/// What is not built yet is refused by name: a job must not run without what it asked for.
fn check_supported(request: &JobRequest) -> Result<(), Refused> {
    let rare = request.rare();
    let asked = [
        ("container-id", rare.container_id.is_some()),
        ("core-spec", rare.core_spec.is_some()),
        ("thread-spec", rare.thread_spec.is_some()),
        ("prefer", rare.prefer.is_some()),
        ("exclusive=mcs", request.sharing == Sharing::Mcs),
        ("exclusive=topo", request.sharing == Sharing::Topo),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        None => {
            check_tres_bind(rare.tres_bind.as_deref())?;
            check_container(rare.container.as_deref())
        }
        Some((option, _)) => Err(Refused {
            refusal: Refusal::NotSupported,
            lines: vec![format!("--{option} is not supported by sluice yet").into()],
        }),
    }
}

/// What would bind nothing is no binding: a task must not see GPUs that it asked not to see.
fn check_tres_bind(text: Option<&str>) -> Result<(), Refused> {
    let line = match text.map(GpuBind::of_tres) {
        None | Some(Ok(_)) => return Ok(()),
        Some(Err(line)) => line,
    };
    Err(Refused { refusal: Refusal::InvalidGres, lines: vec![format!("--tres-bind: {line}").into()] })
}

/// The text of an image is read by executors: it must be one, whatever client sent it.
fn check_container(image: Option<&str>) -> Result<(), Refused> {
    use model::container::{Image, Problem};
    let problem = match image.map(Image::parse) {
        None => return Ok(()),
        Some(Ok(image)) => match image.path().filter(|path| !path.starts_with('/')) {
            None => return Ok(()),
            Some(path) => Problem::Relative(path.into()),
        },
        Some(Err(problem)) => problem,
    };
    Err(Refused { refusal: Refusal::NotSupported, lines: vec![format!("--container: {problem}").into()] })
}

/// Names that must be known: nodes, licenses, generic resources.
fn check_words(state: &State, settings: &Settings, request: &JobRequest) -> Result<(), Refused> {
    let rare = request.rare();
    for list in [&rare.nodelist, &rare.exclude].into_iter().flatten() {
        let names = model::hostlist::expand(list).map_err(|_| Refused::from(Refusal::InvalidNodeName))?;
        if names.iter().any(|name| state.node_named(name).is_none()) {
            return Err(Refusal::InvalidNodeName.into());
        }
    }
    if let Some(text) = &rare.licenses {
        let known = licenses::is_valid(text)
            && licenses::parse(text)
                .all(|(name, amount)| settings.licenses.get(name).is_some_and(|total| amount <= *total));
        if !known {
            return Err(Refusal::InvalidLicenses.into());
        }
    }
    let lists = [
        &request.gres_per_node,
        &request.gpus_per_job,
        &request.gpus_per_node,
        &request.gpus_per_task,
        &request.gpus_per_socket,
    ];
    // None of something asks for nothing, even where nobody has it.
    for gres in lists.into_iter().flatten().filter(|gres| gres.count > 0) {
        let known = state
            .nodes
            .iter()
            .any(|node| node.definition.gres.iter().any(|offered| offered.name == gres.name));
        if !known {
            return Err(Refusal::InvalidGres.into());
        }
        if &*gres.name == "mps" {
            return Err(mps_refused());
        }
    }
    let per_task = rare.tres_per_task.as_deref().unwrap_or_default().to_ascii_lowercase();
    if per_task.contains("gres/mps") {
        return Err(mps_refused());
    }
    // A GPU is whole or shared, and so are those of a job.
    let asks = |name: &str| {
        (!per_task.is_empty() && per_task.contains(&format!("gres/{name}")))
            || lists.into_iter().flatten().any(|gres| &*gres.name == name && gres.count > 0)
    };
    if asks("shard") && asks("gpu") {
        return Err(Refusal::InvalidGres.into());
    }
    Ok(())
}

/// It may be declared; a job that got some would have no GPU.
fn mps_refused() -> Refused {
    let line = "gres/mps is not supported by sluice yet";
    Refused { refusal: Refusal::NotSupported, lines: vec![line.into()] }
}

fn check_dependency(state: &State, submit: &Submit) -> Result<(), Refused> {
    let Dependency { terms, .. } = &submit.request.dependency;
    for term in terms {
        if term.kind == DependencyKind::Singleton {
            continue;
        }
        let known = state.jobs.contains_key(&term.job) || state.arrays.contains_key(&term.job);
        if !known {
            return Err(Refusal::InvalidDependency.into());
        }
    }
    Ok(())
}

/// The dependency as it is kept: an array that is meant as a whole is shown as `4711_*`.
fn with_whole_arrays(state: &State, dependency: &Dependency) -> Dependency {
    let mut kept = dependency.clone();
    for term in &mut kept.terms {
        if term.tasks == Tasks::Unsaid && state.arrays.contains_key(&term.job) {
            term.tasks = Tasks::All;
        }
    }
    kept
}

/// The least limit must be one that the job, and one of its partitions, allows.
fn check_least_limit(state: &State, job: &Job) -> Result<(), Refused> {
    let Some(least) = job.request.rare().time_min else { return Ok(()) };
    let own = matches!(job.limit, Limit::After(limit) if least > limit);
    let longest = |idx: &PartitionIdx| state.partition(*idx).map(|partition| partition.definition.max_time);
    let too_long = |most: Option<Span>| most.is_some_and(|most| least > most);
    if own || job.partitions.iter().filter_map(longest).all(too_long) {
        return Err(Refusal::InvalidTimeMin.into());
    }
    Ok(())
}

/// A job that cannot end before its deadline is refused; `now` is wall time, as the deadline is. One that says nothing
/// of its time is given what is left.
fn check_deadline(job: &Job, now: model::time::Timestamp) -> Result<(), Refused> {
    let Some(deadline) = job.request.rare().deadline else { return Ok(()) };
    if job.request.time_limit.is_none() && job.request.rare().time_min == Some(LEAST_LIMIT) {
        // The second that is running is not over yet.
        let over = now.since(deadline) > Span::from_secs(1);
        return if over { Err(Refusal::InvalidTimeLimit.into()) } else { Ok(()) };
    }
    let shortest = job.request.rare().time_min.or(match job.limit {
        Limit::After(limit) => Some(limit),
        Limit::Partition | Limit::Unlimited => None,
    });
    if now.saturating_add(shortest.unwrap_or(Span::ZERO)) > deadline {
        let asked = job.request.rare().time_min.is_some();
        return Err(if asked { Refusal::InvalidTimeMin } else { Refusal::InvalidTimeLimit }.into());
    }
    Ok(())
}

/// Memory after defaults: the request's, else the partition's, else the cluster's.
fn default_memory(state: &State, settings: &Settings, job: &Job) -> Option<MemoryRequest> {
    if job.memory.is_some() {
        return job.memory;
    }
    let partition = job.partitions.first().and_then(|idx| state.partition(*idx));
    let definition = partition.map(|partition| &partition.definition);
    definition
        .and_then(|one| one.def_mem_per_cpu)
        .map(MemoryRequest::PerCpu)
        .or_else(|| definition.and_then(|one| one.def_mem_per_node).map(MemoryRequest::PerNode))
        .or_else(|| settings.def_mem_per_cpu.map(MemoryRequest::PerCpu))
        .or_else(|| settings.def_mem_per_node.map(MemoryRequest::PerNode))
}
