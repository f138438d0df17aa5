//! How many nodes, tasks and CPUs a request asks for, as Slurm shows a waiting job.

use model::request::JobRequest;

/// Counts of a request after the defaults that need no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Least number of nodes.
    pub nodes_min: u32,
    /// Most, where that is another number.
    pub nodes_max: Option<u32>,
    /// Tasks.
    pub tasks: u32,
    /// CPUs in all.
    pub cpus: u32,
}

/// The counts. Source: goldens `opts/ntasks`, `opts/nodes`, `squeue/format-letters-pending-1`.
#[must_use]
pub fn of(request: &JobRequest) -> Shape {
    let nodes_given = request.nodes;
    let nodes_min = nodes_given.map_or(1, |(min, _)| min.max(1));
    let gpus: u64 = request.gpus_per_job.iter().map(|gres| gres.count).sum();
    let per_gpu = request.rare().ntasks_per_gpu.map(|tasks| u64::from(tasks).saturating_mul(gpus));
    let tasks = request
        .ntasks
        .or_else(|| per_gpu.filter(|&tasks| tasks > 0).and_then(|tasks| u32::try_from(tasks).ok()))
        .or_else(|| request.ntasks_per_node.map(|per_node| per_node.saturating_mul(nodes_min)))
        .unwrap_or(nodes_min)
        .max(1);
    // So many tasks a node need at least so many nodes.
    let spread = request.ntasks_per_node.map_or(1, |per_node| tasks.div_ceil(per_node.max(1)));
    let nodes_min = nodes_min.max(spread);
    let per_task = request.cpus_per_task.unwrap_or(1).max(1);
    // Of a range of nodes without a number of tasks, CPUs are counted for one task.
    let open = request.ntasks.is_none() && request.ntasks_per_node.is_none();
    let cpus = match nodes_given {
        // Tasks that share CPUs need no more than one on each node.
        _ if request.rare().overcommit => nodes_min,
        Some((least, Some(most))) if open && per_gpu.unwrap_or(0) == 0 && least < most => per_task,
        _ => tasks.saturating_mul(per_task).max(nodes_min),
    };
    let total_gpus = [&request.gpus_per_job, &request.gpus_per_node, &request.gres_per_node]
        .map(|list| list.iter().filter(|gres| gres.is_gpu()).map(|gres| gres.count).sum::<u64>());
    let [of_job, of_node, more_of_node] = total_gpus;
    let gpu_count = of_job.max((of_node + more_of_node).saturating_mul(nodes_min.into()));
    let for_gpus = request.rare().cpus_per_gpu.map_or(0, |cpus| u64::from(cpus).saturating_mul(gpu_count));
    let cpus = cpus.max(u32::try_from(for_gpus).unwrap_or(u32::MAX));
    let nodes_max = match nodes_given {
        Some((_, max)) => max.filter(|&max| max > nodes_min),
        // Without --nodes the tasks could each have a node of their own.
        None => Some(tasks).filter(|&tasks| tasks > 1 && request.ntasks_per_node.is_none()),
    };
    Shape { nodes_min, nodes_max, tasks, cpus }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(request: JobRequest, expected: (u32, Option<u32>, u32, u32)) {
        let shape = of(&request);
        assert_eq!((shape.nodes_min, shape.nodes_max, shape.tasks, shape.cpus), expected);
    }

    #[test]
    fn counts() {
        let base = JobRequest::default;
        check(base(), (1, None, 1, 1));
        check(JobRequest { ntasks: Some(5), ..base() }, (1, Some(5), 5, 5));
        check(
            JobRequest { nodes: Some((2, Some(2))), ntasks: Some(4), cpus_per_task: Some(2), ..base() },
            (2, None, 4, 8),
        );
        check(JobRequest { nodes: Some((2, Some(3))), ..base() }, (2, Some(3), 2, 1));
        check(JobRequest { ntasks: Some(5), ntasks_per_node: Some(2), ..base() }, (3, None, 5, 5));
        check(JobRequest { nodes: Some((2, None)), ntasks_per_node: Some(3), ..base() }, (2, None, 6, 6));
        let mut gpus = JobRequest { gpus_per_job: model::gres::parse_gpus("2").unwrap(), ..base() };
        gpus.rare_mut().ntasks_per_gpu = Some(2);
        check(gpus, (1, Some(4), 4, 4));
    }
}
