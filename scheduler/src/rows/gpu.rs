//! GPUs and their slices as figures for Prometheus: what is given away, how they do, how much of what is free is of use.
//!
//! Labels are names of nodes, numbers and profiles; never a user or a job.

use std::collections::BTreeMap;
use std::fmt::Write;

use model::gpu::{Gpu, GpuMode};
use model::id::NodeIdx;
use scheduler_core::state::State;

use crate::views::View;

/// Memory slices of each GPU that jobs hold: by node and GPU, profile and first slice with its size.
type Held = BTreeMap<(NodeIdx, u32), Vec<(Box<str>, u8, u8)>>;

fn held(state: &State) -> Held {
    let mut found = Held::new();
    for id in &state.index.running {
        let Some(active) = state.job(*id).and_then(|job| job.active()) else { continue };
        for share in active.allocation.iter() {
            for slice in share.gres.iter().flat_map(|gres| &gres.slices) {
                let at = found.entry((share.node, slice.gpu)).or_default();
                at.push((slice.profile.clone(), slice.start, slice.size));
            }
        }
    }
    found
}

/// Share of the free memory slices that the largest instance which could be made or is free cannot use; 0 where nothing
/// is free.
fn fragmentation(gpu: &Gpu, taken: u32) -> f64 {
    let mask = |start: u32, size: u32| ((1_u32 << size) - 1) << start;
    let free = 8 - (taken & 0xff).count_ones();
    let places: Vec<(u32, u32)> = match gpu.mode {
        GpuMode::Dynamic => {
            let places = |profile: &model::gpu::MigProfile| {
                let size = profile.memory_slices;
                profile.starts.iter().map(|start| (*start, size)).collect::<Vec<_>>()
            };
            gpu.profiles.iter().flat_map(places).collect()
        }
        GpuMode::Fixed => gpu.instances.iter().map(|there| (there.start, there.size)).collect(),
        GpuMode::Whole => vec![(0, 8)],
    };
    let fitting = places.into_iter().filter(|(start, size)| taken & mask(*start, *size) == 0);
    let largest = fitting.map(|(_, size)| size).max().unwrap_or(0);
    if free == 0 { 0.0 } else { f64::from(free - largest.min(free)) / f64::from(free) }
}

/// The text. Empty where no node shows a GPU.
#[must_use]
pub fn metrics(view: &View) -> String {
    let held = held(&view.state);
    let mut families: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    let mut add = |name: &'static str, help: &'static str, labels: &str, value: f64| {
        let lines = &mut families.entry(name).or_insert_with(|| (help, String::new())).1;
        let _ = writeln!(lines, "{name}{{{labels}}} {value}");
    };
    for (idx, node) in (0..).map(NodeIdx).zip(&view.state.nodes).filter(|(_, node)| !node.removed) {
        let vitals = view.vitals.get(&idx);
        for gpu in &node.observed.gpus {
            let slices = held.get(&(idx, gpu.index)).map_or(&[][..], Vec::as_slice);
            let whole = slices.iter().any(|(profile, _, _)| profile.is_empty());
            let taken = slices.iter().fold(0_u32, |all, (_, start, size)| {
                all | ((1_u32 << u32::from((*size).min(8))) - 1) << u32::from(*start)
            });
            let taken = if whole { 0xff } else { taken };
            let name = &node.definition.name;
            let labels =
                format!("node=\"{name}\",gpu=\"{}\",kind=\"{}\",mode=\"{}\"", gpu.index, gpu.kind, gpu.mode);
            let healthy = f64::from(u8::from(gpu.is_healthy()));
            add("sluice_gpu_healthy", "1 where the GPU is in service.", &labels, healthy);
            let shared =
                node.shards.iter().flat_map(|shards| &shards.gpus).find(|one| one.index == gpu.index);
            let share = match (shared, node.used.shards.get(&gpu.index)) {
                (Some(shared), Some(shards)) if shared.count > 0 => *shards as f64 / f64::from(shared.count),
                _ => f64::from(taken.count_ones()) / 8.0,
            };
            add("sluice_gpu_allocated", "Share of the GPU that jobs hold, by memory slices.", &labels, share);
            let broken = fragmentation(gpu, taken);
            add(
                "sluice_gpu_fragmentation",
                "Share of the free memory slices that no single instance can use.",
                &labels,
                broken,
            );
            for (profile, start, _) in slices.iter().filter(|(profile, _, _)| !profile.is_empty()) {
                let labels = format!("{labels},profile=\"{profile}\",start=\"{start}\"");
                add("sluice_gpu_slice_allocated", "1 for each slice that a job holds.", &labels, 1.0);
            }
            let now = vitals.and_then(|vitals| vitals.gpus.iter().find(|one| one.index == gpu.index));
            let Some(now) = now else { continue };
            if let Some(percent) = now.utilisation {
                add(
                    "sluice_gpu_utilisation_percent",
                    "As the driver samples it.",
                    &labels,
                    f64::from(percent),
                );
            }
            if let Some(mib) = now.memory_used_mib {
                add("sluice_gpu_memory_used_bytes", "Memory in use.", &labels, mib as f64 * 1_048_576.0);
            }
            if let Some(degrees) = now.temperature {
                add("sluice_gpu_temperature_celsius", "Temperature.", &labels, f64::from(degrees));
            }
            for slice in &now.slices {
                let labels = format!("{labels},start=\"{}\"", slice.start);
                let bytes = slice.memory_used_mib as f64 * 1_048_576.0;
                add("sluice_gpu_slice_memory_used_bytes", "Memory in use of an instance.", &labels, bytes);
            }
        }
    }
    let text = |(name, (help, lines)): (&&str, &(&str, String))| {
        format!("# HELP {name} {help}\n# TYPE {name} gauge\n{lines}")
    };
    families.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::fragmentation;
    use model::gpu::{Gpu, GpuMode, MigProfile};

    #[test]
    fn what_is_free_and_of_no_use_is_fragmentation() {
        let profile = |memory_slices, starts: &[u32]| MigProfile {
            memory_slices,
            starts: starts.to_vec(),
            ..MigProfile::default()
        };
        let profiles = vec![profile(1, &[0, 1, 2, 3, 4, 5, 6]), profile(4, &[0, 4]), profile(8, &[0])];
        let gpu = Gpu { mode: GpuMode::Dynamic, profiles, ..Gpu::default() };
        assert_eq!(fragmentation(&gpu, 0), 0.0);
        assert_eq!(fragmentation(&gpu, 0xff), 0.0, "nothing is free");
        // A 1g in each half: six slices are free, and a 1g is the largest that fits.
        assert_eq!(fragmentation(&gpu, 0b0001_0001), 5.0 / 6.0);
        // One half: all of the rest is of use.
        assert_eq!(fragmentation(&gpu, 0b0000_1111), 0.0);
    }
}
