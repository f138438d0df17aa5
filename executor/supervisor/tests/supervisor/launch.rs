//! What a launch finds: an earlier folder, a torn specification, a long path, a limit that does not hold.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use executor_supervisor::outcome::Kind;
use executor_supervisor::spec::{Measure, Reading};
use executor_supervisor::{BEGUN_FILE, BLANK_FILE, OUTCOME_FILE, SPEC_FILE};

use crate::code;
use crate::support::{Place, bytes, finish, spawn};

#[test]
fn a_folder_can_be_used_again() {
    let place = Place::new("again");
    let mut spec = place.batch("exit 3");
    assert_eq!(place.end(&spec).exit, code(3));
    let run = place.run();
    fs::rename(run.join(OUTCOME_FILE), run.join(BLANK_FILE)).unwrap();
    spec.run = 2;
    spec.tasks[0].arguments[2] = b"exit 4".to_vec();
    let supervisor = place.start(&spec);
    assert_eq!(supervisor.outcome().exit, code(4));
    assert!(!run.join(BLANK_FILE).exists() && !run.join(BEGUN_FILE).exists());
}

#[test]
fn a_torn_specification_starts_nothing() {
    let place = Place::new("torn");
    let whole = place.batch("touch ran").encode();
    fs::write(place.run().join(SPEC_FILE), &whole[..whole.len() - 3]).unwrap();
    assert_eq!(spawn(&place.run()).wait().unwrap().code(), Some(4));
    assert!(!place.work("ran").exists() && !place.run().join(BEGUN_FILE).exists());
}

#[test]
fn a_long_path_to_the_socket_is_no_obstacle() {
    let mut place = Place::new("long");
    let deep = place.path.join("d".repeat(120));
    fs::create_dir_all(deep.join("run")).unwrap();
    fs::create_dir(deep.join("work")).unwrap();
    for folder in [deep.clone(), deep.join("work")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let top = std::mem::replace(&mut place.path, deep);
    let supervisor = place.start(&place.step(1, "echo far"));
    let mut peer = supervisor.attach(Vec::new());
    let (heard, _) = finish(supervisor, &mut peer);
    assert_eq!(heard.text(0, 1), "far\n");
    place.path = top;
}

#[test]
fn a_limit_that_the_kernel_does_not_have_is_a_failed_launch() {
    let place = Place::new("readback");
    let file = place.work("memory.max");
    let reading = |expected: &str| Reading {
        what: "memory".to_owned(),
        path: bytes(&file),
        expected: expected.as_bytes().to_vec(),
        measure: Measure::Bytes,
    };
    fs::write(&file, "max\n").unwrap();
    let mut spec = place.batch("touch ran");
    spec.readings = vec![reading("67108864")];
    let outcome = place.end(&spec);
    assert_eq!(outcome.kind, Kind::LaunchFailed);
    let sentence = "memory.max is max, not 67108864: the kernel does not hold the step to its memory";
    assert!(outcome.detail.ends_with(sentence), "{}", outcome.detail);
    assert!(!place.work("ran").exists(), "nothing of it ran");

    let place = Place::new("readback-held");
    let mut spec = place.batch("touch ran");
    fs::write(place.work("memory.max"), "67108864\n").unwrap();
    spec.readings = vec![Reading { path: bytes(&place.work("memory.max")), ..reading("67108864") }];
    spec.told = "devices 1 program attached".to_owned();
    let outcome = place.end(&spec);
    assert_eq!(
        (outcome.kind, &*outcome.account.held),
        (Kind::Exited, "memory 64M, devices 1 program attached")
    );
}
