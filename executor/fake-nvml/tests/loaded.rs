//! The built library, loaded as the real one is: by its path, through the header's bindings.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_uint};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlDevice_t, nvmlGpuInstance_t,
    nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t, nvmlPciInfo_t,
};

const SUCCESS: u32 = 0;

/// The library with a machine of its own, described by lines of the state file.
struct Machine {
    nvml: NvmlLib,
    state: PathBuf,
    /// The library knows one state file a process, so tests in one process take turns.
    _turn: MutexGuard<'static, ()>,
}

fn library() -> PathBuf {
    // Beside this test, or one folder up where cargo puts what was asked for by name.
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
            let folder = std::env::temp_dir().join(format!("sluice-fake-nvml-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let state = folder.join("state");
            // SAFETY: done once, under the lock, before any thread of this test reads the environment.
            unsafe { std::env::set_var("SLUICE_FAKE_NVML", &state) };
            state
        });
        std::fs::write(state, lines).unwrap();
        // SAFETY: the library is ours; loading it runs nothing.
        let nvml = unsafe { NvmlLib::new(library()) }.unwrap();
        // SAFETY: no pointers.
        assert_eq!(unsafe { nvml.nvmlInit_v2() }, SUCCESS);
        Self { nvml, state: state.clone(), _turn: turn }
    }

    fn gpu(&self, index: u32) -> Result<nvmlDevice_t, u32> {
        // SAFETY: the pointer is valid for the call.
        got(|to| unsafe { self.nvml.nvmlDeviceGetHandleByIndex_v2(index, to) })
    }

    fn text(&self, call: impl Fn(*mut c_char, c_uint) -> u32) -> Result<String, u32> {
        let mut buffer = [0; 96];
        match call(buffer.as_mut_ptr(), 96) {
            // SAFETY: the call wrote a terminated text.
            SUCCESS => Ok(unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_str().unwrap().to_owned()),
            code => Err(code),
        }
    }

    fn uuid(&self, device: nvmlDevice_t) -> Result<String, u32> {
        // SAFETY: the buffer is as long as said.
        self.text(|to, length| unsafe { self.nvml.nvmlDeviceGetUUID(device, to, length) })
    }

    fn create(
        &self,
        device: nvmlDevice_t,
        profile: u32,
        start: u32,
        size: u32,
    ) -> Result<nvmlGpuInstance_t, u32> {
        let place = nvmlGpuInstancePlacement_t { start, size };
        // SAFETY: both pointers are valid for the call.
        got(|to| unsafe {
            self.nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, profile, &raw const place, to)
        })
    }

    fn compute(&self, gi: nvmlGpuInstance_t, profile: u32) -> Result<nvmlComputeInstance_t, u32> {
        // SAFETY: the pointer is valid for the call.
        got(|to| unsafe { self.nvml.nvmlGpuInstanceCreateComputeInstance(gi, profile, to) })
    }

    fn place_of(&self, gi: nvmlGpuInstance_t) -> Result<nvmlGpuInstanceInfo_t, u32> {
        // SAFETY: the pointer is valid for the call.
        got(|to| unsafe { self.nvml.nvmlGpuInstanceGetInfo(gi, to) })
    }

    fn device_of(&self, ci: nvmlComputeInstance_t) -> Result<nvmlDevice_t, u32> {
        // SAFETY: the pointer is valid for the call.
        let about: nvmlComputeInstanceInfo_t =
            got(|to| unsafe { self.nvml.nvmlComputeInstanceGetInfo_v2(ci, to) })?;
        Ok(about.device)
    }

    fn capacity(&self, device: nvmlDevice_t, profile: u32) -> Result<u32, u32> {
        // SAFETY: the pointer is valid for the call.
        got(|to| unsafe { self.nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, profile, to) })
    }

    fn starts(&self, device: nvmlDevice_t, profile: u32) -> Vec<u32> {
        let mut places = [nvmlGpuInstancePlacement_t { start: 0, size: 0 }; 8];
        // SAFETY: there are seven placements at most, and room for eight.
        let count: Result<u32, u32> = got(|to| unsafe {
            self.nvml.nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, places.as_mut_ptr(), to)
        });
        places[..count.unwrap() as usize].iter().map(|place| place.start).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: no pointers.
        unsafe { self.nvml.nvmlShutdown() };
    }
}

/// What a call wrote, or its code.
fn got<T>(call: impl FnOnce(*mut T) -> u32) -> Result<T, u32> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    match call(value.as_mut_ptr()) {
        // SAFETY: the call succeeded, so it wrote the value; all types here are plain.
        SUCCESS => Ok(unsafe { value.assume_init() }),
        code => Err(code),
    }
}

#[test]
fn gpus_are_seen_in_pci_order_with_other_minors() {
    let machine = Machine::new("gpu h100-80 mig\ngpu h100-80\ngpu h100-80\n");
    let nvml = &machine.nvml;
    // SAFETY: pointers are valid for the calls, here and below.
    let count: u32 = got(|to| unsafe { nvml.nvmlDeviceGetCount_v2(to) }).unwrap();
    assert_eq!(count, 3);
    let mut addresses = Vec::new();
    for index in 0..3 {
        let device = machine.gpu(index).unwrap();
        // SAFETY: as above.
        let minor: u32 = got(|to| unsafe { nvml.nvmlDeviceGetMinorNumber(device, to) }).unwrap();
        assert_eq!(minor, 2 - index);
        // SAFETY: as above.
        let pci: nvmlPciInfo_t = got(|to| unsafe { nvml.nvmlDeviceGetPciInfo_v3(device, to) }).unwrap();
        addresses.push(pci.bus);
        // SAFETY: the buffer is as long as said.
        let name = machine.text(|to, length| unsafe { nvml.nvmlDeviceGetName(device, to, length) }).unwrap();
        assert_eq!(name, "NVIDIA H100 80GB HBM3");
        let uuid = std::ffi::CString::new(machine.uuid(device).unwrap()).unwrap();
        // SAFETY: the text is terminated.
        let again: nvmlDevice_t =
            got(|to| unsafe { nvml.nvmlDeviceGetHandleByUUID(uuid.as_ptr(), to) }).unwrap();
        assert_eq!(again, device);
    }
    assert!(addresses.is_sorted());
    assert_eq!(machine.gpu(3).unwrap_err(), 2);
}

#[test]
fn placements_are_the_published_ones() {
    for card in ["a100-40", "a100-80", "h100-80", "h200", "b200"] {
        let machine = Machine::new(&format!("gpu {card} mig\n"));
        let device = machine.gpu(0).unwrap();
        let listed: [(u32, u32, u32, u32, &[u32]); 7] = [
            (0, 19, 1, 7, &[0, 1, 2, 3, 4, 5, 6]),
            (7, 20, 1, 1, &[0, 1, 2, 3, 4, 5, 6]),
            (9, 15, 1, 4, &[0, 2, 4, 6]),
            (1, 14, 2, 3, &[0, 2, 4]),
            (2, 9, 3, 2, &[0, 4]),
            (3, 5, 4, 1, &[0]),
            (4, 0, 7, 1, &[0]),
        ];
        for (enumerator, id, slices, most, starts) in listed {
            // SAFETY: the pointer is valid for the call.
            let profile: nvmlGpuInstanceProfileInfo_t =
                got(|to| unsafe { machine.nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, enumerator, to) })
                    .unwrap();
            assert_eq!((profile.id, profile.sliceCount, profile.instanceCount), (id, slices, most), "{card}");
            assert_eq!(machine.starts(device, id), starts, "{card} {id}");
            assert_eq!(machine.capacity(device, id), Ok(most), "{card} {id}");
        }
    }
}

#[test]
fn instances_outlive_the_call_and_change_their_uuid() {
    let machine = Machine::new("gpu a100-80 mig\n");
    let device = machine.gpu(0).unwrap();
    let upper = machine.create(device, 9, 4, 4).unwrap();
    assert_eq!(machine.create(device, 9, 4, 4).unwrap_err(), 23, "taken: insufficient resources");
    assert_eq!(machine.create(device, 9, 2, 4).unwrap_err(), 2, "not a legal start");
    let one = machine.create(device, 19, 0, 1).unwrap();
    assert_eq!(machine.capacity(device, 5), Ok(0), "a 1g at slice 0 forbids a 4g");
    assert_eq!(machine.capacity(device, 14), Ok(1));
    let place = machine.place_of(upper).unwrap();
    assert_eq!((place.id, place.profileId, place.placement.start, place.placement.size), (2, 9, 4, 4));
    let compute = machine.compute(upper, 2).unwrap();
    assert_eq!(machine.compute(upper, 0).unwrap_err(), 23, "all compute slices are given");
    let mig = machine.device_of(compute).unwrap();
    let uuid = machine.uuid(mig).unwrap();
    assert!(uuid.starts_with("MIG-"), "{uuid}");
    // SAFETY: the buffer is as long as said; the handles are the library's.
    let name = machine.text(|to, length| unsafe { machine.nvml.nvmlDeviceGetName(mig, to, length) }).unwrap();
    assert_eq!(name, "NVIDIA A100-SXM4-80GB MIG 3g.40gb");
    // SAFETY: no pointers but handles, here and below.
    assert_eq!(unsafe { machine.nvml.nvmlGpuInstanceDestroy(upper) }, 19, "it has a compute instance");
    // SAFETY: as above.
    assert_eq!(unsafe { machine.nvml.nvmlComputeInstanceDestroy(compute) }, SUCCESS);
    // SAFETY: as above.
    assert_eq!(unsafe { machine.nvml.nvmlGpuInstanceDestroy(upper) }, SUCCESS);
    assert_eq!(machine.place_of(upper).unwrap_err(), 2, "an old handle is refused");
    let again = machine.create(device, 9, 4, 4).unwrap();
    assert_eq!(machine.place_of(again).unwrap().id, 2, "the same id as before");
    let mig = machine.device_of(machine.compute(again, 2).unwrap()).unwrap();
    assert_ne!(machine.uuid(mig).unwrap(), uuid, "another UUID than before");
    assert_eq!(machine.place_of(one).unwrap().placement.start, 0, "its neighbour is still there");
    let text = std::fs::read_to_string(&machine.state).unwrap();
    assert!(text.contains("\ngi 0 19 0 ") && text.contains("\ngi 0 9 4 "), "{text}");
}

#[test]
fn one_instance_at_most_has_the_media_engines() {
    let machine = Machine::new("gpu h200 mig\n");
    let device = machine.gpu(0).unwrap();
    machine.create(device, 20, 6, 1).unwrap();
    assert_eq!(machine.create(device, 20, 0, 1).unwrap_err(), 23);
    assert_eq!(machine.capacity(device, 20), Ok(0));
    assert_eq!(machine.capacity(device, 19), Ok(6));
}

#[test]
fn a_consumer_card_has_no_mig() {
    let machine = Machine::new("gpu rtx5090\ngpu rtx5090\ngpu rtx5090\ngpu rtx5090\n");
    let device = machine.gpu(3).unwrap();
    let (mut current, mut pending) = (0, 0);
    // SAFETY: the pointers are valid for the call.
    let code = unsafe { machine.nvml.nvmlDeviceGetMigMode(device, &raw mut current, &raw mut pending) };
    assert_eq!(code, 3);
    assert_eq!(machine.create(device, 19, 0, 1).unwrap_err(), 3);
    assert!(machine.uuid(device).unwrap().starts_with("GPU-"));
}

#[test]
fn faults_come_as_often_as_they_were_ordered() {
    let machine = Machine::new(
        "gpu h100-80 mig\ngpu h100-80 lost\nfail nvmlDeviceCreateGpuInstanceWithPlacement 999 1\n",
    );
    let device = machine.gpu(0).unwrap();
    assert_eq!(machine.create(device, 0, 0, 8).unwrap_err(), 999);
    assert!(machine.create(device, 0, 0, 8).is_ok());
    assert_eq!(machine.gpu(1).unwrap_err(), 15, "lost");
    // MIG mode cannot be left while there are instances.
    let mut activation = 0;
    // SAFETY: the pointer is valid for the call.
    let code = unsafe { machine.nvml.nvmlDeviceSetMigMode(device, 0, &raw mut activation) };
    assert_eq!(code, 19);
}

#[test]
fn a_state_that_says_nothing_known_is_no_driver() {
    let machine = Machine::new("gpu h100-80\n");
    std::fs::write(&machine.state, "gpu h100-80\ngpu voodoo\n").unwrap();
    assert_eq!(machine.gpu(0).unwrap_err(), 9);
}
