//! How much free GPU the pods of a mix could not use on a node: the measure of FGD, as an exact integer.

use super::cluster::{Ask, Node, Pod, WHOLE};

/// The pods that the measure sums over, grouped by what they ask of GPUs.
#[derive(Clone, Debug)]
pub struct Wishes {
    groups: Vec<Group>,
    /// Pods that ask for no GPU: no free GPU is of use to them.
    without: i64,
    /// All pods, and what they ask for together: thousandths of CPUs and of GPUs.
    pods: i64,
    cpu_milli: i64,
    gpu_milli: i64,
}

#[derive(Clone, Debug)]
struct Group {
    gpu: Ask,
    /// CPU demands, ascending.
    cpu_milli: Vec<u32>,
}

impl Group {
    /// How many of its pods ask for no more CPU than this.
    fn within(&self, cpu_milli: u32) -> i64 {
        count(self.cpu_milli.partition_point(|demand| *demand <= cpu_milli))
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
        let without = groups.iter().filter(|g| g.gpu == Ask::Nothing).map(|g| count(g.cpu_milli.len())).sum();
        groups.retain(|group| group.gpu != Ask::Nothing);
        Self {
            groups,
            without,
            pods: count(pods.len()),
            cpu_milli: pods.iter().map(|pod| i64::from(pod.cpu_milli)).sum(),
            gpu_milli: pods.iter().map(|pod| i64::from(pod.gpu.milli())).sum(),
        }
    }

    /// Sum over the pods of the thousandths that are free on the node and of no use to the pod. Memory is
    /// ignored.
    #[must_use]
    pub fn fragment(&self, node: &Node) -> i64 {
        let free = i64::from(node.free_milli());
        let whole = node.whole_free();
        let one = |group: &Group| {
            let below =
                |share: u32| node.gpus.iter().filter(|gpu| **gpu < share).map(|gpu| i64::from(*gpu)).sum();
            let (fits, useless): (bool, i64) = match group.gpu {
                Ask::Nothing => (false, free),
                Ask::Share(share) => (node.gpus.iter().any(|gpu| *gpu >= share), below(share)),
                Ask::Whole(count) => (whole >= count as usize, below(WHOLE)),
            };
            let able = if fits { group.within(node.cpu_milli) } else { 0 };
            able * useless + (count(group.cpu_milli.len()) - able) * free
        };
        self.without * free + self.groups.iter().map(one).sum::<i64>()
    }

    /// The free thousandths that the node's free CPU does not feed, if each took the pods' mean CPU per GPU;
    /// counted once per pod, to be on the scale of [`Wishes::fragment`].
    ///
    /// The fragment alone sees CPU run short only when the next pod no longer fits. On this trace nodes with
    /// eight GPUs have 12 CPUs for each and pods ask for 14, while others have 52.
    #[must_use]
    pub fn idle(&self, node: &Node) -> i64 {
        let fed = (i64::from(node.cpu_milli) * self.gpu_milli).checked_div(self.cpu_milli);
        let free = i64::from(node.free_milli());
        self.pods * fed.map_or(0, |fed| (free - fed).max(0))
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).expect("a file has fewer pods")
}
