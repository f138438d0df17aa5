//! What the driver shows, held against what slurm.conf and gres.conf say. Pure.
//!
//! The driver counts: what is declared and not there is missing, what is there and not declared is not offered, and a
//! sentence says so. A GPU that answers nothing, or whose identity is another's too, is out of service alone.

use std::collections::BTreeMap;

use model::config::NodeConf;
use model::config::gres::{AutoDetect, GresConf, GresLine};
use model::config::own::OwnConf;
use model::gpu::{DYNAMIC_GPUS_MAX, Gpu, GpuMode, MigInstance, MigProfile};
use proto::v1;

use super::{Fault, Observed};

/// What the node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Every GPU of the driver, by PCI bus order.
    pub gpus: Vec<Gpu>,
    /// How many of each declared kind are there; without a declaration, of each kind that is there.
    pub gres: Vec<v1::Gres>,
    /// A sentence for each difference.
    pub lacks: Vec<String>,
}

/// The node's processors, to tell which of its cores a driver means.
#[derive(Clone, Debug, Default)]
pub struct Processors {
    /// The kernel's numbers, in the order in which the node counts them.
    pub numbers: Vec<u32>,
    /// Threads of a core.
    pub threads: u32,
}

impl Processors {
    /// The cores that have some of these processors, as first and last of each range. Empty: all of them, or none that
    /// is the node's, and nothing is said of where the GPU lies.
    fn cores(&self, near: &[u32]) -> Vec<u32> {
        let cores = self.numbers.chunks(self.threads.max(1) as usize);
        let all = cores.len();
        let is_near = |core: &&[u32]| core.iter().any(|cpu| near.contains(cpu));
        let found: Vec<u32> =
            (0..).zip(cores).filter(|(_, core)| is_near(core)).map(|(core, _)| core).collect();
        if found.len() == all { Vec::new() } else { ranges(&found) }
    }
}

/// Whether this node's GPUs are looked for, and how.
#[must_use]
pub fn auto_detect(node: &str, conf: Option<&GresConf>) -> AutoDetect {
    let Some(conf) = conf else { return AutoDetect::Unsaid };
    let mut own = conf.lines.iter().filter(|line| line.concerns(node)).map(|line| line.auto_detect);
    own.rfind(|auto| *auto != AutoDetect::Unsaid).unwrap_or(conf.auto_detect)
}

/// Slurm's type of a product: lower case, blanks as underscores.
#[must_use]
pub fn type_name(product: &str) -> String {
    product.trim().to_ascii_lowercase().replace(' ', "_")
}

/// Whether a type as declared or asked means this kind, as Slurm compares them: a part of the name will do.
#[must_use]
pub fn is_kind(wanted: &str, kind: &str) -> bool {
    kind.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase())
}

/// Whether a type means this profile of this kind: `3g.20gb`, `a100_3g.20gb`.
#[must_use]
pub fn is_slice(wanted: &str, kind: &str, product: &str, profile: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    if wanted == profile {
        return true;
    }
    let Some(front) = wanted.strip_suffix(profile).and_then(|front| front.strip_suffix('_')) else {
        return false;
    };
    is_kind(front, kind) || is_kind(front, product)
}

/// The lines of gres.conf that speak of this node's GPUs.
fn lines<'a>(node: Option<&NodeConf>, conf: Option<&'a GresConf>) -> Vec<&'a GresLine> {
    let Some(node) = node else { return Vec::new() };
    let lines = conf.into_iter().flat_map(|conf| &conf.lines);
    lines.filter(|line| line.concerns(&node.name) && &*line.name == "gpu").collect()
}

/// Holds the driver's GPUs against the configuration (gres.conf, sluice.conf). `node` is none where no slurm.conf is: everything is offered.
/// `before` is what was found the last time: one that answers no more is still what it was. `judge` says of a GPU that answers why it is out of service all the same.
///
/// One that is out of service still counts as there: that it gives nothing is its own fault, not the node's.
#[must_use]
pub fn compare(
    node: Option<&NodeConf>,
    (conf, own): (Option<&GresConf>, &OwnConf),
    processors: &Processors,
    observed: &[Observed],
    before: &[Gpu],
    judge: &dyn Fn(&Gpu) -> Option<String>,
) -> Inventory {
    let lines = lines(node, conf);
    let mut found = Inventory::default();
    for (index, observed) in observed.iter().enumerate() {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let gpu = match observed {
            Ok(gpu) => Gpu {
                core_ranges: processors.cores(&gpu.cpus),
                ..healthy(index, gpu, node, (&lines, own), &mut found.lacks)
            },
            Err(fault) => lost(index, fault, before),
        };
        found.gpus.push(gpu);
    }
    refuse_twins(&mut found.gpus);
    for gpu in found.gpus.iter_mut().filter(|gpu| gpu.is_healthy()) {
        gpu.fault = judge(gpu).unwrap_or_default().into();
    }
    for gpu in found.gpus.iter().filter(|gpu| !gpu.is_healthy()) {
        found.lacks.push(format!("GPU {} is out of service: {}", gpu.index, gpu.fault));
    }
    check_lines(&lines, &found.gpus, &mut found.lacks);
    found.gres = match node {
        Some(node) => declared(node, &found.gpus, &mut found.lacks),
        None => offered(&found.gpus),
    };
    found
}

/// What it was when it answered is still what the node has; only it gives nothing.
fn lost(index: u32, fault: &Fault, before: &[Gpu]) -> Gpu {
    let known = before.iter().find(|gpu| gpu.index == index && !gpu.product.is_empty());
    Gpu { index, fault: fault.to_string().into(), ..known.cloned().unwrap_or_default() }
}

fn healthy(
    index: u32,
    gpu: &super::Gpu,
    node: Option<&NodeConf>,
    (lines, own): (&[&GresLine], &OwnConf),
    lacks: &mut Vec<String>,
) -> Gpu {
    let full = type_name(&gpu.product);
    let line = line_of(lines, gpu.minor, &full);
    let named = line.and_then(|line| line.kind.as_deref()).filter(|kind| is_kind(kind, &full));
    let declared = || {
        let kinds = node.into_iter().flat_map(|node| &node.gres).filter(|gres| gres.is_gpu());
        kinds.filter_map(|gres| gres.kind.as_deref()).find(|kind| is_kind(kind, &full))
    };
    let kind = named.or_else(declared).unwrap_or(&full);
    let name = node.map_or("", |node| &node.name);
    let dynamic = own.is_dynamic(name, &format!("/dev/nvidia{}", gpu.minor), &full);
    let mode = match (gpu.mig, dynamic && index < DYNAMIC_GPUS_MAX) {
        (true, true) => GpuMode::Dynamic,
        (true, false) => GpuMode::Fixed,
        (false, _) => GpuMode::Whole,
    };
    if dynamic && !gpu.mig {
        lacks.push(format!(
            "GPU {index} is dynamic in sluice.conf, but MIG mode is off: it is offered as a whole"
        ));
    }
    if dynamic && gpu.mig && mode != GpuMode::Dynamic {
        lacks.push(format!(
            "GPU {index} is dynamic in sluice.conf, but only the first {DYNAMIC_GPUS_MAX} GPUs of a node can be: its \
             instances are offered as they are"
        ));
    }
    let instances: Vec<MigInstance> = gpu.instances.iter().filter_map(|there| instance(gpu, there)).collect();
    let odd = gpu.instances.len() - instances.len();
    if odd > 0 {
        lacks.push(format!(
            "{odd} GPU instances of GPU {index} have no compute instance that takes all of them: they are not offered"
        ));
    }
    Gpu {
        index,
        uuid: gpu.uuid.as_str().into(),
        kind: kind.into(),
        product: gpu.product.as_str().into(),
        memory_mib: gpu.memory_mib,
        pci: gpu.pci.as_str().into(),
        cpu_ranges: ranges(&gpu.cpus),
        core_ranges: Vec::new(),
        links: gpu.links.clone(),
        minor: gpu.minor,
        mode,
        profiles: gpu.profiles.iter().map(profile).collect(),
        instances,
        fault: "".into(),
    }
}

/// The line that speaks of a GPU: by its device file, else by its type.
fn line_of<'a>(lines: &[&'a GresLine], minor: u32, full: &str) -> Option<&'a GresLine> {
    let by_file = lines.iter().find(|line| line.files.iter().any(|file| minor_of(file) == Some(minor)));
    let by_kind = || {
        let mut open = lines.iter().filter(|line| line.files.is_empty());
        open.find(|line| line.kind.as_deref().is_none_or(|kind| is_kind(kind, full)))
    };
    by_file.or_else(by_kind).copied()
}

/// 3 of `/dev/nvidia3`.
fn minor_of(file: &str) -> Option<u32> {
    file.strip_prefix("/dev/nvidia")?.parse().ok()
}

fn profile(from: &super::Profile) -> MigProfile {
    let mut starts = from.starts.clone();
    starts.sort_unstable();
    MigProfile {
        id: from.id,
        name: from.name.as_str().into(),
        compute_slices: from.compute_slices,
        memory_slices: from.memory_slices,
        memory_mib: from.memory_mib,
        starts,
    }
}

/// The instance as jobs can have it.
#[must_use]
pub fn instance(gpu: &super::Gpu, from: &super::Instance) -> Option<MigInstance> {
    Some(MigInstance {
        profile: gpu.profile(from.profile)?.name.as_str().into(),
        start: from.start,
        size: from.size,
        gi: from.gi,
        ci: from.ci?,
        uuid: from.uuid.as_str().into(),
    })
}

/// First and last of each run of sorted numbers, flattened.
fn ranges(cpus: &[u32]) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for cpu in cpus {
        match found.last_mut() {
            Some(last) if *last + 1 == *cpu => *last = *cpu,
            _ => found.extend([*cpu, *cpu]),
        }
    }
    found
}

/// Two GPUs of one identity: neither can be told from the other.
fn refuse_twins(gpus: &mut [Gpu]) {
    let mut of: BTreeMap<Box<str>, Vec<u32>> = BTreeMap::new();
    for gpu in gpus.iter().filter(|gpu| !gpu.uuid.is_empty()) {
        of.entry(gpu.uuid.clone()).or_default().push(gpu.index);
    }
    for gpu in gpus.iter_mut() {
        let twins = of.get(&gpu.uuid).map_or(&[][..], Vec::as_slice);
        if let Some(other) = twins.iter().find(|index| **index != gpu.index) {
            gpu.fault = format!("GPU {other} has the same UUID {}", gpu.uuid).into();
        }
    }
}

fn check_lines(lines: &[&GresLine], gpus: &[Gpu], lacks: &mut Vec<String>) {
    let healthy = || gpus.iter().filter(|gpu| gpu.is_healthy());
    for line in lines {
        let at = format!("{}:{}", line.place.file.display(), line.place.line);
        for file in &line.files {
            let Some(minor) = minor_of(file) else {
                // Capability nodes of fixed slices are the driver's to name.
                if !file.starts_with("/dev/nvidia-caps/") {
                    lacks.push(format!("{at}: {file} is no device file of the driver's GPUs"));
                }
                continue;
            };
            let Some(gpu) = healthy().find(|gpu| gpu.minor == minor) else {
                lacks.push(format!("{at}: the driver shows no GPU with the device file {file}"));
                continue;
            };
            let full = type_name(&gpu.product);
            if let Some(kind) = line.kind.as_deref().filter(|kind| !is_kind(kind, &full)) {
                lacks.push(format!("{at}: {file} is a {full}, which is no {kind}"));
            }
            let cores = line.cores.as_deref().and_then(numbers).map(|cores| ranges(&cores));
            let shown = &gpu.core_ranges;
            if let Some(cores) = cores.filter(|cores| !shown.is_empty() && cores != shown) {
                lacks.push(format!(
                    "{at}: cores {} are named for {file}, but the driver shows {} near it: gres.conf counts",
                    texts(&cores),
                    texts(shown)
                ));
            }
            let links = &line.link_counts;
            if !links.is_empty() && line.files.len() == 1 && !gpu.links.is_empty() && *links != gpu.links {
                lacks.push(format!(
                    "{at}: links {} are named for {file}, but the driver shows {}: gres.conf counts",
                    line.links.as_deref().unwrap_or_default(),
                    links_text(gpu)
                ));
            }
        }
    }
}

/// `0-3,8` as sorted numbers.
pub(super) fn numbers(text: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for piece in text.split(',').filter(|piece| !piece.is_empty()) {
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last - first > 4096 {
            return None;
        }
        found.extend(first..=last);
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}

/// `-1,4,4,0`, as gres.conf writes it.
fn links_text(gpu: &Gpu) -> String {
    let one = |(at, count): (u32, &u32)| if at == gpu.index { "-1".to_owned() } else { count.to_string() };
    (0..).zip(&gpu.links).map(one).collect::<Vec<_>>().join(",")
}

fn texts(ranges: &[u32]) -> String {
    let text = |pair: &[u32]| {
        if pair[0] == pair[1] { pair[0].to_string() } else { format!("{}-{}", pair[0], pair[1]) }
    };
    ranges.chunks_exact(2).map(text).collect::<Vec<_>>().join(",")
}

/// How many of a type there are: whole GPUs by kind, instances of fixed ones by profile.
fn count(kind: Option<&str>, gpus: &[Gpu]) -> u64 {
    let of = |gpu: &Gpu| -> u64 {
        // One that never answered may be of any kind.
        let is = |kind: &str| gpu.product.is_empty() || is_kind(kind, &gpu.kind);
        let whole = gpu.mode != GpuMode::Fixed && kind.is_none_or(is);
        let cut = |there: &&MigInstance| {
            gpu.mode == GpuMode::Fixed
                && kind.is_none_or(|kind| is_slice(kind, &gpu.kind, &type_name(&gpu.product), &there.profile))
        };
        u64::from(whole) + gpu.instances.iter().filter(cut).count() as u64
    };
    gpus.iter().map(of).sum()
}

fn declared(node: &NodeConf, gpus: &[Gpu], lacks: &mut Vec<String>) -> Vec<v1::Gres> {
    let mut found = Vec::new();
    for declared in node.gres.iter().filter(|gres| gres.is_gpu()) {
        let kind = declared.kind.as_deref();
        let there = count(kind, gpus);
        let name = kind.map_or_else(|| "gpu".to_owned(), |kind| format!("gpu:{kind}"));
        if there < declared.count {
            lacks.push(format!("{there} of {} declared {name} are there", declared.count));
        }
        if there > declared.count {
            lacks.push(format!(
                "{there} {name} are there, {} are declared: the rest is not offered",
                declared.count
            ));
        }
        let r#type = kind.unwrap_or_default().to_owned();
        found.push(v1::Gres { name: "gpu".to_owned(), r#type, count: there.min(declared.count) });
    }
    if found.is_empty() && gpus.iter().any(Gpu::is_healthy) {
        lacks.push(format!("slurm.conf declares no GPU for {}, which has {}", node.name, gpus.len()));
    }
    found
}

/// Everything that is there, by kind.
fn offered(gpus: &[Gpu]) -> Vec<v1::Gres> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for gpu in gpus.iter().filter(|gpu| gpu.is_healthy()) {
        match gpu.mode {
            GpuMode::Fixed => {
                for there in &gpu.instances {
                    *counts.entry(format!("{}_{}", gpu.kind, there.profile)).or_default() += 1;
                }
            }
            GpuMode::Whole | GpuMode::Dynamic => *counts.entry(gpu.kind.to_string()).or_default() += 1,
        }
    }
    counts.into_iter().map(|(r#type, count)| v1::Gres { name: "gpu".to_owned(), r#type, count }).collect()
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
