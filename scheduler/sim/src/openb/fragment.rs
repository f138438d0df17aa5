//! How much free GPU the pods of a mix could not use on a node: the measure of FGD, as an exact integer.

use super::cluster::{Ask, Node, Pod, WHOLE};

/// The pods that the measure sums over, grouped by what they ask of GPUs.
#[derive(Clone, Debug)]
pub struct Wishes {
    groups: Vec<Group>,
    /// Pods that ask for no GPU: no free GPU is of use to them.
    without: u64,
}

#[derive(Clone, Debug)]
struct Group {
    gpu: Ask,
    /// CPU demands, ascending.
    cpu_milli: Vec<u32>,
}

impl Group {
    /// How many of its pods ask for no more CPU than this.
    fn within(&self, cpu_milli: u32) -> u64 {
        self.cpu_milli.partition_point(|demand| *demand <= cpu_milli) as u64
    }
}

impl Wishes {
    /// Of these pods, each counted once.
    #[must_use]
    pub fn of(pods: &[Pod]) -> Self {
        let mut sorted: Vec<(Ask, u32)> = pods.iter().map(|pod| (pod.gpu, pod.cpu_milli)).collect();
        sorted.sort_unstable();
        let same = sorted.chunk_by(|a, b| a.0 == b.0);
        let group = |chunk: &[(Ask, u32)]| Group {
            gpu: chunk[0].0,
            cpu_milli: chunk.iter().map(|pod| pod.1).collect(),
        };
        let mut groups: Vec<Group> = same.map(group).collect();
        let without = groups.iter().filter(|g| g.gpu == Ask::Nothing).map(|g| g.cpu_milli.len() as u64).sum();
        groups.retain(|group| group.gpu != Ask::Nothing);
        Self { groups, without }
    }

    /// Sum over the pods of the thousandths that are free on the node and of no use to the pod. Memory is
    /// ignored.
    #[must_use]
    pub fn fragment(&self, node: &Node) -> u64 {
        let free = u64::from(node.free_milli());
        let whole = node.whole_free();
        let one = |group: &Group| {
            let below =
                |share: u32| node.gpus.iter().filter(|gpu| **gpu < share).map(|gpu| u64::from(*gpu)).sum();
            let (fits, useless): (bool, u64) = match group.gpu {
                Ask::Nothing => (false, free),
                Ask::Share(share) => (node.gpus.iter().any(|gpu| *gpu >= share), below(share)),
                Ask::Whole(count) => (whole >= count as usize, below(WHOLE)),
            };
            let able = if fits { group.within(node.cpu_milli) } else { 0 };
            able * useless + (group.cpu_milli.len() as u64 - able) * free
        };
        self.without * free + self.groups.iter().map(one).sum::<u64>()
    }
}
