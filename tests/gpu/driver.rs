//! The executor's driver on pretended cards: what is observed, made and destroyed, and what goes wrong.
#![allow(unsafe_code, reason = "the library reads its state file's name from this process's environment")]

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use executor::gpu::inventory::{Processors, compare};
use executor::gpu::node::{Gpus, PRETENDED, Sources};
use executor::gpu::nvml::Library;
use executor::gpu::{Driver, Instance, code};
use model::config::own::OwnConf;

/// The library with a machine of its own.
struct Machine {
    driver: Library,
    state: PathBuf,
    /// One state file a process: tests in one process take turns.
    _turn: MutexGuard<'static, ()>,
}

pub(crate) fn library() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let built = here.ancestors().skip(1).take(2).map(|folder| folder.join("libfake_nvml.so"));
    built.into_iter().find(|path| path.exists()).expect("the library is built with this test")
}

impl Machine {
    fn new(lines: &str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static STATE: OnceLock<PathBuf> = OnceLock::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let state = STATE.get_or_init(|| {
            let folder = std::env::temp_dir().join(format!("sluice-gpu-driver-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let state = folder.join("state");
            // SAFETY: once, under the lock, before any other thread of this test reads the environment.
            unsafe { std::env::set_var("SLUICE_FAKE_NVML", &state) };
            state
        });
        std::fs::write(state, lines).unwrap();
        let driver = Library::load(library().as_os_str()).unwrap();
        Self { driver, state: state.clone(), _turn: turn }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.state).unwrap()
    }

    fn order(&self, line: &str) {
        std::fs::write(&self.state, self.text() + line + "\n").unwrap();
    }

    fn make(&self, profile: &str, start: u32) -> Result<Instance, executor::gpu::Fault> {
        let gpu = self.driver.observe().unwrap().remove(0).unwrap();
        self.driver.create(0, gpu.profile_named(profile).unwrap(), start)
    }
}

/// A node without a configuration.
fn open(library: std::ffi::OsString) -> Gpus {
    let sources = Sources { library: Some(library), ..Sources::default() };
    Gpus::open(false, None, (None, &OwnConf::default()), &sources)
}

#[test]
fn every_card_is_observed_with_its_own_profiles() {
    for (card, names, largest) in [
        ("a100-40", ["1g.5gb", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"], 40_192),
        ("h100-80", ["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"], 81_152),
        ("b200", ["1g.23gb", "1g.45gb", "2g.45gb", "3g.90gb", "4g.90gb", "7g.180gb"], 183_359),
    ] {
        let machine = Machine::new(&format!("gpu {card} mig\n"));
        let gpu = machine.driver.observe().unwrap().remove(0).unwrap();
        for name in names {
            assert!(gpu.profile_named(name).is_some(), "{card} {name}: {:?}", gpu.profiles);
        }
        let three = gpu.profile_named(names[3]).unwrap();
        assert_eq!((three.memory_slices, three.starts.as_slice()), (4, &[0, 4][..]), "{card}");
        assert_eq!(gpu.profile_named(names[5]).unwrap().memory_mib, largest);
        assert!(gpu.profile_named(&format!("{}+me", names[0])).is_some(), "{card}");
    }
}

#[test]
fn gpus_are_counted_by_the_bus_and_never_by_minor() {
    let machine = Machine::new("gpu rtx5090\ngpu rtx5090\ngpu a100-40 mig\n");
    let all: Vec<_> = machine.driver.observe().unwrap().into_iter().map(Result::unwrap).collect();
    assert!(all.iter().map(|gpu| &gpu.pci).is_sorted());
    assert_eq!(all.iter().map(|gpu| gpu.minor).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(all.iter().map(|gpu| gpu.mig).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!((all[0].profiles.len(), all[0].memory_mib), (0, 32_607), "no MIG, and that is no error");
    assert_eq!(all[2].cpus, (16..32).collect::<Vec<_>>(), "the second NUMA node's");
}

#[test]
fn cpus_and_links_are_those_of_the_board() {
    let links = |machine: &Machine| -> Vec<Vec<u32>> {
        machine.driver.observe().unwrap().into_iter().map(|gpu| gpu.unwrap().links).collect()
    };
    // Four A100 on one board are linked with each other; a card without links and one beside them are not.
    let machine = Machine::new(&format!("{}gpu rtx5090\n", "gpu a100-40\n".repeat(4)));
    assert_eq!(links(&machine)[1], [4, 0, 4, 4, 0]);
    assert!(links(&machine)[4].is_empty());
    drop(machine);
    // Sixteen are on switches: none is nearer than another.
    let machine = Machine::new(&"gpu h100-80\n".repeat(16));
    assert!(links(&machine).iter().all(Vec::is_empty), "{:?}", links(&machine));
    let addresses = machine.driver.observe().unwrap().into_iter().map(|gpu| gpu.unwrap().pci);
    assert_eq!(addresses.collect::<std::collections::BTreeSet<_>>().len(), 16);
    drop(machine);
    let machine = Machine::new("gpu a100-40\ngpu a100-40\ngpu a100-40\ncpus 1 f0\nlink 0 2 3\nlink 2 1 1\n");
    assert_eq!(links(&machine), [vec![0, 0, 3], vec![0, 0, 1], vec![3, 1, 0]]);
    let gpu = machine.driver.observe().unwrap().remove(1).unwrap();
    assert_eq!(gpu.cpus, [4, 5, 6, 7]);
}

#[test]
fn an_instance_is_made_at_its_place_and_destroyed_alone() {
    let machine = Machine::new("gpu a100-40 mig\n");
    let upper = machine.make("3g.20gb", 4).unwrap();
    let one = machine.make("1g.5gb", 0).unwrap();
    assert_eq!((upper.start, upper.size, upper.ci), (4, 4, Some(0)));
    assert!(upper.uuid.starts_with("MIG-") && upper.uuid != one.uuid);
    assert_eq!(machine.driver.instances(0).unwrap(), [one.clone(), upper.clone()]);
    assert_eq!(machine.make("4g.20gb", 0).unwrap_err().code, code::INSUFFICIENT_RESOURCES);
    machine.driver.destroy(0, &upper).unwrap();
    machine.driver.destroy(0, &upper).unwrap();
    assert_eq!(machine.driver.instances(0).unwrap(), [one]);
    // Another one at the same place has the same id and is not the same.
    let again = machine.make("3g.20gb", 4).unwrap();
    assert_eq!(again.gi, upper.gi);
    machine.driver.destroy(0, &upper).unwrap();
    assert_eq!(machine.driver.instances(0).unwrap().len(), 2, "it is not the one that was meant");
}

#[test]
fn a_creation_that_breaks_in_the_middle_is_taken_back() {
    let machine = Machine::new("gpu h100-80 mig\nfail nvmlGpuInstanceCreateComputeInstance 999 1\n");
    let fault = machine.make("3g.40gb", 0).unwrap_err();
    assert_eq!((fault.call, fault.code), ("nvmlGpuInstanceCreateComputeInstance", 999));
    assert!(!machine.text().contains("\ngi "), "{}", machine.text());
    // Where it cannot be taken back that is said.
    machine.order("fail nvmlGpuInstanceCreateComputeInstance 999 1\nfail nvmlGpuInstanceDestroy 19 1");
    let fault = machine.make("3g.40gb", 0).unwrap_err();
    assert!(fault.text.contains("could not be taken back: nvmlGpuInstanceDestroy"), "{fault}");
    // It is seen then, and not offered: no compute instance takes it.
    let observed = machine.driver.observe().unwrap();
    let found = compare(None, (None, &OwnConf::default()), &Processors::default(), &observed, &[], &|_| None);
    assert_eq!((observed[0].as_ref().unwrap().instances.len(), found.gpus[0].instances.len()), (1, 0));
    assert!(machine.make("3g.40gb", 4).is_ok());
}

#[test]
fn a_lost_gpu_and_a_critical_error_concern_one_gpu() {
    let machine = Machine::new("gpu h200\ngpu h200 lost\ngpu h200\n");
    let observed = machine.driver.observe().unwrap();
    assert!(observed[0].is_ok() && observed[2].is_ok());
    assert_eq!(observed[1].as_ref().unwrap_err().code, code::GPU_IS_LOST);
    assert_eq!(machine.driver.errors(), []);
    machine.order("xid 2 31\nxid 0 79");
    assert_eq!(machine.driver.errors(), [(2, 31), (0, 79)]);
    assert_eq!(machine.driver.errors(), [], "each is told once");
}

#[test]
fn the_node_says_what_fails_and_that_it_pretends() {
    let machine = Machine::new("gpu h200\ngpu h200\n");
    let gpus = open(library().into_os_string());
    let faults = || gpus.shown().iter().map(|gpu| gpu.fault.to_string()).collect::<Vec<_>>();
    assert_eq!(faults(), ["", ""]);
    // A program's own error is none of the GPU's.
    machine.order("xid 0 31");
    assert_eq!(gpus.look(), (false, Vec::new()));
    machine.order("xid 1 79");
    assert!(gpus.look().0);
    assert_eq!(faults(), ["", "it reported the critical error XID 79"]);
    std::fs::write(&machine.state, "gpu h200 lost\ngpu h200\n").unwrap();
    assert!(gpus.look().0);
    assert!(faults()[0].contains("GPU is lost"), "{:?}", faults());
    let mut facts = Default::default();
    gpus.tell(&mut facts);
    assert!(facts.lacks.contains(&PRETENDED.to_owned()), "{:?}", facts.lacks);
    assert_eq!(facts.gpus.len(), 2);
}

#[test]
fn without_a_library_the_rest_of_the_node_works() {
    let missing = || std::ffi::OsString::from("/nonexistent/libnvidia-ml.so.1");
    let gpus = open(missing());
    assert!(!gpus.is_observed(), "nothing is configured: nothing is missing");
    let error = Library::load(&missing()).err().unwrap();
    assert!(error.starts_with("/nonexistent/libnvidia-ml.so.1: "), "{error}");
}
