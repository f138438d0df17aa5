//! What whole simulated clusters and random histories once found wrong in a plan, each as the smallest case that shows it.

mod small;
mod world;

use std::sync::Arc;

use model::id::{JobId, NodeIdx};
use model::time::Span;
use scheduler_core::apply::apply;
use scheduler_core::plan::Planner;
use scheduler_core::record::Record;
use scheduler_core::settings::Settings;
use scheduler_core::state::State;
use scheduler_core::state::node::Link;
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
