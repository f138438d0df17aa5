//! `scontrol update job`: keys and values as typed.
//!
//! All changes of one call are made or none. Keys are compared without case.

use std::sync::Arc;

use model::depend::{Dependency, Kind as DependencyKind};
use model::gres;
use model::id::{JobId, PartitionIdx, StepId};
use model::quantity::MemoryMib;
use model::refusal::Refusal;
use model::request::{JobRequest, MemoryRequest, Sharing};
use model::time::{Span, Timestamp, limit};
use model::tres;

use crate::admit;
use crate::authorise::{self, Act};
use crate::effect::{Asker, Effect, Refused, RunKey};
use crate::machine::Call;
use crate::record::Record;
use crate::settings::Settings;
use crate::state::State;
use crate::state::accounts::AdminLevel;
use crate::state::job::{ArrayRole, Hold, Job, Limit, Phase, RunStage};
use crate::{place, priority};

type Changes = [(Box<str>, Box<str>)];

/// A job that is being changed: a copy, and what follows when it is put back.
struct Draft<'a> {
    state: &'a State,
    settings: &'a Settings,
    shared: &'a admit::Shared,
    asker: &'a Asker,
    level: AdminLevel,
    job: Job,
    request: JobRequest,
    priority_set: bool,
}

impl Call<'_> {
    /// Changes one job.
    pub(crate) fn update_job(&mut self, id: JobId, changes: &Changes, asker: &Asker) -> Result<(), Refused> {
        let settings = self.settings();
        let state = self.state();
        let job = &state.jobs[&id];
        authorise::may(state, settings, asker, Act::Change, Some(job))?;
        if job.ended().is_some() {
            return Err(Refusal::AlreadyDone.into());
        }
        let mut draft = Draft {
            state,
            settings,
            shared: &self.machine.shared,
            asker,
            level: authorise::level(state, settings, asker),
            job: (**job).clone(),
            request: (*job.request).clone(),
            priority_set: false,
        };
        for (key, value) in changes {
            draft.change(key, value)?;
        }
        draft.check_least_limit()?;
        let Draft { mut job, request, priority_set, .. } = draft;
        job.request = Arc::new(request);
        if job.pending().is_some() {
            place::could_ever_run(state, settings, &job)?;
            if job.hold == Hold::None && !priority_set {
                job.priority = priority::priority(state, settings, &job);
            }
        }
        if job.request.rare().priority.is_some() {
            self.machine.oldest_wait = Timestamp(i64::MIN);
        }
        let limit_changed = job.limit != self.job(id).limit;
        self.emit(Record::Job(Arc::new(job)));
        if limit_changed {
            self.tell_limit(id);
        }
        self.refresh(id);
        self.machine.arm(id);
        self.out.pass_wanted = true;
        Ok(())
    }

    /// Changes the time limit of a running step.
    pub(crate) fn update_step(
        &mut self,
        id: JobId,
        step: StepId,
        changes: &Changes,
        asker: &Asker,
    ) -> Result<(), Refused> {
        let job = &self.state().jobs[&id];
        authorise::may(self.state(), self.settings(), asker, Act::Change, Some(job))?;
        let run = job.run;
        let live = job.active().and_then(|active| active.step(step)).filter(|step| !step.is_over());
        let mut changed = live.ok_or(Refused::from(Refusal::InvalidJobId))?.clone();
        // The batch script ends with the job, whatever is said of it.
        let Some(spec) = changed.spec.as_mut().map(Arc::make_mut) else { return Ok(()) };
        for (key, value) in changes {
            match key.to_ascii_lowercase().as_str() {
                "timelimit" => {
                    spec.limit =
                        limit::parse_minutes(value).map_err(|_| Refused::from(Refusal::InvalidTimeLimit))?;
                }
                _ => return Err(Refusal::NotSupported.into()),
            }
        }
        let limit = spec.limit;
        let parts = changed.nodes.iter().filter(|part| part.stage != RunStage::Ended);
        let nodes: Vec<_> = parts.map(|part| part.node).collect();
        self.emit(Record::StepCreated { job: id, step: Arc::new(changed) });
        for node in nodes {
            self.effect(Effect::ChangeLimit { node, run: RunKey { job: id, step, run }, limit });
        }
        Ok(())
    }

    /// The supervisors of a running job learn its new limit.
    fn tell_limit(&mut self, id: JobId) {
        let job = self.job(id);
        let run = job.run;
        let Some(active) = job.active() else { return };
        let limit = active.limit;
        let batch = active.steps.iter().filter(|step| step.id == StepId::Batch);
        let live: Vec<_> = batch
            .flat_map(|step| step.nodes.iter().map(move |part| (step.id, part)))
            .filter(|(_, part)| part.stage != RunStage::Ended)
            .map(|(step, part)| (part.node, RunKey { job: id, step, run }))
            .collect();
        for (node, run) in live {
            self.effect(Effect::ChangeLimit { node, run, limit });
        }
    }
}

impl Draft<'_> {
    fn change(&mut self, key: &str, value: &str) -> Result<(), Refused> {
        match key.to_ascii_lowercase().as_str() {
            "timelimit" => self.time_limit(value),
            "timemin" => self.time_min(value),
            "partition" => self.partition(value),
            "reservationname" | "reservation" => self.reservation(value),
            "numnodes" | "numnodes-list" | "minnodes" => self.nodes(value),
            "numtasks" | "numcpus" | "mincpus" | "reqcores" | "reqprocs" => {
                self.request.ntasks = Some(number(value)?);
                self.waiting()
            }
            "cpus/task" | "cpuspertask" => {
                self.request.cpus_per_task = Some(number(value)?);
                self.waiting()
            }
            "jobname" | "name" => {
                self.request.name = value.into();
                Ok(())
            }
            "comment" => self.rare(|rare| rare.comment = text(value)),
            "admincomment" | "systemcomment" => {
                self.operator()?;
                self.rare(|rare| rare.extra = text(value))
            }
            "extra" => self.rare(|rare| rare.extra = text(value)),
            "wckey" => self.rare(|rare| rare.wckey = text(value)),
            "features" => {
                self.request.constraint = text(value);
                self.waiting()
            }
            "nice" => self.nice(value),
            "sitefactor" => self.site_factor(value),
            "priority" => self.set_priority(value),
            "dependency" => self.dependency(value),
            "starttime" => {
                let wall = moment(value)?;
                // It is the job's begin time from now on, and follows the wall clock as that does.
                self.request.begin = Some(wall);
                let at = self.state.own_time(wall);
                self.waits(|pending| pending.not_before = Some(at))
            }
            "eligibletime" => {
                let at = self.state.own_time(moment(value)?);
                self.waits(|pending| pending.not_before = Some(at))
            }
            "deadline" => {
                let at = moment(value)?;
                self.operator()?;
                self.rare(|rare| rare.deadline = Some(at))
            }
            "reqnodelist" | "nodelist" => self.node_list(value, false),
            "excnodelist" => self.node_list(value, true),
            "account" => self.account(Some(value), None),
            "qos" => self.account(None, Some(value)),
            "requeue" => {
                self.job.requeue = number::<u32>(value)? != 0;
                Ok(())
            }
            "arraytaskthrottle" => self.throttle(value),
            "gres" | "trespernode" => {
                self.request.gres_per_node =
                    gres::parse_list(value).map_err(|_| Refused::from(Refusal::InvalidGres))?;
                self.waiting()
            }
            "minmemorynode" => self.memory(value, MemoryRequest::PerNode),
            "minmemorycpu" => self.memory(value, MemoryRequest::PerCpu),
            "licenses" => self.licenses(value),
            "workdir" => {
                self.request.work_dir = value.into();
                self.waiting()
            }
            "stdout" => {
                self.request.files.stdout = text(value);
                self.waiting()
            }
            "stderr" => {
                self.request.files.stderr = text(value);
                self.waiting()
            }
            "stdin" => {
                self.request.files.stdin = text(value);
                self.waiting()
            }
            "contiguous" => {
                let on = yes(value)?;
                self.waiting()?;
                if on && !self.request.rare().contiguous {
                    self.operator()?;
                }
                self.rare(|rare| rare.contiguous = on)
            }
            "oversubscribe" | "shared" => {
                self.waiting()?;
                self.operator()?;
                self.request.sharing = if yes(value)? { Sharing::Oversubscribe } else { Sharing::Default };
                Ok(())
            }
            "mincpusnode" => {
                let least = number(value)?;
                self.waiting()?;
                self.rare(|rare| rare.min_cpus_per_node = Some(least))
            }
            "mintmpdisknode" => {
                let mib = tres::parse_mib(value).ok_or(Refused::from(Refusal::NotSupported))?;
                self.waiting()?;
                self.rare(|rare| rare.tmp_mib = Some(MemoryMib(mib)))
            }
            "switches" => self.switches(value),
            "burstbuffer" => Err(Refusal::NotHere.into()),
            "mailuser" => self.rare(|rare| rare.mail_user = text(value)),
            "mailtype" => self.rare(|rare| rare.mail_type = text(value)),
            _ => Err(Refusal::NotSupported.into()),
        }
    }

    /// No limit is set that is below the least, nor a least above the limit.
    fn check_least_limit(&self) -> Result<(), Refused> {
        let before = &self.state.jobs[&self.job.id];
        let (least, was) = (self.request.rare().time_min, before.request.rare().time_min);
        let changed = (self.job.limit, least) != (before.limit, was);
        match (self.job.limit, least) {
            (Limit::After(limit), Some(least)) if changed && least > limit => {
                Err(Refusal::InvalidTimeMin.into())
            }
            _ => Ok(()),
        }
    }

    /// Only a waiting job may be changed in this way.
    fn waiting(&self) -> Result<(), Refused> {
        match self.job.phase {
            Phase::Pending(_) => Ok(()),
            Phase::Active(_) | Phase::Ended(_) => Err(Refusal::JobNotPending.into()),
        }
    }

    /// What only an operator changes.
    fn operator(&self) -> Result<(), Refused> {
        if self.level < AdminLevel::Operator { Err(Refusal::AccessDenied.into()) } else { Ok(()) }
    }

    fn rare(&mut self, change: impl FnOnce(&mut model::request::Rare)) -> Result<(), Refused> {
        change(self.request.rare_mut());
        Ok(())
    }

    fn waits(&mut self, change: impl FnOnce(&mut crate::state::job::Pending)) -> Result<(), Refused> {
        match &mut self.job.phase {
            Phase::Pending(pending) => {
                change(pending);
                Ok(())
            }
            Phase::Active(_) | Phase::Ended(_) => Err(Refusal::JobNotPending.into()),
        }
    }

    /// `Switches=COUNT[@TIME]`.
    fn switches(&mut self, value: &str) -> Result<(), Refused> {
        let (count, wait) = match value.split_once('@') {
            Some((count, wait)) => {
                let wait = limit::parse(wait).map_err(|_| Refused::from(Refusal::InvalidTimeLimit))?;
                (count, wait)
            }
            None => (value, None),
        };
        let count = number(count)?;
        self.waiting()?;
        self.rare(|rare| rare.switches = Some((count, wait)))
    }

    fn time_limit(&mut self, value: &str) -> Result<(), Refused> {
        let invalid = || Refused::from(Refusal::InvalidTimeLimit);
        let current = match (&self.job.phase, self.job.limit) {
            (Phase::Active(active), _) => active.limit,
            (_, Limit::After(limit)) => Some(limit),
            (_, Limit::Unlimited | Limit::Partition) => None,
        };
        let new = if let Some(more) = value.strip_prefix('+') {
            let more = limit::parse_minutes(more).map_err(|_| invalid())?.ok_or_else(invalid)?;
            current.map(|current| current.saturating_add(more))
        } else if let (Some(less), Some(current)) = (value.strip_prefix('-'), current) {
            let less = limit::parse_minutes(less).map_err(|_| invalid())?.ok_or_else(invalid)?;
            if less >= current {
                return Err(invalid());
            }
            Some(current.saturating_sub(less))
        } else {
            limit::parse_minutes(value).map_err(|_| invalid())?
        };
        let raised = match (current, new) {
            (Some(current), Some(new)) => new > current,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if raised && self.level < AdminLevel::Operator && !self.partition_takes(new) {
            return Err(Refusal::AccessDenied.into());
        }
        if let Phase::Active(active) = &mut self.job.phase {
            active.limit = new;
        }
        self.job.limit = new.map_or(Limit::Unlimited, Limit::After);
        self.request.time_limit = Some(new);
        Ok(())
    }

    /// The least limit of a job that waits; of one that does not it means nothing any more.
    fn time_min(&mut self, value: &str) -> Result<(), Refused> {
        let least =
            limit::parse_minutes(value).ok().flatten().ok_or(Refused::from(Refusal::InvalidTimeMin))?;
        if self.job.pending().is_some() {
            self.request.rare_mut().time_min = (least > Span::ZERO).then_some(least);
        }
        Ok(())
    }

    /// Whether the owner may raise the limit of a waiting job to this: one of its partitions takes it.
    fn partition_takes(&self, limit: Option<Span>) -> bool {
        self.job.pending().is_some()
            && self.job.partitions.iter().filter_map(|&idx| self.state.partition(idx)).any(
                |partition| match (partition.definition.max_time, limit) {
                    (None, _) => true,
                    (Some(most), Some(limit)) => limit <= most,
                    (Some(_), None) => false,
                },
            )
    }

    fn partition(&mut self, value: &str) -> Result<(), Refused> {
        self.waiting()?;
        let mut chosen: Vec<PartitionIdx> = Vec::new();
        for name in value.split(',') {
            let idx = self.state.partition_named(name);
            chosen.push(idx.ok_or(Refused::from(Refusal::InvalidPartitionName))?);
        }
        self.job.partitions = chosen.into();
        self.request.partition = Some(value.into());
        Ok(())
    }

    fn reservation(&mut self, value: &str) -> Result<(), Refused> {
        self.waiting()?;
        if !value.is_empty() {
            let (uid, account) = (self.job.owner.uid, &self.job.account);
            crate::reservation::check_access(self.state, value, uid, account)?;
        }
        self.rare(|rare| rare.reservation = text(value))
    }

    fn nodes(&mut self, value: &str) -> Result<(), Refused> {
        // A running job neither grows nor shrinks here.
        self.waiting().map_err(|_| Refused::from(Refusal::NotHere))?;
        let (least, most) = match value.split_once('-') {
            Some((least, most)) => (number(least)?, Some(number(most)?)),
            None => (number(value)?, None),
        };
        if most.is_some_and(|most| most < least) {
            return Err(Refusal::InvalidNodeCount.into());
        }
        self.request.nodes = Some((least, most));
        Ok(())
    }

    fn nice(&mut self, value: &str) -> Result<(), Refused> {
        let nice: i32 = value.parse().map_err(|_| Refused::from(Refusal::NotSupported))?;
        if nice < self.job.nice.min(0) && self.level < AdminLevel::Operator {
            return Err(Refusal::AccessDenied.into());
        }
        self.job.nice = nice;
        self.request.nice = nice;
        Ok(())
    }

    /// Only operators add to a priority in the site's name.
    fn site_factor(&mut self, value: &str) -> Result<(), Refused> {
        if self.level < AdminLevel::Operator {
            return Err(Refusal::AccessDenied.into());
        }
        self.job.site_factor = number(value)?;
        Ok(())
    }

    fn set_priority(&mut self, value: &str) -> Result<(), Refused> {
        self.waiting().map_err(|_| Refused::from(Refusal::PriorityOfRunning))?;
        let priority: u32 = number(value)?;
        if priority > 0 && self.job.hold != Hold::None && self.level < AdminLevel::Operator {
            return Err(Refusal::JobHeld.into());
        }
        let own = self.asker.uid == self.job.owner.uid;
        if self.level < AdminLevel::Operator && (!own || priority > self.job.priority) {
            return Err(Refusal::AccessDenied.into());
        }
        self.job.hold = match (priority, self.level) {
            (0, AdminLevel::None) => Hold::User,
            (0, AdminLevel::Operator | AdminLevel::Administrator) => Hold::Admin,
            _ => Hold::None,
        };
        self.job.priority = priority;
        self.request.rare_mut().priority = (priority > 0).then_some(priority);
        self.priority_set = true;
        Ok(())
    }

    fn dependency(&mut self, value: &str) -> Result<(), Refused> {
        self.waiting()?;
        if value.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("expand:")) {
            return Err(Refusal::NotHere.into());
        }
        let dependency = Dependency::parse(value).map_err(|_| Refused::from(Refusal::InvalidDependency))?;
        for term in &dependency.terms {
            let itself = term.job == self.job.id || Some(term.job) == self.job.array_id();
            let known = self.state.jobs.contains_key(&term.job) || self.state.arrays.contains_key(&term.job);
            if term.kind != DependencyKind::Singleton && (itself || !known) {
                return Err(Refusal::InvalidDependency.into());
            }
            if leads_to(self.state, term.job, self.job.id) {
                return Err(Refusal::CircularDependency.into());
            }
        }
        self.request.dependency = dependency.clone();
        self.waits(|pending| pending.dependency = dependency)
    }

    fn node_list(&mut self, value: &str, exclude: bool) -> Result<(), Refused> {
        self.waiting()?;
        let names = model::hostlist::expand(value).map_err(|_| Refused::from(Refusal::InvalidNodeName))?;
        if names.iter().any(|name| self.state.node_named(name).is_none()) {
            return Err(Refusal::InvalidNodeName.into());
        }
        let rare = self.request.rare_mut();
        let field = if exclude { &mut rare.exclude } else { &mut rare.nodelist };
        *field = text(value);
        Ok(())
    }

    fn account(&mut self, account: Option<&str>, qos: Option<&str>) -> Result<(), Refused> {
        self.waiting()?;
        if let Some(account) = account {
            self.request.account = text(account);
        }
        if let Some(qos) = qos {
            self.request.qos = text(qos);
        }
        let charge = admit::charge(self.state, self.settings, self.asker, &self.request, self.shared)?;
        self.job.account = charge.account;
        self.job.qos = charge.qos;
        self.job.association = charge.association;
        Ok(())
    }

    fn throttle(&mut self, value: &str) -> Result<(), Refused> {
        let most: u32 = number(value)?;
        match &mut self.job.array {
            ArrayRole::Waiting(waiting) => {
                waiting.throttle = (most > 0).then_some(most);
                Ok(())
            }
            ArrayRole::Element { .. } => Ok(()),
            ArrayRole::Single => Err(Refusal::NotSupported.into()),
        }
    }

    fn memory(&mut self, value: &str, per: impl FnOnce(MemoryMib) -> MemoryRequest) -> Result<(), Refused> {
        self.waiting()?;
        let mib = tres::parse_mib(value).ok_or(Refused::from(Refusal::NodeConfigUnavailable))?;
        let memory = Some(per(MemoryMib(mib)));
        self.job.memory = memory;
        self.request.memory = memory;
        Ok(())
    }

    fn licenses(&mut self, value: &str) -> Result<(), Refused> {
        self.waiting()?;
        let known = crate::licenses::is_valid(value)
            && crate::licenses::parse(value)
                .all(|(name, amount)| self.settings.licenses.get(name).is_some_and(|total| amount <= *total));
        if !known {
            return Err(Refusal::InvalidLicenses.into());
        }
        self.rare(|rare| rare.licenses = text(value))
    }
}

/// Whether `from` waits, directly or through others, for `to`.
fn leads_to(state: &State, from: JobId, to: JobId) -> bool {
    let mut open = vec![from];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Some(pending) = state.job(id).and_then(Job::pending) else { continue };
        for term in &pending.dependency.terms {
            if term.job == to {
                return true;
            }
            open.push(term.job);
        }
    }
    false
}

fn text(value: &str) -> Option<Box<str>> {
    (!value.is_empty()).then(|| value.into())
}

fn number<N: std::str::FromStr>(value: &str) -> Result<N, Refused> {
    value.parse().map_err(|_| Refused::from(Refusal::NotSupported))
}

fn yes(value: &str) -> Result<bool, Refused> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "1" | "y" | "ok" => Ok(true),
        "no" | "0" | "n" => Ok(false),
        _ => Err(Refusal::NotSupported.into()),
    }
}

/// A moment: `@` and milliseconds since 1970, as the shell hands it in after reading the user's text in
/// the local time zone.
fn moment(value: &str) -> Result<Timestamp, Refused> {
    let ms = value.strip_prefix('@').and_then(|ms| ms.parse().ok());
    ms.map(Timestamp).ok_or(Refused::from(Refusal::InvalidTimeLimit))
}
