//! What whole simulated clusters and random histories once found wrong in a plan, each as the smallest case that shows it.

mod small;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::{JobId, NodeIdx, PartitionIdx};
use model::reason::Reason;
use model::time::{Span, Timestamp};
use scheduler_core::apply::apply;
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::accounts::Qos;
use scheduler_core::state::job::Job;
use scheduler_core::state::node::Link;
use scheduler_core::state::promise::{Cause, PromiseChange};
use small::{Ask, NOW, SmallNode, cluster, started, waiting};

const ANY: SmallNode = SmallNode { cpus: 1, memory: 400, gpus: [0, 0], big: false, weight: 1 };
const ASK: Ask = Ask {
    nodes: 1,
    more_nodes: 0,
    tasks: Some(1),
    cpus: 1,
    memory: None,
    gres: None,
    big: false,
    exclusive: false,
    least: None,
    limit: 1,
};

fn settings(depth: Option<u32>) -> Settings {
    let mut settings = Settings { track_memory: true, ..Settings::named("rounds") };
    settings.policy.depth = depth;
    settings.policy.keep = true;
    settings
}

/// Equal nodes of one CPU are planned as one pool: a feature that none of them has is not there for that.
#[test]
fn a_pool_gives_nobody_a_feature_that_it_has_not() {
    let mut state = cluster(&[ANY, ANY]);
    apply(&mut state, &Record::Time(NOW));
    apply(&mut state, &Record::Job(Arc::new(waiting(1, &Ask { big: true, ..ASK }))));
    apply(&mut state, &Record::Job(Arc::new(waiting(2, &ASK))));
    for depth in [0, 1, 10] {
        let pass = Planner::new().pass(&state, &settings(Some(depth)), NOW);
        let starts: Vec<JobId> = pass.plan.starts.iter().map(|start| start.job).collect();
        assert!(!starts.contains(&JobId(1)), "depth {depth}: {starts:?}");
        let promised = pass.plan.promises.is_some_and(|planned| !planned.changes.is_empty());
        assert!(!promised, "depth {depth}");
    }
}

/// A job that asks for a GPU of any type, and runs on when a promise begins that holds one of some type, gets another.
#[test]
fn what_runs_past_a_promise_leaves_the_type_that_it_holds() {
    let mut state = cluster(&[SmallNode { cpus: 3, gpus: [1, 1], ..ANY }]);
    apply(&mut state, &Record::Time(NOW));
    let busy = Ask { cpus: 2, ..ASK };
    let runs = waiting(1, &busy);
    apply(&mut state, &Record::Job(Arc::new(runs.clone())));
    let place = scheduler_core::place::place(&state, &settings(None), &runs, model::id::PartitionIdx(0));
    apply(&mut state, &started(runs.id, place.unwrap(), NOW, busy.limit));
    let later = Ask { cpus: 2, gres: Some((Some(0), 1)), ..ASK };
    let past = Ask { gres: Some((None, 1)), limit: 9, ..ASK };
    apply(&mut state, &Record::Job(Arc::new(waiting(2, &later))));
    apply(&mut state, &Record::Job(Arc::new(waiting(3, &past))));
    let plan = Planner::new().pass(&state, &settings(Some(10)), NOW).plan;
    let promise = &plan.promises.as_ref().unwrap().changes[0];
    assert_eq!((promise.job, promise.promises[0].start), (JobId(2), NOW.saturating_add(Span::from_mins(1))));
    let [start] = &plan.starts[..] else { panic!("one starts: {plan:?}") };
    let kinds: Vec<u32> = start.allocation.iter().flat_map(|share| &share.gres).map(|one| one.kind).collect();
    assert_eq!((start.job, kinds), (JobId(3), vec![1]));
}

/// A round of planning that takes several slices: what becomes free between them is for the jobs that an earlier slice
/// found no start for, before it is for those behind them that ask for the same.
#[test]
fn what_becomes_free_between_slices_goes_to_the_first_that_asks_for_it() {
    let (first, second) = (NodeIdx(0), NodeIdx(1));
    let set = |state: &mut State, planner: &mut Planner, node: NodeIdx, link: Link| {
        let record = Record::NodeLink { node, link };
        apply(state, &record);
        planner.observe(&record);
    };
    for slices in 1..=4 {
        let mut state = cluster(&[ANY, SmallNode { cpus: 2, ..ANY }]);
        apply(&mut state, &Record::Time(NOW));
        for id in 1..=4 {
            apply(&mut state, &Record::Job(Arc::new(waiting(id, &Ask { cpus: 2, tasks: Some(1), ..ASK }))));
        }
        let mut planner = Planner::following().in_slices_of(1);
        set(&mut state, &mut planner, second, Link::Silent { since: NOW, timed_out: false });
        let settings = settings(Some(10));
        for slice in 0..slices {
            let pass = planner.pass(&state, &settings, NOW);
            assert_eq!(pass.plan.starts, [], "slice {slice}: node {first} alone is too small");
        }
        set(&mut state, &mut planner, second, Link::Up);
        let mut pass = planner.pass(&state, &settings, NOW);
        for _ in 0..10 {
            if !pass.plan.starts.is_empty() {
                break;
            }
            pass = planner.pass(&state, &settings, NOW);
        }
        let starts: Vec<JobId> = pass.plan.starts.iter().map(|start| start.job).collect();
        assert_eq!(starts, [JobId(1)], "after {slices} slices");
    }
}

/// As above, and what arrived ahead of all of them takes the whole slice that saw the node come back: those who are owed a
/// second look by that have it in the next one, before who was not looked at yet.
#[test]
fn a_slice_that_ends_early_owes_what_became_free_to_who_asked_first() {
    let second = NodeIdx(1);
    let put = |state: &mut State, planner: &mut Planner, record: Record| {
        apply(state, &record);
        planner.observe(&record);
    };
    let two = Ask { cpus: 2, tasks: Some(1), ..ASK };
    for slices in 1..=4 {
        let mut state = cluster(&[ANY, SmallNode { cpus: 2, ..ANY }]);
        let mut planner = Planner::following().in_slices_of(1);
        let link = Link::Silent { since: NOW, timed_out: false };
        put(&mut state, &mut planner, Record::Time(NOW));
        put(&mut state, &mut planner, Record::NodeLink { node: second, link });
        for id in 1..=6 {
            put(&mut state, &mut planner, Record::Job(Arc::new(waiting(id, &two))));
        }
        let settings = settings(Some(10));
        for _ in 0..slices {
            assert_eq!(planner.pass(&state, &settings, NOW).plan.starts, []);
        }
        // Ahead of all, and too large for any node.
        for id in 7..=8 {
            let mut ahead = waiting(id, &Ask { cpus: 3, ..two.clone() });
            ahead.priority += 1000;
            put(&mut state, &mut planner, Record::Job(Arc::new(ahead)));
        }
        put(&mut state, &mut planner, Record::NodeLink { node: second, link: Link::Up });
        let starts = (0..20).map(|_| planner.pass(&state, &settings, NOW).plan.starts);
        let first = starts.into_iter().find(|starts| !starts.is_empty());
        let first: Vec<JobId> = first.into_iter().flatten().map(|start| start.job).collect();
        assert_eq!(first, [JobId(1)], "after {slices} slices");
    }
}

/// A limit that held back those whom the round has been through is lifted between two slices: they are looked at again
/// before who is behind them, though no limit concerns them any more.
#[test]
fn a_limit_that_is_lifted_between_slices_lets_the_first_start_first() {
    let put = |state: &mut State, planner: &mut Planner, record: Record| {
        apply(state, &record);
        planner.observe(&record);
    };
    let limit = |most: Option<&str>| {
        let attributes = most.into_iter().map(|most| ("grpjobs".into(), most.into())).collect();
        Record::Qos("some".into(), Some(Box::new(Qos { id: 2, attributes })))
    };
    let mut lifted = 0;
    for slices in 1..=40 {
        let mut state = cluster(&[ANY, SmallNode { cpus: 2, ..ANY }]);
        let mut planner = Planner::following().in_slices_of(1);
        put(&mut state, &mut planner, Record::Time(NOW));
        put(&mut state, &mut planner, limit(Some("0")));
        let link = Link::Silent { since: NOW, timed_out: false };
        put(&mut state, &mut planner, Record::NodeLink { node: NodeIdx(1), link });
        let held = Job { qos: "some".into(), ..waiting(1, &ASK) };
        put(&mut state, &mut planner, Record::Job(Arc::new(held)));
        for id in 2..=6 {
            // Too large for the node that answers: each takes a slice.
            let large = Ask { cpus: 2, memory: Some((false, u64::from(id))), ..ASK };
            put(&mut state, &mut planner, Record::Job(Arc::new(waiting(id, &large))));
        }
        put(&mut state, &mut planner, Record::Job(Arc::new(waiting(7, &ASK))));
        let mut settings = settings(Some(10));
        settings.enforce.limits = true;
        if (0..slices).any(|_| !planner.pass(&state, &settings, NOW).plan.starts.is_empty()) {
            break;
        }
        lifted += 1;
        put(&mut state, &mut planner, limit(None));
        let starts = (0..40).map(|_| planner.pass(&state, &settings, NOW).plan.starts);
        let first = starts.into_iter().find(|starts| !starts.is_empty());
        let first: Vec<JobId> = first.into_iter().flatten().map(|start| start.job).collect();
        assert_eq!(first, [JobId(1)], "after {slices} slices");
    }
    assert!(lifted > 3, "the limit was lifted in {lifted} slices");
}

/// What a slice found no start for is not tried again by the next one, before those behind it had their turn.
#[test]
fn every_job_has_its_turn_however_small_a_slice_is() {
    let mut state = cluster(&[ANY, ANY]);
    let settings = settings(Some(1));
    let mut planner = Planner::following().in_slices_of(1);
    let put = |state: &mut State, planner: &mut Planner, record: Record| {
        apply(state, &record);
        planner.observe(&record);
    };
    put(&mut state, &mut planner, Record::Time(NOW));
    let runs = waiting(1, &Ask { limit: 9, ..ASK });
    let place = scheduler_core::place::place(&state, &settings, &runs, model::id::PartitionIdx(0)).unwrap();
    put(&mut state, &mut planner, Record::Job(Arc::new(runs.clone())));
    put(&mut state, &mut planner, started(runs.id, place, NOW, 9));
    // The first is protected and wants both nodes in nine minutes; the others, each in its own way, one for longer than that,
    // and only the last for a minute.
    put(
        &mut state,
        &mut planner,
        Record::Job(Arc::new(waiting(2, &Ask { nodes: 2, tasks: Some(2), ..ASK }))),
    );
    for id in 3..=9 {
        let long = Ask { memory: Some((false, u64::from(id))), limit: 20, ..ASK };
        put(&mut state, &mut planner, Record::Job(Arc::new(waiting(id, &long))));
    }
    put(&mut state, &mut planner, Record::Job(Arc::new(waiting(10, &ASK))));
    let whole = Planner::new().pass(&state, &settings, NOW).plan;
    assert_eq!(whole.starts.iter().map(|start| start.job).collect::<Vec<_>>(), [JobId(10)]);
    let found = (0..60).find_map(|_| {
        let mut plan = planner.pass(&state, &settings, NOW).plan;
        if let Some(promised) = plan.promises {
            let record = Record::Promises { changes: promised.changes, given_back: promised.given_back };
            put(&mut state, &mut planner, record);
        }
        plan.starts.pop()
    });
    assert_eq!(found.map(|start| start.job), Some(JobId(10)));
}

/// What was planned behind a run moves with it where programs before the job let it begin, and so end, later than planned,
/// also if that was over before the planner looked again.
#[test]
fn a_start_that_took_its_time_ends_later_in_the_plan_too() {
    let mut state = cluster(&[ANY]);
    let settings = settings(Some(10));
    let mut planner = Planner::following();
    let put = |state: &mut State, planner: &mut Planner, record: Record| {
        apply(state, &record);
        planner.observe(&record);
    };
    put(&mut state, &mut planner, Record::Time(NOW));
    for id in 1..=2 {
        put(&mut state, &mut planner, Record::Job(Arc::new(waiting(id, &ASK))));
    }
    let plan = planner.pass(&state, &settings, NOW).plan;
    let [start] = &plan.starts[..] else { panic!("one starts: {plan:?}") };
    let promised = plan.promises.expect("the other is promised a start");
    assert_eq!(promised.changes[0].promises[0].start, NOW.saturating_add(Span::from_mins(1)));
    let later = NOW.saturating_add(Span::from_secs(30));
    put(&mut state, &mut planner, started(start.job, start.allocation.clone(), later, 1));
    put(
        &mut state,
        &mut planner,
        Record::Promises { changes: promised.changes, given_back: promised.given_back },
    );
    put(&mut state, &mut planner, Record::Time(later));
    let moved = planner.pass(&state, &settings, later).plan.promises.expect("it moves");
    assert_eq!(Some(moved.clone()), Planner::new().pass(&state, &settings, later).plan.promises);
    let [change] = &moved.changes[..] else { panic!("one moves: {moved:?}") };
    assert_eq!((change.job, change.cause), (JobId(2), Cause::LimitRaised));
    assert_eq!(change.promises[0].start, later.saturating_add(Span::from_mins(1)));
}

/// Two promises of one place: a slice gave it to the first and ended before it told the second.
#[test]
fn a_promise_that_gives_way_to_one_ahead_of_it_says_so() {
    let mut state = cluster(&[SmallNode { cpus: 2, ..ANY }]);
    let settings = settings(Some(10));
    let two = Ask { cpus: 2, ..ASK };
    apply(&mut state, &Record::Time(NOW));
    let busy = waiting(3, &two);
    let place = scheduler_core::place::place(&state, &settings, &busy, model::id::PartitionIdx(0)).unwrap();
    apply(&mut state, &Record::Job(Arc::new(busy)));
    apply(&mut state, &started(JobId(3), place, NOW, 1));
    apply(&mut state, &Record::Job(Arc::new(waiting(1, &two))));
    let plan = Planner::new().pass(&state, &settings, NOW).plan;
    let first = plan.promises.expect("the one that waits is promised a start").changes.remove(0);
    apply(&mut state, &Record::Job(Arc::new(waiting(2, &two))));
    let second = PromiseChange { job: JobId(2), ..first.clone() };
    apply(&mut state, &Record::Promises { changes: vec![first, second], given_back: None });
    let changes = Planner::new().pass(&state, &settings, NOW).plan.promises.expect("one moves").changes;
    let causes: Vec<_> = changes.iter().map(|change| (change.job, change.cause)).collect();
    assert_eq!(causes, [(JobId(2), Cause::HigherPriority)]);
}

/// All that wait are told why when everything was read anew, a part of them in each slice: once the planner is done, what
/// was said last is what one that plans at once says.
#[test]
fn what_is_said_of_all_is_said_in_slices() {
    const JOBS: u32 = 3000;
    let mut state = cluster(&[SmallNode { cpus: 2, ..ANY }]);
    apply(&mut state, &Record::Time(NOW));
    for id in 1..=JOBS {
        let ask = Ask { big: id.is_multiple_of(3), ..ASK };
        apply(&mut state, &Record::Job(Arc::new(waiting(id, &ask))));
    }
    let link = Link::Silent { since: NOW, timed_out: false };
    apply(&mut state, &Record::NodeLink { node: NodeIdx(0), link });
    let settings = settings(Some(10));
    let at_once = Planner::new().pass(&state, &settings, NOW).verdicts;
    assert_eq!(at_once.len(), JOBS as usize);
    let mut planner = Planner::following().in_slices_of(1);
    for round in 0..2 {
        let (mut said, mut slices, mut most) = (std::collections::BTreeMap::new(), 0, 0);
        loop {
            let pass = planner.pass(&state, &settings, NOW);
            most = most.max(pass.verdicts.len());
            said.extend(pass.verdicts.into_iter().map(|verdict| (verdict.job, verdict)));
            slices += 1;
            assert!(slices < 1000, "it goes on and on");
            if !pass.more {
                break;
            }
        }
        assert!(most < JOBS as usize / 2, "round {round}: {most} in one slice");
        assert_eq!(said.len(), at_once.len());
        assert!(at_once.iter().all(|verdict| said.get(&verdict.job) == Some(verdict)), "round {round}");
        // What was known is freed in slices, too, when all is read anew.
        planner.observe(&Record::PartitionRemoved(model::id::PartitionIdx(9)));
    }
}

/// What others hold of a limit is told in slices to all whom it concerns; to very many of them once a second.
#[test]
fn a_limit_that_others_reached_is_told_in_slices_and_to_many_once_a_second() {
    const JOBS: u32 = 5000;
    let mut state = cluster(&[SmallNode { cpus: 4, ..ANY }]);
    let mut settings = settings(Some(1));
    settings.enforce.limits = true;
    let mut planner = Planner::following().in_slices_of(1).reading(JOBS);
    let put = |state: &mut State, planner: &mut Planner, record: Record| {
        apply(state, &record);
        planner.observe(&record);
    };
    // Starts without having been planned.
    let start = |state: &mut State, planner: &mut Planner, id: u32, qos: &str| {
        let job = Job { qos: qos.into(), ..waiting(id, &ASK) };
        let place = scheduler_core::place::place(state, &settings, &job, PartitionIdx(0)).unwrap();
        put(state, planner, Record::Job(Arc::new(job)));
        put(state, planner, started(JobId(id), place, NOW, 9));
    };
    put(&mut state, &mut planner, Record::Time(NOW));
    let attributes = [("grpjobs".into(), "1".into())].into();
    put(&mut state, &mut planner, Record::Qos("some".into(), Some(Box::new(Qos { id: 7, attributes }))));
    start(&mut state, &mut planner, 1, "");
    for id in 2..=JOBS + 1 {
        let job = Job { qos: "some".into(), ..waiting(id, &Ask { cpus: 4, ..ASK }) };
        put(&mut state, &mut planner, Record::Job(Arc::new(job)));
    }
    let mut said = BTreeMap::new();
    let mut rest = |state: &mut State, planner: &mut Planner, now: Timestamp| {
        let mut tested = 0;
        for slices in 1..1000 {
            let pass = planner.pass(state, &settings, now);
            said.extend(pass.verdicts.into_iter().map(|verdict| (verdict.job, verdict.reason)));
            if let Some(promised) = pass.plan.promises {
                let (changes, given_back) = (promised.changes, promised.given_back);
                put(state, planner, Record::Promises { changes, given_back });
            }
            tested += pass.counts.tested;
            if !pass.more {
                let limited = said.values().filter(|reason| **reason == Reason::QOSGrpJobsLimit).count();
                assert!(tested <= 2 * JOBS, "each is tested once for each change: {tested}");
                return (slices, limited, pass.wake);
            }
        }
        panic!("it goes on and on");
    };
    assert_eq!(rest(&mut state, &mut planner, NOW).1, 0, "all wait for CPUs");
    start(&mut state, &mut planner, JOBS + 2, "some");
    let (slices, limited, _) = rest(&mut state, &mut planner, NOW);
    assert_eq!((limited, slices > 5), (JOBS as usize, true), "in {slices} slices");
    start(&mut state, &mut planner, JOBS + 3, "");
    let later = NOW.saturating_add(Span::from_secs(1));
    let (slices, _, wake) = rest(&mut state, &mut planner, NOW);
    assert_eq!((slices, wake), (1, Some(later)), "they were asked just now");
    put(&mut state, &mut planner, Record::Time(later));
    let (slices, _, wake) = rest(&mut state, &mut planner, later);
    assert!(slices > 5 && wake.is_none_or(|wake| wake > later), "in {slices} slices, again at {wake:?}");
}
