//! What a site's program around a job finds in its environment.
//!
//! Pure: from the launch that tells an executor of the job, which the scheduler makes for its own programs too.
//! Source: Slurm 22.05's own variables, as recorded from its `Prolog`, `Epilog`, `PrologSlurmctld` and `EpilogSlurmctld`,
//! and those that its manual adds since.

use model::id::Hook;
use model::quantity::runs;

use crate::v1;

/// Names and values, each name once. `node` is the node that a program of a node runs on.
///
/// There is no `PATH`, as in Slurm. Cost: O(nodes of the job).
#[must_use]
pub fn variables(launch: &v1::Launch, hook: Hook, node: &str) -> Vec<(&'static str, String)> {
    let request = launch.request.clone().unwrap_or_default();
    let rare = request.rare.clone().unwrap_or_default();
    let job = launch.key.as_ref().map_or(0, |key| key.job_id).to_string();
    let (uid, gid) = (launch.uid.to_string(), launch.gid.to_string());
    let seconds = |ms: i64| ms.div_euclid(1000).to_string();
    let name = if request.name.is_empty() { "sbatch" } else { &request.name };
    let mut found = vec![
        ("SLURM_CLUSTER_NAME", launch.cluster.clone()),
        ("SLURM_JOBID", job.clone()),
        ("SLURM_JOB_CPUS_PER_NODE", runs(launch.allocation.iter().map(|node| node.cpus))),
        ("SLURM_JOB_GID", gid),
        ("SLURM_JOB_ID", job),
        ("SLURM_JOB_NAME", name.to_owned()),
        ("SLURM_JOB_NODELIST", launch.node_list.clone()),
        ("SLURM_JOB_NUM_NODES", launch.allocation.len().to_string()),
        ("SLURM_JOB_OVERSUBSCRIBE", (if launch.exclusive { "NO" } else { "OK" }).to_owned()),
        ("SLURM_JOB_PARTITION", launch.partition.clone()),
        ("SLURM_JOB_RESTART_COUNT", launch.restarts.to_string()),
        ("SLURM_JOB_START_TIME", seconds(launch.start_ms)),
        ("SLURM_JOB_STDIN", request.stdin.clone().unwrap_or_else(|| "/dev/null".to_owned())),
        ("SLURM_JOB_UID", uid.clone()),
        ("SLURM_JOB_USER", launch.user.clone()),
        ("SLURM_JOB_WORK_DIR", request.work_dir.clone()),
        ("SLURM_SCRIPT_CONTEXT", hook.text().to_owned()),
    ];
    let texts = [
        ("SLURM_CONF", Some(launch.slurm_conf.clone())),
        ("SLURM_JOB_ACCOUNT", Some(launch.account.clone())),
        ("SLURM_JOB_COMMENT", rare.comment.clone()),
        ("SLURM_JOB_CONSTRAINTS", request.constraint.clone()),
        ("SLURM_JOB_END_TIME", launch.end_ms.map(seconds)),
        ("SLURM_JOB_EXTRA", rare.extra.clone()),
        ("SLURM_JOB_GROUP", Some(launch.group.clone())),
        ("SLURM_JOB_LICENSES", Some(launch.licenses.clone())),
        ("SLURM_JOB_QOS", Some(launch.qos.clone())),
        ("SLURM_JOB_RESERVATION", Some(launch.reservation.clone())),
        ("SLURM_JOB_STDERR", request.stderr.clone()),
        ("SLURM_JOB_STDOUT", request.stdout.clone()),
        ("SLURM_WCKEY", rare.wckey.clone()),
        ("SLURM_ARRAY_JOB_ID", launch.array_job_id.map(|id| id.to_string())),
        ("SLURM_ARRAY_TASK_ID", launch.array_task_id.map(|id| id.to_string())),
        ("SLURM_ARRAY_TASK_COUNT", launch.array_task_count.map(|count| count.to_string())),
        ("SLURM_ARRAY_TASK_MAX", launch.array_task_max.map(|id| id.to_string())),
        ("SLURM_ARRAY_TASK_MIN", launch.array_task_min.map(|id| id.to_string())),
        ("SLURM_ARRAY_TASK_STEP", launch.array_task_step.map(|step| step.to_string())),
    ];
    found.extend(
        texts.into_iter().filter_map(|(name, text)| Some((name, text?))).filter(|(_, t)| !t.is_empty()),
    );
    if matches!(hook, Hook::Prolog | Hook::Epilog) {
        let gpus = gpus(launch);
        found.push(("SLURMD_NODENAME", node.to_owned()));
        found.push(("SLURM_NODELIST", launch.node_list.clone()));
        found.push(("SLURM_UID", uid));
        found.extend(Some(("SLURM_JOB_GPUS", gpus)).filter(|(_, gpus)| !gpus.is_empty()));
    }
    if matches!(hook, Hook::Epilog | Hook::ControllerEpilog) {
        let status = |exit: Option<v1::ExitStatus>| exit.unwrap_or_default();
        let (exit, derived) = (status(launch.job_exit), status(launch.derived_exit));
        let wait = |exit: v1::ExitStatus| ((exit.code << 8) | exit.signal).to_string();
        found.push(("SLURM_JOB_DERIVED_EC", wait(derived)));
        found.push(("SLURM_JOB_EXIT_CODE", wait(exit)));
        found.push(("SLURM_JOB_EXIT_CODE2", format!("{}:{}", exit.code, exit.signal)));
    }
    found
}

/// Indices of the job's GPUs on the node: `0,3`.
fn gpus(launch: &v1::Launch) -> String {
    let here = launch.allocation.get(launch.node_index as usize);
    let gpus = here.into_iter().flat_map(|here| &here.gres).filter(|gres| gres.name == "gpu");
    let mut indices: Vec<u32> = gpus.flat_map(|gres| gres.indices.iter().copied()).collect();
    indices.sort_unstable();
    indices.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_finds_what_slurms_does() {
        let node = |cpus| v1::NodeAllocation { cpus, ..Default::default() };
        let launch = v1::Launch {
            key: Some(v1::RunKey { job_id: 7, ..Default::default() }),
            allocation: vec![node(1), node(1), node(4)],
            node_list: "c[3-5]".into(),
            account: "physics".into(),
            job_exit: Some(v1::ExitStatus { code: 3, signal: 0 }),
            ..Default::default()
        };
        let value = |hook, name: &str| {
            let found = variables(&launch, hook, "c3");
            found.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let some = |text: &str| Some(text.to_owned());
        for hook in Hook::ALL {
            assert_eq!(value(hook, "SLURM_JOB_ID"), some("7"));
            assert_eq!(value(hook, "SLURM_JOB_CPUS_PER_NODE"), some("1(x2),4"));
            assert_eq!(value(hook, "SLURM_SCRIPT_CONTEXT"), some(hook.text()));
            assert_eq!(value(hook, "PATH"), None);
            let names: Vec<_> = variables(&launch, hook, "c3").into_iter().map(|(name, _)| name).collect();
            let unique: std::collections::BTreeSet<_> = names.iter().collect();
            assert_eq!(names.len(), unique.len(), "{names:?}");
        }
        assert_eq!(value(Hook::Epilog, "SLURM_JOB_EXIT_CODE2"), some("3:0"));
        assert_eq!(value(Hook::ControllerEpilog, "SLURM_JOB_EXIT_CODE"), some("768"));
        assert_eq!(value(Hook::Prolog, "SLURM_JOB_EXIT_CODE2"), None);
        assert_eq!(value(Hook::Prolog, "SLURMD_NODENAME"), some("c3"));
        assert_eq!(value(Hook::ControllerProlog, "SLURMD_NODENAME"), None);
        assert_eq!(value(Hook::Prolog, "SLURM_JOB_COMMENT"), None);
    }
}
