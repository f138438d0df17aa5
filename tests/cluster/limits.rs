//! Resource limits of the submitter's shell in the job, as in Slurm.

use std::fs;
use std::process::Command;

use tests::{Cluster, Conf};

use crate::SOON;

/// Submits from a shell with these limits (`ulimit` words), with these options; the job's `ulimit -Sn -Sc -Ss`.
fn of_job(cluster: &Cluster, limits: &str, options: &str) -> String {
    let script = cluster.jobs().join("job.sh");
    fs::write(
        &script,
        "#!/bin/sh\n{ ulimit -Sn; ulimit -Sc; ulimit -Ss; env | grep -c SLURM_RLIMIT; } > limits\n",
    )
    .unwrap();
    // The shell that sets them is the submitter's; it takes the environment of a client of this cluster.
    let line = format!("{limits}; exec \"$0\" --parsable {options} -o job.out job.sh");
    let sbatch = cluster.command("sbatch");
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]).arg(sbatch.get_program()).current_dir(cluster.jobs());
    for (name, value) in sbatch.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let out = shell.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let id = String::from_utf8(out.stdout).unwrap();
    cluster.wait_ended(id.trim(), "State", SOON).unwrap();
    let found = fs::read_to_string(cluster.jobs().join("limits")).unwrap();
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_submitters_limits_are_the_jobs() {
    let limits = "ulimit -Sn 77; ulimit -Sc 0; ulimit -Ss 4321";
    let conf = Conf::declared(1, 8, "PropagateResourceLimitsExcept=STACK");
    let cluster = Cluster::start(&conf, &["n1"]).unwrap();
    let site = fs::read_to_string("/proc/self/limits").unwrap();
    let stack = site.lines().find_map(|line| line.strip_prefix("Max stack size")).unwrap();
    let stack = match stack.split_whitespace().next().unwrap().parse::<u64>() {
        Ok(bytes) => (bytes / 1024).to_string(),
        Err(_) => "unlimited".to_owned(),
    };
    // The executor has the limits of this process; the site keeps the stack's out.
    assert_eq!(of_job(&cluster, limits, ""), format!("77 0 {stack} 0"));
    assert_eq!(of_job(&cluster, limits, "--propagate=STACK").split(' ').nth(2), Some("4321"));
    assert_eq!(of_job(&cluster, limits, "--export=NONE").split(' ').next(), Some("77"));
    let chosen = of_job(&cluster, limits, "--propagate=NONE");
    assert!(!chosen.starts_with("77 ") && chosen.contains(&format!(" {stack} ")), "{chosen}");
}
