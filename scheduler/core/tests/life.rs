//! The life of jobs, told through the machine: what happens, in which order, to whom.

mod world;

use model::exit::ExitStatus;
use model::id::{JobId, RequestKey, RunNumber, StepId, TaskIndex};
use model::job::JobState;
use model::reason::Reason;
use model::refusal::Refusal;
use model::request::JobRequest;
use model::time::Span;

use scheduler_core::effect::{Answer, RunKey, Selector};
use scheduler_core::input::{Command, Input, OutcomeKind, Report};
use scheduler_core::state::job::ArrayRole;
use world::{ALICE, BOB, Life, ROOT, World, after, array, job, outcome, whole};

fn refusal(answer: &Answer) -> Option<Refusal> {
    match answer {
        Answer::Refused(refused) => Some(refused.refusal),
        _ => None,
    }
}

#[test]
fn a_job_runs_and_ends() {
    let mut world = World::new(1, 4);
    let id = world.submit(job());
    assert_eq!(world.state_of(id), JobState::Running);
    assert_eq!(world.nodes_of(id), "n1");
    world.exit(id, 0);
    assert_eq!(world.state_of(id), JobState::Completed);
    world.wait(Span::from_secs(299));
    assert!(world.machine.state().jobs.contains_key(&id));
    world.wait(Span::from_secs(2));
    assert!(!world.machine.state().jobs.contains_key(&id), "MinJobAge has passed");
}

#[test]
fn ids_come_round_past_what_is_held_and_runs_go_on() {
    let nodes = [world::node("n1", 4, 4000)];
    let mut settings = world::settings(&nodes);
    (settings.first_job_id, settings.max_job_id) = (10, 15);
    let mut world = World::with(settings);
    let mut told = model::array::TaskSet::from_ids([10, 11, 13]);
    let jobs: Vec<JobId> = (0..6).map(|_| world.submit(job())).collect();
    assert_eq!(jobs, [10, 11, 12, 13, 14, 15].map(JobId));
    assert_eq!(world.machine.state().id_wraps, 1);
    for id in [10, 11, 12, 13] {
        assert_eq!(world.machine.state().jobs[&JobId(id)].run, RunNumber(1));
        world.exit(JobId(id), 0);
    }
    world.input(Input::IdsHeld(Box::new(told.clone())));
    world.wait(Span::from_secs(400));
    // 12 left the memory behind what was told; the machine has noted it itself.
    assert_eq!(refusal(&world.try_submit(ALICE, job())), Some(Refusal::TooManyJobs));
    told.insert(12);
    told.remove(11);
    world.input(Input::IdsHeld(Box::new(told)));
    let reused = world.submit(job());
    assert_eq!(reused, JobId(11));
    let run = world.machine.state().jobs[&reused].run;
    assert!(run.0 > 1 << 20, "no (id, run) comes twice: {run:?}");
    // A snapshot knows the round.
    let mut again = scheduler_core::state::State::default();
    world.machine.state().to_records(|record| scheduler_core::apply::apply(&mut again, &record));
    assert_eq!(again.id_wraps, world.machine.state().id_wraps);
    assert_eq!(again.first_run(), world.machine.state().first_run());
}

#[test]
fn codes_and_signals_fail_a_job() {
    let mut world = World::new(1, 4);
    let (one, two) = (world.submit(job()), world.submit(job()));
    world.exit(one, 7);
    world.end(two, OutcomeKind::Exited, ExitStatus::from_signal(9));
    let ended = world.machine.state().jobs[&two].ended().expect("it ended");
    assert_eq!((ended.state, ended.reason), (JobState::Failed, Reason::RaisedSignal));
    assert_eq!(&*ended.detail, "9(Killed)");
    let ended = world.machine.state().jobs[&one].ended().expect("it ended");
    assert_eq!((ended.exit.code, ended.reason), (7, Reason::NonZeroExitCode));
}

#[test]
fn jobs_wait_for_room_and_start_in_order() {
    let mut world = World::new(1, 2);
    let ids: Vec<JobId> = (0..4).map(|_| world.submit(job())).collect();
    let states: Vec<JobState> = ids.iter().map(|id| world.state_of(*id)).collect();
    assert_eq!(states, [JobState::Running, JobState::Running, JobState::Pending, JobState::Pending]);
    assert_eq!(world.reasons[&ids[2]], Reason::Resources);
    assert_eq!(world.reasons[&ids[3]], Reason::Priority);
    world.exit(ids[0], 0);
    assert_eq!(world.state_of(ids[2]), JobState::Running);
    assert_eq!(world.state_of(ids[3]), JobState::Pending);
}

#[test]
fn the_same_key_gives_the_same_job() {
    let mut world = World::new(1, 2);
    let key = RequestKey([9; 16]);
    let first = world.submit_with_key(ALICE, key, job());
    assert_eq!(world.submit_with_key(ALICE, key, job()), first);
    let other = world.submit_with_key(ALICE, key, world::array("1-2"));
    assert_eq!(refusal(&other), Some(Refusal::KeyReused));
    let elsewhere = world.submit_with_key(BOB, key, job());
    assert_ne!(elsewhere, first, "a key is one user's");
    assert_eq!(world.machine.state().jobs.len(), 2);
}

#[test]
fn an_array_is_one_record_until_its_elements_start() {
    let mut world = World::new(1, 2);
    let id = world.submit(array("1-5"));
    let state = world.machine.state();
    assert_eq!(state.jobs.len(), 3, "two elements started, three wait in one record");
    let ArrayRole::Waiting(waiting) = &state.jobs[&id].array else { panic!("it waits") };
    assert_eq!(waiting.tasks.text(None), "3-5");
    for _ in 0..5 {
        let element = *world.machine.state().index.running.first().expect("an element runs");
        world.exit(element, 0);
    }
    assert_eq!(world.state_of(id), JobState::Completed, "the last element keeps the array's id");
    assert_eq!(world.machine.state().arrays[&id].ended, 5);
}

#[test]
fn a_throttle_holds_elements_back() {
    let mut world = World::new(1, 8);
    let id = world.submit(array("0-5%2"));
    assert_eq!(world.machine.state().index.running.len(), 2);
    assert_eq!(world.reasons[&id], Reason::JobArrayTaskLimit);
    let first = *world.machine.state().index.running.first().expect("an element runs");
    world.exit(first, 0);
    assert_eq!(world.machine.state().index.running.len(), 2);
}

#[test]
fn elements_are_cancelled_alone() {
    let mut world = World::new(1, 1);
    let id = world.submit(array("1-5"));
    let jobs = vec![Selector { job: id, tasks: Some(vec![TaskIndex(3), TaskIndex(9)]), step: None }];
    let cancel =
        Command::Cancel { jobs, filter: Default::default(), signal: None, batch_only: false, full: false };
    let outcomes = world.outcomes(ALICE, cancel);
    assert_eq!(outcomes[0].refused, None, "an element that is not there is passed over");
    let element = world.machine.state().index.elements[&(id, TaskIndex(3))];
    assert_eq!(world.state_of(element), JobState::Cancelled);
    let ArrayRole::Waiting(waiting) = &world.machine.state().jobs[&id].array else { panic!("it waits") };
    assert_eq!(waiting.tasks.text(None), "2,4-5");
}

#[test]
fn dependencies_are_met_or_fail() {
    for (kind, code, expected) in [
        ("afterok", 0, JobState::Running),
        ("afterok", 1, JobState::Pending),
        ("afternotok", 1, JobState::Running),
        ("afternotok", 0, JobState::Pending),
        ("afterany", 1, JobState::Running),
    ] {
        let mut world = World::new(1, 4);
        let first = world.submit(job());
        let second = world.submit(after(&format!("{kind}:{first}")));
        assert_eq!(world.state_of(second), JobState::Pending, "{kind}");
        world.exit(first, code);
        assert_eq!(world.state_of(second), expected, "{kind} after exit {code}");
        let failed = world.machine.state().jobs[&second].pending().is_some_and(|p| p.dependency_failed);
        assert_eq!(failed, expected == JobState::Pending, "{kind} after exit {code}");
    }
}

#[test]
fn after_waits_for_the_begin_and_its_delay() {
    let mut world = World::new(1, 1);
    let first = world.submit(job());
    let second = world.submit(after(&format!("after:{first}+5")));
    world.wait(Span::from_mins(4));
    assert!(!world.machine.state().jobs[&second].pending().expect("it waits").dependency.is_empty());
    world.wait(Span::from_mins(2));
    assert!(world.machine.state().jobs[&second].pending().expect("no room").dependency.is_empty());
}

#[test]
fn a_singleton_waits_for_its_namesakes() {
    let mut world = World::new(1, 4);
    let first = world.submit(job());
    let second = world.submit(after("singleton"));
    assert_eq!(world.state_of(second), JobState::Pending);
    let foreign = world.try_submit(BOB, after("singleton"));
    let Answer::Submitted { job: foreign, .. } = foreign else { panic!("accepted") };
    assert_eq!(world.state_of(foreign), JobState::Running);
    world.cancel(ALICE, first);
    world.settle();
    assert_eq!(world.state_of(second), JobState::Running);
}

#[test]
fn corresponding_elements_follow_each_other() {
    let mut world = World::new(1, 8);
    let first = world.submit(array("1-3"));
    let dependent =
        model::request::JobRequest { array: array("1-3").array, ..after(&format!("aftercorr:{first}")) };
    let second = world.submit(dependent);
    let elements: Vec<JobId> = world.machine.state().index.running.iter().copied().collect();
    assert_eq!(elements.len(), 3);
    for id in elements {
        let ArrayRole::Element { index, .. } = world.machine.state().jobs[&id].array else {
            panic!("an element")
        };
        world.exit(id, i32::from(index == TaskIndex(2)));
    }
    let state = world.machine.state();
    let of = |index| state.jobs[&state.index.elements[&(second, TaskIndex(index))]].state();
    assert_eq!([of(1), of(2), of(3)], [JobState::Running, JobState::Pending, JobState::Running]);
}

#[test]
fn held_jobs_stay_until_released() {
    let mut world = World::new(1, 4);
    let id = world.submit(model::request::JobRequest { hold: true, ..job() });
    assert_eq!(world.state_of(id), JobState::Pending);
    let refused = world.outcomes(BOB, Command::Release(vec![whole(id)]));
    assert_eq!(refused[0].refused.as_ref().map(|refused| refused.refusal), Some(Refusal::UserIdMissing));
    world.outcomes(ROOT, Command::Hold { jobs: vec![whole(id)], as_user: false });
    let refused = world.outcomes(ALICE, Command::Release(vec![whole(id)]));
    assert!(refused[0].refused.is_some(), "an administrator's hold is not the user's to take away");
    world.outcomes(ROOT, Command::Release(vec![whole(id)]));
    assert_eq!(world.state_of(id), JobState::Running);
}

#[test]
fn a_cancelled_job_completes_when_its_processes_are_gone() {
    let mut world = World::new(1, 1);
    let (id, next) = (world.submit(job()), world.submit(job()));
    let foreign = world.cancel(BOB, id);
    assert_eq!(foreign[0].refused.as_ref().map(|refused| refused.refusal), Some(Refusal::AccessDenied));
    world.cancel(ALICE, id);
    assert_eq!(world.state_of(id), JobState::Completing);
    assert_eq!(world.state_of(next), JobState::Pending, "the processes still hold the CPU");
    world.settle();
    assert_eq!(world.state_of(id), JobState::Cancelled);
    assert_eq!(world.machine.state().jobs[&id].ended().expect("it ended").exit.signal, 15);
    assert_eq!(world.state_of(next), JobState::Running);
}

#[test]
fn a_requeued_job_runs_again_after_its_wait() {
    let mut world = World::new(1, 4);
    let id = world.submit(job());
    let requeue = || Command::Requeue { jobs: vec![whole(id)], hold: false, special_exit: false };
    world.outcomes(ALICE, requeue());
    world.settle();
    assert_eq!(world.state_of(id), JobState::Pending);
    assert_eq!(world.machine.state().jobs[&id].restarts, 1);
    world.wait(Span::from_secs(121));
    assert_eq!(world.state_of(id), JobState::Running);
    assert_eq!(world.machine.state().jobs[&id].run, RunNumber(2));
    world.exit(id, 0);
    world.outcomes(ALICE, requeue());
    assert_eq!(world.state_of(id), JobState::Pending, "an ended job goes back at once");
}

#[test]
fn an_old_runs_report_changes_nothing() {
    let mut world = World::new(1, 4);
    let id = world.submit(job());
    let node = world.node("n1");
    let old = RunKey { job: id, step: StepId::Batch, run: RunNumber(1) };
    world.outcomes(ALICE, Command::Requeue { jobs: vec![whole(id)], hold: false, special_exit: false });
    world.settle();
    world.wait(Span::from_secs(121));
    let late = outcome(OutcomeKind::Exited, ExitStatus::SUCCESS, world.now);
    world.input(Input::Report { node, run: old, report: Report::Ended(Box::new(late)) });
    assert_eq!(world.state_of(id), JobState::Running);
}

/// A node whose disk is full would end one job after the other: it is drained, and nothing that it was given is lost, not
/// even a job that must not be run twice.
#[test]
fn a_node_that_can_start_nothing_is_drained_and_its_job_runs_elsewhere() {
    for requeue in [true, false] {
        let mut world = World::new(2, 4);
        let id = world.submit(JobRequest { requeue: Some(requeue), ..job() });
        let first = world.nodes_of(id);
        world.end(id, OutcomeKind::NodeUnable, ExitStatus::SUCCESS);
        world.settle();
        assert_eq!(world.state_of(id), JobState::Pending);
        let node = world.node(&first);
        let admin = &world.machine.state().node(node).admin;
        assert_eq!((admin.drain, &*admin.reason), (true, "batch job complete failure"));
        world.wait(Span::from_secs(121));
        assert_eq!(world.state_of(id), JobState::Running);
        assert_ne!(world.nodes_of(id), first, "the other node");
        world.exit(id, 0);
        assert_eq!(world.state_of(id), JobState::Completed);
    }
}

#[test]
fn the_reconciliation_table() {
    // Same boot, same spool, run absent: launched again.
    let mut world = World::new(1, 4);
    world.deaf = true;
    let id = world.submit(job());
    world.deaf = false;
    world.input(Input::Disconnected { node: world.node("n1") });
    world.register("n1", 1, 1, Vec::new());
    assert_eq!(world.launched.len(), 2);
    assert_eq!(world.launched[0], world.launched[1]);
    assert_eq!(world.state_of(id), JobState::Running);

    // New boot, run absent: lost, and back to the queue.
    world.input(Input::Disconnected { node: world.node("n1") });
    world.register("n1", 2, 1, Vec::new());
    assert_eq!(world.state_of(id), JobState::Pending);
    assert_eq!(world.machine.state().jobs[&id].restarts, 1);

    // Same boot, new spool, run absent: unknown, nothing is sent, nothing ends.
    let mut world = World::new(1, 4);
    let id = world.submit(job());
    world.input(Input::Disconnected { node: world.node("n1") });
    world.register("n1", 1, 2, Vec::new());
    assert_eq!(world.launched.len(), 1);
    assert_eq!(world.state_of(id), JobState::Running);

    // And it stays unknown when the same new spool reconnects: its processes may be alive.
    world.input(Input::Disconnected { node: world.node("n1") });
    world.register("n1", 1, 2, Vec::new());
    assert_eq!(world.launched.len(), 1);

    // A run that nobody expects is ended; an outcome that nobody expects is collected.
    let mut world = World::new(1, 4);
    let node = world.node("n1");
    let stranger = RunKey { job: JobId(77), step: StepId::Batch, run: RunNumber(3) };
    world.alive.insert((node, stranger), Life::Begun);
    world.input(Input::Disconnected { node });
    world.register("n1", 1, 1, vec![(stranger, Report::Begun { at: world.now })]);
    assert_eq!(world.alive[&(node, stranger)], Life::Stopping);
    let gone = outcome(OutcomeKind::Cancelled, ExitStatus::from_signal(15), world.now);
    world.input(Input::Report { node, run: stranger, report: Report::Ended(Box::new(gone)) });
    assert!(!world.alive.contains_key(&(node, stranger)), "acknowledged");
}

#[test]
fn a_silent_node_loses_nothing_without_evidence() {
    let mut world = World::new(1, 4);
    let id = world.submit(job());
    world.input(Input::Disconnected { node: world.node("n1") });
    world.wait(Span::from_secs(3600));
    assert_eq!(world.state_of(id), JobState::Running);
    let down = vec![("State".into(), "DOWN".into()), ("Reason".into(), "burnt".into())];
    let outcomes = world.outcomes(ROOT, Command::UpdateNodes { nodes: "n1".into(), changes: down });
    assert_eq!(outcomes[0].refused, None);
    assert_eq!(world.state_of(id), JobState::Pending, "an administrator confirms: it runs again elsewhere");
}

#[test]
fn a_node_name_has_one_spool_at_a_time() {
    let mut world = World::new(1, 4);
    let before = world.machine.state().node(world.node("n1")).incarnation;
    world.register("n1", 1, 9, Vec::new());
    assert_eq!(world.machine.state().node(world.node("n1")).incarnation, before, "the second is refused");
}

#[test]
fn requests_that_cannot_be_are_refused_and_store_nothing() {
    let mut world = World::new(2, 4);
    let before = world.records.len();
    let cases: Vec<(model::request::JobRequest, Refusal)> = vec![
        (
            model::request::JobRequest { partition: Some("nope".into()), ..job() },
            Refusal::InvalidPartitionName,
        ),
        (model::request::JobRequest { cpus_per_task: Some(5), ..job() }, Refusal::NodeConfigUnavailable),
        (after("afterok:4711"), Refusal::InvalidDependency),
        (array("1-5000"), Refusal::InvalidArray),
    ];
    for (request, expected) in cases {
        let answer = world.try_submit(ALICE, request);
        assert_eq!(refusal(&answer), Some(expected));
    }
    assert_eq!(world.records.len(), before);
}

#[test]
fn an_allocation_lasts_until_it_is_ended() {
    let mut world = World::new(1, 4);
    let id = world.submit(model::request::JobRequest { kind: model::request::Kind::Allocation, ..job() });
    assert_eq!(world.state_of(id), JobState::Running);
    let step = scheduler_core::input::StepRequest { ntasks: Some(1), ..Default::default() };
    let answer = world.command(ALICE, Command::CreateStep { job: id, step: Box::new(step.clone()) });
    assert!(matches!(answer, Answer::StepCreated { step: StepId::Number(0), .. }), "{answer:?}");
    let answer = world.command(ALICE, Command::CreateStep { job: id, step: Box::new(step) });
    assert_eq!(answer, Answer::StepMustWait, "the only CPU is the first step's");
    world.outcomes(ALICE, Command::EndAllocation { job: id, exit: ExitStatus::SUCCESS });
    assert_eq!(world.state_of(id), JobState::Completing);
    world.settle();
    assert_eq!(world.state_of(id), JobState::Completed);
}

#[test]
fn a_step_has_all_of_its_job_unless_it_asks_for_less() {
    let mut world = World::new(1, 8);
    let allocation =
        model::request::JobRequest { kind: model::request::Kind::Allocation, ntasks: Some(2), ..job() };
    // Source: Slurm 26.05 beside ours; its manual, --exact.
    for (exact, cpus_per_task, cpus) in [(false, None, 2), (true, None, 1), (false, Some(1), 1)] {
        let id = world.submit(allocation.clone());
        let step = scheduler_core::input::StepRequest {
            ntasks: Some(1),
            exact,
            cpus_per_task,
            ..Default::default()
        };
        let mut create =
            || world.command(ALICE, Command::CreateStep { job: id, step: Box::new(step.clone()) });
        let Answer::StepCreated { allocation, .. } = create() else { panic!("the first step is made") };
        assert_eq!(allocation[0].cpus.0, cpus);
        let second = create();
        assert_eq!(second == Answer::StepMustWait, cpus == 2, "{second:?}");
    }
}

#[test]
fn a_binding_of_what_is_no_gpu_is_refused_by_name() {
    let mut world = World::new(1, 4);
    let mut request = job();
    request.rare_mut().tres_bind = Some("gres/gpu:closest+gres/nic:closest".into());
    let Answer::Refused(refused) = world.try_submit(ALICE, request.clone()) else {
        panic!("it is not bound")
    };
    assert_eq!(refused.refusal, Refusal::InvalidGres);
    assert_eq!(&*refused.lines[0], "--tres-bind: \"gres/nic:closest\": only gres/gpu can be bound to tasks");
    request.rare_mut().tres_bind = Some("gres/gpu:single:2".into());
    assert!(!matches!(world.try_submit(ALICE, request), Answer::Refused(_)));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    let mut world = World::new(1, 4);
    let mut request = job();
    request.rare_mut().container_id = Some("c-1".into());
    let Answer::Refused(refused) = world.try_submit(ALICE, request) else { panic!("it would run outside") };
    assert_eq!(refused.refusal, Refusal::NotSupported);
    assert_eq!(&*refused.lines[0], "--container-id is not supported by sluice yet");
    let mut request = job();
    for (image, words) in [
        ("image.sif", "--container: \"image.sif\" is no absolute path"),
        ("instance://x", "--container: images of the kind \"instance:\" are not supported"),
    ] {
        request.rare_mut().container = Some(image.into());
        let Answer::Refused(refused) = world.try_submit(ALICE, request.clone()) else { panic!("{image}") };
        assert!(refused.lines[0].starts_with(words), "{:?}", refused.lines);
    }
    assert!(world.machine.state().jobs.is_empty());
}

#[test]
fn the_clock_of_a_job_starts_when_its_image_is_ready() {
    let mut world = World::new(1, 4);
    world.deaf = true;
    let id = world.submit(job());
    let (node, run) = world.launched[0];
    let ordered = world.now;
    for what in ["converting oci:/x", "converting oci:/x: extracting"] {
        world.input(Input::Report { node, run, report: Report::Preparing(what.into()) });
        assert_eq!(world.state_of(id), JobState::Configuring);
        let active = world.machine.state().jobs[&id].active().unwrap();
        assert_eq!((active.configuring.as_deref(), active.limit_end()), (Some(what), None));
        // Longer than its limit: nothing ends it.
        world.wait(Span::from_secs(7200));
    }
    world.input(Input::Report { node, run, report: Report::Begun { at: world.now } });
    assert_eq!(world.state_of(id), JobState::Running);
    let active = world.machine.state().jobs[&id].active().unwrap();
    assert_eq!(active.start, world.now);
    assert!(world.now > ordered.saturating_add(Span::from_secs(7200)));
    assert!(active.limit_end().is_none_or(|end| end > world.now));
    world.input(Input::Report { node, run, report: Report::Preparing("late".into()) });
    assert_eq!(world.state_of(id), JobState::Running, "a message that comes late changes nothing");
}
