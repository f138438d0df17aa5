//! NVIDIA's library as a [`Driver`]: loaded at run time, one session for as long as the executor lives.
//!
//! nvml-wrapper observes; its raw calls are used for what it lacks (instances, and possible placements, for which the
//! wrapper always answers with an empty list). Handles of GPUs are cached; an instance's UUID is taken from its compute
//! instance's own handle, never by walking all MIG devices. A function that an older library lacks is the error of that
//! call alone. This is the only file of the executor with raw NVML pointers; each comes from the library and is used
//! before anything else is called that could make it stale, or is a GPU's handle, which stays.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::sync::Mutex;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    NVML_COMPUTE_INSTANCE_PROFILE_COUNT, NVML_GPU_INSTANCE_PROFILE_COUNT, NVML_NVLINK_MAX_LINKS,
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstanceProfileInfo_t, nvmlDevice_t,
    nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_v2_t,
};

use super::{Driver, Fault, Gpu, Instance, Observed, Profile, Vitals, code};

/// The library's name.
pub const LIBRARY: &str = "libnvidia-ml.so.1";

/// Words of a processor mask: 4,096 processors.
const CPU_WORDS: usize = 64;

/// See the module comment.
pub struct Library {
    nvml: &'static Nvml,
    /// By PCI bus order.
    devices: Vec<Result<Device<'static>, Fault>>,
    /// NVLinks of each GPU to each other; empty: it has none.
    links: Vec<Vec<u32>>,
    events: Mutex<Option<EventSet<'static>>>,
}

fn fault(call: &'static str, error: &NvmlError) -> Fault {
    let code = match error {
        NvmlError::NotSupported => code::NOT_SUPPORTED,
        NvmlError::NotFound => code::NOT_FOUND,
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => code::FUNCTION_NOT_FOUND,
        NvmlError::GpuLost => code::GPU_IS_LOST,
        _ => 0,
    };
    let text = match code {
        code::GPU_IS_LOST => "GPU is lost: it fell off the bus, or does not answer any more".to_owned(),
        _ => error.to_string(),
    };
    Fault { call, code, text }
}

/// Calls a function of the library by its name; an error unless it answers 0.
macro_rules! raw {
    ($self:ident.$name:ident($($argument:expr),* $(,)?)) => {
        match &$self.nvml.lib().$name {
            Ok(function) => {
                // SAFETY: the library is loaded for ever; handles are its own and the other pointers are to locals of
                // the types that the header asks for.
                let code = unsafe { function($($argument),*) };
                $self.answer(stringify!($name), code)
            }
            Err(_) => Err(Fault {
                call: stringify!($name),
                code: code::FUNCTION_NOT_FOUND,
                text: "the library has no such function".to_owned(),
            }),
        }
    };
}

/// A value that a call fills in.
fn filled<T>(call: impl FnOnce(*mut T) -> Result<(), Fault>) -> Result<T, Fault> {
    let mut value = MaybeUninit::<T>::zeroed();
    call(value.as_mut_ptr())?;
    // SAFETY: the call succeeded, and all types here are plain numbers, arrays and pointers, for which zeros are valid.
    Ok(unsafe { value.assume_init() })
}

impl Library {
    /// Loads the library and begins a session, which lasts until the process ends.
    ///
    /// # Errors
    /// It is not there, or it has no driver: a sentence.
    pub fn load(path: &OsStr) -> Result<Self, String> {
        let name = path.to_string_lossy();
        let nvml = Nvml::builder().lib_path(path).init().map_err(|error| format!("{name}: {error}"))?;
        let nvml: &'static Nvml = Box::leak(Box::new(nvml));
        let count = nvml.device_count().map_err(|error| format!("{name}: {error}"))?;
        let mut devices: Vec<_> = (0..count)
            .map(|index| {
                let device = nvml.device_by_index(index);
                device.map_err(|error| fault("nvmlDeviceGetHandleByIndex_v2", &error))
            })
            .collect();
        in_bus_order(&mut devices);
        let events = watched(nvml, &devices);
        let links = links(&devices);
        Ok(Self { nvml, devices, links, events: Mutex::new(events) })
    }

    fn answer(&self, call: &'static str, code: u32) -> Result<(), Fault> {
        if code == 0 {
            return Ok(());
        }
        let text = match &self.nvml.lib().nvmlErrorString {
            Ok(function) => {
                // SAFETY: the library answers with a terminated text of its own that is never freed.
                let text = unsafe { std::ffi::CStr::from_ptr(function(code)) };
                text.to_string_lossy().into_owned()
            }
            Err(_) => format!("error {code}"),
        };
        Err(Fault { call, code, text })
    }

    fn device(&self, gpu: usize) -> Result<&Device<'static>, Fault> {
        match self.devices.get(gpu) {
            Some(device) => device.as_ref().map_err(Clone::clone),
            None => Err(Fault { call: "GPU", code: code::NOT_FOUND, text: format!("there is no GPU {gpu}") }),
        }
    }

    fn handle(&self, gpu: usize) -> Result<nvmlDevice_t, Fault> {
        // SAFETY: the handle is the library's and stays.
        self.device(gpu).map(|device| unsafe { device.handle() })
    }

    fn observe_one(&self, gpu: usize) -> Observed {
        let device = self.device(gpu)?;
        let uuid = device.uuid().map_err(|error| fault("nvmlDeviceGetUUID", &error))?;
        let product = device.name().map_err(|error| fault("nvmlDeviceGetName", &error))?;
        let pci = device.pci_info().map_err(|error| fault("nvmlDeviceGetPciInfo_v3", &error))?;
        let minor = device.minor_number().map_err(|error| fault("nvmlDeviceGetMinorNumber", &error))?;
        // Some boards with shared memory have none of their own to tell.
        let memory = device.memory_info().map_or(0, |memory| memory.total);
        let mig = device.mig_mode().is_ok_and(|mode| mode.current == 1);
        let profiles = if mig { self.profiles(gpu, memory)? } else { Vec::new() };
        let instances = if mig { self.instances_of(gpu, &profiles)? } else { Vec::new() };
        Ok(Gpu {
            uuid,
            product,
            memory_mib: memory >> 20,
            pci: pci.bus_id,
            minor,
            cpus: device.cpu_affinity(CPU_WORDS).map_or_else(|_| Vec::new(), |words| bits(&words)),
            links: self.links.get(gpu).cloned().unwrap_or_default(),
            mig,
            profiles,
            instances,
        })
    }

    fn profiles(&self, gpu: usize, memory: u64) -> Result<Vec<Profile>, Fault> {
        let handle = self.handle(gpu)?;
        let mut found: Vec<Profile> = Vec::new();
        for enumerator in 0..NVML_GPU_INSTANCE_PROFILE_COUNT {
            let named = filled(|to: *mut nvmlGpuInstanceProfileInfo_v2_t| {
                let version = (size_of::<nvmlGpuInstanceProfileInfo_v2_t>() | 2 << 24) as u32;
                // SAFETY: the pointer is to a zeroed local.
                unsafe { (*to).version = version };
                raw!(self.nvmlDeviceGetGpuInstanceProfileInfoV(handle, enumerator, to))
            });
            let (id, compute_slices, most, memory_mib, name) = match named {
                Ok(about) => {
                    let name = text(&about.name);
                    let name = name.strip_prefix("MIG ").unwrap_or(&name).to_owned();
                    (about.id, about.sliceCount, about.instanceCount, about.memorySizeMB, name)
                }
                // An older driver: without names.
                Err(fault) if fault.code == code::FUNCTION_NOT_FOUND => {
                    let Ok(about) = self.device(gpu)?.profile_info(enumerator) else { continue };
                    let name = profile_name(about.slice_count, about.memory_size_mb, memory);
                    (about.id, about.slice_count, about.instance_count, about.memory_size_mb, name)
                }
                // The card has no such profile; what else it may be shows in the calls before and after.
                Err(_) => continue,
            };
            let places = self.places(handle, id)?;
            let Some(memory_slices) = places.first().map(|place| place.size) else { continue };
            let starts = places.iter().map(|place| place.start).collect();
            if found.iter().all(|known| known.id != id) {
                found.push(Profile { id, name, compute_slices, memory_slices, memory_mib, most, starts });
            }
        }
        Ok(found)
    }

    fn places(&self, handle: nvmlDevice_t, profile: u32) -> Result<Vec<nvmlGpuInstancePlacement_t>, Fault> {
        let mut count = 0;
        let none = std::ptr::null_mut();
        raw!(self.nvmlDeviceGetGpuInstancePossiblePlacements_v2(handle, profile, none, &raw mut count))?;
        let mut places = vec![nvmlGpuInstancePlacement_t { start: 0, size: 0 }; count as usize];
        let to = places.as_mut_ptr();
        raw!(self.nvmlDeviceGetGpuInstancePossiblePlacements_v2(handle, profile, to, &raw mut count))?;
        places.truncate(count as usize);
        Ok(places)
    }

    fn instances_of(&self, gpu: usize, profiles: &[Profile]) -> Result<Vec<Instance>, Fault> {
        let handle = self.handle(gpu)?;
        let mut found = Vec::new();
        for profile in profiles {
            let mut handles: Vec<nvmlGpuInstance_t> =
                vec![std::ptr::null_mut(); profile.most.max(1) as usize];
            let mut count = 0;
            raw!(self.nvmlDeviceGetGpuInstances(handle, profile.id, handles.as_mut_ptr(), &raw mut count))?;
            for gi in handles.into_iter().take(count as usize) {
                found.push(self.instance(gi)?);
            }
        }
        found.sort_by_key(|instance| instance.start);
        Ok(found)
    }

    fn instance(&self, gi: nvmlGpuInstance_t) -> Result<Instance, Fault> {
        let about: nvmlGpuInstanceInfo_t = filled(|to| raw!(self.nvmlGpuInstanceGetInfo(gi, to)))?;
        let computes = self.computes(gi)?;
        let (ci, uuid) = match &*computes {
            [only] => {
                let about = self.compute(*only)?;
                (Some(about.id), self.uuid(about.device)?)
            }
            _ => (None, String::new()),
        };
        Ok(Instance {
            profile: about.profileId,
            start: about.placement.start,
            size: about.placement.size,
            gi: about.id,
            ci,
            uuid,
        })
    }

    fn computes(&self, gi: nvmlGpuInstance_t) -> Result<Vec<nvmlComputeInstance_t>, Fault> {
        let mut found = Vec::new();
        for (id, most, _) in self.compute_profiles(gi) {
            let mut handles: Vec<nvmlComputeInstance_t> = vec![std::ptr::null_mut(); most.max(1) as usize];
            let mut count = 0;
            raw!(self.nvmlGpuInstanceGetComputeInstances(gi, id, handles.as_mut_ptr(), &raw mut count))?;
            found.extend(handles.into_iter().take(count as usize));
        }
        Ok(found)
    }

    /// Id, most instances and compute slices of each.
    fn compute_profiles(&self, gi: nvmlGpuInstance_t) -> Vec<(u32, u32, u32)> {
        let mut found: Vec<(u32, u32, u32)> = Vec::new();
        for enumerator in 0..NVML_COMPUTE_INSTANCE_PROFILE_COUNT {
            let about: Result<nvmlComputeInstanceProfileInfo_t, Fault> =
                filled(|to| raw!(self.nvmlGpuInstanceGetComputeInstanceProfileInfo(gi, enumerator, 0, to)));
            if let Ok(about) = about
                && found.iter().all(|(id, _, _)| *id != about.id)
            {
                found.push((about.id, about.instanceCount, about.sliceCount));
            }
        }
        found
    }

    fn compute(&self, ci: nvmlComputeInstance_t) -> Result<nvmlComputeInstanceInfo_t, Fault> {
        filled(|to| raw!(self.nvmlComputeInstanceGetInfo_v2(ci, to)))
    }

    fn uuid(&self, device: nvmlDevice_t) -> Result<String, Fault> {
        let mut buffer = [0; 96];
        raw!(self.nvmlDeviceGetUUID(device, buffer.as_mut_ptr(), 96))?;
        Ok(text(&buffer))
    }

    /// The compute instance that takes all of a GPU instance.
    fn fill(&self, gi: nvmlGpuInstance_t, slices: u32) -> Result<(), Fault> {
        let whole = self.compute_profiles(gi).into_iter().find(|(_, _, of)| *of == slices);
        let Some((id, _, _)) = whole else {
            return Err(Fault {
                call: "nvmlGpuInstanceGetComputeInstanceProfileInfo",
                code: code::NOT_FOUND,
                text: format!("no compute profile has {slices} slices"),
            });
        };
        let made: Result<nvmlComputeInstance_t, Fault> =
            filled(|to| raw!(self.nvmlGpuInstanceCreateComputeInstance(gi, id, to)));
        made.map(|_| ())
    }

    fn destroy_instance(&self, gi: nvmlGpuInstance_t) -> Result<(), Fault> {
        for ci in self.computes(gi)? {
            raw!(self.nvmlComputeInstanceDestroy(ci))?;
        }
        raw!(self.nvmlGpuInstanceDestroy(gi))
    }
}

impl Driver for Library {
    fn version(&self) -> String {
        self.nvml.sys_driver_version().unwrap_or_else(|_| "of unknown version".to_owned())
    }

    fn observe(&self) -> Result<Vec<Observed>, Fault> {
        // That it answers at all.
        self.nvml.device_count().map_err(|error| fault("nvmlDeviceGetCount_v2", &error))?;
        Ok((0..self.devices.len()).map(|gpu| self.observe_one(gpu)).collect())
    }

    fn instances(&self, gpu: usize) -> Result<Vec<Instance>, Fault> {
        let memory = self.device(gpu)?.memory_info().map_or(0, |memory| memory.total);
        self.instances_of(gpu, &self.profiles(gpu, memory)?)
    }

    fn create(&self, gpu: usize, profile: &Profile, start: u32) -> Result<Instance, Fault> {
        let handle = self.handle(gpu)?;
        let place = nvmlGpuInstancePlacement_t { start, size: profile.memory_slices };
        let gi: nvmlGpuInstance_t = filled(|to| {
            raw!(self.nvmlDeviceCreateGpuInstanceWithPlacement(handle, profile.id, &raw const place, to))
        })?;
        let made = self.fill(gi, profile.compute_slices).and_then(|()| self.instance(gi));
        made.map_err(|fault| match self.destroy_instance(gi) {
            Ok(()) => fault,
            Err(again) => {
                let text = format!("{}; what was made could not be taken back: {again}", fault.text);
                Fault { text, ..fault }
            }
        })
    }

    fn destroy(&self, gpu: usize, instance: &Instance) -> Result<(), Fault> {
        let handle = self.handle(gpu)?;
        let found: Result<nvmlGpuInstance_t, Fault> =
            filled(|to| raw!(self.nvmlDeviceGetGpuInstanceById(handle, instance.gi, to)));
        let gi = match found {
            Ok(gi) => gi,
            Err(fault) if fault.code == code::NOT_FOUND => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let there = self.instance(gi)?;
        let same = (there.profile, there.start) == (instance.profile, instance.start)
            && (there.uuid == instance.uuid || there.uuid.is_empty() || instance.uuid.is_empty());
        if same { self.destroy_instance(gi) } else { Ok(()) }
    }

    fn vitals(&self, gpu: usize) -> Result<Vitals, Fault> {
        let device = self.device(gpu)?;
        // What every device answers as long as it is there.
        device.uuid().map_err(|error| fault("nvmlDeviceGetUUID", &error))?;
        Ok(Vitals {
            utilisation: device.utilization_rates().ok().map(|rates| rates.gpu),
            memory_used_mib: device.memory_info().ok().map(|memory| memory.used >> 20),
            temperature: device.temperature(TemperatureSensor::Gpu).ok(),
            throttle: device.current_throttle_reasons().ok().map(|reasons| reasons.bits()),
        })
    }

    fn instance_memory_used_mib(&self, gpu: usize, instance: &Instance) -> Result<u64, Fault> {
        let handle = self.handle(gpu)?;
        let gi: nvmlGpuInstance_t =
            filled(|to| raw!(self.nvmlDeviceGetGpuInstanceById(handle, instance.gi, to)))?;
        let none =
            || Fault { call: "MIG device", code: code::NOT_FOUND, text: "it has no device".to_owned() };
        let ci = self.computes(gi)?.first().copied().ok_or_else(none)?;
        let about = self.compute(ci)?;
        // SAFETY: the handle is the library's, of an instance that is there.
        let device = unsafe { Device::new(about.device, self.nvml) };
        let memory = device.memory_info().map_err(|error| fault("nvmlDeviceGetMemoryInfo_v2", &error))?;
        Ok(memory.used >> 20)
    }

    fn errors(&self) -> Vec<(usize, u64)> {
        let events = self.events.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut found = Vec::new();
        let Some(events) = events.as_ref() else { return found };
        // As many as there are; the bound is against a device that says so without end.
        for _ in 0..64 {
            let Ok(event) = events.wait(0) else { break };
            let Some(XidError::Value(number)) = event.event_data else { continue };
            // SAFETY: handles are compared, not used.
            let same = |device: &Device<'_>| unsafe { device.handle() == event.device.handle() };
            if let Some(gpu) = self.devices.iter().position(|device| device.as_ref().is_ok_and(same)) {
                found.push((gpu, number));
            }
        }
        found
    }
}

/// By PCI address, which the header does not promise. Those that answer nothing keep their places.
fn in_bus_order(devices: &mut Vec<Result<Device<'static>, Fault>>) {
    let places: Vec<usize> =
        devices.iter().enumerate().filter_map(|(at, device)| device.is_ok().then_some(at)).collect();
    let address = |device: &Device<'_>| device.pci_info().ok().map(|pci| (pci.domain, pci.bus, pci.device));
    let mut there: Vec<_> = Vec::new();
    for at in places.iter().rev() {
        there.push(devices.remove(*at));
    }
    there.reverse();
    there.sort_by_key(|device| device.as_ref().ok().and_then(address));
    for (at, device) in places.into_iter().zip(there) {
        devices.insert(at, device);
    }
}

/// How many NVLinks lead from each GPU to each other one, read once: boards do not change while a machine runs.
///
/// A link that is down counts for nothing, and so does one into a switch, which leads to all GPUs alike.
fn links(devices: &[Result<Device<'static>, Fault>]) -> Vec<Vec<u32>> {
    let address = |pci: &nvml_wrapper::struct_wrappers::device::PciInfo| (pci.domain, pci.bus, pci.device);
    let places: Vec<_> = devices
        .iter()
        .map(|device| device.as_ref().ok().and_then(|device| device.pci_info().ok()).map(|pci| address(&pci)))
        .collect();
    let of = |device: &Result<Device<'static>, Fault>| {
        let mut found = vec![0; places.len()];
        let Ok(device) = device else { return Vec::new() };
        for number in 0..NVML_NVLINK_MAX_LINKS {
            let link = device.link_wrapper_for(number);
            // The first number beyond the card's links ends them; a card without any refuses the first.
            let Ok(is_up) = link.is_active() else { break };
            let Some(remote) = is_up.then(|| link.remote_pci_info().ok()).flatten() else { continue };
            if let Some(other) = places.iter().position(|place| *place == Some(address(&remote))) {
                found[other] += 1;
            }
        }
        if found.iter().all(|count| *count == 0) { Vec::new() } else { found }
    };
    devices.iter().map(of).collect()
}

/// A set that hears of critical errors on these GPUs; `None` where the driver tells of none.
fn watched(nvml: &'static Nvml, devices: &[Result<Device<'static>, Fault>]) -> Option<EventSet<'static>> {
    let mut set = nvml.create_event_set().ok()?;
    for device in devices.iter().flatten() {
        // A refused registration takes the set with it.
        let tells = device.supported_event_types();
        if !tells.is_ok_and(|types| types.contains(EventTypes::CRITICAL_XID_ERROR)) {
            continue;
        }
        set = match device.register_events(EventTypes::CRITICAL_XID_ERROR, set) {
            Ok(set) => set,
            Err(error) => {
                tracing::info!(error = %error.error, "a GPU does not tell of critical errors");
                return None;
            }
        };
    }
    Some(set)
}

/// Positions of the bits that are set.
fn bits(words: &[std::ffi::c_ulong]) -> Vec<u32> {
    let width = std::ffi::c_ulong::BITS;
    let of = |(at, word): (usize, &std::ffi::c_ulong)| {
        let (word, first) = (*word, u32::try_from(at).unwrap_or(u32::MAX).saturating_mul(width));
        (0..width).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
    };
    words.iter().enumerate().flat_map(of).collect()
}

/// The text in a field of fixed size.
fn text(field: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> =
        field.iter().take_while(|byte| **byte != 0).map(|byte| byte.to_ne_bytes()[0]).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A profile's name where the driver does not say it: compute slices, and memory in eighths of the card's gigabytes.
fn profile_name(slices: u32, memory_mib: u64, total_bytes: u64) -> String {
    let total_mib = (total_bytes >> 20).max(1);
    let eighths = (memory_mib * 8).div_ceil(total_mib);
    let total_gb = total_bytes.div_ceil(1 << 30);
    format!("{slices}g.{}gb", (total_gb * eighths + 4) / 8)
}

#[cfg(test)]
mod tests {
    use super::{bits, profile_name, text};

    #[test]
    fn profiles_are_named_as_the_driver_would() {
        // Sizes of an A100 with 40 GB and an H100 with 80 GB.
        for (slices, mib, name) in
            [(1, 4_864, "1g.5gb"), (2, 9_856, "2g.10gb"), (3, 19_968, "3g.20gb"), (7, 40_192, "7g.40gb")]
        {
            assert_eq!(profile_name(slices, mib, 40_960 << 20), name);
        }
        assert_eq!(profile_name(3, 40_448, 81_559 << 20), "3g.40gb");
        assert_eq!(profile_name(1, 9_984, 81_559 << 20), "1g.10gb");
    }

    #[test]
    fn masks_and_fields_are_read() {
        assert_eq!(bits(&[0b101, 1]), [0, 2, 64]);
        assert_eq!(text(&[77, 73, 71, 0, 65]), "MIG");
    }
}
