//! What PMIx is told of a job, from the step's specification. Pure.

use executor_supervisor::spec::Spec;
use executor_supervisor::spec::mpi::Mpi;

/// A step as PMIx sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The name space, and the job's id.
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Ranks of this node, in the order of its tasks.
    pub(crate) local: Vec<u32>,
    pub(crate) mpi: Mpi,
}

/// What is told of one rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rank<'a> {
    pub(crate) rank: u32,
    pub(crate) node: &'a str,
    pub(crate) node_index: u32,
    /// Its place among the ranks of its node.
    pub(crate) local: u16,
}

impl Job {
    /// `None`: the specification asks for no helper.
    pub(crate) fn of(spec: &Spec) -> Option<Self> {
        let mpi = spec.mpi.as_deref()?.clone();
        Some(Self {
            name: format!("slurm.pmix.{}.{}", spec.job_id, spec.step),
            uid: spec.uid,
            gid: spec.gid,
            local: spec.tasks.iter().map(|task| task.rank).collect(),
            mpi,
        })
    }

    /// All ranks.
    pub(crate) fn ranks(&self) -> impl Iterator<Item = Rank<'_>> {
        let mut counts = vec![0_u16; self.mpi.nodes.len()];
        (0_u32..).zip(&self.mpi.places).map(move |(rank, place)| {
            let count = counts.get_mut(*place as usize);
            let local = count.map_or(0, |count| {
                *count = count.saturating_add(1);
                *count - 1
            });
            let node = self.mpi.nodes.get(*place as usize).map_or("", String::as_str);
            Rank { rank, node, node_index: *place, local }
        })
    }

    /// The nodes' names as PMIx reads a list that is not compressed: `raw:n1,n2`.
    pub(crate) fn node_map(&self) -> String {
        format!("raw:{}", self.mpi.nodes.join(","))
    }

    /// The ranks of each node: `raw:0,1;2,3`.
    pub(crate) fn rank_map(&self) -> String {
        let mut nodes = vec![Vec::new(); self.mpi.nodes.len()];
        for rank in self.ranks() {
            if let Some(ranks) = nodes.get_mut(rank.node_index as usize) {
                ranks.push(rank.rank.to_string());
            }
        }
        let nodes: Vec<String> = nodes.iter().map(|ranks| ranks.join(",")).collect();
        format!("raw:{}", nodes.join(";"))
    }

    /// The ranks of this node: `0,1`.
    pub(crate) fn peers(&self) -> String {
        self.local.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
    }

    /// The nodes of these ranks, in order; empty: all nodes.
    pub(crate) fn nodes_of(&self, ranks: &[u32]) -> Vec<u32> {
        let mut nodes: Vec<u32> =
            ranks.iter().filter_map(|rank| self.mpi.places.get(*rank as usize).copied()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        if nodes.len() == self.mpi.nodes.len() { Vec::new() } else { nodes }
    }
}

#[cfg(test)]
mod tests {
    use super::Job;
    use executor_supervisor::spec::mpi::{Mpi, Server};

    #[test]
    fn maps_name_every_rank_once() {
        let job = Job {
            name: "x".to_owned(),
            uid: 0,
            gid: 0,
            local: vec![1, 3],
            mpi: Mpi {
                server: Server::Pmi,
                node_index: 1,
                nodes: vec!["a".to_owned(), "b".to_owned()],
                places: vec![0, 1, 0, 1],
                folder: Vec::new(),
            },
        };
        assert_eq!(
            (job.node_map(), job.rank_map(), job.peers()),
            ("raw:a,b".into(), "raw:0,2;1,3".into(), "1,3".into())
        );
        let locals: Vec<(u32, u16)> = job.ranks().map(|rank| (rank.rank, rank.local)).collect();
        assert_eq!(locals, [(0, 0), (1, 0), (2, 1), (3, 1)]);
        assert_eq!((job.nodes_of(&[3]), job.nodes_of(&[0, 1])), (vec![1], Vec::new()));
        assert_eq!(job.nodes_of(&[9]), Vec::<u32>::new());
    }
}
