//! Limits by the kernel that the tests run on, whichever back end it has: what a job was not given it cannot take, and
//! nothing is left behind.
//!
//! The tests need root and the controllers; where a node says that it lacks one they say so and pass over it (the node's
//! own word is checked by `a_node_without_cgroups_says_so`). The same tests run on a version 2 kernel in `tests/vm`.

#[allow(dead_code, reason = "shared with the tests of the protocol")]
mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;

use executor_supervisor::frame::{self, Decoder, Frame, Usage};
use proto::v1;
use proto::v1::agent_down::Message as Down;
use support::{Cluster, Session, eventually, key};

const MIB: u64 = 1 << 20;

/// Kills by the kernel, as Slurm says them: signal 125.
const OOM: (u32, u32) = (0, 125);

fn exit(outcome: &v1::RunOutcome) -> (u32, u32) {
    outcome.exit.map_or((0, 0), |exit| (exit.code, exit.signal))
}

/// A cluster whose executor holds jobs to what the test is about; `None`, with the reason, where it cannot.
fn holding(name: &str, needed: &[&str]) -> Option<(Cluster, support::Executor, Session)> {
    let cluster = Cluster::new(name);
    let executor = cluster.start();
    let session = cluster.welcomed();
    let lacks = session.register.facts.clone().unwrap_or_default().lacks;
    for what in needed {
        if let Some(lack) = lacks.iter().find(|lack| lack.contains(what)) {
            pass_over(lack);
            return None;
        }
    }
    Some((cluster, executor, session))
}

/// On a kernel that is known to have everything there is no passing over.
fn pass_over(lack: &str) {
    assert!(std::env::var_os("SLUICE_TEST_ALL").is_none(), "this kernel lacks nothing: {lack}");
    eprintln!("passed over: {lack}");
}

/// Ours in every hierarchy, by the name of this cluster's spool.
fn left_behind(session: &Session) -> Vec<PathBuf> {
    let short: String = session.register.spool_id[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("sluice-n1-{short}");
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let inside = folder.components().any(|part| part.as_os_str() == name.as_str());
            if inside && entry.file_name() != "daemon" {
                found.push(entry.path());
            }
            folders.push(entry.path());
        }
    }
    found
}

fn nothing_left(session: &Session) {
    eventually("the end of all cgroups", || {
        let left = left_behind(session);
        left.is_empty().then_some(())
    });
}

/// A batch job with these CPUs (of the node's numbers) and this memory.
fn job(cluster: &Cluster, id: u32, cpu: Option<u32>, memory_mib: u64, text: &str) -> v1::Launch {
    let mut launch = cluster.batch(id, text);
    launch.allocation[0].cpu_ranges = cpu.map_or_else(Vec::new, |cpu| vec![cpu, cpu]);
    launch.allocation[0].memory_mib = memory_mib;
    launch
}

fn finished(session: &Session, id: u32) -> v1::RunOutcome {
    let outcome = session.await_end(&key(id));
    session.acknowledge(&key(id));
    outcome
}

#[test]
fn a_job_has_its_own_cores_and_no_other() {
    let Some((cluster, _executor, session)) = holding("cores", &["not bound to their CPUs"]) else { return };
    let last = session.register.facts.as_ref().unwrap().cpus - 1;
    let text = "grep Cpus_allowed_list /proc/self/status; taskset -pc 0-1023 $$ 2>&1 | tail -n 1; nproc";
    session.launch(job(&cluster, 1, Some(last), 0, text));
    let outcome = finished(&session, 1);
    let said = cluster.text("out-1");
    let cpu = executor::host::usable_cpus()[last as usize];
    assert!(said.starts_with(&format!("Cpus_allowed_list:\t{cpu}\n")), "{said} {}", outcome.detail);
    assert!(said.ends_with("\n1\n"), "what it asked for beyond that it did not get: {said}");
    assert!(outcome.held.contains(&format!("cpus {cpu}")), "read back: {}", outcome.held);
    nothing_left(&session);
}

/// Asks the supervisor of a running job what it uses.
fn usage(cluster: &Cluster, id: u32) -> Usage {
    let folder = cluster.run_folder(&key(id));
    let mut stream = eventually("the socket", || frame::connect(&folder.join("socket")).ok());
    stream.write_all(&Frame::AskUsage.to_bytes()).unwrap();
    let mut decoder = Decoder::default();
    let mut buffer = [0; 4096];
    loop {
        match decoder.next_frame().unwrap() {
            Some(Frame::Usage(usage)) => return usage,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the supervisor hung up");
        decoder.push(&buffer[..count]);
    }
}

#[test]
fn a_running_step_tells_what_it_uses() {
    let cluster = Cluster::new("usage");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    let text = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; touch ready; while [ ! -e stop-1 ]; do sleep 0.02; done";
    session.launch(job(&cluster, 1, None, 0, text));
    eventually("the job's work", || cluster.work("ready").exists().then_some(()));
    let told = usage(&cluster, 1);
    // Kernels before 6.2 count a thread's pages in batches of 64: a busybox shell shows next to none.
    assert!(!told.pids.is_empty() && told.rss_bytes > 0 && told.virtual_bytes >= told.rss_bytes, "{told:?}");
    assert!(told.user_us + told.system_us > 0 && told.max_rss_bytes >= told.rss_bytes, "{told:?}");
    cluster.let_end(1);
    let outcome = finished(&session, 1);
    assert!(outcome.user_us + outcome.system_us >= told.user_us + told.system_us, "{outcome:?} {told:?}");
    assert!(outcome.max_rss_bytes >= told.rss_bytes, "{outcome:?} {told:?}");
}

#[test]
fn tasks_are_bound_where_their_launch_says_so() {
    let cluster = Cluster::new("bind");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    let cpu = *executor::host::usable_cpus().last().unwrap();
    for (id, bind) in [
        (1, format!("verbose,map_cpu:{cpu}")),
        (2, "verbose,none".to_owned()),
        (3, "v,map_cpu:1000".to_owned()),
    ] {
        let mut launch = cluster.batch(id, "");
        launch.key = Some(v1::RunKey { step_id: "0".to_owned(), ..key(id) });
        let allocation = Some(launch.allocation[0].clone());
        launch.step_nodes = vec![v1::StepNode { allocation, ranks: vec![0], ..Default::default() }];
        let arguments = ["/bin/sh", "-c", "grep Cpus_allowed_list /proc/self/status; echo $SLURM_CPU_BIND"];
        launch.tasks = Some(v1::TaskLaunch {
            arguments: arguments.iter().map(|word| word.as_bytes().to_vec().into()).collect(),
            environment: b"PATH=/usr/bin:/bin\0".to_vec().into(),
            umask: 0o022,
            stdout: Some(format!("bind-{id}")),
            stdin_rank: Some(-1),
            cpu_bind: Some(bind.clone()),
            ..v1::TaskLaunch::default()
        });
        let key = launch.key.clone().unwrap();
        session.launch(launch);
        assert_eq!(exit(&session.await_end(&key)), (0, 0));
        let said = cluster.text(&format!("bind-{id}"));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        let mask = format!("]: mask 0x{:x} set", 1_u64 << cpu);
        match id {
            1 => {
                assert!(
                    lines[0].starts_with("cpu-bind=MAP  - n1, task  0  0 [") && lines[0].ends_with(&mask),
                    "{said}"
                );
                assert_eq!(lines[1], format!("Cpus_allowed_list:\t{cpu}"));
                assert_eq!(lines[2], format!("verbose,map_cpu:{cpu}"));
            }
            2 => assert!(lines[0].starts_with("cpu-bind=NONE - n1, task  0  0 ["), "{said}"),
            _ => assert!(lines[0].ends_with(" FAILED"), "{said}"),
        }
    }
}

#[test]
fn a_probe_attests_what_the_node_does_not_lack() {
    let Some((_cluster, _executor, session)) =
        holding("attest", &["not bound to their CPUs", "memory limits", "can open devices"])
    else {
        return;
    };
    let facts = session.register.facts.clone().unwrap();
    let held = ["a denied device is refused", "memory beyond the limit is out of memory"];
    for sentence in held {
        assert!(facts.attested.iter().any(|said| said == sentence), "{facts:?}");
    }
    if facts.cpus > 1 {
        assert!(facts.attested.contains(&"cores outside the set are refused".to_owned()), "{facts:?}");
    }
    assert!(!facts.lacks.iter().any(|lack| lack.contains("probe")), "{facts:?}");
    assert!(facts.cgroups.starts_with('v'), "{}", facts.cgroups);
    nothing_left(&session);
}

#[test]
fn memory_beyond_the_limit_is_out_of_memory() {
    let Some((cluster, _executor, session)) = holding("memory", &["memory limits"]) else { return };
    // tail keeps what it reads until a line ends.
    session.launch(job(&cluster, 1, None, 48, "head -c 200000000 /dev/zero | tail; echo \"tail said $?\""));
    let first = finished(&session, 1);
    session.launch(job(&cluster, 2, None, 48, "exec tail /dev/zero"));
    for (id, outcome) in [(1, first), (2, finished(&session, 2))] {
        assert_eq!(
            (outcome.kind(), exit(&outcome)),
            (v1::OutcomeKind::OutcomeOutOfMemory, OOM),
            "job {id}: {} {}",
            outcome.detail,
            cluster.text(&format!("out-{id}"))
        );
        let line =
            format!("slurmstepd: error: Detected 1 oom_kill event in StepId={id}.batch. Some of the step");
        assert!(cluster.text(&format!("out-{id}")).contains(&line), "{}", cluster.text(&format!("out-{id}")));
        assert!(outcome.max_rss_bytes < 64 * MIB, "{}", outcome.max_rss_bytes);
        assert!(outcome.held.contains("memory 48M"), "read back: {}", outcome.held);
        assert!(outcome.held.contains("processes "), "read back: {}", outcome.held);
    }
    assert!(
        cluster.text("out-1").contains("tail said 137\n"),
        "the script lives on: {}",
        cluster.text("out-1")
    );
    session.launch(job(&cluster, 3, None, 48, "head -c 1000000 /dev/zero | tail -c 10 | wc -c"));
    let outcome = finished(&session, 3);
    assert_eq!(
        (outcome.kind(), exit(&outcome)),
        (v1::OutcomeKind::OutcomeExited, (0, 0)),
        "others do not notice"
    );
    nothing_left(&session);
}

#[test]
fn a_job_that_forks_without_end_is_stopped_and_others_do_not_notice() {
    let cluster = Cluster::new("bomb");
    let _executor = support::Executor(cluster.command().env("SLUICE_JOB_PIDS", "40").spawn().unwrap());
    let session = cluster.welcomed();
    let lacks = session.register.facts.clone().unwrap_or_default().lacks;
    if let Some(lack) = lacks.iter().find(|lack| lack.contains("number of a job's processes")) {
        return pass_over(lack);
    }
    let bomb = "f() { f | f & }; f; sleep 0.2; ls /proc | grep -c '^[0-9]' > count; sleep 1000";
    session.launch(job(&cluster, 1, Some(0), 256, bomb));
    eventually("a fork that is refused", || cluster.text("out-1").contains("fork").then_some(()));
    session.launch(job(&cluster, 2, Some(0), 64, "echo fine"));
    assert_eq!(exit(&finished(&session, 2)), (0, 0));
    assert_eq!(cluster.text("out-2"), "fine\n");
    session.terminate(&key(1));
    finished(&session, 1);
    nothing_left(&session);
}

#[test]
fn a_suspended_job_stands_still() {
    let Some((cluster, _executor, session)) = holding("freeze", &["tracked by descent"]) else { return };
    session.launch(job(
        &cluster,
        1,
        Some(0),
        64,
        "setsid sh -c 'while :; do echo x >> ticks; sleep 0.01; done'",
    ));
    let ticks = || cluster.text("ticks").len();
    eventually("ticks", || (ticks() > 5).then_some(()));
    session.send(Down::Suspend(v1::Suspend { key: Some(key(1)), epoch: session.epoch }));
    let mut before = ticks();
    eventually("a standstill", || {
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        let still = ticks() == before;
        before = ticks();
        still.then_some(())
    });
    session.send(Down::Resume(v1::Resume { key: Some(key(1)), epoch: session.epoch }));
    eventually("ticks again", || (ticks() > before).then_some(()));
    session.send(Down::Suspend(v1::Suspend { key: Some(key(1)), epoch: session.epoch }));
    session.terminate(&key(1));
    let outcome = finished(&session, 1);
    assert_eq!(outcome.kind(), v1::OutcomeKind::OutcomeCancelled, "what is frozen can be ended");
    nothing_left(&session);
}

#[test]
fn what_a_job_detached_dies_with_it() {
    let Some((cluster, _executor, session)) = holding("daemons", &[]) else { return };
    let text = "for i in 1 2 3; do setsid sh -c 'trap \"\" TERM HUP; echo $$ >> pids; while :; do sleep 0.05; done' \
                </dev/null >/dev/null 2>&1 & done; while [ \"$(cat pids 2>/dev/null | wc -l)\" -lt 3 ]; do sleep 0.01; done";
    session.launch(job(&cluster, 1, Some(0), 64, text));
    assert_eq!(exit(&finished(&session, 1)), (0, 0));
    for pid in cluster.text("pids").lines() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(status.is_empty() || status.contains("State:\tZ"), "{pid} lives: {status}");
    }
    nothing_left(&session);
}

#[test]
fn a_killed_executor_leaves_no_cgroups() {
    let Some((cluster, executor, session)) = holding("killed", &[]) else { return };
    session.launch(job(
        &cluster,
        1,
        Some(0),
        64,
        "echo $$ > pid; while [ ! -e stop-1 ]; do sleep 0.02; done",
    ));
    session.launch(job(&cluster, 2, Some(0), 64, "touch two; while [ ! -e stop-2 ]; do sleep 0.02; done"));
    eventually("both jobs", || {
        (!cluster.text("pid").is_empty() && cluster.work("two").exists()).then_some(())
    });
    executor.kill();
    // One ends while nobody is there to clear up.
    cluster.let_end(1);
    eventually("the outcome of job 1", || cluster.run_folder(&key(1)).join("outcome").exists().then_some(()));
    let executor = cluster.start();
    let session = cluster.welcomed();
    session.await_earlier_end(&key(1));
    session.acknowledge(&key(1));
    // The other has kept what holds it.
    cluster.let_end(2);
    let outcome = session.await_earlier_end(&key(2));
    assert_eq!(outcome.kind(), v1::OutcomeKind::OutcomeExited, "{outcome:?}");
    session.acknowledge(&key(2));
    nothing_left(&session);
    assert_eq!(executor.stop(), Some(0));
    assert_eq!(left_behind(&session), Vec::<PathBuf>::new());
}

/// A configuration with two generic resources, which are `/dev/full` and `/dev/zero`.
fn with_devices(cluster: &Cluster, cgroup_conf: &str) -> support::Executor {
    let conf = cluster.path.join("slurm.conf");
    let cpus = executor::host::usable_cpus().len();
    fs::write(
        &conf,
        format!(
            "ClusterName=c\nSlurmctldHost=h\nTaskPlugin=task/cgroup\nGresTypes=gpu\n\
             NodeName=n1 CPUs={cpus} RealMemory=2000 Gres=gpu:2\nPartitionName=p Nodes=n1\n"
        ),
    )
    .unwrap();
    fs::write(cluster.path.join("gres.conf"), "Name=gpu File=/dev/full\nName=gpu File=/dev/zero\n").unwrap();
    fs::write(cluster.path.join("cgroup.conf"), cgroup_conf).unwrap();
    support::Executor(cluster.command().arg("--conf").arg(&conf).spawn().unwrap())
}

#[test]
fn a_device_that_was_not_given_cannot_be_opened() {
    let cluster = Cluster::new("devices");
    let _executor = with_devices(&cluster, "ConstrainDevices=yes\n");
    let session = cluster.welcomed();
    let lacks = session.register.facts.clone().unwrap_or_default().lacks;
    if let Some(lack) = lacks.iter().find(|lack| lack.contains("can open devices")) {
        return pass_over(lack);
    }
    let text = "for name in zero full null; do (: < /dev/$name) && echo $name; done";
    for (id, indices) in [(1, vec![]), (2, vec![0]), (3, vec![0, 1])] {
        let mut launch = cluster.batch(id, text);
        launch.allocation[0].gres =
            vec![v1::GresAllocation { name: "gpu".to_owned(), indices, ..Default::default() }];
        session.launch(launch);
        finished(&session, id);
    }
    let opened = |id: u32| {
        let said = cluster.text(&format!("out-{id}"));
        said.lines().filter(|line| !line.contains(':')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(opened(1), ["null"], "{}", cluster.text("out-1"));
    assert_eq!(opened(2), ["full", "null"], "{}", cluster.text("out-2"));
    assert_eq!(opened(3), ["zero", "full", "null"], "{}", cluster.text("out-3"));
    nothing_left(&session);
}

#[test]
fn a_node_without_cgroups_says_so() {
    let cluster = Cluster::new("without");
    let _executor = with_devices(&cluster, "CgroupPlugin=disabled\nConstrainCores=yes\n");
    let session = cluster.welcomed();
    let lacks = session.register.facts.clone().unwrap_or_default().lacks.join("\n");
    for said in [
        "memory limits are not enforced: CgroupPlugin=disabled",
        "jobs are not bound to their CPUs: CgroupPlugin=disabled",
        "CgroupPlugin=disabled: processes are tracked by descent",
    ] {
        assert!(lacks.contains(said), "{lacks}");
    }
    session.launch(job(&cluster, 1, Some(0), 32, "echo runs"));
    assert_eq!(exit(&finished(&session, 1)), (0, 0));
    assert_eq!(cluster.text("out-1"), "runs\n");
    assert_eq!(left_behind(&session), Vec::<PathBuf>::new());
}

/// Launches that a figure is the median of.
const LAUNCHES: u32 = 15;

/// An executor of this cluster with a generic resource, `/dev/full`, that holds jobs to what `cgroup.conf` says.
fn holding_to(cluster: &Cluster, cgroup_conf: &str) -> support::Executor {
    let conf = cluster.path.join("slurm.conf");
    let cpus = executor::host::usable_cpus().len();
    fs::write(
        &conf,
        format!(
            "ClusterName=c\nSlurmctldHost=h\nTaskPlugin=task/cgroup\nGresTypes=gpu\n\
             NodeName=n1 CPUs={cpus} RealMemory=2000 Gres=gpu:1\nPartitionName=p Nodes=n1\n"
        ),
    )
    .unwrap();
    fs::write(cluster.path.join("gres.conf"), "Name=gpu File=/dev/full\n").unwrap();
    fs::write(cluster.path.join("cgroup.conf"), cgroup_conf).unwrap();
    support::Executor(cluster.command().arg("--conf").arg(&conf).spawn().unwrap())
}

/// From a launch that leaves for the executor to its script's first command, which opens a pipe that is waited at.
fn to_first_command(cluster: &Cluster, session: &Session, id: u32) -> std::time::Duration {
    let path = cluster.path.join(format!("pipe-{id}"));
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let (said, heard) = std::sync::mpsc::channel();
    let pipe = path.clone();
    std::thread::spawn(move || {
        let opened = fs::File::open(pipe);
        let _ = said.send((std::time::Instant::now(), opened.is_ok()));
    });
    let mut launch = job(cluster, id, Some(0), 64, &format!(": > {}", path.display()));
    launch.allocation[0].gres = vec![v1::GresAllocation { name: "gpu".to_owned(), ..Default::default() }];
    let begin = std::time::Instant::now();
    session.launch(launch);
    let (at, opened) = heard.recv_timeout(support::PATIENCE).expect("the job runs");
    assert!(opened);
    assert_eq!(exit(&finished(session, id)), (0, 0), "{}", cluster.text(&format!("out-{id}")));
    at - begin
}

/// Prints how long a launch takes on a node without cgroups and on one that holds cores, memory and devices. For comparing
/// them on one kernel; run by `tests/vm`, and by name with `--ignored --nocapture`.
#[test]
#[ignore = "prints figures; tests/vm runs it"]
fn figures_of_a_launch() {
    let all = "ConstrainCores=yes\nConstrainRAMSpace=yes\nConstrainDevices=yes\n";
    for (what, conf) in [("none", "CgroupPlugin=disabled\n"), ("all limits and devices", all)] {
        let cluster = Cluster::new("figures");
        let executor = holding_to(&cluster, conf);
        let session = cluster.welcomed();
        let facts = session.register.facts.clone().unwrap_or_default();
        if conf == all {
            for limit in ["not bound to their CPUs", "memory limits", "can open devices"] {
                if let Some(lack) = facts.lacks.iter().find(|lack| lack.contains(limit)) {
                    return pass_over(lack);
                }
            }
        }
        // The first ones make what later ones use again.
        let mut spans: Vec<_> =
            (1..LAUNCHES + 4).map(|id| to_first_command(&cluster, &session, id)).collect();
        spans.drain(..3);
        spans.sort_unstable();
        let ms = |span: std::time::Duration| span.as_secs_f64() * 1e3;
        let (median, most) = (ms(spans[spans.len() / 2]), ms(spans[spans.len() - 1]));
        println!(
            "figure: launch to first command, {what} ({}): median {median:.1} ms, most {most:.1} ms of {LAUNCHES}",
            facts.cgroups
        );
        drop(session);
        executor.stop();
    }
}

/// The controllers of the version 2 hierarchy's top; none where version 1 has them.
fn unified_controllers() -> String {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default()
}

#[test]
fn an_executor_alone_in_its_cgroup_hands_it_down() {
    if !unified_controllers().contains("memory") || !nix::unistd::geteuid().is_root() {
        return eprintln!("passed over: no version 2 controllers on this machine");
    }
    let unit = PathBuf::from(format!("/sys/fs/cgroup/sluice-unit-{}", std::process::id()));
    fs::create_dir(&unit).unwrap();
    for controller in ["cpuset", "memory", "pids", "cpu"] {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}")).unwrap();
    }
    let cluster = Cluster::new("unit");
    let started = |others: &str| {
        let plain = cluster.command();
        let mut command = std::process::Command::new("/bin/sh");
        let enter = format!("echo $$ > {}/cgroup.procs; {others} exec \"$0\" \"$@\"", unit.display());
        command.arg("-c").arg(enter).arg(plain.get_program()).args(plain.get_args());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        support::Executor(command.spawn().unwrap())
    };
    let executor = started("");
    let session = cluster.welcomed();
    let lacks = session.register.facts.clone().unwrap_or_default().lacks;
    assert!(!lacks.iter().any(|lack| lack.contains("memory limits")), "{lacks:?}");
    session.launch(job(&cluster, 1, Some(0), 48, "exec tail /dev/zero"));
    assert_eq!(exit(&finished(&session, 1)), OOM);
    assert_eq!(fs::read_to_string(unit.join("cgroup.procs")).unwrap(), "", "its own process went to a leaf");
    nothing_left(&session);
    executor.stop();
    // With somebody else in it nothing can be handed down: the node says so, and its jobs run.
    place_gone(&unit);
    fs::write("/sys/fs/cgroup/cgroup.procs", "0").unwrap();
    fs::create_dir(&unit).unwrap();
    let executor = started("sleep 1000 & echo $! > sleeper;");
    let session = cluster.welcomed();
    let lacks = session.register.facts.clone().unwrap_or_default().lacks.join("\n");
    assert!(lacks.contains("which is not ours alone"), "{lacks}");
    session.launch(job(&cluster, 2, Some(0), 48, "echo runs"));
    assert_eq!(exit(&finished(&session, 2)), (0, 0));
    executor.stop();
    fs::write(unit.join("cgroup.kill"), "1").unwrap();
    place_gone(&unit);
}

/// Removes an empty tree of cgroups.
fn place_gone(path: &std::path::Path) {
    eventually("the end of the unit", || {
        executor::cgroup::kill(path, std::time::Duration::from_secs(1));
        (!path.exists()).then_some(())
    });
}
