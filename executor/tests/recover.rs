//! What recovery makes of journal, lock and folder, case by case; without any process.

use std::fs;
use std::path::PathBuf;

use executor::agent::Fixed;
use executor::cgroup::Cgroups;
use executor::container::{Containers, Settings};
use executor::gpu::node::Gpus;
use executor::hooks::{self, Hooks};
use executor::key::Key;
use executor::launch::spares::Spares;
use executor::launch::start::prepare;
use executor::launch::user::Accounts;
use executor::recover::recover;
use executor::spool::{Known, Memory};
use executor::step::lifecycle::{State, never_begun};
use executor_supervisor::outcome::Kind;
use executor_supervisor::spec::Spec;
use executor_supervisor::{BEGUN_FILE, OUTCOME_FILE};
use model::id::StepId;

const BOOT: [u8; 16] = [1; 16];
const KEY: Key = Key { job_id: 1, step: StepId::Batch, run: 1 };

struct Place(PathBuf, Fixed);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn place(name: &str) -> Place {
    let path = std::env::temp_dir().join(format!("sluice-recover-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    let fixed = Fixed {
        propagated: executor::launch::rlimits::Propagated::ALL,
        node: "n1".to_owned(),
        hostname: "n1".to_owned(),
        commands: String::new(),
        socket: None,
        log: service::log::Log::none(),
        run_root: path.clone(),
        supervisor: PathBuf::new(),
        uid: 1,
        cgroups: Cgroups::none(),
        task_prolog: None,
        task_epilog: None,
        append: false,
        client_grace_ms: 0,
        sample_ms: 0,
        mark: "0a".to_owned(),
        mpi_default: executor::launch::mpi::Kind::None,
        pmix: None,
        boot_id: BOOT,
        spool_id: [0; 16],
        facts: proto::v1::NodeFacts::default(),
        accounts: Accounts::default(),
        spares: Spares::default(),
        containers: Containers::new(
            Settings::default(),
            &PathBuf::new(),
            &PathBuf::new(),
            &path,
            1,
            &[0; 16],
        ),
        gpus: Gpus::default(),
        job_mapping: None,
        hooks: Hooks::new(hooks::Settings::default(), &PathBuf::new(), &path.join("own"), 1),
        figures: std::sync::Arc::default(),
        conf: String::new(),
    };
    Place(path, fixed)
}

fn spec() -> Spec {
    Spec {
        job_id: 1,
        step: "batch".to_owned(),
        run: 1,
        node: "n1".to_owned(),
        uid: 1,
        gid: 1,
        ..Spec::default()
    }
}

fn memory(boot: [u8; 16], known: Option<Known>) -> Memory {
    Memory {
        epoch: 3,
        boot: Some(boot),
        runs: known.into_iter().map(|known| (KEY, known)).collect(),
        ..Memory::default()
    }
}

/// The state that comes out, with a folder whose files are these, and its lock held or free.
fn check(name: &str, memory: Memory, files: &[&str], held: bool) -> (Option<State>, bool, bool) {
    let place = place(name);
    let folder = place.0.join(KEY.folder());
    let lock = prepare(&place.0, KEY, &spec(), None, false, &Spares::default()).unwrap();
    let lock = held.then_some(lock);
    for file in files {
        let bytes = if *file == OUTCOME_FILE {
            never_begun(Kind::Exited, "file", 1).encode(&KEY.folder())
        } else {
            Vec::new()
        };
        fs::write(folder.join(file), bytes).unwrap();
    }
    let mut beginning = recover(&place.1, memory).unwrap();
    assert_eq!(beginning.epoch_seen, 3);
    let exists = folder.exists();
    drop(lock);
    (beginning.runs.remove(&KEY), beginning.held == [KEY], exists)
}

fn kind(state: Option<State>) -> Option<Kind> {
    match state {
        Some(State::Ending(outcome) | State::Ended(outcome)) => Some(outcome.kind),
        _ => None,
    }
}

#[test]
fn intended_runs() {
    let intended = || memory(BOOT, Some(Known::Intended));
    let (state, held, _) = check("held", intended(), &[BEGUN_FILE], true);
    assert!(matches!(state, Some(State::Running { marked: true, .. })) && held);
    let (state, held, _) = check("held-early", intended(), &[], true);
    assert!(matches!(state, Some(State::Running { marked: false, .. })) && held, "it may yet never begin");
    let (state, _, _) = check("outcome", intended(), &[BEGUN_FILE, OUTCOME_FILE], false);
    assert_eq!(kind(state), Some(Kind::Exited));
    let (state, _, _) = check("mark", intended(), &[BEGUN_FILE], false);
    assert_eq!(kind(state), Some(Kind::Lost));
    let (state, _, exists) = check("never", intended(), &[], false);
    assert_eq!((state, exists), (None, false), "it may be launched again");
}

#[test]
fn another_boot_means_lost_unless_the_outcome_is_whole() {
    let intended = || memory([2; 16], Some(Known::Intended));
    let (state, _, _) = check("boot-never", intended(), &[], false);
    assert_eq!(kind(state), Some(Kind::Lost), "a power cut may have taken the mark");
    let (state, _, _) = check("boot-mark", intended(), &[BEGUN_FILE], false);
    assert_eq!(kind(state), Some(Kind::Lost));
    let (state, _, _) = check("boot-outcome", intended(), &[BEGUN_FILE, OUTCOME_FILE], false);
    assert_eq!(kind(state), Some(Kind::Exited));
}

#[test]
fn runs_that_no_record_knows() {
    let (state, held, _) = check("unknown-held", memory(BOOT, None), &[BEGUN_FILE], true);
    assert!(matches!(state, Some(State::Running { .. })) && held, "shown, never ended on its own authority");
    let (state, _, exists) = check("unknown-free", memory(BOOT, None), &[], false);
    assert_eq!((state, exists), (None, false));
    let (state, _, _) = check("unknown-mark", memory(BOOT, None), &[BEGUN_FILE], false);
    assert_eq!(kind(state), Some(Kind::Lost), "it began, and nobody holds it: that is evidence");
    let (state, _, _) = check("unknown-outcome", memory(BOOT, None), &[BEGUN_FILE, OUTCOME_FILE], false);
    assert_eq!(kind(state), Some(Kind::Exited), "its outcome outlived the spool");
}

#[test]
fn what_is_over_stays_over() {
    let ended = never_begun(Kind::Cancelled, "", 9);
    let (state, _, _) = check("ended", memory(BOOT, Some(Known::Ended(ended.clone()))), &[], false);
    assert_eq!(state, Some(State::Ended(ended)));
    let (state, _, _) = check("tombstone", memory(BOOT, Some(Known::Tombstone)), &[], false);
    assert_eq!(state, Some(State::Tombstone { durable: true }));
}
