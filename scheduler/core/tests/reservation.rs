//! Reservations: who may make them, whom they keep off their nodes, when; what their jobs get.

mod world;

use model::id::JobId;
use model::job::JobState;
use model::reason::Reason;
use model::refusal::Refusal;
use model::request::JobRequest;
use model::time::{Span, Timestamp};
use scheduler_core::effect::Answer;
use scheduler_core::input::{Command, Input};
use scheduler_core::plan::Planner;
use world::{ALICE, BOB, ROOT, World, job};

fn ask(reservation: &str, minutes: i64) -> JobRequest {
    let mut request = JobRequest {
        ntasks: Some(1),
        cpus_per_task: Some(4),
        time_limit: Some(Some(Span::from_mins(minutes))),
        ..job()
    };
    if !reservation.is_empty() {
        request.rare_mut().reservation = Some(reservation.into());
    }
    request
}

/// `key=value` words; `+N` of a time is N minutes from now.
fn command(world: &World, name: &str, words: &str, create: bool) -> Command {
    let change = |word: &str| {
        let (key, value) = word.split_once('=').expect("the test writes pairs");
        let value = match (key, value.strip_prefix('+')) {
            ("starttime" | "endtime", Some(minutes)) => {
                let minutes: i64 = minutes.parse().expect("the test writes minutes");
                format!("@{}", world.now.saturating_add(Span::from_mins(minutes)).0)
            }
            _ => value.to_owned(),
        };
        (key.into(), value.into())
    };
    let changes = words.split_whitespace().map(change).collect();
    Command::UpdateReservation { name: name.into(), changes, create }
}

#[track_caller]
fn reserve(world: &mut World, name: &str, words: &str) -> Result<String, Refusal> {
    let command = command(world, name, words, true);
    let outcome = world.outcomes(ROOT, command).remove(0);
    outcome.refused.map_or(Ok(outcome.object.into()), |refused| Err(refused.refusal))
}

fn delete(world: &mut World, name: &str) -> Option<Refusal> {
    let outcome = world.outcomes(ROOT, Command::DeleteReservation(name.into())).remove(0);
    outcome.refused.map(|refused| refused.refusal)
}

fn running(world: &World, id: JobId) -> bool {
    world.state_of(id) == JobState::Running
}

/// Minutes from now to the planned start of a waiting job.
fn planned(world: &mut World, id: JobId) -> Option<i64> {
    let settings = world.machine.configuration().cloned().expect("the world is configured");
    let pass = Planner::new().pass(world.machine.state(), &settings, world.now);
    let now = world.now;
    let found = pass.verdicts.iter().find(|verdict| verdict.job == id).and_then(|one| one.planned.clone());
    world.input(Input::Plan(pass.plan));
    found.map(|planned| planned.start.since(now).as_secs() / 60)
}

const ALICES: &str = "users=alice:2001";

#[test]
fn a_job_that_would_run_into_a_reservation_waits_for_its_end() {
    let mut world = World::new(1, 4);
    reserve(&mut world, "r", &format!("starttime=+10 duration=30 nodes=n1 {ALICES}")).unwrap();
    let short = world.submit(ask("", 10));
    assert!(running(&world, short));
    world.exit(short, 0);
    let long = world.submit(ask("", 11));
    assert_eq!(world.reasons.get(&long), Some(&Reason::Resources));
    assert_eq!(planned(&mut world, long), Some(40));
    world.wait(Span::from_mins(40));
    world.submit(ask("", 1));
    assert!(running(&world, long), "the reservation is over");
    assert!(world.machine.state().reservations.is_empty());
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn its_jobs_have_its_nodes_from_its_start_to_its_end() {
    let mut world = World::new(2, 4);
    reserve(&mut world, "r", &format!("starttime=+10 duration=30 nodes=n2 {ALICES}")).unwrap();
    let early = world.submit(ask("r", 60));
    assert_eq!(world.reasons.get(&early), Some(&Reason::Reservation));
    assert_eq!(planned(&mut world, early), Some(10));
    world.wait(Span::from_mins(10));
    world.submit(JobRequest { hold: true, ..ask("", 1) });
    assert_eq!(world.nodes_of(early), "n2");
    let active = world.machine.state().jobs[&early].active().unwrap();
    assert_eq!(active.limit, Some(Span::from_mins(30)), "it is cut at the end");
    let other = world.submit(ask("", 5));
    assert_eq!(world.nodes_of(other), "n1");
    assert_eq!(delete(&mut world, "r"), Some(Refusal::ReservationBusy));
    world.exit(early, 0);
    let mut named = ask("", 5);
    named.rare_mut().nodelist = Some("n2".into());
    let named = world.submit(named);
    assert_eq!(world.reasons.get(&named), Some(&Reason::ReqNodeNotAvail));
    assert_eq!(delete(&mut world, "r"), None);
    assert!(running(&world, named));
}

#[test]
fn who_may_use_and_make_it() {
    let mut world = World::new(1, 4);
    let make = command(&world, "r", &format!("starttime=+0 duration=5 nodes=n1 {ALICES}"), true);
    let refused = world.outcomes(ALICE, make).remove(0).refused.unwrap();
    assert_eq!(refused.refusal, Refusal::UserIdMissing);
    reserve(&mut world, "r", &format!("starttime=+0 duration=5 nodes=n1 {ALICES}")).unwrap();
    let refusal = |answer| match answer {
        Answer::Refused(refused) => Some(refused.refusal),
        _ => None,
    };
    assert_eq!(refusal(world.try_submit(BOB, ask("r", 1))), Some(Refusal::ReservationAccess));
    assert_eq!(refusal(world.try_submit(ALICE, ask("s", 1))), Some(Refusal::ReservationInvalid));
    assert_eq!(refusal(world.try_submit(ALICE, ask("r", 1))), None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = World::new(2, 4);
    let mut check = |words: &str, refusal| {
        assert_eq!(reserve(&mut world, "x", &format!("{words} {ALICES}")), Err(refusal), "{words}");
    };
    check("starttime=+0 duration=5 nodes=zz", Refusal::InvalidNodeName);
    check("starttime=+5 endtime=+5 nodes=n1", Refusal::InvalidTimeValue);
    check("starttime=+-5 duration=5 nodes=n1", Refusal::InvalidTimeValue);
    check("starttime=+0 duration=5 nodecnt=3", Refusal::NodesBusy);
    check("starttime=+0 duration=5 nodes=n1 partitionname=nope", Refusal::InvalidPartitionName);
    check("starttime=+0 duration=5 nodes=n1 flags=FLEX", Refusal::NotSupported);
    assert_eq!(delete(&mut world, "x"), Some(Refusal::ReservationInvalid));
}

#[test]
fn reservations_and_jobs_in_the_way() {
    let mut world = World::new(2, 4);
    let words = |more: &str| format!("{more} {ALICES}");
    reserve(&mut world, "a", &words("starttime=+60 duration=60 nodes=n1")).unwrap();
    let over = reserve(&mut world, "b", &words("starttime=+119 duration=5 nodes=n[1-2]"));
    assert_eq!(over, Err(Refusal::ReservationOverlap));
    reserve(&mut world, "b", &words("starttime=+119 duration=5 nodes=n[1-2] flags=MAINT")).unwrap();
    let daily = reserve(&mut world, "c", &words("starttime=+0 duration=5 nodes=n1 flags=DAILY"));
    assert_eq!(daily, Ok("c".to_owned()));
    let hit = reserve(&mut world, "d", &words("starttime=+1443 duration=5 nodes=n1"));
    assert_eq!(hit, Err(Refusal::ReservationOverlap), "the daily one comes again");
    // A count takes the nodes that nothing else has then.
    assert_eq!(reserve(&mut world, "", &words("starttime=+61 duration=5 nodecnt=1")), Ok("alice_1".into()));
    assert_eq!(world.machine.state().reservations["alice_1"].nodes, [world.node("n2")]);
    let busy = world.submit(ask("", 20));
    assert_eq!(world.nodes_of(busy), "n2");
    let in_use = reserve(&mut world, "e", &words("starttime=+10 duration=5 nodes=n2"));
    assert_eq!(in_use, Err(Refusal::NodesBusy));
    let ignoring = reserve(&mut world, "e", &words("starttime=+10 duration=5 nodes=n2 flags=IGNORE_JOBS"));
    assert_eq!(ignoring, Ok("e".to_owned()));
}

#[test]
fn a_daily_one_moves_to_its_next_day() {
    let mut world = World::new(1, 4);
    reserve(&mut world, "d", &format!("starttime=+10 duration=10 nodes=n1 flags=DAILY {ALICES}")).unwrap();
    let first = world.machine.state().reservations["d"].start;
    world.wait(Span::from_mins(25));
    let moved = &world.machine.state().reservations["d"];
    assert_eq!(moved.start.since(first), Span::from_mins(24 * 60));
    // Too long for any day.
    let never = world.submit(ask("", 24 * 60));
    assert_eq!(planned(&mut world, never), None);
    let fits = world.submit(ask("", 20));
    assert!(running(&world, fits));
}

#[test]
fn a_promise_in_its_way_is_given_up() {
    let mut world = World::new(1, 4);
    let holder = world.submit(ask("", 10));
    let waits = world.submit(ask("", 30));
    assert_eq!(planned(&mut world, waits), Some(10));
    reserve(&mut world, "r", &format!("starttime=+20 duration=30 nodes=n1 {ALICES}")).unwrap();
    assert_eq!(planned(&mut world, waits), Some(50));
    assert_eq!(delete(&mut world, "r"), None);
    // The sweep that moves promises earlier comes a second later.
    world.wait(Span::from_secs(1));
    assert_eq!(planned(&mut world, waits), Some(9));
    world.exit(holder, 0);
    assert!(running(&world, waits));
}

#[test]
fn jobs_of_one_that_is_gone_say_so() {
    let mut world = World::new(1, 4);
    reserve(&mut world, "r", &format!("starttime=+5 duration=5 nodes=n1 {ALICES}")).unwrap();
    let mut held = ask("r", 1);
    held.begin = Some(Timestamp(world.now.0 + 3_600_000));
    let late = world.submit(held);
    world.wait(Span::from_mins(61));
    world.submit(JobRequest { hold: true, ..ask("", 1) });
    assert_eq!(world.reasons.get(&late), Some(&Reason::ReservationDeleted));
}
