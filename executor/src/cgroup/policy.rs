//! What jobs are held to, as pure arithmetic: configuration and allocation in, a [`Share`] out.
//!
//! Without a `slurm.conf` everything is on. With one it is as in Slurm: nothing is limited unless `TaskPlugin` names
//! `cgroup`, and then what `cgroup.conf` constrains.

use std::collections::BTreeMap;

use model::config::SlurmConf;
use model::config::cgroup::CgroupConf;
use proto::v1;

/// Which hierarchy is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// What the machine has.
    Auto,
    /// Version 1 controllers.
    V1,
    /// Version 2.
    V2,
    /// None at all, not for tracking either.
    Disabled,
}

/// See the module comment.
#[derive(Clone, Debug)]
pub struct Policy {
    /// CgroupPlugin.
    pub plugin: Plugin,
    /// ConstrainCores.
    pub cores: bool,
    /// ConstrainRAMSpace.
    pub ram: bool,
    /// ConstrainSwapSpace.
    pub swap: bool,
    /// ConstrainDevices.
    pub devices: bool,
    /// Processes and threads of one job; None: no limit.
    pub pids: Option<u64>,
    /// Tasks are bound to processors where their launch says so.
    pub affinity: bool,
    /// Where the switches come from, for people.
    pub source: &'static str,
    numbers: CgroupConf,
}

/// A device file of a generic resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// The resource's name.
    pub gres: Box<str>,
    /// Its place among those of that name.
    pub index: u32,
    /// A block device; else a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The most; beyond it the kernel kills.
    pub hard: Option<u64>,
    /// Above it the kernel presses (where the hard limit is larger).
    pub soft: Option<u64>,
    /// The most swap beside it.
    pub swap: Option<u64>,
}

/// What a job or a step may use here. `None`, or empty: it is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The kernel's list of processors: `0-3,8`.
    pub cpus: Option<String>,
    /// Processors' worth of time, where processors cannot be named.
    pub quota: Option<u32>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Devices that it may not open.
    pub denied: Vec<Device>,
    /// Character devices of a major of which it may open some only.
    pub closed: Option<Closed>,
}

/// A major that is closed but for some minors: the capabilities of MIG, of which more may appear while a job runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// The major.
    pub major: u32,
    /// All minors that there can be, where devices can only be denied one by one.
    pub all: Vec<u32>,
    /// Those that it may open.
    pub open: Vec<u32>,
}

impl Closed {
    fn device(&self, minor: u32) -> Device {
        Device { gres: "gpu".into(), index: 0, block: false, major: self.major, minor }
    }

    /// What may not be opened, one by one.
    #[must_use]
    pub fn denied(&self) -> Vec<Device> {
        let shut = self.all.iter().filter(|minor| !self.open.contains(minor));
        shut.map(|minor| self.device(*minor)).collect()
    }
}

impl Share {
    /// Whether any device is kept from it.
    #[must_use]
    pub fn filters(&self) -> bool {
        !self.denied.is_empty() || self.closed.is_some()
    }

    /// Devices that `whole`, which it is a part of, may open and it may not.
    #[must_use]
    pub fn denied_beyond(&self, whole: &Self) -> Vec<Device> {
        let mut further: Vec<Device> =
            self.denied.iter().filter(|device| !whole.denied.contains(device)).cloned().collect();
        if let Some(closed) = &whole.closed {
            let open = self.closed.as_ref().map_or(&[][..], |own| &own.open);
            let shut = closed.open.iter().filter(|minor| !open.contains(minor));
            further.extend(shut.map(|minor| closed.device(*minor)));
        }
        further
    }
}

/// What the machine is, as far as shares depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's number of each of the node's processors; empty: the node has other ones than the machine.
    pub cpus: Vec<u32>,
    /// Memory, bytes.
    pub memory: u64,
    /// Device files of generic resources.
    pub devices: Vec<Device>,
    /// Capabilities of MIG: their major, and all minors that concern this machine's GPUs.
    pub capabilities: Option<(u32, Vec<u32>)>,
}

impl Policy {
    /// From the configuration. `pids` is what one job may have of processes and threads;
    /// 0: no limit.
    #[must_use]
    pub fn of(conf: Option<&SlurmConf>, cgroup: Option<&CgroupConf>, pids: u64) -> Self {
        let numbers = cgroup.cloned().unwrap_or_default();
        let plugin = match &*numbers.plugin {
            "cgroup/v1" => Plugin::V1,
            "cgroup/v2" => Plugin::V2,
            "disabled" => Plugin::Disabled,
            _ => Plugin::Auto,
        };
        let pids = Some(pids).filter(|pids| *pids > 0);
        let Some(conf) = conf else {
            let source = "the default without slurm.conf";
            let affinity = true;
            return Self {
                plugin,
                cores: true,
                ram: true,
                swap: true,
                devices: true,
                pids,
                affinity,
                source,
                numbers,
            };
        };
        let plugins = conf.settings.text("TaskPlugin").unwrap_or_default().to_ascii_lowercase();
        let named =
            |wanted: &str| plugins.split(',').any(|name| name.trim().trim_start_matches("task/") == wanted);
        let on = named("cgroup");
        Self {
            plugin,
            cores: on && numbers.constrain_cores,
            ram: on && numbers.constrain_ram,
            swap: on && numbers.constrain_swap,
            devices: on && numbers.constrain_devices,
            pids: pids.filter(|_| on),
            affinity: named("affinity"),
            source: if on { "cgroup.conf" } else { "TaskPlugin of slurm.conf, which names no cgroup" },
            numbers,
        }
    }

    /// Nothing is limited or tracked.
    #[must_use]
    pub fn off() -> Self {
        Self {
            plugin: Plugin::Disabled,
            cores: false,
            ram: false,
            swap: false,
            devices: false,
            pids: None,
            affinity: false,
            source: "CgroupPlugin=disabled",
            numbers: CgroupConf::default(),
        }
    }

    /// What of `allocation` is a limit. Slurm's rules. `open` are the minors of the MIG capabilities that go with it.
    #[must_use]
    pub fn share(&self, allocation: &v1::NodeAllocation, machine: &Machine, open: &[u32]) -> Share {
        let mut share = Share { pids: self.pids, ..Share::default() };
        if self.cores {
            share.cpus = kernel_list(&allocation.cpu_ranges, &machine.cpus);
            if share.cpus.is_none() && !allocation.cpu_ranges.is_empty() {
                share.quota = Some(allocation.cpus).filter(|cpus| *cpus > 0);
            }
        }
        share.memory = self.memory(allocation.memory_mib << 20, machine.memory);
        if self.devices {
            let granted = |device: &&Device| {
                // Where slices say where each one lies, they count: a slice's GPU has a device file of its own.
                let has = |gres: &v1::GresAllocation| match gres.slices.is_empty() {
                    true => gres.indices.contains(&device.index),
                    false => gres.slices.iter().any(|slice| slice.gpu == device.index),
                };
                // Whoever has shards of a GPU opens its file.
                let is = |gres: &v1::GresAllocation| match &*device.gres {
                    "gpu" => crate::gpu::node::is_of_gpus(gres),
                    name => gres.name == name,
                };
                allocation.gres.iter().any(|gres| is(gres) && has(gres))
            };
            share.denied = machine.devices.iter().filter(|device| !granted(device)).cloned().collect();
            let closed = machine.capabilities.clone();
            share.closed = closed.map(|(major, all)| Closed { major, all, open: open.to_vec() });
        }
        share
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bytes of memory times a percentage: not negative, and exact enough beyond 2^53"
    )]
    fn memory(&self, allocated: u64, total: u64) -> Option<Memory> {
        if allocated == 0 || !(self.ram || self.swap) {
            return None;
        }
        let part = |of: u64, percent: f64| (of as f64 * percent / 100.0) as u64;
        let numbers = &self.numbers;
        let (least, most) = (numbers.min_ram_mib << 20, part(total, numbers.max_ram_percent));
        let hard = part(allocated, numbers.allowed_ram_percent).min(most).max(least);
        let swap = part(allocated, numbers.allowed_swap_percent).min(part(total, numbers.max_swap_percent));
        Some(Memory {
            hard: self.ram.then_some(hard),
            soft: Some(allocated).filter(|soft| self.ram && *soft < hard),
            swap: self.swap.then_some(swap),
        })
    }

    /// Whether any limit at all is wanted.
    #[must_use]
    pub fn limits(&self) -> bool {
        self.cores || self.ram || self.swap || self.devices
    }

    /// MemorySwappiness.
    #[must_use]
    pub fn swappiness(&self) -> Option<u8> {
        self.numbers.swappiness
    }
}

/// The kernel's list of the node's processors in flattened `[first, last]` pairs; `None` where one of them has no
/// number here.
#[must_use]
pub fn kernel_list(ranges: &[u32], numbers: &[u32]) -> Option<String> {
    kernel_cpus(ranges, numbers).map(|cpus| list(&cpus))
}

/// The same as sorted numbers.
#[must_use]
pub fn kernel_cpus(ranges: &[u32], numbers: &[u32]) -> Option<Vec<u32>> {
    if ranges.is_empty() {
        return None;
    }
    let mut cpus = Vec::new();
    for pair in ranges.chunks_exact(2) {
        for id in pair[0]..=pair[1] {
            cpus.push(*numbers.get(id as usize)?);
        }
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}

/// `0-3,8` of sorted numbers.
#[must_use]
pub fn list(cpus: &[u32]) -> String {
    let mut runs: BTreeMap<u32, u32> = BTreeMap::new();
    for cpu in cpus {
        match runs.last_entry() {
            Some(mut run) if run.get() + 1 == *cpu => *run.get_mut() = *cpu,
            _ => drop(runs.insert(*cpu, *cpu)),
        }
    }
    let text = |(first, last): (&u32, &u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::{Device, Machine, Memory, Plugin, Policy, Share, kernel_list};
    use model::config::SlurmConf;
    use model::config::cgroup::CgroupConf;
    use proto::v1;
    use std::path::Path;

    const GIB: u64 = 1 << 30;

    fn conf(plugins: &str) -> SlurmConf {
        let text = format!(
            "ClusterName=c\nSlurmctldHost=h\nTaskPlugin={plugins}\nNodeName=n CPUs=4\nPartitionName=p Nodes=n\n"
        );
        let mut none = |_: &Path| Err("no includes".to_owned());
        SlurmConf::parse(&text, Path::new("slurm.conf"), &mut none).unwrap()
    }

    fn cgroup(text: &str) -> CgroupConf {
        let mut none = |_: &Path| Err("no includes".to_owned());
        CgroupConf::parse(text, Path::new("cgroup.conf"), &mut none).unwrap()
    }

    fn device(index: u32) -> Device {
        Device { gres: "gpu".into(), index, block: false, major: 195, minor: index }
    }

    #[test]
    fn processors_are_the_machines() {
        assert_eq!(kernel_list(&[0, 1, 3, 3], &[4, 6, 5, 7]).as_deref(), Some("4,6-7"));
        assert_eq!(kernel_list(&[0, 2], &[0, 1]), None, "a processor that the machine has not");
        assert_eq!(kernel_list(&[], &[0, 1]), None);
    }

    #[test]
    fn nothing_is_limited_unless_configured() {
        let all = cgroup("ConstrainCores=yes\nConstrainRAMSpace=yes\nConstrainDevices=yes\n");
        let allocation = v1::NodeAllocation {
            cpus: 1,
            cpu_ranges: vec![1, 1],
            memory_mib: 1024,
            ..v1::NodeAllocation::default()
        };
        let machine =
            Machine { cpus: vec![0, 1], memory: 8 * GIB, devices: vec![device(0)], capabilities: None };
        let plain = Policy::of(Some(&conf("task/none")), Some(&all), 500);
        assert_eq!(plain.share(&allocation, &machine, &[]), Share::default());
        let on = Policy::of(Some(&conf("task/affinity,task/cgroup")), Some(&all), 500);
        let memory = Some(Memory { hard: Some(GIB), soft: None, swap: None });
        let share = Share {
            cpus: Some("1".to_owned()),
            quota: None,
            memory,
            pids: Some(500),
            denied: vec![device(0)],
            closed: None,
        };
        assert_eq!(on.share(&allocation, &machine, &[]), share);
        // The quickstart: swap too.
        let default = Policy::of(None, None, 500).share(&allocation, &machine, &[]);
        assert_eq!(default.memory, Some(Memory { hard: Some(GIB), soft: None, swap: Some(0) }));
        // Processors of another machine: as much time, wherever.
        let other = Policy::of(None, None, 0).share(&allocation, &Machine::default(), &[]);
        assert_eq!((other.cpus, other.quota, other.pids), (None, Some(1), None));
    }

    #[test]
    fn memory_follows_slurms_percentages() {
        let rules = "CgroupPlugin=cgroup/v2\nConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedRAMSpace=150\n\
                     AllowedSwapSpace=50\nMaxRAMPercent=50\nMaxSwapPercent=10\nMinRAMSpace=64\n";
        let policy = Policy::of(Some(&conf("cgroup")), Some(&cgroup(rules)), 0);
        assert_eq!(policy.plugin, Plugin::V2);
        let of = |mib: u64| policy.memory(mib << 20, 10 * GIB);
        let expected = Memory { hard: Some(3 * GIB), soft: Some(2 * GIB), swap: Some(GIB) };
        assert_eq!(of(2048), Some(expected));
        assert_eq!(of(8192).and_then(|memory| memory.hard), Some(5 * GIB), "MaxRAMPercent");
        assert_eq!(of(8192).and_then(|memory| memory.swap), Some(GIB), "MaxSwapPercent");
        assert_eq!(of(1).and_then(|memory| memory.hard), Some(64 << 20), "MinRAMSpace");
        assert_eq!(of(0), None);
    }

    #[test]
    fn granted_devices_are_not_denied() {
        let machine = Machine { devices: vec![device(0), device(1), device(2)], ..Machine::default() };
        let gres =
            v1::GresAllocation { name: "gpu".to_owned(), count: 1, indices: vec![1], ..Default::default() };
        let allocation = v1::NodeAllocation { gres: vec![gres], ..v1::NodeAllocation::default() };
        let share = Policy::of(None, None, 0).share(&allocation, &machine, &[]);
        assert_eq!(share.denied, [device(0), device(2)]);
    }

    #[test]
    fn a_slice_opens_its_gpu_and_its_own_capabilities() {
        let capabilities = Some((237, vec![1, 2, 12, 13, 21, 22]));
        let machine = Machine { devices: vec![device(0), device(1)], capabilities, ..Machine::default() };
        let slice = v1::Slice { gpu: 1, profile: "3g.20gb".to_owned(), start: 4, size: 4 };
        let gres = v1::GresAllocation { name: "gpu".to_owned(), slices: vec![slice], ..Default::default() };
        let allocation = v1::NodeAllocation { gres: vec![gres], ..v1::NodeAllocation::default() };
        let policy = Policy::of(None, None, 0);
        let job = policy.share(&allocation, &machine, &[12, 13]);
        assert_eq!(job.denied, [device(0)]);
        let minors = |devices: Vec<Device>| devices.iter().map(|device| device.minor).collect::<Vec<_>>();
        assert_eq!(minors(job.closed.clone().unwrap().denied()), [1, 2, 21, 22]);
        // A step of it without any GPU.
        let step = policy.share(&v1::NodeAllocation::default(), &machine, &[]);
        assert_eq!(minors(step.denied_beyond(&job)), [1, 12, 13]);
        assert_eq!(job.denied_beyond(&job), []);
    }
}
