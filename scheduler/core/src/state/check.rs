//! What must always hold: every index and total is recomputed from the facts and compared.

use crate::apply::apply;
use crate::state::State;
use crate::state::job::{ArrayRole, Phase};

impl State {
    /// Every way in which the state contradicts itself, a sentence each; none for a sound state.
    ///
    /// Cost: O(everything × log). For tests, the simulator and tools.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut again = State::default();
        self.to_records(|record| apply(&mut again, &record));
        if again.index != self.index {
            faults.push(format!("indexes differ from the facts: {:?} / {:?}", self.index, again.index));
        }
        for (mine, other) in self.nodes.iter().zip(&again.nodes) {
            let name = &mine.definition.name;
            if mine.used != other.used {
                faults.push(format!("node {name}: use {:?}, jobs hold {:?}", mine.used, other.used));
            }
        }
        self.check_capacity(&mut faults);
        self.check_arrays(&mut faults);
        self.check_steps(&mut faults);
        self.check_promises(&mut faults);
        if again.promises != self.promises {
            faults.push("promises differ from what a snapshot keeps of them".to_owned());
        }
        if again.predictions != self.predictions {
            faults.push("predictions differ from what a snapshot keeps of them".to_owned());
        }
        faults
    }

    fn check_capacity(&self, faults: &mut Vec<String>) {
        for node in &self.nodes {
            let (name, definition, used) = (&node.definition.name, &node.definition, &node.used);
            if node.removed {
                continue;
            }
            if node.admin.invalid && !node.admin.drain && !node.admin.down {
                faults.push(format!("node {name}: is invalid and takes jobs"));
            }
            if used.sharing > 0 && used.sharing != used.jobs {
                faults.push(format!("node {name}: {} of {} jobs share CPUs", used.sharing, used.jobs));
            }
            if used.sharing == 0 && used.cpus > definition.cpus {
                faults.push(format!("node {name}: {} of {} CPUs held", used.cpus, definition.cpus));
            }
            if used.memory > definition.memory {
                faults.push(format!("node {name}: {} of {} MiB held", used.memory, definition.memory));
            }
            if mine_differs(node) {
                faults.push(format!("node {name}: its inventory is not what definition and observation say"));
            }
            let slices: Vec<_> = used.cuts.values().collect();
            let overlap =
                |place: usize| slices[..place].iter().any(|one| one.bits().meets(slices[place].bits()));
            if (0..slices.len()).any(overlap) {
                faults.push(format!("node {name}: slices overlap: {slices:?}"));
            }
            let of = |share: &crate::gpu::shards::Shared| used.shards.get(&share.index).copied().unwrap_or(0);
            let bits = |share: &crate::gpu::shards::Shared| {
                let words = used.gres_bits.get(share.kind).map_or(&[][..], Vec::as_slice);
                words.get(share.unit as usize / 64).is_some_and(|word| word >> (share.unit % 64) & 1 == 1)
            };
            for gpu in node.shards.iter().flat_map(|shards| &shards.gpus) {
                if of(gpu) > 0 && (bits(gpu) || (of(gpu) > u64::from(gpu.count) && gpu.count > 0)) {
                    let whole = if bits(gpu) { " and all of it" } else { "" };
                    faults.push(format!(
                        "node {name}: {} shards{whole} of GPU {} held, it has {}",
                        of(gpu),
                        gpu.index,
                        gpu.count
                    ));
                }
            }
            for (held, gres) in used.gres.iter().zip(&definition.gres) {
                if *held > gres.count {
                    faults.push(format!("node {name}: {held} of {} {} held", gres.count, gres.name));
                }
            }
        }
    }

    fn check_arrays(&self, faults: &mut Vec<String>) {
        for (array, summary) in &self.arrays {
            let records = self.jobs.values().filter(|job| job.array_id() == Some(*array));
            let (mut count, mut running) = (0, 0);
            for job in records {
                count += 1;
                running += u32::from(job.active().is_some());
            }
            if (count, running) != (summary.records, summary.running) {
                faults.push(format!("array {array}: {count} records, {running} running, not {summary:?}"));
            }
        }
        for job in self.jobs.values() {
            if let ArrayRole::Waiting(waiting) = &job.array {
                if waiting.tasks.is_empty() {
                    faults.push(format!("array {} waits for no element", job.id));
                }
                if job.active().is_some() {
                    faults.push(format!("array {} runs as a whole", job.id));
                }
            }
        }
    }

    fn check_promises(&self, faults: &mut Vec<String>) {
        if self.promises.by_job.is_empty() && self.promises.given_back.is_some() {
            faults.push("time was given back to no promise".to_owned());
        }
        for (id, promises) in &self.promises.by_job {
            if self.jobs.get(id).is_none_or(|job| job.pending().is_none()) {
                faults.push(format!("job {id} has a promise and does not wait"));
            }
            if promises.is_empty() || promises.windows(2).any(|pair| pair[0].start > pair[1].start) {
                faults.push(format!("promises of job {id} are out of order: {promises:?}"));
            }
            for promise in promises.iter() {
                let known = promise.holds.iter().all(|held| (held.node.0 as usize) < self.nodes.len());
                if promise.holds.is_empty() || promise.start > promise.end || !known {
                    faults.push(format!("job {id} has a promise that means nothing: {promise:?}"));
                }
            }
        }
    }

    fn check_steps(&self, faults: &mut Vec<String>) {
        for job in self.jobs.values() {
            let Phase::Active(active) = &job.phase else { continue };
            for step in &active.steps {
                let inside = step
                    .nodes
                    .iter()
                    .all(|part| active.allocation.iter().any(|share| share.node == part.node));
                if !inside {
                    faults.push(format!("step {}.{} is outside its job's nodes", job.id, step.id));
                }
            }
        }
    }
}

fn mine_differs(node: &crate::state::node::Node) -> bool {
    let again = crate::gpu::inventory::Inventory::of(&node.definition, &node.observed.gpus);
    node.inventory.as_deref() != again.as_ref()
}
