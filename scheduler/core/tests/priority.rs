//! Priorities that grow with age, against the plain formula; run limits of QOS and associations.

mod world;

use std::sync::Arc;

use model::id::{JobId, Uid};
use model::request::JobRequest;
use model::time::{Span, Timestamp};
use proptest::prelude::*;
use scheduler_core::effect::Answer;
use scheduler_core::input::{AccountChange, Command, Input};
use scheduler_core::priority::factors;
use scheduler_core::settings::{Enforce, PriorityWeights, Settings};
use scheduler_core::state::accounts::{Account, Association, AssociationKey, Attributes, Qos, User};
use world::{ALICE, BOB, ROOT, World, job, whole};

fn with_ages(nodes: u32) -> Settings {
    let names: Vec<_> = (1..=nodes).map(|place| world::node(&format!("n{place}"), 4, 1000)).collect();
    Settings {
        weights: PriorityWeights { age: 1000, ..PriorityWeights::default() },
        multifactor: true,
        priority_max_age: Span::from_secs(100),
        priority_calc_period: Span::from_secs(10),
        ..world::settings(&names)
    }
}

/// What a job's priority is now, by the formula alone.
fn exact(world: &World, settings: &Settings, id: JobId) -> f64 {
    let state = world.machine.state();
    let job = &state.jobs[&id];
    if let Some(set) = job.request.rare().priority {
        return f64::from(set);
    }
    let since = job.pending().and_then(|pending| pending.eligible).unwrap();
    let age = world.now.since(since).as_secs() as f64 / settings.priority_max_age.as_secs() as f64;
    f64::from(factors(state, settings, job, world.now).at_rest(settings))
        + age.min(1.0) * f64::from(settings.weights.age)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    /// At every comparison the queue is in the order of the formula, whatever has grown to the full.
    #[test]
    fn the_queue_is_in_the_order_of_the_formula(
        jobs in proptest::collection::vec((0..60_i64, -600..600_i32, proptest::option::weighted(0.2, 1..1500_u32)), 2..12)
    ) {
        let settings = with_ages(1);
        let mut world = World::with(settings.clone());
        let first = world.submit(JobRequest { ntasks: Some(4), ..job() });
        for (pause, nice, set) in jobs {
            world.wait(Span::from_secs(pause));
            let mut request = JobRequest { ntasks: Some(4), ..job() };
            request.nice = nice;
            request.rare_mut().priority = set;
            let Answer::Submitted { .. } = world.try_submit(ROOT, request) else { panic!("a sound job") };
        }
        // The comparison of a turn is at a whole period behind the configuration.
        for _ in 0..30 {
            let next = world.machine.next_deadline().unwrap();
            world.wait(next.since(world.now));
            let queue: Vec<JobId> = world.machine.state().index.queue.iter().map(|key| key.job).collect();
            let all: Vec<f64> = queue.iter().map(|id| exact(&world, &settings, *id)).collect();
            for pair in all.windows(2) {
                // Ranks are in sixteenths; what is shown is whole.
                prop_assert!(pair[0] + 0.2 >= pair[1], "{all:?} of {queue:?} at {:?}", world.now);
            }
            prop_assert!(world.machine.state().check().is_empty());
        }
        let replayed = world.replayed();
        prop_assert_eq!(replayed.digest(), world.machine.state().digest());
        prop_assert!(world.machine.state().jobs[&first].active().is_some());
    }
}

#[test]
fn time_alone_writes_nothing_while_all_jobs_grow() {
    let mut world = World::with(with_ages(1));
    for _ in 0..5 {
        world.submit(JobRequest { ntasks: Some(4), ..job() });
        world.wait(Span::from_secs(5));
    }
    let (records, queue) = (world.records.len(), world.machine.state().index.queue.clone());
    world.wait(Span::from_secs(60));
    assert_eq!(world.records.len(), records, "{:?}", &world.records[records..]);
    assert_eq!(world.machine.state().index.queue, queue);
}

#[test]
fn what_users_are_shown_grows_to_the_full_weight() {
    let mut world = World::with(with_ages(1));
    world.submit(JobRequest { ntasks: Some(4), ..job() });
    let waits = world.submit(JobRequest { ntasks: Some(4), ..job() });
    let shown = |world: &World, at: Timestamp| {
        let state = world.machine.state();
        state.aging.shown(&state.jobs[&waits], at)
    };
    let submitted = world.now;
    assert_eq!(shown(&world, submitted), 1);
    assert_eq!(shown(&world, submitted.saturating_add(Span::from_secs(50))), 501);
    assert_eq!(shown(&world, submitted.saturating_add(Span::from_secs(500))), 1001);
    let hold = Command::Hold { jobs: vec![whole(waits)], as_user: false };
    world.outcomes(ALICE, hold);
    assert_eq!(shown(&world, submitted.saturating_add(Span::from_secs(50))), 0);
}

/// A cluster with accounts: alice and bob in `lab`, whose parent is `dept`.
fn accounted(changes: Vec<AccountChange>) -> World {
    let names: Vec<_> = (1..=4).map(|place| world::node(&format!("n{place}"), 4, 1000)).collect();
    let enforce = Enforce { associations: true, limits: true, qos: true };
    let mut world = World::with(Settings { enforce, ..world::settings(&names) });
    let mut all = vec![
        AccountChange::Account("dept".into(), Some(Account::default())),
        AccountChange::Account("lab".into(), Some(Account::default())),
        AccountChange::Association(key("dept", ""), Some(association("root", &[]))),
        AccountChange::Association(key("lab", ""), Some(association("dept", &[]))),
    ];
    for user in [ALICE, BOB] {
        let name = world::asker(user).name;
        let row = User { default_account: "lab".into(), ..User::default() };
        all.push(AccountChange::User((&*name).into(), Some(row)));
        all.push(AccountChange::Association(
            key("lab", &name),
            Some(association("", &[("qos", "normal,q,r")])),
        ));
    }
    all.extend(changes);
    assert_eq!(world.command(ROOT, Command::ChangeAccounts(all)), Answer::Done);
    world
}

fn key(account: &str, user: &str) -> AssociationKey {
    let cluster = world::settings(&[]).cluster;
    AssociationKey { cluster, account: account.into(), user: user.into(), partition: "".into() }
}

fn attributes(pairs: &[(&str, &str)]) -> Attributes {
    pairs.iter().map(|&(key, value)| (key.into(), value.into())).collect()
}

fn association(parent: &str, pairs: &[(&str, &str)]) -> Association {
    Association { id: 0, parent: parent.into(), attributes: attributes(pairs) }
}

fn qos(name: &str, pairs: &[(&str, &str)]) -> AccountChange {
    AccountChange::Qos(name.into(), Some(Qos { id: 0, attributes: attributes(pairs) }))
}

/// Submits requests in turn (`q:2` is two CPUs of QOS q) and names what became of the last.
#[track_caller]
fn check(changes: Vec<AccountChange>, requests: &[(Uid, &str)], expected: &str) {
    let mut world = accounted(changes);
    let mut last = String::new();
    for (user, text) in requests {
        let (qos, cpus) = text.split_once(':').unwrap();
        let request = JobRequest {
            qos: (!qos.is_empty()).then(|| qos.into()),
            ntasks: Some(cpus.parse().unwrap()),
            time_limit: Some(Some(Span::from_mins(10))),
            ..job()
        };
        last = match world.try_submit(*user, request) {
            Answer::Submitted { job, .. } => {
                world.settle();
                let runs = world.machine.state().jobs[&job].active().is_some();
                if runs { "runs".to_owned() } else { world.reasons[&job].text().to_owned() }
            }
            Answer::Refused(refused) => format!("refused {}", refused.lines.join(" ")),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(last, expected, "{requests:?}");
    let faults = world.machine.state().check();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_qos_limits_its_jobs() {
    let q = |pairs: &[(&str, &str)]| vec![qos("q", pairs)];
    check(q(&[("maxtresperuser", "cpu=4")]), &[(ALICE, "q:3"), (ALICE, "q:2")], "QOSMaxCpuPerUserLimit");
    check(q(&[("maxtresperuser", "cpu=4")]), &[(ALICE, "q:3"), (BOB, "q:2")], "runs");
    check(q(&[("maxtresperuser", "cpu=4")]), &[(ALICE, ":3"), (ALICE, "q:2")], "runs");
    check(q(&[("grptres", "cpu=4")]), &[(ALICE, "q:3"), (BOB, "q:2")], "QOSGrpCpuLimit");
    check(q(&[("grptres", "node=1")]), &[(ALICE, "q:4"), (BOB, "q:1")], "QOSGrpNodeLimit");
    check(q(&[("maxtresperaccount", "mem=300")]), &[(ALICE, "q:2"), (BOB, "q:2")], "MaxMemoryPerAccount");
    check(q(&[("maxtresperjob", "cpu=2")]), &[(ALICE, "q:3")], "QOSMaxCpuPerJobLimit");
    check(q(&[("mintresperjob", "cpu=2")]), &[(ALICE, "q:1")], "QOSMinCpuNotSatisfied");
    check(q(&[("maxjobsperuser", "1")]), &[(ALICE, "q:1"), (ALICE, "q:1")], "QOSMaxJobsPerUserLimit");
    check(q(&[("grpjobs", "1")]), &[(ALICE, "q:1"), (BOB, "q:1")], "QOSGrpJobsLimit");
    check(q(&[("maxjobsperaccount", "1")]), &[(ALICE, "q:1"), (BOB, "q:1")], "MaxJobsPerAccount");
    check(q(&[("maxwall", "5")]), &[(ALICE, "q:1")], "QOSMaxWallDurationPerJobLimit");
    let denies = |pairs: &[(&str, &str)]| q(&[pairs, &[("flags", "DenyOnLimit")]].concat());
    check(denies(&[("maxtresperuser", "cpu=4")]), &[(ALICE, "q:5")], "refused QOSMaxCpuPerUserLimit");
    check(denies(&[("maxtresperuser", "cpu=4")]), &[(ALICE, "q:3"), (ALICE, "q:2")], "QOSMaxCpuPerUserLimit");
    check(
        q(&[("maxsubmitjobsperuser", "1")]),
        &[(ALICE, "q:1"), (ALICE, "q:1")],
        "refused QOSMaxSubmitJobPerUserLimit",
    );
    check(q(&[("maxsubmitjobsperuser", "1")]), &[(ALICE, "q:1"), (BOB, "q:1")], "runs");
    check(q(&[("grpsubmitjobs", "1")]), &[(ALICE, "q:1"), (BOB, "q:1")], "refused QOSGrpSubmitJobsLimit");
}

#[test]
fn an_association_limits_its_jobs_and_those_below() {
    let lab = |pairs: &[(&str, &str)]| {
        vec![AccountChange::Association(key("lab", ""), Some(association("dept", pairs)))]
    };
    let dept = |pairs: &[(&str, &str)]| {
        vec![AccountChange::Association(key("dept", ""), Some(association("root", pairs)))]
    };
    check(dept(&[("grptres", "cpu=4")]), &[(ALICE, ":3"), (BOB, ":2")], "AssocGrpCpuLimit");
    check(lab(&[("grpjobs", "1")]), &[(ALICE, ":1"), (BOB, ":1")], "AssocGrpJobsLimit");
    // MaxJobs of an account is each user's own limit.
    check(lab(&[("maxjobs", "1")]), &[(ALICE, ":1"), (BOB, ":1")], "runs");
    check(lab(&[("maxjobs", "1")]), &[(ALICE, ":1"), (ALICE, ":1")], "AssocMaxJobsLimit");
    check(lab(&[("maxwall", "5")]), &[(ALICE, ":1")], "AssocMaxWallDurationPerJobLimit");
    check(lab(&[("maxtresperjob", "cpu=2")]), &[(ALICE, ":3")], "AssocMaxCpuPerJobLimit");
    check(lab(&[("maxsubmitjobs", "1")]), &[(ALICE, ":1"), (ALICE, ":1")], "refused AssocMaxSubmitJobLimit");
    check(dept(&[("grpsubmitjobs", "1")]), &[(ALICE, ":1"), (BOB, ":1")], "refused AssocGrpSubmitJobsLimit");
    // The QOS's limit hides the account's of the same kind.
    let both = |wall: &str| [lab(&[("maxwall", "5")]), vec![qos("q", &[("maxwall", wall)])]].concat();
    check(both("20"), &[(ALICE, "q:1")], "runs");
}

#[test]
fn limits_in_minutes_that_jobs_may_still_run() {
    let q = |pairs: &[(&str, &str)]| vec![qos("q", pairs)];
    // Each job may run for ten minutes.
    check(q(&[("grptresrunmins", "cpu=25")]), &[(ALICE, "q:1"), (BOB, "q:2")], "QOSGrpCPURunMinutesLimit");
    check(q(&[("grptresrunmins", "cpu=30")]), &[(ALICE, "q:1"), (BOB, "q:2")], "runs");
    check(q(&[("grptresrunmins", "node=15")]), &[(ALICE, "q:1"), (BOB, "q:1")], "QOSGrpNodeRunMinutes");
    check(q(&[("maxtresmins", "cpu=15")]), &[(ALICE, "q:2")], "QOSMaxCpuMinutesPerJobLimit");
    check(q(&[("maxtresmins", "cpu=15"), ("usagefactor", "0.5")]), &[(ALICE, "q:2")], "runs");
    let dept = |pairs: &[(&str, &str)]| {
        vec![AccountChange::Association(key("dept", ""), Some(association("root", pairs)))]
    };
    check(dept(&[("grptresrunmins", "cpu=25")]), &[(ALICE, ":1"), (BOB, ":2")], "AssocGrpCPURunMinutesLimit");
    check(dept(&[("maxtresmins", "mem=999")]), &[(ALICE, ":1")], "AssocMaxMemMinutesPerJob");
    // The QOS's limit hides the account's of the same TRES.
    let both = [dept(&[("maxtresmins", "cpu=5")]), q(&[("maxtresmins", "cpu=20")])].concat();
    check(both, &[(ALICE, "q:2")], "runs");
}

#[test]
fn minutes_that_are_used_up_stay_so() {
    for (limit, factor, reason) in [
        (("grptresmins", "cpu=10"), "1", Some("QOSGrpCPUMinutesLimit")),
        (("grptresmins", "cpu=10"), "0.4", None),
        (("grptresmins", "cpu=11"), "1", None),
        (("grpwall", "5"), "1", Some("QOSGrpWallLimit")),
        (("grpwall", "6"), "1", None),
    ] {
        let mut world = accounted(vec![qos("q", &[limit, ("usagefactor", factor)])]);
        let request = || JobRequest { qos: Some("q".into()), ntasks: Some(2), ..job() };
        let first = world.submit(request());
        world.wait(Span::from_mins(5));
        world.exit(first, 0);
        let second = world.submit(request());
        let runs = world.machine.state().jobs[&second].active().is_some();
        let said = (!runs).then(|| world.reasons[&second].text());
        assert_eq!(said, reason, "{limit:?} {factor}");
        let replayed = world.replayed();
        assert_eq!(replayed.spending, world.machine.state().spending);
        assert!(!replayed.spending.qos.is_empty() && !replayed.spending.associations.is_empty());
    }
}

#[test]
fn minutes_that_become_less_let_the_next_job_start() {
    let mut world = accounted(vec![qos("q", &[("grptresrunmins", "cpu=15")])]);
    let request =
        || JobRequest { qos: Some("q".into()), time_limit: Some(Some(Span::from_mins(10))), ..job() };
    world.submit(request());
    let second = world.submit(request());
    assert_eq!(world.reasons[&second].text(), "QOSGrpCPURunMinutesLimit");
    let settings = world.machine.configuration().cloned().unwrap();
    let pass = scheduler_core::plan::Planner::new().pass(world.machine.state(), &settings, world.now);
    let wake = pass.wake.expect("it is looked at again when time has passed");
    assert_eq!(wake.since(world.now), Span::from_mins(1));
    world.wait(Span::from_mins(5));
    world.submit(JobRequest { hold: true, ..job() });
    assert!(world.machine.state().jobs[&second].active().is_some());
}

#[test]
fn a_limit_that_is_lifted_lets_the_job_start() {
    let mut world = accounted(vec![qos("q", &[("maxtresperuser", "cpu=2")])]);
    let request = |cpus| JobRequest { qos: Some("q".into()), ntasks: Some(cpus), ..job() };
    let first = world.submit(request(2));
    let second = world.submit(request(1));
    assert!(world.machine.state().jobs[&second].pending().is_some());
    world.exit(first, 0);
    assert!(world.machine.state().jobs[&second].active().is_some());
    let third = world.submit(request(2));
    assert!(world.machine.state().jobs[&third].pending().is_some());
    world.command(ROOT, Command::ChangeAccounts(vec![qos("q", &[])]));
    assert!(world.machine.state().jobs[&third].active().is_some());
}

#[test]
fn weights_that_change_order_the_queue_anew() {
    let settings = with_ages(1);
    let mut world = World::with(settings.clone());
    world.submit(JobRequest { ntasks: Some(4), ..job() });
    let large = world.submit(JobRequest { ntasks: Some(4), nice: 5, ..job() });
    let small =
        world.submit(JobRequest { ntasks: Some(1), time_limit: Some(Some(Span::from_mins(1))), ..job() });
    let first = |world: &World| world.machine.state().index.queue.first().unwrap().job;
    assert_eq!(first(&world), large, "no priority is below 1, and it came first");
    let mut weighted = settings;
    weighted.weights.job_size = 1000;
    weighted.priority_rules.favor_small = true;
    world.input(Input::Configure(Arc::new(weighted)));
    assert_eq!(first(&world), small);
}
