//! What programs are told of the GPUs that they have: the variables, and which task gets which.
//!
//! Numbering is Slurm's: where a cgroup keeps the other devices away a job counts its own from 0, else the node's
//! numbers (PCI bus order) hold; `SLURM_JOB_GPUS` and its kin always have the node's. A slice is named by its UUID. Pure.

use model::gpu_bind::GpuBind;
use proto::v1;

use super::node::Granted;

/// The GPUs of a job or a step on this node, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    devices: Vec<Device>,
    observed: bool,
    /// Some of them are slices, which have no number of the node.
    sliced: bool,
    /// Shards of them that the job or step has; 0: it has them whole.
    shards: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    /// As CUDA is told.
    name: String,
    /// The node's number.
    global: u32,
    /// Empty: not observed.
    uuid: String,
    /// Processors near it: first and last of each range; empty: not known.
    near: Vec<u32>,
}

impl Visible {
    /// Of GPUs that a driver shows. `constrained`: other devices cannot be opened.
    #[must_use]
    pub fn observed(granted: &[Granted], constrained: bool) -> Self {
        // Numbers and UUIDs do not mix.
        let any_slice = granted.iter().any(|one| one.instance.is_some());
        let device = |(at, one): (usize, &Granted)| {
            let uuid = one.instance.as_ref().map_or(one.uuid.clone(), |there| there.uuid.to_string());
            let name = match (any_slice, constrained) {
                (true, _) => uuid.clone(),
                (false, true) => at.to_string(),
                (false, false) => one.index.to_string(),
            };
            Device { name, global: one.index, uuid, near: one.cpu_ranges.clone() }
        };
        let devices = granted.iter().enumerate().map(device).collect();
        Self { devices, observed: true, sliced: any_slice, shards: 0 }
    }

    /// The same of a run with this allocation, which may have parts of its GPUs only.
    #[must_use]
    pub fn of(mut self, allocation: &v1::NodeAllocation) -> Self {
        self.shards = allocation.gres.iter().filter(|held| held.name == "shard").map(|held| held.count).sum();
        self
    }

    /// Of GPUs that are only declared: the indices of an allocation.
    #[must_use]
    pub fn declared(allocation: &v1::NodeAllocation, constrained: bool) -> Self {
        let gpus = allocation.gres.iter().filter(|held| super::node::is_of_gpus(held));
        let mut indices: Vec<u32> = gpus.flat_map(|held| held.indices.iter().copied()).collect();
        indices.sort_unstable();
        let device = |(at, index): (usize, u32)| {
            let name = if constrained { at.to_string() } else { index.to_string() };
            Device { name, global: index, uuid: String::new(), near: Vec::new() }
        };
        let devices = indices.into_iter().enumerate().map(device).collect();
        Self { devices, ..Self::default() }.of(allocation)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.devices.len()
    }

    /// How many shards of them; 0: they are whole.
    #[must_use]
    pub fn shards(&self) -> u64 {
        self.shards
    }

    /// As `CUDA_VISIBLE_DEVICES` has them.
    #[must_use]
    pub fn names(&self) -> String {
        self.devices.iter().map(|device| device.name.as_str()).collect::<Vec<_>>().join(",")
    }

    /// As `SLURM_JOB_GPUS` has them: each GPU once, however many slices of it there are.
    #[must_use]
    pub fn global(&self) -> String {
        let mut numbers: Vec<u32> = self.devices.iter().map(|device| device.global).collect();
        numbers.dedup();
        numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
    }

    /// As `NVIDIA_VISIBLE_DEVICES` has them; `None` where they are not observed.
    #[must_use]
    pub fn uuids(&self) -> Option<String> {
        let list = || self.devices.iter().map(|device| device.uuid.as_str()).collect::<Vec<_>>().join(",");
        (self.observed && !self.devices.is_empty()).then(list)
    }

    /// The devices of one task alone, and what it says about them; `None`: it has all of them.
    ///
    /// `local` is its place among the `tasks` on this node, `cpus` what it is bound to (empty: not bound), `constrained`
    /// as for [`Visible::observed`].
    #[must_use]
    pub fn of_task(
        &self,
        bind: &GpuBind,
        local: usize,
        cpus: &[u32],
        constrained: bool,
    ) -> Option<(Self, Option<String>)> {
        let near = |at: usize| {
            let ranges = &self.devices[at].near;
            let within = |cpu: &u32| ranges.chunks_exact(2).any(|pair| (pair[0]..=pair[1]).contains(cpu));
            cpus.is_empty() || ranges.is_empty() || cpus.iter().any(within)
        };
        // Without a filter the numbers of a map are the node's; slices have none, and are counted from 0.
        let position = |number: u32| match constrained || self.sliced {
            true => Some(number as usize).filter(|at| *at < self.devices.len()),
            false => self.devices.iter().position(|device| device.global == number),
        };
        let mut chosen = bind.chosen(local, self.devices.len(), &near, &position)?;
        let wrong = if chosen.is_empty() { bind.numbers(local) } else { None };
        if chosen.is_empty() {
            chosen.push(0);
        }
        let devices: Vec<Device> = chosen.iter().map(|at| self.devices[*at].clone()).collect();
        let bits = |list: &mut dyn Iterator<Item = usize>| list.fold(0_u64, |all, at| all | 1 << at.min(63));
        let mine = Self { devices, ..self.clone() };
        let said = bind.verbose.then(|| {
            format!(
                "gpu-bind: usable_gres=0x{:X}; bit_alloc=0x{:X}; local_inx={}; global_list={}; local_list={}\n",
                bits(&mut chosen.iter().copied()),
                bits(&mut (0..self.devices.len())),
                self.devices.len(),
                mine.global(),
                mine.names(),
            )
        });
        let lines = [wrong.map(|numbers| no_device(&numbers)), said];
        let said = lines.into_iter().flatten().reduce(|one, other| one + &other);
        Some((mine, said))
    }
}

/// Slurm's line where none of the numbers that a map has for a task is one of its step's.
fn no_device(numbers: &[u32]) -> String {
    let list = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mask = numbers.iter().fold(0_u128, |all, number| all | 1_u128.checked_shl(*number).unwrap_or(0));
    format!(
        "slurmstepd: error: Bind request {list} (0x{mask:X}) does not specify any devices within the allocation. Binding to the \
         first device in the allocation instead.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::Visible;
    use crate::gpu::node::Granted;
    use model::gpu::MigInstance;
    use model::gpu_bind::GpuBind;

    fn gpu(index: u32, slice: Option<u32>) -> Granted {
        let instance = slice.map(|start| MigInstance {
            start,
            uuid: format!("MIG-{index}{start}").into(),
            ..MigInstance::default()
        });
        let cpu_ranges = if index < 2 { vec![0, 3] } else { vec![4, 7] };
        Granted { index, minor: 9 - index, uuid: format!("GPU-{index}"), cpu_ranges, instance }
    }

    #[test]
    fn numbers_are_the_nodes_unless_others_are_kept_away() {
        let two = [gpu(1, None), gpu(3, None)];
        let open = Visible::observed(&two, false);
        assert_eq!((open.names().as_str(), open.global().as_str()), ("1,3", "1,3"));
        let closed = Visible::observed(&two, true);
        assert_eq!((closed.names().as_str(), closed.global().as_str()), ("0,1", "1,3"));
        assert_eq!(closed.uuids().as_deref(), Some("GPU-1,GPU-3"));
    }

    #[test]
    fn slices_are_named_by_uuid_and_whole_gpus_beside_them_too() {
        let slices = Visible::observed(&[gpu(0, Some(0)), gpu(0, Some(4))], true);
        assert_eq!(
            (slices.names().as_str(), slices.global().as_str(), slices.count()),
            ("MIG-00,MIG-04", "0", 2)
        );
        let mixed = Visible::observed(&[gpu(0, Some(0)), gpu(1, None)], true);
        assert_eq!(mixed.names(), "MIG-00,GPU-1");
    }

    #[test]
    fn tasks_get_what_the_option_says() {
        let four = [gpu(0, None), gpu(1, None), gpu(2, None), gpu(3, None)];
        let all = Visible::observed(&four, true);
        let of = |text: &str, local: usize, cpus: &[u32]| {
            let bind = GpuBind::parse(text).unwrap();
            all.of_task(&bind, local, cpus, true).map(|(mine, _)| mine.names())
        };
        assert_eq!(of("none", 0, &[0]), None);
        assert_eq!(of("closest", 0, &[5]).as_deref(), Some("2,3"));
        assert_eq!(of("closest", 0, &[]).as_deref(), Some("0,1,2,3"));
        assert_eq!(of("single:2", 1, &[]).as_deref(), Some("0"));
        assert_eq!(of("single:2", 2, &[]).as_deref(), Some("1"));
        assert_eq!(of("single:1", 1, &[6]).as_deref(), Some("3"), "the second of the near ones");
        assert_eq!(of("per_task:2", 1, &[]).as_deref(), Some("2,3"));
        assert_eq!(of("map_gpu:3,1", 2, &[]).as_deref(), Some("3"));
        assert_eq!(of("mask_gpu:0x5*2,0xa", 1, &[]).as_deref(), Some("0,2"));
        let (mine, said) = all.of_task(&GpuBind::parse("verbose,map_gpu:2").unwrap(), 0, &[], true).unwrap();
        assert_eq!(mine.count(), 1);
        assert_eq!(
            said.as_deref(),
            Some("gpu-bind: usable_gres=0x4; bit_alloc=0xF; local_inx=4; global_list=2; local_list=2\n")
        );
        // Numbers of a map are the node's where nothing is kept away.
        let some = Visible::observed(&[gpu(1, None), gpu(3, None)], false);
        let map = GpuBind::parse("map_gpu:3").unwrap();
        assert_eq!(some.of_task(&map, 0, &[], false).unwrap().0.names(), "3");
        // Slices are counted from 0 either way: several are of one GPU.
        let slices = Visible::observed(&[gpu(2, Some(0)), gpu(2, Some(4))], false);
        let turned = GpuBind::parse("map_gpu:1,0").unwrap();
        assert_eq!(slices.of_task(&turned, 0, &[], false).unwrap().0.names(), "MIG-24");
        assert_eq!(slices.of_task(&turned, 1, &[], false).unwrap().0.names(), "MIG-20");
    }

    #[test]
    fn a_map_that_names_no_device_of_the_step_takes_the_first_and_says_so() {
        let some = Visible::observed(&[gpu(1, None), gpu(3, None)], false);
        let of = |text: &str| some.of_task(&GpuBind::parse(text).unwrap(), 0, &[], false).unwrap();
        let (mine, said) = of("map_gpu:2");
        assert_eq!((mine.names().as_str(), said.is_some()), ("1", true));
        assert!(
            said.unwrap().starts_with("slurmstepd: error: Bind request 2 (0x4) does not specify any devices")
        );
        let (mine, said) = of("mask_gpu:0x5");
        assert!(mine.names() == "1" && said.unwrap().contains("request 0,2 (0x5)"));
        assert_eq!(of("mask_gpu:0xf"), (some.clone(), None));
    }
}
