//! The life of a job in a container: what it sees, where it is, how it ends.

use std::fs;
use std::time::Duration;

use tests::{Cluster, wait_for};

use crate::{NOBODY, SOON, conf, image, named, one_node, run_as, submit_as_nobody, written};

#[test]
fn a_script_and_its_steps_run_inside() {
    let cluster = one_node();
    let sandbox = named("sandbox", &image("sandbox"));
    let script = r#"#!/bin/sh
#SBATCH -o out -e err
#SBATCH --container-env=FORCED
echo "$0 $SLURM_JOB_ID $PWD $ODD $FORCED $(test -e /work -o -e /sbin && echo leak)"
grep -c sluice /proc/self/cgroup
echo mine > /tmp/mine
echo "hosts $(scontrol show hostnames "$SLURM_JOB_NODELIST")"
srun -n2 -l sh -c 'echo step $SLURM_PROCID $(cat /image-kind) $(cat /tmp/mine)'
srun -n1 --container=none sh -c 'test -e /image-kind || echo outside'
sbatch --parsable --hold --wrap true >/dev/null && squeue -h -o %T -t PD
exit 3
"#;
    let mut sbatch = cluster.command("sbatch");
    use std::os::unix::process::CommandExt;
    let file = cluster.jobs().join("job.sh");
    fs::write(&file, script).unwrap();
    sbatch.args(["--parsable", "-n2", "--container", &sandbox]).arg(&file);
    sbatch.env("ODD", "a \"b\" $(false) c").env("FORCED", "yes").uid(NOBODY).gid(NOBODY);
    let out = sbatch.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let id = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    let end = cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap();
    let (out, err) = (written(&cluster, "out"), written(&cluster, "err"));
    assert_eq!(end, "FAILED|3:0", "{out}{err}");
    let jobs = cluster.jobs().display().to_string();
    let mut lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("/.sluice/slurm_script {id} {jobs} a \"b\" $(false) c yes "));
    assert!(lines[1] >= "1", "it is in a cgroup of ours: {out}");
    assert_eq!(lines[2], "hosts n1");
    lines[3..5].sort_unstable();
    assert_eq!(
        lines[3..],
        ["0: step 0 sandbox mine", "1: step 1 sandbox mine", "outside", "PENDING"],
        "{err}"
    );
    let shown = cluster.ok("scontrol", &["show", "job", &id]).unwrap();
    assert!(shown.contains(&format!("Container={sandbox}")), "{shown}");
}

#[test]
fn codes_signals_and_streams_pass_through() {
    let cluster = one_node();
    let sandbox = named("sandbox", &image("sandbox"));
    for uid in [0, NOBODY] {
        let run = |input: &str, command: &str| {
            run_as(&cluster, uid, input, &["srun", "--container", &sandbox, "sh", "-c", command])
        };
        assert_eq!(run("", "exit 41").code, Some(41));
        let input = "line\n".repeat(20_000);
        let ran = run(&input, "cat; echo words >&2");
        assert_eq!((ran.stdout.len(), ran.stderr.as_str()), (input.len() - 1, "words"));
        let ran = run("", "kill -SEGV $$");
        assert_eq!(ran.code, Some(139), "{}", ran.stderr);
        assert!(ran.stderr.contains("Segmentation fault"), "{}", ran.stderr);
    }
}

/// Every process of this machine, with its parent and its cgroups.
fn processes() -> Vec<(u32, u32, String)> {
    let one = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some((pid, parent, fs::read_to_string(entry.path().join("cgroup")).ok()?))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(one).collect()
}

/// The cgroups of the first process below one of these, itself not among them.
fn cgroups_below(above: &[u32]) -> Option<String> {
    let all = processes();
    let child = all.iter().find(|(pid, parent, _)| above.contains(parent) && !above.contains(pid));
    child.map(|(_, _, cgroups)| cgroups.clone())
}

#[test]
fn a_cancel_reaches_each_process_once_and_leaves_none() {
    let cluster = one_node();
    let sandbox = named("sandbox", &image("sandbox"));
    let script = "#!/bin/sh\ntrap 'echo term >> terms' TERM\n(trap '' TERM; while :; do sleep 1; done) &\n\
                  echo ready > ready\nwhile :; do sleep 1 & wait $!; done\n";
    let options = ["--container", &sandbox, "-o", "o"];
    let id = submit_as_nobody(&cluster, script, &options);
    let ready = || cluster.jobs().join("ready").exists();
    wait_for("the script to begin", SOON, ready)
        .unwrap_or_else(|why| panic!("{why}: {}", written(&cluster, "o")));
    // The supervisor is in another one; no cgroup is that of two runs at a time.
    let step = cgroups_below(&cluster.supervisors()).expect("the supervisor has a child");
    let inside = || processes().iter().filter(|(_, _, cgroups)| *cgroups == step).count();
    assert!(inside() >= 3, "Apptainer, the script and its child are in the step's cgroup");
    cluster.ok("scancel", &[&id]).unwrap();
    assert_eq!(cluster.wait_ended(&id, "State", SOON).unwrap().split(' ').next(), Some("CANCELLED"));
    wait_for("its processes to be gone", SOON, || inside() == 0).unwrap();
    assert_eq!(written(&cluster, "terms"), "term\n");
}

#[test]
fn a_job_survives_its_executor() {
    let mut cluster = one_node();
    let sandbox = named("sandbox", &image("sandbox"));
    let script = "#!/bin/sh\necho ready > ready\nuntil [ -e go ]; do sleep 0.1; done\nexit 5\n";
    let id = submit_as_nobody(&cluster, script, &["--container", &sandbox, "-o", "o"]);
    wait_for("the script to begin", SOON, || cluster.jobs().join("ready").exists()).unwrap();
    cluster.executor("n1").unwrap().kill();
    cluster.start_executor("n1", &[]).unwrap();
    fs::write(cluster.jobs().join("go"), "").unwrap();
    assert_eq!(cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "FAILED|5:0");
}

#[test]
fn the_time_of_a_conversion_is_not_the_jobs() {
    let mut cluster = Cluster::prepare(&conf()).unwrap();
    cluster.start_scheduler(&[]).unwrap();
    // Apptainer, but conversions wait for a file.
    let slow = cluster.folder().join("slow");
    let go = cluster.folder().join("go");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" != build ] || {{ echo 'INFO:    Extracting slowly' >&2; until [ -e {} ]; do sleep 0.1; done; }}\n\
         exec apptainer \"$@\"\n",
        go.display()
    );
    fs::write(&slow, text).unwrap();
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    cluster.start_executor("n1", &[("SLUICE_APPTAINER", slow.to_str().unwrap())]).unwrap();
    cluster.wait_idle(1).unwrap();
    let archive = named("oci-archive", &image("oci-archive"));
    let submit = || submit_as_nobody(&cluster, "#!/bin/sh\ntrue\n", &["--container", &archive, "-o", "o"]);
    let state = |id: &str| cluster.ok("squeue", &["-h", "-j", id, "-o", "%T"]).unwrap_or_default();
    let shown = |id: &str| cluster.ok("scontrol", &["show", "job", id]).unwrap_or_default();
    let first = submit();
    wait_for("the job to be configured", SOON, || state(&first) == "CONFIGURING").unwrap();
    let why = || cluster.ok("sluice", &["why", &first]).unwrap_or_default();
    wait_for("its progress to be shown", SOON, || shown(&first).contains("Extracting_slowly")).unwrap();
    assert!(why().contains("converting oci-archive:"), "{}", why());
    cluster.ok("scancel", &[&first]).unwrap();
    assert_eq!(cluster.wait_ended(&first, "State", SOON).unwrap().split(' ').next(), Some("CANCELLED"));
    let slow_ones = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let name = slow.to_str().unwrap().as_bytes();
        let runs = |entry: &fs::DirEntry| {
            fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line.windows(name.len()).any(|part| part == name))
        };
        processes.filter(runs).count()
    };
    wait_for("the conversion to be ended", SOON, || slow_ones() == 0).unwrap();
    let second = submit();
    wait_for("the job to be configured", SOON, || state(&second) == "CONFIGURING").unwrap();
    fs::write(&go, "").unwrap();
    assert_eq!(cluster.wait_ended(&second, "State,ExitCode", SOON).unwrap(), "COMPLETED|0:0");
    let elapsed = cluster.ok("sacct", &["-nPX", "-j", &second, "-o", "ElapsedRaw"]).unwrap();
    assert!(elapsed.parse::<u64>().unwrap() <= Duration::from_secs(30).as_secs(), "{elapsed}");
}
