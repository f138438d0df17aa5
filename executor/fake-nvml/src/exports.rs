//! The C functions, by the names and types of `nvml.h`.
//!
//! Each holds the state file's lock, answers an injected fault or takes an injected delay, works on the state
//! in memory and writes it back where it changed. Pointers are used here only: an argument that is null is
//! refused, and that others are valid for the header's types is the caller's promise, as with the real library.
#![allow(unsafe_code)]
#![allow(non_snake_case, reason = "the names are the header's")]

use std::ffi::{CStr, c_char, c_uint, c_ulong, c_ulonglong};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_st,
    nvmlComputeInstanceProfileInfo_t, nvmlDevice_t, nvmlDeviceAttributes_t, nvmlEventData_t, nvmlEventSet_t,
    nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t,
    nvmlUtilization_t,
};

use crate::card::Profile;
use crate::device::{Answer, Handle, code};
use crate::state::{ComputeInstance, GpuInstance, Held, State};

/// `nvmlEventTypeXidCriticalError`.
const XID_CRITICAL: c_ulonglong = 8;
/// Stands for the only set of events.
const EVENT_SET: usize = 0xe5;

/// How often `nvmlInit` was called and not undone.
static USERS: AtomicU32 = AtomicU32::new(0);

/// Runs a call on the state file.
fn call(function: &str, work: impl FnOnce(&mut State) -> Answer<()>) -> nvmlReturn_t {
    let Some(path) = std::env::var_os("SLUICE_FAKE_NVML").map(PathBuf::from) else {
        return code::DRIVER_NOT_LOADED;
    };
    if USERS.load(Ordering::Acquire) == 0 && !function.starts_with("nvmlInit") {
        return code::UNINITIALIZED;
    }
    let Ok(held) = Held::wait(&path) else { return code::DRIVER_NOT_LOADED };
    let Ok(mut state) = held.read() else { return code::DRIVER_NOT_LOADED };
    let before = state.text();
    let delay = state.delays.iter().find(|(name, _)| name == function).map(|(_, ms)| *ms);
    if let Some(ms) = delay {
        std::thread::sleep(Duration::from_millis(ms));
    }
    let answer = match state.fault(function) {
        Some(code) => Err(code),
        None => work(&mut state),
    };
    if state.text() != before && held.write(&state).is_err() {
        return code::UNKNOWN;
    }
    answer.err().unwrap_or(code::SUCCESS)
}

/// Writes an answer where the caller wants it.
fn put<T>(to: *mut T, value: T) -> Answer<()> {
    if to.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: not null; the caller promises that it points to room for the header's type.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes a text with its terminating zero into `length` bytes.
fn put_text(to: *mut c_char, length: c_uint, text: &str) -> Answer<()> {
    if to.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    if text.len() + 1 > length as usize {
        return Err(code::INSUFFICIENT_SIZE);
    }
    for (at, byte) in text.bytes().chain([0]).enumerate() {
        // SAFETY: `at` is below `length`, for which the caller promises room.
        unsafe { to.add(at).write(byte as c_char) };
    }
    Ok(())
}

/// Writes a list into an array that the caller has made large enough, and its length.
fn put_list<T: Copy>(to: *mut T, count: *mut c_uint, list: &[T]) -> Answer<()> {
    if !to.is_null() {
        for (at, &value) in list.iter().enumerate() {
            // SAFETY: the header asks for an array of as many as there can be.
            unsafe { to.add(at).write(value) };
        }
    }
    put(count, list.len() as c_uint)
}

/// A text in a field of fixed size, cut if it must be.
fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut field = [0; N];
    for (to, byte) in field[..N - 1].iter_mut().zip(text.bytes()) {
        *to = byte as c_char;
    }
    field
}

/// The text at a pointer.
fn text_of(from: *const c_char) -> Answer<String> {
    if from.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: not null; the caller promises a terminated text.
    let text = unsafe { CStr::from_ptr(from) };
    text.to_str().map(str::to_owned).map_err(|_| code::INVALID_ARGUMENT)
}

fn pointer<T>(handle: Handle) -> *mut T {
    std::ptr::without_provenance_mut(handle.number())
}

/// A device handle: a GPU, or a MIG device with its GPU.
fn device(handle: nvmlDevice_t, state: &State) -> Answer<(usize, Option<ComputeInstance>)> {
    match Handle::of(handle.addr()) {
        Some(Handle::Gpu(index)) => state.gpu(index).map(|_| (index, None)),
        Some(Handle::Mig(serial)) => state.compute_instance(serial).map(|ci| (ci.gpu, Some(ci))),
        _ => Err(code::INVALID_ARGUMENT),
    }
}

/// A handle of a whole GPU.
fn gpu(handle: nvmlDevice_t, state: &State) -> Answer<usize> {
    match device(handle, state)? {
        (index, None) => Ok(index),
        _ => Err(code::INVALID_ARGUMENT),
    }
}

/// A handle of a MIG device.
fn mig(handle: nvmlDevice_t, state: &State) -> Answer<ComputeInstance> {
    device(handle, state)?.1.ok_or(code::INVALID_ARGUMENT)
}

fn gpu_instance(handle: nvmlGpuInstance_t, state: &State) -> Answer<GpuInstance> {
    match Handle::of(handle.addr()) {
        Some(Handle::GpuInstance(serial)) => state.gpu_instance(serial),
        _ => Err(code::INVALID_ARGUMENT),
    }
}

fn compute_instance(handle: nvmlComputeInstance_t, state: &State) -> Answer<ComputeInstance> {
    match Handle::of(handle.addr()) {
        Some(Handle::ComputeInstance(serial)) => state.compute_instance(serial),
        _ => Err(code::INVALID_ARGUMENT),
    }
}

/// GPUs of a PCI domain; as many as there are bus numbers for.
const OF_DOMAIN: usize = 12;

fn bus_id(index: usize) -> String {
    format!("{:08X}:{:02X}:00.0", domain(index), bus(index))
}

const fn domain(index: usize) -> c_uint {
    (index / OF_DOMAIN) as c_uint
}

const fn bus(index: usize) -> c_uint {
    0x18 + 0x11 * (index % OF_DOMAIN) as c_uint
}

/// Stands for the place of a switch, where no GPU is.
const SWITCH: usize = OF_DOMAIN * 0xff;

fn pci_info(index: usize, number: u32) -> nvmlPciInfo_t {
    nvmlPciInfo_t {
        busIdLegacy: field(&format!("{:04X}:{:02X}:00.0", domain(index), bus(index))),
        domain: domain(index),
        bus: bus(index),
        device: 0,
        pciDeviceId: number,
        pciSubSystemId: 0,
        busId: field(&bus_id(index)),
    }
}

/// Where an NVLink leads.
fn nvlink(handle: nvmlDevice_t, link: c_uint, state: &State) -> Answer<Option<usize>> {
    let index = gpu(handle, state)?;
    if state.gpus[index].card.nvlinks == 0 {
        return Err(code::NOT_SUPPORTED);
    }
    state.nvlinks(index).get(link as usize).copied().ok_or(code::INVALID_ARGUMENT)
}

/// A bit set of CPUs or nodes, in the caller's words.
fn put_bits(to: *mut c_ulong, words: c_uint, mask: u64) -> Answer<()> {
    if words == 0 {
        return Err(code::INVALID_ARGUMENT);
    }
    let words = vec![mask].into_iter().chain(std::iter::repeat(0)).take(words as usize);
    let mut count = 0;
    put_list(to, &raw mut count, &words.map(|word| word as c_ulong).collect::<Vec<_>>())
}

/// Defines exported functions that work on the state.
macro_rules! exports {
    ($($(#[$about:meta])* fn $name:ident($($argument:ident: $kind:ty),*) |$state:ident| $body:expr;)*) => {$(
        $(#[$about])*
        ///
        /// # Safety
        /// Pointers are null or valid for what the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> nvmlReturn_t {
            call(stringify!($name), |$state: &mut State| -> Answer<()> { $body })
        }
    )*};
}

/// Undoes one `nvmlInit`.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    let fewer = |users: u32| users.checked_sub(1);
    match USERS.fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer) {
        Ok(_) => code::SUCCESS,
        Err(_) => code::UNINITIALIZED,
    }
}

/// A sentence for a code.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    let text: &'static CStr = match result {
        code::SUCCESS => c"Success",
        code::UNINITIALIZED => c"Uninitialized",
        code::INVALID_ARGUMENT => c"Invalid Argument",
        code::NOT_SUPPORTED => c"Not Supported",
        code::NOT_FOUND => c"Not Found",
        code::INSUFFICIENT_SIZE => c"Insufficient Size",
        code::DRIVER_NOT_LOADED => c"Driver Not Loaded",
        code::TIMEOUT => c"Timeout",
        code::GPU_IS_LOST => c"GPU is lost",
        code::IN_USE => c"In use by another client",
        code::INSUFFICIENT_RESOURCES => c"Insufficient Resources",
        _ => c"Unknown Error",
    };
    text.as_ptr()
}

exports! {
    /// Begins.
    fn nvmlInit_v2() |_state| { USERS.fetch_add(1, Ordering::AcqRel); Ok(()) };
    /// Begins; flags are ignored.
    fn nvmlInitWithFlags(_flags: c_uint) |_state| { USERS.fetch_add(1, Ordering::AcqRel); Ok(()) };
    /// The driver's version, which says that it is none.
    fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) |_state| put_text(version, length, "580.0.fake");
    /// The library's version.
    fn nvmlSystemGetNVMLVersion(version: *mut c_char, length: c_uint) |_state| put_text(version, length, "13.580.0.fake");
    /// How many GPUs, lost ones included.
    fn nvmlDeviceGetCount_v2(count: *mut c_uint) |state| put(count, state.gpus.len() as c_uint);
    /// A GPU by PCI order.
    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, to: *mut nvmlDevice_t) |state| {
        state.gpu(index as usize)?;
        put(to, pointer(Handle::Gpu(index as usize)))
    };
    /// A GPU or MIG device by UUID.
    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, to: *mut nvmlDevice_t) |state| {
        let uuid = text_of(uuid)?;
        let gpus = (0..state.gpus.len()).filter(|&index| state.gpu_uuid(index).is_ok_and(|own| own == uuid));
        let migs = state.compute_instances.iter().filter(|ci| state.mig_uuid(ci) == uuid);
        let handle = gpus.map(Handle::Gpu).chain(migs.map(|ci| Handle::Mig(ci.serial))).next();
        put(to, pointer(handle.ok_or(code::NOT_FOUND)?))
    };
    /// A GPU by PCI address.
    fn nvmlDeviceGetHandleByPciBusId_v2(id: *const c_char, to: *mut nvmlDevice_t) |state| {
        let id = text_of(id)?;
        let index = (0..state.gpus.len()).find(|&index| bus_id(index).eq_ignore_ascii_case(&id));
        let index = index.ok_or(code::NOT_FOUND)?;
        state.gpu(index)?;
        put(to, pointer(Handle::Gpu(index)))
    };
    /// The product; of a MIG device with its profile.
    fn nvmlDeviceGetName(handle: nvmlDevice_t, to: *mut c_char, length: c_uint) |state| {
        let (index, ci) = device(handle, state)?;
        let card = state.gpus[index].card;
        let Some(ci) = ci else { return put_text(to, length, card.name) };
        let gi = state.parent(&ci)?;
        let profile = Profile::of_id(gi.profile).ok_or(code::UNKNOWN)?;
        put_text(to, length, &format!("{} MIG {}", card.name, card.profile_name(profile)))
    };
    /// The UUID; of a MIG device one that is new with every creation.
    fn nvmlDeviceGetUUID(handle: nvmlDevice_t, to: *mut c_char, length: c_uint) |state| {
        let (index, ci) = device(handle, state)?;
        let uuid = ci.map_or_else(|| state.gpu_uuid(index), |ci| Ok(state.mig_uuid(&ci)))?;
        put_text(to, length, &uuid)
    };
    /// The N of `/dev/nvidiaN`.
    fn nvmlDeviceGetMinorNumber(handle: nvmlDevice_t, to: *mut c_uint) |state| {
        put(to, state.minor(gpu(handle, state)?))
    };
    /// A GPU's index.
    fn nvmlDeviceGetIndex(handle: nvmlDevice_t, to: *mut c_uint) |state| put(to, gpu(handle, state)? as c_uint);
    /// The PCI address.
    fn nvmlDeviceGetPciInfo_v3(handle: nvmlDevice_t, to: *mut nvmlPciInfo_t) |state| {
        let index = gpu(handle, state)?;
        put(to, pci_info(index, state.gpus[index].card.pci_device))
    };
    /// Whether an NVLink is up: all are.
    fn nvmlDeviceGetNvLinkState(handle: nvmlDevice_t, link: c_uint, to: *mut c_uint) |state| {
        nvlink(handle, link, state)?;
        put(to, 1)
    };
    /// What is at the other end of an NVLink: a GPU or a switch.
    fn nvmlDeviceGetNvLinkRemotePciInfo_v2(handle: nvmlDevice_t, link: c_uint, to: *mut nvmlPciInfo_t) |state| {
        match nvlink(handle, link, state)? {
            Some(other) => put(to, pci_info(other, state.gpu(other)?.card.pci_device)),
            None => put(to, pci_info(SWITCH, 0x22a3_10de)),
        }
    };
    /// Memory in bytes.
    fn nvmlDeviceGetMemoryInfo(handle: nvmlDevice_t, to: *mut nvmlMemory_t) |state| {
        let total = memory(handle, state)? << 20;
        put(to, nvmlMemory_t { total, free: total, used: 0 })
    };
    /// Memory in bytes, with what the driver keeps.
    fn nvmlDeviceGetMemoryInfo_v2(handle: nvmlDevice_t, to: *mut nvmlMemory_v2_t) |state| {
        let total = memory(handle, state)? << 20;
        let version = size_of::<nvmlMemory_v2_t>() as c_uint | 2 << 24;
        put(to, nvmlMemory_v2_t { version, total, reserved: 0, free: total, used: 0 })
    };
    /// CPUs near the GPU.
    fn nvmlDeviceGetCpuAffinity(handle: nvmlDevice_t, words: c_uint, to: *mut c_ulong) |state| {
        let index = gpu(handle, state)?;
        put_bits(to, words, state.cpus(index))
    };
    /// NUMA nodes near the GPU.
    fn nvmlDeviceGetMemoryAffinity(handle: nvmlDevice_t, words: c_uint, to: *mut c_ulong, _scope: c_uint) |state| {
        let index = gpu(handle, state)?;
        put_bits(to, words, 1 << state.numa(index))
    };
    /// The GPU's NUMA node.
    fn nvmlDeviceGetNumaNodeId(handle: nvmlDevice_t, to: *mut c_uint) |state| {
        put(to, state.numa(gpu(handle, state)?))
    };
    /// Percent of the GPU; no such figure for a MIG device.
    fn nvmlDeviceGetUtilizationRates(handle: nvmlDevice_t, to: *mut nvmlUtilization_t) |state| {
        let (index, ci) = device(handle, state)?;
        if ci.is_some() {
            return Err(code::NOT_SUPPORTED);
        }
        put(to, nvmlUtilization_t { gpu: state.gpus[index].utilisation, memory: 0 })
    };
    /// Degrees.
    fn nvmlDeviceGetTemperature(handle: nvmlDevice_t, _sensor: c_uint, to: *mut c_uint) |state| {
        gpu(handle, state)?;
        put(to, 40)
    };
    /// Nothing throttles.
    fn nvmlDeviceGetCurrentClocksThrottleReasons(handle: nvmlDevice_t, to: *mut c_ulonglong) |state| {
        gpu(handle, state)?;
        put(to, 0)
    };
    /// A set of events. There is one for all: its handle is a constant.
    fn nvmlEventSetCreate(to: *mut nvmlEventSet_t) |_state| put(to, std::ptr::without_provenance_mut(EVENT_SET));
    /// Gives it back.
    fn nvmlEventSetFree(_set: nvmlEventSet_t) |_state| Ok(());
    /// What a GPU tells of: critical errors.
    fn nvmlDeviceGetSupportedEventTypes(handle: nvmlDevice_t, to: *mut c_ulonglong) |state| {
        gpu(handle, state)?;
        put(to, XID_CRITICAL)
    };
    /// All GPUs tell; that this one is asked to changes nothing.
    fn nvmlDeviceRegisterEvents(handle: nvmlDevice_t, _types: c_ulonglong, _set: nvmlEventSet_t) |state| {
        gpu(handle, state).map(drop)
    };
    /// The oldest critical error that nobody has heard of. Never waits.
    fn nvmlEventSetWait_v2(_set: nvmlEventSet_t, to: *mut nvmlEventData_t, _timeout: c_uint) |state| {
        if state.errors.is_empty() {
            return Err(code::TIMEOUT);
        }
        let (index, xid) = state.errors.remove(0);
        put(to, nvmlEventData_t {
            device: pointer(Handle::Gpu(index)),
            eventType: XID_CRITICAL,
            eventData: c_ulonglong::from(xid),
            gpuInstanceId: c_uint::MAX,
            computeInstanceId: c_uint::MAX,
        })
    };
    /// Whether MIG mode is on, now and after a reset.
    fn nvmlDeviceGetMigMode(handle: nvmlDevice_t, current: *mut c_uint, pending: *mut c_uint) |state| {
        let index = gpu(handle, state)?;
        let mode = c_uint::from(state.mig_gpu(index)?.mig);
        put(current, mode)?;
        put(pending, mode)
    };
    /// Switches MIG mode.
    fn nvmlDeviceSetMigMode(handle: nvmlDevice_t, mode: c_uint, activation: *mut nvmlReturn_t) |state| {
        let index = gpu(handle, state)?;
        put(activation, code::SUCCESS)?;
        state.set_mig(index, mode == 1)
    };
    /// The most MIG devices that there can be.
    fn nvmlDeviceGetMaxMigDeviceCount(handle: nvmlDevice_t, to: *mut c_uint) |state| {
        let index = gpu(handle, state)?;
        put(to, if state.gpu(index)?.card.sizes.is_some() { 7 } else { 0 })
    };
    /// A MIG device of a GPU.
    fn nvmlDeviceGetMigDeviceHandleByIndex(handle: nvmlDevice_t, at: c_uint, to: *mut nvmlDevice_t) |state| {
        let devices = state.mig_devices(gpu(handle, state)?)?;
        let ci = devices.get(at as usize).ok_or(code::NOT_FOUND)?;
        put(to, pointer(Handle::Mig(ci.serial)))
    };
    /// The GPU of a MIG device.
    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle: nvmlDevice_t, to: *mut nvmlDevice_t) |state| {
        put(to, pointer(Handle::Gpu(mig(handle, state)?.gpu)))
    };
    /// Whether it is a MIG device.
    fn nvmlDeviceIsMigDeviceHandle(handle: nvmlDevice_t, to: *mut c_uint) |state| {
        put(to, c_uint::from(device(handle, state)?.1.is_some()))
    };
    /// The GPU instance of a MIG device.
    fn nvmlDeviceGetGpuInstanceId(handle: nvmlDevice_t, to: *mut c_uint) |state| put(to, mig(handle, state)?.parent);
    /// The compute instance of a MIG device.
    fn nvmlDeviceGetComputeInstanceId(handle: nvmlDevice_t, to: *mut c_uint) |state| put(to, mig(handle, state)?.id);
    /// Sizes of a MIG device.
    fn nvmlDeviceGetAttributes_v2(handle: nvmlDevice_t, to: *mut nvmlDeviceAttributes_t) |state| {
        let ci = mig(handle, state)?;
        let gi = state.parent(&ci)?;
        let (memory, processors) = state.instance_size(&gi)?;
        let held = Profile::of_id(gi.profile).map_or(1, |profile| profile.compute);
        put(to, nvmlDeviceAttributes_t {
            multiprocessorCount: processors * ci.slices / held,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
            gpuInstanceSliceCount: held,
            computeInstanceSliceCount: ci.slices,
            memorySizeMB: memory,
        })
    };
    /// A profile by its query number.
    fn nvmlDeviceGetGpuInstanceProfileInfo(handle: nvmlDevice_t, at: c_uint, to: *mut nvmlGpuInstanceProfileInfo_t) |state| {
        let (_, info) = profile_info(handle, at, state)?;
        put(to, info)
    };
    /// The same with its name.
    fn nvmlDeviceGetGpuInstanceProfileInfoV(handle: nvmlDevice_t, at: c_uint, to: *mut nvmlGpuInstanceProfileInfo_v2_t) |state| {
        let (name, info) = profile_info(handle, at, state)?;
        put(to, nvmlGpuInstanceProfileInfo_v2_t {
            version: size_of::<nvmlGpuInstanceProfileInfo_v2_t>() as c_uint | 2 << 24,
            id: info.id,
            isP2pSupported: info.isP2pSupported,
            sliceCount: info.sliceCount,
            instanceCount: info.instanceCount,
            multiprocessorCount: info.multiprocessorCount,
            copyEngineCount: info.copyEngineCount,
            decoderCount: info.decoderCount,
            encoderCount: info.encoderCount,
            jpegCount: info.jpegCount,
            ofaCount: info.ofaCount,
            memorySizeMB: info.memorySizeMB,
            name: field(&format!("MIG {name}")),
        })
    };
    /// All placements of a profile, taken or not.
    fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(handle: nvmlDevice_t, profile: c_uint, to: *mut nvmlGpuInstancePlacement_t, count: *mut c_uint) |state| {
        let index = gpu(handle, state)?;
        state.free_starts(index, profile)?;
        let profile = Profile::of_id(profile).ok_or(code::INVALID_ARGUMENT)?;
        let place = |&start: &u32| nvmlGpuInstancePlacement_t { start, size: profile.memory };
        put_list(to, count, &profile.starts.iter().map(place).collect::<Vec<_>>())
    };
    /// How many more of a profile fit.
    fn nvmlDeviceGetGpuInstanceRemainingCapacity(handle: nvmlDevice_t, profile: c_uint, to: *mut c_uint) |state| {
        let index = gpu(handle, state)?;
        let most = Profile::of_id(profile).map_or(0, |profile| profile.most);
        put(to, (state.free_starts(index, profile)?.len() as c_uint).min(most))
    };
    /// Makes a GPU instance where the driver likes.
    fn nvmlDeviceCreateGpuInstance(handle: nvmlDevice_t, profile: c_uint, to: *mut nvmlGpuInstance_t) |state| {
        let index = gpu(handle, state)?;
        let made = state.create_gpu_instance(index, profile, None)?;
        put(to, pointer(Handle::GpuInstance(made.serial)))
    };
    /// Makes a GPU instance at a place.
    fn nvmlDeviceCreateGpuInstanceWithPlacement(handle: nvmlDevice_t, profile: c_uint, place: *const nvmlGpuInstancePlacement_t, to: *mut nvmlGpuInstance_t) |state| {
        let index = gpu(handle, state)?;
        if place.is_null() {
            return Err(code::INVALID_ARGUMENT);
        }
        // SAFETY: not null; the caller promises a placement.
        let place = unsafe { *place };
        let made = state.create_gpu_instance(index, profile, Some((place.start, place.size)))?;
        put(to, pointer(Handle::GpuInstance(made.serial)))
    };
    /// The GPU instances of a profile.
    fn nvmlDeviceGetGpuInstances(handle: nvmlDevice_t, profile: c_uint, to: *mut nvmlGpuInstance_t, count: *mut c_uint) |state| {
        let index = gpu(handle, state)?;
        state.free_starts(index, profile)?;
        let of = state.gpu_instances.iter().filter(|gi| gi.gpu == index && gi.profile == profile);
        put_list(to, count, &of.map(|gi| pointer(Handle::GpuInstance(gi.serial))).collect::<Vec<_>>())
    };
    /// A GPU instance by id.
    fn nvmlDeviceGetGpuInstanceById(handle: nvmlDevice_t, id: c_uint, to: *mut nvmlGpuInstance_t) |state| {
        let index = gpu(handle, state)?;
        state.mig_gpu(index)?;
        let found = state.gpu_instances.iter().find(|gi| gi.gpu == index && State::instance_id(gi) == id);
        put(to, pointer(Handle::GpuInstance(found.ok_or(code::NOT_FOUND)?.serial)))
    };
    /// Removes a GPU instance.
    fn nvmlGpuInstanceDestroy(handle: nvmlGpuInstance_t) |state| {
        let gi = gpu_instance(handle, state)?;
        state.destroy_gpu_instance(gi.serial)
    };
    /// Where a GPU instance lies.
    fn nvmlGpuInstanceGetInfo(handle: nvmlGpuInstance_t, to: *mut nvmlGpuInstanceInfo_t) |state| {
        let gi = gpu_instance(handle, state)?;
        let size = Profile::of_id(gi.profile).map_or(0, |profile| profile.memory);
        put(to, nvmlGpuInstanceInfo_t {
            device: pointer(Handle::Gpu(gi.gpu)),
            id: State::instance_id(&gi),
            profileId: gi.profile,
            placement: nvmlGpuInstancePlacement_t { start: gi.start, size },
        })
    };
    /// A profile of compute instances.
    fn nvmlGpuInstanceGetComputeInstanceProfileInfo(handle: nvmlGpuInstance_t, at: c_uint, _engine: c_uint, to: *mut nvmlComputeInstanceProfileInfo_t) |state| {
        let gi = gpu_instance(handle, state)?;
        let held = Profile::of_id(gi.profile).map_or(0, |profile| profile.compute);
        let slices = State::compute_slices(at).ok_or(code::INVALID_ARGUMENT)?;
        if slices > held {
            return Err(code::NOT_SUPPORTED);
        }
        let (_, processors) = state.instance_size(&gi)?;
        put(to, nvmlComputeInstanceProfileInfo_t {
            id: at,
            sliceCount: slices,
            instanceCount: held / slices,
            multiprocessorCount: processors * slices / held,
            sharedCopyEngineCount: 1,
            sharedDecoderCount: 0,
            sharedEncoderCount: 0,
            sharedJpegCount: 0,
            sharedOfaCount: 0,
        })
    };
    /// Makes a compute instance.
    fn nvmlGpuInstanceCreateComputeInstance(handle: nvmlGpuInstance_t, profile: c_uint, to: *mut nvmlComputeInstance_t) |state| {
        let gi = gpu_instance(handle, state)?;
        let made = state.create_compute_instance(gi.serial, profile)?;
        put(to, pointer(Handle::ComputeInstance(made.serial)))
    };
    /// The compute instances of a profile.
    fn nvmlGpuInstanceGetComputeInstances(handle: nvmlGpuInstance_t, profile: c_uint, to: *mut nvmlComputeInstance_t, count: *mut c_uint) |state| {
        let gi = gpu_instance(handle, state)?;
        let slices = State::compute_slices(profile).ok_or(code::INVALID_ARGUMENT)?;
        let all = state.compute_instances_of(&gi);
        let of = all.iter().filter(|ci| ci.slices == slices);
        put_list(to, count, &of.map(|ci| pointer(Handle::ComputeInstance(ci.serial))).collect::<Vec<_>>())
    };
    /// A compute instance by id.
    fn nvmlGpuInstanceGetComputeInstanceById(handle: nvmlGpuInstance_t, id: c_uint, to: *mut nvmlComputeInstance_t) |state| {
        let gi = gpu_instance(handle, state)?;
        let found = state.compute_instances_of(&gi).into_iter().find(|ci| ci.id == id);
        put(to, pointer(Handle::ComputeInstance(found.ok_or(code::NOT_FOUND)?.serial)))
    };
    /// Removes a compute instance.
    fn nvmlComputeInstanceDestroy(handle: nvmlComputeInstance_t) |state| {
        let ci = compute_instance(handle, state)?;
        state.destroy_compute_instance(ci.serial)
    };
    /// A compute instance with its MIG device.
    fn nvmlComputeInstanceGetInfo_v2(handle: nvmlComputeInstance_t, to: *mut nvmlComputeInstanceInfo_t) |state| {
        let ci = compute_instance(handle, state)?;
        let gi = state.parent(&ci)?;
        let profile = (0..5).find(|&profile| State::compute_slices(profile) == Some(ci.slices));
        put(to, nvmlComputeInstanceInfo_t {
            device: pointer(Handle::Mig(ci.serial)),
            gpuInstance: pointer(Handle::GpuInstance(gi.serial)),
            id: ci.id,
            profileId: profile.ok_or(code::UNKNOWN)?,
            placement: nvmlComputeInstancePlacement_st { start: 0, size: ci.slices },
        })
    };
}

/// Memory in MiB of a GPU or a MIG device.
fn memory(handle: nvmlDevice_t, state: &State) -> Answer<u64> {
    match device(handle, state)? {
        (index, None) => Ok(state.gpus[index].card.memory_mib),
        (_, Some(ci)) => Ok(state.instance_size(&state.parent(&ci)?)?.0),
    }
}

/// A profile by its query number, with its name.
fn profile_info(
    handle: nvmlDevice_t,
    at: c_uint,
    state: &State,
) -> Answer<(String, nvmlGpuInstanceProfileInfo_t)> {
    let index = gpu(handle, state)?;
    let card = state.mig_gpu(index)?.card;
    if at >= nvml_wrapper_sys::bindings::NVML_GPU_INSTANCE_PROFILE_COUNT {
        return Err(code::INVALID_ARGUMENT);
    }
    let profile = Profile::of_enumerator(at).ok_or(code::NOT_SUPPORTED)?;
    let (memory, processors) = card.size(profile).ok_or(code::NOT_SUPPORTED)?;
    let info = nvmlGpuInstanceProfileInfo_t {
        id: profile.id,
        isP2pSupported: 0,
        sliceCount: profile.compute,
        instanceCount: profile.most,
        multiprocessorCount: processors,
        copyEngineCount: profile.compute.min(7),
        decoderCount: u32::from(profile.media || profile.compute == 7),
        encoderCount: 0,
        jpegCount: u32::from(profile.media || profile.compute == 7),
        ofaCount: u32::from(profile.media || profile.compute == 7),
        memorySizeMB: memory,
    };
    Ok((card.profile_name(profile), info))
}
