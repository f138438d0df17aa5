//! `Explain` and `WhatIf`: the production planner on a copy of what queries see, beside the daemon's work.
//!
//! The copy is made under one read lock (jobs share what is large in them); the passes run on a thread of
//! their own, a few at a time. A user sees others' jobs as queries show them: never a script or an
//! environment, and under PrivateData=jobs not which jobs they are.

use std::sync::Arc;

use model::depend::Standing;
use model::id::{JobId, TaskIndex, Uid};
use model::refusal::Refusal;
use model::time::Timestamp;
use proto::v1;
use proto::v1::what_if_request::Change;
use scheduler_core::effect::{Asker, Refused};
use scheduler_core::input::Defragment;
use scheduler_core::plan::Moves;
use scheduler_core::plan::explain::{Binding, Explanation, Outlook, PartitionView, Witness, explain};
use scheduler_core::plan::whatif::{Assumption, Comparison, Move, compare, shown_id};
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::accounts::AdminLevel;
use scheduler_core::state::job::{ArrayRole, Job};
use tokio::sync::Semaphore;
use tonic::Status;

use super::{Api, invalid};
use crate::views::Views;
use crate::wire;

/// Explanations that are worked on at a time: they take a processor each and nothing else waits for them.
static AT_ONCE: Semaphore = Semaphore::const_new(2);
/// Moves of one answer.
const MOVES_MAX: usize = 1000;

/// What the asker may see of others' jobs.
#[derive(Clone, Copy)]
struct Sight {
    /// Only this user's, where there is one.
    only_of: Option<Uid>,
}

impl Sight {
    fn of(api: &Api, asker: &Asker) -> Self {
        let private = api.configuration.private_jobs() && api.level(asker) < AdminLevel::Operator;
        Self { only_of: private.then_some(asker.uid) }
    }

    fn may_see(self, job: &Job) -> bool {
        self.only_of.is_none_or(|uid| uid == job.owner.uid)
    }
}

/// Runs `work` on a thread of its own, when its turn comes.
pub(super) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
    let turn = AT_ONCE.acquire().await.map_err(|_| super::stopping())?;
    let done = tokio::task::spawn_blocking(work).await;
    drop(turn);
    done.map_err(|error| Status::internal(error.to_string()))
}

/// Why a job waits.
///
/// # Errors
/// The daemon is stopping, or the planner asserted. A job that is not there is a refusal.
pub async fn why(api: &Api, asker: &Asker, from: v1::ExplainRequest) -> Result<v1::ExplainReply, Status> {
    let sight = Sight::of(api, asker);
    let views = Arc::clone(&api.views);
    aside(move || why_now(&views, sight, from)).await
}

fn why_now(views: &Views, sight: Sight, from: v1::ExplainRequest) -> v1::ExplainReply {
    let now = views.now();
    let view = views.read();
    let found = record(&view.state, from).filter(|job| sight.may_see(job));
    let Some(job) = found else {
        drop(view);
        let refused = Some(proto::convert::refusal::outwards(Refusal::InvalidJobId, &[]));
        return v1::ExplainReply { refused, now_ms: views.wall_of(now).0, ..v1::ExplainReply::default() };
    };
    let row = views.row(&view, job, false);
    let id = job.id;
    let waits = job.pending().is_some();
    let copy = waits.then(|| (view.state.clone(), Arc::clone(&view.settings)));
    drop(view);
    let waiting = copy.and_then(|(state, settings)| {
        // The explanation uses its copy up; names and states of witnesses come from this one.
        let told = explain(state.clone(), &settings, id, now)?;
        Some(Tell { views, state: &state, settings: &settings, sight }.explanation(id, told))
    });
    v1::ExplainReply { refused: None, now_ms: views.wall_of(now).0, job: Some(row), waiting }
}

/// The record that a number, or an element of an array, means.
fn record(state: &State, from: v1::ExplainRequest) -> Option<&Job> {
    let id = JobId(from.job_id);
    let Some(task) = from.task else { return state.job(id) };
    if let Some(element) = state.index.elements.get(&(id, TaskIndex(task))) {
        return state.job(*element);
    }
    let array = state.job(id)?;
    match &array.array {
        ArrayRole::Waiting(waiting) => waiting.tasks.contains(task).then_some(array),
        ArrayRole::Single | ArrayRole::Element { .. } => None,
    }
}

/// Turns the core's words into messages.
struct Tell<'a> {
    views: &'a Views,
    state: &'a State,
    settings: &'a Settings,
    sight: Sight,
}

impl Tell<'_> {
    fn partition(&self, idx: model::id::PartitionIdx) -> String {
        self.state.partition(idx).map_or_else(String::new, |partition| partition.definition.name.to_string())
    }

    fn outlook(&self, outlook: &Outlook) -> v1::Outlook {
        match outlook {
            Outlook::Now { nodes, partition } => v1::Outlook {
                now: true,
                start_ms: None,
                nodes: nodes.to_string(),
                partition: self.partition(*partition),
            },
            Outlook::Planned { start, nodes, partition } => v1::Outlook {
                now: false,
                start_ms: Some(self.state.wall_time(*start).0),
                nodes: nodes.to_string(),
                partition: self.partition(*partition),
            },
            Outlook::Unknown => v1::Outlook::default(),
        }
    }

    fn explanation(&self, id: JobId, told: Explanation) -> v1::Explanation {
        let licenses = told.licenses.iter().map(|need| v1::LicenseStanding {
            name: need.name.to_string(),
            wanted: need.wanted,
            used: need.used,
            total: need.total,
        });
        let changes = told.changes.iter().map(|change| v1::SingleChange {
            option: change.option.to_owned(),
            from: change.from.to_string(),
            to: change.to.to_string(),
            update: change.update.as_deref().unwrap_or_default().to_owned(),
            nodes: change.nodes.to_string(),
            partition: self.partition(change.partition),
        });
        v1::Explanation {
            reason: told.reason.text().to_owned(),
            binding: told.binding.word().to_owned(),
            words: self.words(id, &told),
            dependencies: self.dependencies(&told.binding),
            licenses: licenses.collect(),
            partitions: told.partitions.iter().map(|view| self.partition_view(view)).collect(),
            witnesses: told.witnesses.iter().map(|witness| self.witness(witness)).collect(),
            witnesses_more: told.witnesses_more,
            ahead: told.ahead,
            queued: told.queued,
            outlook: Some(self.outlook(&told.outlook)),
            lifted: told.lifted.as_ref().map(|outlook| self.outlook(outlook)),
            changes: changes.collect(),
            tried: told.tried,
            gave_up: told.gave_up,
            moves: told.moves.as_ref().map(|moves| self.moves(moves)),
        }
    }

    /// What is judged of moving smaller slices, with the jobs as the asker may see them.
    fn moves(&self, moves: &Moves) -> v1::MovesStanding {
        let enabled = self.settings.defragment;
        let (verdict, words, jobs) = match moves {
            Moves::Worth(one) => {
                let (jobs, saved) = (self.jobs(&one.moved), amounts(one));
                let words = if enabled {
                    format!("{jobs} to be requeued in the next pass: {saved}")
                } else {
                    format!("Defragment=no in sluice.conf; with yes, {jobs} to be requeued: {saved}")
                };
                ("worth", words, one.moved.clone())
            }
            Moves::Costs(one) => {
                let words =
                    format!("not worth it: with {} requeued, {}", self.jobs(&one.moved), amounts(one));
                ("costs", words, one.moved.clone())
            }
            Moves::NoRoom(moved) => {
                let words =
                    format!("{} would have to go, with no room elsewhere for so long", self.jobs(moved));
                ("no-room", words, moved.clone())
            }
            Moves::Fixed(fixed) => {
                let each = fixed.iter().map(|(job, why)| format!("{} {}", self.jobs(&[*job]), why.words()));
                let words = if fixed.is_empty() {
                    "no slice of a job that could be moved is all that is in its way".to_owned()
                } else {
                    format!("what is in its way stays: {}", each.collect::<Vec<_>>().join(", "))
                };
                ("fixed", words, fixed.iter().map(|(job, _)| *job).collect())
            }
            Moves::Behind(job) => {
                let words = format!("{} is helped first: it waits for a slice too", self.jobs(&[*job]));
                ("behind", words, vec![*job])
            }
            Moves::Underway(job) => {
                let words = format!("{} is on its way back to the queue: one at a time", self.jobs(&[*job]));
                ("underway", words, vec![*job])
            }
            Moves::Unplanned => {
                ("unplanned", "no start is promised to it that it could gain from".to_owned(), Vec::new())
            }
        };
        let (gain, cost) = match moves {
            Moves::Worth(one) | Moves::Costs(one) => (one.gain, one.cost),
            _ => (0, 0),
        };
        let seen = |id: &JobId| self.state.job(*id).is_some_and(|job| self.sight.may_see(job));
        let job_ids = jobs.iter().filter(|id| seen(id)).map(|id| id.0).collect();
        v1::MovesStanding { verdict: verdict.to_owned(), words, enabled, job_ids, gain, cost }
    }

    /// `job 3 and job 7`.
    fn jobs(&self, ids: &[JobId]) -> String {
        let seen = |id: &JobId| self.state.job(*id).filter(|job| self.sight.may_see(job));
        let name =
            |id| seen(id).map_or("a job of another user".into(), |job| format!("job {}", shown_id(job)));
        ids.iter().map(name).collect::<Vec<_>>().join(" and ")
    }

    /// The binding constraint in a sentence. The begin time is in the job's row.
    fn words(&self, id: JobId, told: &Explanation) -> String {
        let depth = self.settings.policy.depth.unwrap_or(self.settings.backfill_depth);
        let beyond = told.ahead >= depth && matches!(told.outlook, Outlook::Unknown);
        let mut words = told.binding.to_string();
        if beyond && self.state.job(id).is_some() {
            words.push_str(&format!("; {} jobs are ahead, and only {depth} are planned", told.ahead));
        }
        words
    }

    fn dependencies(&self, binding: &Binding) -> Vec<v1::DependencyStanding> {
        let Binding::Dependency { terms, .. } = binding else { return Vec::new() };
        let row = |(term, standing): &(model::depend::Term, Standing)| {
            let job = self.state.job(term.job).filter(|job| self.sight.may_see(job));
            let expected = job.and_then(Job::active).and_then(|active| active.limit_end());
            v1::DependencyStanding {
                term: term.to_string(),
                standing: match standing {
                    Standing::Fulfilled => "fulfilled",
                    Standing::Unfulfilled => "unfulfilled",
                    Standing::Failed => "failed",
                }
                .to_owned(),
                job_id: term.job.0,
                state: job.map_or_else(String::new, |job| job.state().long().to_owned()),
                expected_ms: expected.map(|at| self.state.wall_time(at).0),
            }
        };
        terms.iter().map(row).collect()
    }

    fn partition_view(&self, view: &PartitionView) -> v1::PartitionStanding {
        let causes = view.causes.iter().map(|count| {
            let names = count.nodes.iter().map(|&node| &*self.state.node(node).definition.name);
            v1::NodeCause {
                words: count.cause.words(count.nodes.len()),
                count: u32::try_from(count.nodes.len()).unwrap_or(u32::MAX),
                nodes: model::hostlist::compress_sorted(&names.collect::<Vec<_>>()),
                usable: count.cause.is_usable(),
            }
        });
        v1::PartitionStanding {
            partition: self.partition(view.partition),
            nodes: view.total,
            wanted: view.wanted,
            forbids: view.forbids.as_ref().map(|(_, words)| words.to_string()),
            causes: causes.collect(),
        }
    }

    fn witness(&self, witness: &Witness) -> v1::Witness {
        let seen = self.state.job(witness.job).filter(|job| self.sight.may_see(job));
        let held = witness.others.iter().map(|(name, count)| format!("{name}:{count}"));
        v1::Witness {
            job_id: seen.map_or(0, |job| job.id.0),
            id: seen.map_or_else(String::new, |job| shown_id(job).into()),
            user: seen.map_or_else(String::new, |job| self.views.directory().user(job.owner.uid).to_string()),
            role: witness.role.word().to_owned(),
            nodes: witness.nodes.to_string(),
            cpus: witness.cpus,
            memory_mib: witness.memory_mib,
            others: held.collect::<Vec<_>>().join(","),
            start_ms: witness.start.map(|at| self.state.wall_time(at).0),
            until_ms: witness.until.map(|at| self.state.wall_time(at).0),
        }
    }
}

/// What a move saves and costs.
fn amounts(moves: &Defragment) -> String {
    format!("{} slice-seconds of waiting saved for {} lost", moves.gain, moves.cost)
}

/// Whose planned start moves under an assumption.
///
/// # Errors
/// A message that is none; the daemon is stopping, or the planner asserted.
pub async fn what_if(api: &Api, asker: Asker, from: v1::WhatIfRequest) -> Result<v1::WhatIfReply, Status> {
    let sight = Sight::of(api, &asker);
    let change = from.change.ok_or_else(|| Status::invalid_argument("field change is missing"))?;
    let assumption = match assumption(asker, change)? {
        Ok(assumption) => assumption,
        Err(refusal) => return Ok(refuse(&Refused::from(refusal))),
    };
    let views = Arc::clone(&api.views);
    aside(move || what_if_now(&views, sight, &assumption)).await
}

fn refuse(refused: &Refused) -> v1::WhatIfReply {
    v1::WhatIfReply { refused: Some(wire::refused(refused)), ..v1::WhatIfReply::default() }
}

/// Reads the assumption.
fn assumption(asker: Asker, change: Change) -> Result<Result<Assumption, Refusal>, Status> {
    Ok(Ok(match change {
        Change::Drain(nodes) => Assumption::Drain(nodes.into()),
        Change::End(job) => Assumption::End(JobId(job)),
        Change::Priority(change) => {
            Assumption::Priority { job: JobId(change.job_id), priority: change.priority }
        }
        Change::Weight(change) => Assumption::Weight { key: change.key.into(), weight: change.weight },
        Change::Add(add) => {
            let request = add.request.ok_or_else(|| Status::invalid_argument("field request is missing"))?;
            match proto::convert::request::inwards(request) {
                Ok(request) => Assumption::Add { request: Arc::new(request), count: add.count, asker },
                Err(error) if error.field == "array" => return Ok(Err(Refusal::InvalidArray)),
                Err(error) if error.field == "dependency" => return Ok(Err(Refusal::InvalidDependency)),
                Err(error) => return Err(invalid(&error)),
            }
        }
    }))
}

fn what_if_now(views: &Views, sight: Sight, assumption: &Assumption) -> v1::WhatIfReply {
    let now = views.now();
    let (state, settings) = {
        let view = views.read();
        (view.state.clone(), Arc::clone(&view.settings))
    };
    if let Assumption::End(id) | Assumption::Priority { job: id, .. } = assumption
        && state.job(*id).is_some_and(|job| !sight.may_see(job))
    {
        return refuse(&Refused::from(Refusal::InvalidJobId));
    }
    let names: Vec<String> = state
        .partitions
        .iter()
        .map(|partition| partition.as_ref().map_or_else(String::new, |one| one.definition.name.to_string()))
        .collect();
    match compare(state, &settings, now, assumption) {
        Ok(comparison) => tell(views, sight, now, &names, comparison),
        Err(refused) => refuse(&refused),
    }
}

fn tell(
    views: &Views,
    sight: Sight,
    now: Timestamp,
    partitions: &[String],
    comparison: Comparison,
) -> v1::WhatIfReply {
    let mut reply = v1::WhatIfReply {
        now_ms: views.wall_of(now).0,
        notes: comparison.notes,
        unmoved: comparison.unmoved,
        unplanned: comparison.unplanned,
        ..v1::WhatIfReply::default()
    };
    for one in comparison.moves {
        if !one.added {
            match (start_of(&one.before), start_of(&one.after)) {
                (Some(before), Some(after)) if after < before => reply.earlier += 1,
                (Some(_), Some(_)) => reply.later += 1,
                (Some(_), None) => reply.lost += 1,
                (None, _) => reply.gained += 1,
            }
        }
        let seen = sight.only_of.is_none_or(|uid| uid == one.owner);
        if seen && reply.moves.len() < MOVES_MAX {
            reply.moves.push(outwards(views, partitions, one));
        } else {
            reply.left_out += 1;
        }
    }
    reply
}

/// When it starts; now is before any time.
fn start_of(outlook: &Outlook) -> Option<i64> {
    match outlook {
        Outlook::Now { .. } => Some(i64::MIN),
        Outlook::Planned { start, .. } => Some(start.0),
        Outlook::Unknown => None,
    }
}

fn outwards(views: &Views, partitions: &[String], one: Move) -> v1::Move {
    let outlook = |outlook: &Outlook| {
        let (now, start_ms, nodes, partition) = match outlook {
            Outlook::Now { nodes, partition } => (true, None, nodes.to_string(), Some(partition)),
            Outlook::Planned { start, nodes, partition } => {
                (false, Some(views.wall_of(*start).0), nodes.to_string(), Some(partition))
            }
            Outlook::Unknown => (false, None, String::new(), None),
        };
        let partition = partition.and_then(|idx| partitions.get(idx.0 as usize)).cloned();
        v1::Outlook { now, start_ms, nodes, partition: partition.unwrap_or_default() }
    };
    v1::Move {
        job_id: if one.added { 0 } else { one.job.0 },
        id: one.id.to_string(),
        user: views.directory().user(one.owner).to_string(),
        name: one.name.to_string(),
        partition: one.partition.to_string(),
        reason: one.reason.text().to_owned(),
        before: Some(outlook(&one.before)),
        after: Some(outlook(&one.after)),
        added: one.added,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::directory::Directory;
    use model::id::{BodyHash, BootId, Epoch, Gid, RequestKey, SpoolId};
    use model::quantity::{Cpus, MemoryMib};
    use model::request::{JobRequest, Kind};
    use scheduler_core::effect::ReplyTo;
    use scheduler_core::input::{Input, Registration, Submit};
    use scheduler_core::machine::{Machine, Outbox};
    use scheduler_core::plan::Planner;
    use scheduler_core::state::node::{NodeDefinition, Observed};
    use scheduler_core::state::partition::PartitionDefinition;

    const ALICE: Uid = Uid(2001);
    const BOB: Uid = Uid(2002);

    fn node() -> NodeDefinition {
        NodeDefinition {
            name: "n1".into(),
            hostname: "n1".into(),
            address: "n1".into(),
            port: 1,
            cpus: Cpus(4),
            boards: 1,
            sockets: 1,
            cores_per_socket: 4,
            threads_per_core: 1,
            memory: MemoryMib(1000),
            tmp_disk: MemoryMib(0),
            features: Vec::new(),
            gres: Vec::new(),
            weight: 1,
            bind: true,
        }
    }

    /// One node that a job of Bob's holds whole, and a waiting job of each user.
    fn views() -> (Views, [JobId; 3]) {
        let clock = Clock::start(Timestamp(0));
        let now = clock.now();
        let mut settings = Settings::named("test");
        settings.nodes = vec![node()];
        settings.partitions = vec![PartitionDefinition {
            nodes: vec!["n1".into()],
            is_default: true,
            ..PartitionDefinition::named("main")
        }];
        settings.def_mem_per_cpu = Some(MemoryMib(1));
        let settings = Arc::new(settings);
        let mut machine = Machine::new(State::default());
        let mut out = Outbox::default();
        machine.handle(now, Input::Owned(Epoch(1)), &mut out);
        machine.handle(now, Input::Configure(Arc::clone(&settings)), &mut out);
        let registration = Registration {
            session: 1,
            name: "n1".into(),
            boot: BootId([1; 16]),
            spool: SpoolId([1; 16]),
            runs: Vec::new(),
            observed: Arc::new(Observed::default()),
            definition: Arc::new(node()),
        };
        machine.handle(now, Input::Registered(Box::new(registration)), &mut out);
        for (key, uid) in [(1, BOB), (2, ALICE), (3, BOB)] {
            let asker = Asker { uid, gid: Gid(uid.0), name: uid.to_string().into(), groups: Arc::from([]) };
            let request = JobRequest {
                kind: Kind::Batch,
                cpus_per_task: Some(4),
                time_limit: Some(Some(model::time::Span::from_mins(10))),
                ..JobRequest::default()
            };
            let submit = Submit {
                reply: ReplyTo(key.into()),
                asker,
                key: RequestKey([key; 16]),
                request: Arc::new(request),
                script: Some(BodyHash([1; 32])),
                environment: BodyHash([2; 32]),
                alloc_sid: 1,
                test_only: false,
            };
            machine.handle(now, Input::Submit(Box::new(submit)), &mut out);
            let plan = Planner::new().pass(machine.state(), &settings, now).plan;
            machine.handle(now, Input::Plan(plan), &mut out);
        }
        let ids: Vec<JobId> = machine.state().jobs.keys().copied().collect();
        let views = Views::new(machine.into_state(), settings, Arc::new(Directory::default()), clock);
        (views, ids.try_into().expect("three jobs were made"))
    }

    #[test]
    fn witnesses_and_moves_of_others_stay_unnamed_where_jobs_are_private() {
        let (views, [running, own, others]) = views();
        let ask =
            |sight, job: JobId| why_now(&views, sight, v1::ExplainRequest { job_id: job.0, task: None });
        let open = Sight { only_of: None };
        let told = ask(open, own).waiting.expect("the job waits");
        assert_eq!((told.binding.as_str(), told.witnesses[0].job_id), ("nodes", running.0));

        let private = Sight { only_of: Some(ALICE) };
        let told = ask(private, own).waiting.expect("one's own job is explained");
        let witness = &told.witnesses[0];
        assert_eq!((witness.job_id, witness.id.as_str(), witness.user.as_str()), (0, "", ""));
        for job in [running, others, JobId(999)] {
            let reply = ask(private, job);
            let number = reply.refused.map(|refused| refused.number);
            assert_eq!(number, Some(Refusal::InvalidJobId.number()));
            assert_eq!((reply.job, reply.waiting), (None, None));
        }

        let drain = Assumption::Drain("n1".into());
        assert_eq!(what_if_now(&views, open, &drain).moves.len(), 2);
        let reply = what_if_now(&views, private, &drain);
        assert_eq!((reply.moves.len(), reply.left_out, reply.lost), (1, 1, 2));
        assert_eq!(reply.moves[0].job_id, own.0);
        assert!(what_if_now(&views, private, &Assumption::End(others)).refused.is_some());
    }
}
