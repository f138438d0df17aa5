//! A node that has less than is declared: what is said of it, and when it may be used again.
//!
//! Owns the comparison of what an executor registers with, and what Slurm's reasons are for it. As in Slurm, a node that
//! has less takes no new jobs (drained, and invalid until it registers with enough; then RESUME brings it back), jobs
//! that run there go on, and one that has more is used as it is declared. SlurmdParameters=config_overrides leaves all
//! but GPUs uncompared.
//!
//! Without a configuration a node is what its executor says. While jobs run on one that comes back smaller, it stays as
//! it was and takes no others; when the last has ended it becomes what it is, and is used again.

use std::sync::Arc;

use model::id::NodeIdx;

use crate::allocation::NodeShare;
use crate::machine::Call;
use crate::planted::{self, Bug};
use crate::record::Record;
use crate::state::node::{Admin, Hardware, Node, NodeDefinition};

impl Hardware {
    /// Of a machine that is described so.
    #[must_use]
    pub fn of(definition: &NodeDefinition) -> Self {
        Self {
            cpus: definition.cpus,
            sockets: definition.sockets,
            cores_per_socket: definition.cores_per_socket,
            threads_per_core: definition.threads_per_core,
            memory: definition.memory,
            tmp_disk: definition.tmp_disk,
            gpus: Some(gpus_of(definition)),
        }
    }

    /// What is said of too few GPUs where no driver shows them; `None`: there are enough.
    fn lacks_gpus(&self, declared: &NodeDefinition) -> Option<String> {
        let (found, wanted) = (self.gpus?, gpus_of(declared));
        (found < wanted)
            .then(|| format!("gres/gpu count reported lower than configured ({found} < {wanted})"))
    }

    /// What is less than declared, in Slurm's words and order; empty: nothing is.
    #[must_use]
    pub fn lacks(&self, declared: &NodeDefinition) -> Vec<String> {
        let threads = |sockets: u32, cores: u32, threads: u32| {
            u64::from(sockets).saturating_mul(u64::from(cores)).saturating_mul(u64::from(threads))
        };
        let mut lacks = Vec::new();
        let found = threads(self.sockets, self.cores_per_socket, self.threads_per_core);
        if found < threads(declared.sockets, declared.cores_per_socket, declared.threads_per_core) {
            lacks.push("Low socket*core*thread count".to_owned());
        }
        if self.cpus < declared.cpus {
            lacks.push("Low CPUs".to_owned());
        }
        if self.memory < declared.memory {
            let (found, wanted) = (self.memory.0, declared.memory.0);
            lacks.push(format!("Low RealMemory (reported:{found} < 100.00% of configured:{wanted})"));
        }
        if self.tmp_disk < declared.tmp_disk {
            lacks.push("Low TmpDisk".to_owned());
        }
        lacks
    }
}

fn gpus_of(definition: &NodeDefinition) -> u64 {
    definition.gres.iter().filter(|gres| &*gres.name == "gpu").map(|gres| gres.count).sum()
}

impl Node {
    /// What it has less than is declared, in Slurm's words; `sizes`: beside its GPUs.
    #[must_use]
    pub fn lacks(&self, sizes: bool) -> Vec<String> {
        let gpus = match &self.inventory {
            Some(inventory) => inventory.missing(&self.definition),
            None => self.observed.hardware.and_then(|found| found.lacks_gpus(&self.definition)),
        };
        let sizes = self.observed.hardware.filter(|_| sizes);
        gpus.into_iter().chain(sizes.iter().flat_map(|found| found.lacks(&self.definition))).collect()
    }
}

impl Call<'_> {
    /// A node of no configuration registers as another one: taken over, unless jobs hold what it has no more.
    pub(super) fn take_size(&mut self, node: NodeIdx, definition: &NodeDefinition) {
        let known = self.state().node(node);
        if *known.definition == *definition {
            return;
        }
        let smaller = !Hardware::of(definition).lacks(&known.definition).is_empty();
        if smaller && known.used.jobs > 0 {
            return;
        }
        self.define_node(definition);
    }

    /// Takes a node that has less than is declared out of service, and says when it has enough again.
    pub(super) fn judge_size(&mut self, node: NodeIdx) {
        let (dynamic, overrides) = (self.settings().dynamic_nodes, self.settings().config_overrides);
        let known = self.state().node(node);
        let lacks = known.lacks(!overrides).join(", ");
        let admin = &known.admin;
        if lacks.is_empty() && !admin.invalid || planted::is(Bug::TakeShort) {
            return;
        }
        let admin = if lacks.is_empty() {
            // Nobody needs to look after a node that nobody configured.
            let kept = if dynamic { Admin { down: admin.down, ..Admin::default() } } else { admin.clone() };
            Admin { invalid: false, ..kept }
        } else if admin.invalid && *admin.reason == *lacks {
            return;
        } else {
            Admin {
                drain: admin.drain || !admin.down,
                invalid: true,
                reason: lacks.into(),
                reason_uid: self.settings().administrators.last().copied(),
                reason_at: Some(self.now),
                ..admin.clone()
            }
        };
        self.emit(Record::NodeAdmin { node, admin });
        self.out.pass_wanted = true;
    }

    /// A job has left these nodes: those of no configuration that waited for it become what they are. Where nodes are
    /// declared nothing is to be done, and this is not called.
    pub(crate) fn left(&mut self, held: &[NodeShare]) {
        for node in held.iter().map(|share| share.node) {
            let known = self.state().node(node);
            let Some(found) = known.observed.hardware else { continue };
            if !known.admin.invalid || known.used.jobs > 0 || known.removed {
                continue;
            }
            let definition = NodeDefinition {
                cpus: found.cpus,
                sockets: found.sockets,
                cores_per_socket: found.cores_per_socket,
                threads_per_core: found.threads_per_core,
                memory: found.memory,
                tmp_disk: found.tmp_disk,
                ..(*known.definition).clone()
            };
            self.emit(Record::NodeDefined { node, definition: Arc::new(definition), removed: false });
            self.judge_size(node);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::quantity::{Cpus, MemoryMib};

    use super::*;

    fn declared() -> NodeDefinition {
        NodeDefinition {
            name: "n1".into(),
            hostname: "n1".into(),
            address: "n1".into(),
            port: 0,
            cpus: Cpus(16),
            boards: 1,
            sockets: 2,
            cores_per_socket: 4,
            threads_per_core: 2,
            memory: MemoryMib(1000),
            tmp_disk: MemoryMib(10),
            features: Vec::new(),
            gres: Vec::new(),
            weight: 1,
            bind: true,
        }
    }

    #[test]
    fn what_is_less_is_named_in_slurms_order() {
        let full = Hardware::of(&declared());
        let lacks = |found: Hardware| found.lacks(&declared()).join(", ");
        assert_eq!(lacks(full), "");
        let more = Hardware { cpus: Cpus(17), sockets: 3, memory: MemoryMib(9000), ..full };
        assert_eq!(lacks(more), "");
        // Other sockets with as many threads are no fewer.
        assert_eq!(lacks(Hardware { sockets: 1, cores_per_socket: 8, ..full }), "");
        assert_eq!(lacks(Hardware { cpus: Cpus(15), ..full }), "Low CPUs");
        let small =
            Hardware { cpus: Cpus(8), sockets: 1, memory: MemoryMib(999), tmp_disk: MemoryMib(9), ..full };
        assert_eq!(
            lacks(small),
            "Low socket*core*thread count, Low CPUs, \
             Low RealMemory (reported:999 < 100.00% of configured:1000), Low TmpDisk"
        );
    }
}
