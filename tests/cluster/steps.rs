//! Steps as users run them: what they used is in `sstat` and `sacct`, by task.

use std::fs;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use tests::{Cluster, Conf, send, wait_for};

use crate::SOON;

/// Starts a command of this cluster and does not wait for it.
pub(crate) fn spawn(cluster: &Cluster, words: &[&str]) -> Child {
    let mut command = cluster.command(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Two tasks that wait for the file `go`; the second one holds 50 MB meanwhile.
const HOLDS_MEMORY: &str = "[ $SLURM_PROCID = 0 ] || head -c 50000000 /dev/zero | tail -c 50000000 | \
     sh -c 'until [ -e go ]; do sleep 0.05; done'; until [ -e go ]; do sleep 0.05; done";

#[test]
fn what_each_task_used_is_in_sstat_and_sacct() {
    let conf = Conf::declared(1, 8, "JobAcctGatherType=jobacct_gather/linux\nJobAcctGatherFrequency=30");
    let cluster = Cluster::start(&conf, &["n1"]).unwrap();
    let step = spawn(&cluster, &["srun", "--acctg-freq=task=1", "-n2", "sh", "-c", HOLDS_MEMORY]);
    let of_step = |format: &str| {
        let ran = cluster.run("sstat", &["-nP", "-j", "1.0", "-o", format]).unwrap();
        ran.stdout
    };
    wait_for("the second task to be the larger one", SOON, || {
        of_step("MaxRSSTask,MaxVMSizeTask") == "1|1" && of_step("AveRSS").ends_with('M')
    })
    .unwrap();
    let text = of_step("MaxRSS,AveRSS,MaxRSSNode,MaxVMSizeNode");
    let fields: Vec<&str> = text.split('|').collect();
    assert!(fields[0].ends_with('M') && fields[1].ends_with('M'), "{text}");
    assert_eq!(fields[2..], ["n1", "n1"]);
    // The timer of one second has looked too: what is asked for here is not what accounting rests on.
    fs::write(cluster.jobs().join("go"), "").unwrap();
    let out = step.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let kept = "MaxRSSTask,MaxRSSNode,MaxVMSizeTask,AvePages,MinCPUNode";
    let of_past = |format: &str| cluster.ok("sacct", &["-nP", "-j", "1.0", "-o", format]).unwrap();
    wait_for("accounting to know the step's end", SOON, || of_past("State") == "COMPLETED").unwrap();
    let text = of_past(kept);
    let fields: Vec<&str> = text.split('|').collect();
    assert_eq!(fields[..3], ["1", "n1", "1"], "{text}");
    assert!(fields[3].parse::<u64>().is_ok() && fields[4] == "n1", "{text}");
    let most = of_past("MaxRSS");
    let mib: u64 = most.strip_suffix('M').unwrap().parse().unwrap();
    assert!((45..80).contains(&mib), "{most}");
}

/// As torchrun scripts write it: the first host's name is where rank 0 listens, a port is made of the job's number.
const RENDEZVOUS: &str = r#"#!/bin/bash
export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_PORT=$((20000 + (SLURM_JOB_ID * 7 + $$) % 20000))
export WORLD_SIZE=$SLURM_NTASKS
srun python3 -c '
import os, socket, time
rank, size = int(os.environ["SLURM_PROCID"]), int(os.environ["WORLD_SIZE"])
place = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
if rank == 0:
    listener = socket.create_server(("", place[1]))
    peers = [listener.accept()[0] for _ in range(size - 1)]
    total = sum(int(peer.recv(16)) for peer in peers)
    for peer in peers:
        peer.sendall(str(total).encode())
else:
    until = time.monotonic() + 60
    while True:
        try:
            peer = socket.create_connection(place)
            break
        except ConnectionRefusedError:
            assert time.monotonic() < until, "nobody listens at %s:%d" % place
            time.sleep(0.05)
    peer.sendall(str(rank).encode())
    total = int(peer.recv(16))
said = (rank, os.environ["SLURMD_NODENAME"], os.environ["SLURM_NNODES"], total)
os.write(1, ("rank %s on %s of %s sum %s\n" % said).encode())  # in one piece: lines of two ranks do not mix
'
"#;

#[test]
fn ranks_of_two_nodes_find_each_other_as_torchrun_scripts_do() {
    // A name of a node that this machine's resolver knows: rank 0 is there.
    let conf = match Conf::declared(2, 4, "") {
        Conf::Text(text) => Conf::Text(text.replace("n[1-2]", "localhost,n2")),
        Conf::None => Conf::None,
    };
    let cluster = Cluster::start(&conf, &["localhost", "n2"]).unwrap();
    let path = format!("PATH={}:$PATH\n", cluster.folder().join("bin").display());
    let script = RENDEZVOUS.replacen('\n', &format!("\n{path}"), 1);
    let id = cluster.submit(&script, &["-N2", "--ntasks-per-node=2", "-o", "met"]).unwrap();
    let end = cluster.wait_ended(&id, "State,ExitCode", 2 * SOON).unwrap();
    let said = fs::read_to_string(cluster.jobs().join("met")).unwrap();
    assert_eq!(end, "COMPLETED|0:0", "{said}");
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    let expected = ["localhost", "localhost", "n2", "n2"];
    let expected: Vec<String> =
        (0..4).zip(expected).map(|(rank, node)| format!("rank {rank} on {node} of 2 sum 6")).collect();
    assert_eq!(lines, expected);
}

fn one_node(cpus: u32) -> Cluster {
    Cluster::start(&Conf::declared(1, cpus, ""), &["n1"]).unwrap()
}

#[test]
fn a_thousand_tasks_are_one_step() {
    let cluster = one_node(1000);
    let ran = cluster.run("srun", &["-n1000", "-l", "sh", "-c", "echo $SLURM_PROCID"]).unwrap();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (0..1000).map(|rank| format!("{rank:>3}: {rank}")).collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn a_file_is_broadcast_and_a_step_is_looked_on() {
    let cluster = Cluster::start(&Conf::declared(2, 4, ""), &["n1", "n2"]).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(cluster.jobs().join("source"), &bytes).unwrap();
    let bin = cluster.folder().join("bin");
    // Two nodes of one machine share its folders: the second one finds the first one's file and replaces it.
    let script = format!(
        "#!/bin/sh\nPATH={}:$PATH\nsbcast -f source \"$PWD/copy\" || exit 8\n\
         srun -N1 -n1 sh -c 'echo one; until [ -e go ]; do sleep 0.05; done; echo two; cat'\n",
        bin.display()
    );
    let id = cluster.submit(&script, &["-N2", "-o", "out"]).unwrap();
    let step =
        || cluster.run("squeue", &["-hs", "-j", &id, "-o", "%i"]).map(|ran| ran.stdout).unwrap_or_default();
    let watched = format!("{id}.1");
    wait_for("the step behind the broadcast", SOON, || step().lines().any(|line| line == watched)).unwrap();
    assert_eq!(fs::read(cluster.jobs().join("copy")).unwrap(), bytes);
    // One that is listed may not have begun: there is nothing to look on yet.
    let says = || fs::read_to_string(cluster.jobs().join("out")).is_ok_and(|text| text == "one\n");
    wait_for("the step to say something", SOON, says).unwrap();
    let watcher = spawn(&cluster, &["sattach", &watched]);
    // Shown: what it says from then on. Whether it looks yet only its output tells.
    let proc_fd = format!("/proc/{}/fd", watcher.id());
    let attached = || {
        let fds = fs::read_dir(&proc_fd).into_iter().flatten().flatten();
        let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.filter(|to| to.to_string_lossy().starts_with("socket:")).count() >= 2
    };
    wait_for("sattach to be connected", SOON, attached).unwrap();
    fs::write(cluster.jobs().join("go"), "").unwrap();
    let out = watcher.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.ends_with("two\n"), "{said:?} {}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(cluster.wait_ended(&id, "State,ExitCode", SOON).unwrap(), "COMPLETED|0:0");
    assert_eq!(fs::read_to_string(cluster.jobs().join("out")).unwrap(), "one\ntwo\n");
}

#[test]
fn one_end_ends_the_others_where_that_was_asked_for() {
    let cluster = one_node(8);
    let waits = "until [ -e never ]; do sleep 0.1; done";
    // -K: a bad exit ends all; its code is the step's.
    let bad = format!("[ $SLURM_PROCID = 0 ] && exit 3; {waits}");
    let ran = cluster.run("srun", &["-K", "-n3", "sh", "-c", &bad]).unwrap();
    // The worst end counts: a signal's number is added to 128.
    assert!([Some(3), Some(143)].contains(&ran.code), "{:?} {}", ran.code, ran.stderr);
    // -W: so many seconds after the first one has ended, however it did.
    let well = format!("[ $SLURM_PROCID = 0 ] && exit 0; {waits}");
    let ran = cluster.run("srun", &["-W1", "-n2", "sh", "-c", &well]).unwrap();
    assert_ne!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("First task exited 1s ago"), "{}", ran.stderr);
    wait_for("all supervisors to end", SOON, || cluster.supervisors().is_empty()).unwrap();
}

/// What Slurm 26.05 says and sends when a step is ended, compared side by side.
#[test]
fn a_step_is_ended_with_slurms_words_and_signals() {
    let cluster = Cluster::start(&Conf::declared(2, 2, ""), &["n1", "n2"]).unwrap();
    // The shell has words of its own for what ends its children.
    let task =
        "exec 2>/dev/null; trap 'echo term' TERM; echo up > up.$SLURM_PROCID; while :; do sleep 0.1; done";
    let begin = |options: &[&str], words: &str| {
        for rank in 0..2 {
            let _ = fs::remove_file(cluster.jobs().join(format!("up.{rank}")));
        }
        spawn(&cluster, &[&["srun", "-n2"], options, &["sh", "-c", words]].concat())
    };
    let up = |rank: u32| cluster.jobs().join(format!("up.{rank}")).exists();
    let id = || cluster.ok("squeue", &["-h", "-o", "%i"]).unwrap();
    // Each end: what was said (times and the order on two nodes aside), and how the step stands in accounting.
    let end = |step: Child, job: &str| {
        let out = step.wait_with_output().unwrap();
        let text = |bytes: &[u8]| {
            let mut lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(untimed).collect();
            lines.sort_unstable();
            lines
        };
        cluster.wait_ended(job, "State", SOON).unwrap();
        let row = cluster.ok("sacct", &["-nP", "-j", &format!("{job}.0"), "-o", "State,ExitCode"]).unwrap();
        (text(&out.stdout), text(&out.stderr), out.status.code(), row)
    };
    let killed = |job: &str, more: &[&str]| {
        let mut lines: Vec<String> = vec![
            format!("slurmstepd: error: *** STEP {job}.0 ON n1 CANCELLED AT - DUE to SIGNAL Killed ***"),
            "srun: Job step aborted: Waiting up to 4 seconds for job step to finish.".to_owned(),
        ];
        lines.extend(more.iter().map(|line| line.replace('@', job)));
        lines.sort_unstable();
        lines
    };

    // scancel of a step: SIGKILL at once, on all its nodes.
    let step = begin(&["-N2"], task);
    wait_for("both tasks to be up", SOON, || up(0) && up(1)).unwrap();
    let job = id();
    cluster.ok("scancel", &[&format!("{job}.0")]).unwrap();
    let ended = ["srun: error: n1: task 0: Killed", "srun: error: n2: task 1: Killed"];
    assert_eq!(end(step, &job), (vec![], killed(&job, &ended), Some(137), "CANCELLED by 0|0:9".to_owned()));

    // srun told to end does the same.
    let step = begin(&["-N1"], task);
    wait_for("both tasks to be up", SOON, || up(0) && up(1)).unwrap();
    let job = id();
    send(step.id(), Signal::SIGTERM);
    let ended = ["srun: forcing job termination", "srun: error: n1: tasks 0-1: Killed"];
    assert_eq!(end(step, &job), (vec![], killed(&job, &ended), Some(137), "CANCELLED|0:9".to_owned()));

    // -W: the same, and who is late.
    let late = format!("[ $SLURM_PROCID = 1 ] && exit; {task}");
    let step = begin(&["-N2", "-W1"], &late);
    wait_for("the task to be up", SOON, || up(0)).unwrap();
    let job = id();
    let ended = [
        "srun: First task exited 1s ago",
        "srun: StepId=@.0 task 0: running",
        "srun: StepId=@.0 task 1: exited",
        "srun: Terminating StepId=@.0",
        "srun: error: n1: task 0: Killed",
    ];
    assert_eq!(end(step, &job), (vec![], killed(&job, &ended), Some(137), "CANCELLED|0:9".to_owned()));

    // -K: SIGTERM on every node, and SIGKILL after KillWait.
    let bad = format!("if [ $SLURM_PROCID = 1 ]; then until [ -e up.0 ]; do :; done; exit 3; fi; {task}");
    for options in [["-N2", "-K"], ["-N1", "-K"]] {
        let step = begin(&options, &bad);
        wait_for("the task to be up", SOON, || up(0)).unwrap();
        let job = id();
        let (said, words, code, _) = end(step, &job);
        let node = if options[0] == "-N2" { "n2" } else { "n1" };
        let mut expected = vec![
            format!("slurmstepd: error: *** STEP {job}.0 ON n1 CANCELLED AT - DUE TO TASK FAILURE ***"),
            format!("srun: error: {node}: task 1: Exited with exit code 3"),
            format!("srun: Terminating StepId={job}.0"),
            "srun: error: n1: task 0: Killed".to_owned(),
            format!("srun: Force Terminated StepId={job}.0"),
        ];
        expected.sort_unstable();
        assert_eq!((said, words, code), (vec!["term".to_owned()], expected, Some(137)), "{options:?}");
    }

    // A job's cancel leaves its tasks KillWait, and says so.
    let step = begin(&["-N1"], task);
    wait_for("both tasks to be up", SOON, || up(0) && up(1)).unwrap();
    let job = id();
    cluster.ok("scancel", &[&job]).unwrap();
    let (said, words, _, row) = end(step, &job);
    assert_eq!((said.len(), row.as_str()), (2, "CANCELLED|0:9"), "{words:?}");
    assert!(
        words.contains(&"srun: Job step aborted: Waiting up to 4 seconds for job step to finish.".to_owned())
    );
    assert!(!words.iter().any(|line| line.contains("Force Terminated")), "{words:?}");
}

/// A daemon's line without its time.
fn untimed(line: &str) -> String {
    match (line.find(" AT "), line.find(" DUE ")) {
        (Some(from), Some(to)) if from < to => format!("{} AT -{}", &line[..from], &line[to..]),
        _ => line.to_owned(),
    }
}

#[test]
fn what_cannot_start_at_once_is_given_up() {
    let cluster = one_node(2);
    let holder = cluster
        .submit("#!/bin/sh\nuntil [ -e go ]; do sleep 0.1; done\n", &["-n2", "-o", "/dev/null"])
        .unwrap();
    let running = || cluster.ok("squeue", &["-h", "-o", "%T"]).is_ok_and(|state| state == "RUNNING");
    wait_for("the node to be full", SOON, running).unwrap();
    let ran = cluster.run("srun", &["--immediate=1", "true"]).unwrap();
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("Unable to allocate resources"), "{}", ran.stderr);
    fs::write(cluster.jobs().join("go"), "").unwrap();
    cluster.wait_ended(&holder, "State", SOON).unwrap();
    cluster.wait_idle(1).unwrap();
    assert_eq!(cluster.ok("srun", &["--immediate=30", "echo", "at once"]).unwrap(), "at once");
}

#[test]
fn a_stream_is_whole_and_in_order() {
    let cluster = one_node(8);
    // 32 MB of numbered lines through one srun, and as many bytes back through its input.
    let lines =
        "i=0; while [ $i -lt 40 ]; do seq $((i * 100000)) $((i * 100000 + 99999)); i=$((i + 1)); done";
    let text = cluster.ok("srun", &["sh", "-c", lines]).unwrap();
    let mut count = 0_u32;
    for line in text.lines() {
        assert_eq!(line.parse(), Ok(count));
        count += 1;
    }
    assert_eq!(count, 4_000_000);
    fs::write(cluster.jobs().join("input"), text.as_bytes()).unwrap();
    let path = cluster.jobs().join("input").display().to_string();
    let sum = cluster.ok("srun", &["-i", &path, "cksum"]).unwrap();
    let expected =
        std::process::Command::new("cksum").stdin(fs::File::open(&path).unwrap()).output().unwrap();
    assert_eq!(sum, String::from_utf8_lossy(&expected.stdout).trim_end());
}
