//! The executor's program against a scheduler that the test plays: PROTOCOL §3, row by row.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use executor_supervisor::frame::{self, ALL_RANKS, Decoder, Frame, Position, Stream};
use proto::v1;
use proto::v1::agent_down::Message as Down;
use support::{Cluster, PATIENCE, Session, eventually, key};

fn exit(outcome: &v1::RunOutcome) -> (u32, u32) {
    outcome.exit.map_or((0, 0), |exit| (exit.code, exit.signal))
}

#[test]
fn a_batch_job_runs_and_is_collected() {
    let cluster = Cluster::new("batch");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    assert_eq!(session.register.node, "n1");
    assert_eq!((session.register.boot_id.len(), session.register.spool_id.len()), (16, 16));
    let text = "echo \"$0 $SLURM_JOB_ID $SLURMD_NODENAME\"; id -u; echo err >&2; until [ -e stop-7 ]; do sleep 0.02; done; exit 3";
    session.launch(cluster.batch(7, text));
    session.await_stage(&key(7), v1::RunStage::RunBegun);
    cluster.let_end(7);
    let outcome = session.await_end(&key(7));
    assert_eq!(
        (outcome.kind(), exit(&outcome)),
        (v1::OutcomeKind::OutcomeExited, (3, 0)),
        "{}",
        outcome.detail
    );
    let script = cluster.run_folder(&key(7)).join("slurm_script");
    let uid = cluster.batch(7, "").uid;
    assert_eq!(cluster.text("out-7"), format!("{} 7 n1\n{uid}\nerr\n", script.display()));
    assert!(cluster.run_folder(&key(7)).exists(), "kept until acknowledged");
    session.acknowledge(&key(7));
    eventually("collection", || (!cluster.run_folder(&key(7)).exists()).then_some(()));
    // The next job of the same user gets the same folder, and nothing of what was in it.
    let spare = cluster.run_folder(&key(7)).with_file_name(".spare-1");
    eventually("the spare folder", || spare.exists().then_some(()));
    session.launch(cluster.batch(9, "exit 4"));
    assert_eq!(exit(&session.await_end(&key(9))), (4, 0));
    assert!(!spare.exists());
    let mut other = cluster.batch(10, "id -u");
    if nix::unistd::geteuid().is_root() {
        session.acknowledge(&key(9));
        eventually("collection", || (!cluster.run_folder(&key(9)).exists()).then_some(()));
        (other.uid, other.gid) = (12_347, 12_347);
        session.launch(other);
        assert_eq!(exit(&session.await_end(&key(10))), (0, 0));
        assert_eq!(cluster.text("out-10"), "12347\n", "another user's folder is another one");
        assert!(spare.with_file_name(".spare-2").exists());
    }
}

#[test]
fn a_repeated_launch_starts_once() {
    let cluster = Cluster::new("repeat");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    for _ in 0..3 {
        session.launch(cluster.counting(8));
    }
    cluster.await_count(8);
    session.launch(cluster.counting(8));
    cluster.let_end(8);
    session.await_end(&key(8));
    session.launch(cluster.counting(8));
    assert_eq!(exit(&session.await_end(&key(8))), (7, 0), "an ended run is reported again, not started");
    assert_eq!(cluster.text("count-8"), "ran\n");
    let mut stale = cluster.counting(8);
    stale.key = Some(v1::RunKey { run: 0, ..key(8) });
    session.launch(stale.clone());
    let outcome = session.await_end(&stale.key.unwrap());
    assert_eq!(outcome.kind(), v1::OutcomeKind::OutcomeLaunchFailed);
    assert_eq!(cluster.text("count-8"), "ran\n");
}

#[test]
fn jobs_outlive_the_executor_and_are_taken_back() {
    let cluster = Cluster::new("outlive");
    let executor = cluster.start();
    let session = cluster.welcomed();
    for job in [1, 2, 3] {
        session.launch(cluster.counting(job));
        cluster.await_count(job);
    }
    executor.kill();
    // One ends while nobody is there.
    cluster.let_end(1);
    eventually("the outcome of job 1", || cluster.run_folder(&key(1)).join("outcome").exists().then_some(()));
    let executor = cluster.start();
    let session = cluster.welcomed();
    let entry = session.entry(&key(2)).expect("job 2 is shown");
    assert_eq!(entry.stage(), v1::RunStage::RunBegun);
    assert_eq!(exit(&session.await_earlier_end(&key(1))), (7, 0));
    // One ends under the new executor, which is not its supervisor's parent.
    cluster.let_end(2);
    assert_eq!(exit(&session.await_end(&key(2))), (7, 0));
    // One is cancelled through it.
    session.terminate(&key(3));
    let outcome = session.await_end(&key(3));
    assert_eq!((outcome.kind(), exit(&outcome)), (v1::OutcomeKind::OutcomeCancelled, (0, 15)));
    assert!(cluster.text("out-3").contains("*** JOB 3 ON n1 CANCELLED AT "), "{}", cluster.text("out-3"));
    for job in [1, 2, 3] {
        session.acknowledge(&key(job));
        assert_eq!(cluster.text(&format!("count-{job}")), "ran\n");
        eventually("collection", || (!cluster.run_folder(&key(job)).exists()).then_some(()));
    }
    // Killed in that instant it might show one again, to be acknowledged again; stopped it writes all down.
    assert_eq!(executor.stop(), Some(0));
    let _executor = cluster.start();
    assert_eq!(cluster.session().register.runs, Vec::new(), "acknowledged runs are forgotten");
}

#[test]
fn a_stopped_executor_leaves_its_jobs() {
    let cluster = Cluster::new("stop");
    let executor = cluster.start();
    let session = cluster.welcomed();
    session.launch(cluster.counting(1));
    cluster.await_count(1);
    assert_eq!(executor.stop(), Some(0));
    cluster.let_end(1);
    eventually("the outcome", || cluster.run_folder(&key(1)).join("outcome").exists().then_some(()));
    let _executor = cluster.start();
    assert_eq!(exit(&cluster.welcomed().await_earlier_end(&key(1))), (7, 0));
}

#[test]
fn a_crash_between_intent_and_spawn_starts_nothing_and_the_launch_is_sent_again() {
    let cluster = Cluster::new("after-intent");
    let executor = cluster.start_crashing_at("after-intent");
    // Held until the crash: a session that ends earlier would be followed by another one.
    let first = cluster.welcomed();
    first.launch(cluster.counting(1));
    executor.await_death();
    let _executor = cluster.start();
    let session = cluster.welcomed();
    assert_eq!(session.entry(&key(1)), None, "it never began: absent, same boot, same spool");
    assert_eq!(cluster.text("count-1"), "");
    session.launch(cluster.counting(1));
    cluster.let_end(1);
    assert_eq!(exit(&session.await_end(&key(1))), (7, 0));
    assert_eq!(cluster.text("count-1"), "ran\n");
}

#[test]
fn crashes_after_the_spawn_lose_and_repeat_nothing() {
    for point in ["after-spawn", "after-outcome", "before-report"] {
        let cluster = Cluster::new(point);
        let executor = cluster.start_crashing_at(point);
        let session = cluster.welcomed();
        session.launch(cluster.counting(1));
        cluster.let_end(1);
        executor.await_death();
        let _executor = cluster.start();
        let session = cluster.welcomed();
        let entry = session.entry(&key(1)).unwrap_or_else(|| panic!("{point}: the run is shown"));
        assert!(entry.stage() != v1::RunStage::RunTombstone, "{point}");
        let outcome = session.await_earlier_end(&key(1));
        assert_eq!((outcome.kind(), exit(&outcome)), (v1::OutcomeKind::OutcomeExited, (7, 0)), "{point}");
        session.launch(cluster.counting(1));
        session.await_end(&key(1));
        assert_eq!(cluster.text("count-1"), "ran\n", "{point}");
    }
}

/// The pid of the process that holds the run: the parent of the job's own process.
fn supervisor_pid(cluster: &Cluster, name: &str) -> i32 {
    let pid = eventually("the job's pid", || cluster.text(name).lines().next().map(str::to_owned));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// The parent of a process.
fn parent_of(pid: i32) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Run 1 goes on, run 2 is on its way to a nursery that does not read on: what waits in its socket is lost with it.
/// Answers the nursery's pid and the second run's specification.
fn stop_nursery(cluster: &Cluster, session: &Session) -> (i32, PathBuf) {
    session.launch(cluster.batch(1, "echo $$ > pid-1; until [ -e stop-1 ]; do sleep 0.02; done; exit 7"));
    let nursery = parent_of(supervisor_pid(cluster, "pid-1"));
    let pid = nix::unistd::Pid::from_raw(nursery);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    session.launch(cluster.counting(2));
    (nursery, cluster.run_folder(&key(2)).join("spec"))
}

#[test]
fn a_killed_nursery_loses_and_repeats_nothing() {
    let cluster = Cluster::new("nursery");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    let (nursery, spec) = stop_nursery(&cluster, &session);
    eventually("the run's folder", || spec.exists().then_some(()));
    kill(nursery);
    cluster.await_count(2);
    for job in [1, 2] {
        cluster.let_end(job);
        assert_eq!(exit(&session.await_end(&key(job))), (7, 0), "job {job}");
    }
    assert_eq!(cluster.text("count-2"), "ran\n");
}

#[test]
fn an_order_that_no_nursery_read_is_no_begin() {
    let cluster = Cluster::new("unread");
    let executor = cluster.start();
    let session = cluster.welcomed();
    let (nursery, spec) = stop_nursery(&cluster, &session);
    eventually("the order's way", || (spec.exists() && !executor.has_open(&spec)).then_some(()));
    // The lock is held by what waits in the socket: the run may yet begin, and nobody may say that it has.
    executor.kill();
    let _executor = cluster.start();
    let session = cluster.welcomed();
    assert_eq!(session.entry(&key(2)).map(v1::RunEntry::stage), Some(v1::RunStage::RunIntended));
    assert_eq!(session.entry(&key(1)).map(v1::RunEntry::stage), Some(v1::RunStage::RunBegun));
    kill(nursery);
    cluster.await_count(2);
    for job in [1, 2] {
        cluster.let_end(job);
        assert_eq!(exit(&session.await_earlier_end(&key(job))), (7, 0), "job {job}");
    }
    assert_eq!(cluster.text("count-2"), "ran\n");
}

/// Writes its pids (a plain child, one in a session of its own), then waits.
const FAMILY: &str =
    "echo $$ > pids; sh -c 'echo $$ >> pids; sleep 1000' & setsid sh -c 'echo $$ >> pids; sleep 1000' & wait";

fn await_family_gone(cluster: &Cluster) {
    for pid in cluster.text("pids").lines() {
        eventually("the family's end", || {
            let status = fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap_or_default();
            (status.is_empty() || status.contains("State:\tZ")).then_some(())
        });
    }
}

#[test]
fn a_killed_supervisor_is_reported_and_what_it_left_is_killed() {
    for with_executor in [true, false] {
        let cluster = Cluster::new(&format!("supervisor-{with_executor}"));
        let mut executor = Some(cluster.start());
        let mut session = cluster.welcomed();
        session.launch(cluster.batch(1, FAMILY));
        let supervisor = supervisor_pid(&cluster, "pids");
        eventually("the family", || (cluster.text("pids").lines().count() == 3).then_some(()));
        if !with_executor {
            executor.take().unwrap().kill();
        }
        kill(supervisor);
        if !with_executor {
            executor = Some(cluster.start());
            session = cluster.welcomed();
        }
        let outcome = session.await_earlier_end(&key(1));
        assert_eq!(outcome.kind(), v1::OutcomeKind::OutcomeLost, "{}", outcome.detail);
        await_family_gone(&cluster);
        drop(executor);
    }
}

#[test]
fn older_epochs_are_refused_also_after_a_restart() {
    let cluster = Cluster::new("epoch");
    let executor = cluster.start();
    let mut session = cluster.session();
    assert_eq!(session.register.epoch_seen, 0);
    session.welcome(9);
    // A command of an older epoch inside a good session does nothing.
    let mut old = cluster.counting(1);
    old.epoch = 8;
    session.send(Down::Launch(old));
    session.launch(cluster.batch(2, "exit 0"));
    session.await_end(&key(2));
    assert_eq!(cluster.text("count-1"), "");
    executor.kill();
    let _executor = cluster.start();
    let mut session = cluster.session();
    assert_eq!(session.register.epoch_seen, 9);
    session.welcome(8);
    session.launch(cluster.counting(1));
    session.await_close();
    // It comes back, to whoever owns the journal now.
    let mut session = cluster.session();
    session.welcome(10);
    session.launch(cluster.batch(3, "exit 4"));
    assert_eq!(exit(&session.await_end(&key(3))), (4, 0));
    assert_eq!(cluster.text("count-1"), "");
}

#[test]
fn a_cancel_of_an_unknown_run_leaves_a_tombstone() {
    let cluster = Cluster::new("tombstone");
    let executor = cluster.start();
    let session = cluster.welcomed();
    session.terminate(&key(1));
    session.await_stage(&key(1), v1::RunStage::RunTombstone);
    session.launch(cluster.counting(1));
    session.await_stage(&key(1), v1::RunStage::RunTombstone);
    executor.kill();
    let _executor = cluster.start();
    let session = cluster.welcomed();
    assert_eq!(session.entry(&key(1)).map(v1::RunEntry::stage), Some(v1::RunStage::RunTombstone));
    session.launch(cluster.counting(1));
    session.await_stage(&key(1), v1::RunStage::RunTombstone);
    assert_eq!(cluster.text("count-1"), "");
    session.send(Down::Forget(v1::Forget { key: Some(key(1)) }));
    session.launch(cluster.counting(1));
    cluster.let_end(1);
    assert_eq!(exit(&session.await_end(&key(1))), (7, 0));
}

#[test]
fn a_lost_spool_is_another_spool_and_shows_what_lives() {
    let cluster = Cluster::new("spool");
    let executor = cluster.start();
    let session = cluster.welcomed();
    let first = session.register.spool_id.clone();
    session.launch(cluster.counting(1));
    session.launch(cluster.counting(2));
    cluster.await_count(1);
    cluster.await_count(2);
    executor.kill();
    cluster.let_end(2);
    eventually("the outcome", || cluster.run_folder(&key(2)).join("outcome").exists().then_some(()));
    fs::remove_dir_all(cluster.node_state().join("spool")).unwrap();
    let _executor = cluster.start();
    let session = cluster.welcomed();
    assert_ne!(session.register.spool_id, first);
    assert_eq!(session.entry(&key(1)).map(v1::RunEntry::stage), Some(v1::RunStage::RunBegun));
    // Not expected by a scheduler that knows better: it ends it.
    session.terminate(&key(1));
    assert_eq!(session.await_end(&key(1)).kind(), v1::OutcomeKind::OutcomeCancelled);
}

#[test]
fn a_second_executor_names_the_first() {
    let cluster = Cluster::new("owner");
    let executor = cluster.start();
    cluster.welcomed();
    let second = cluster.command().stderr(std::process::Stdio::piped()).output().unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1));
    assert!(text.contains(&format!("another executor (pid {}) owns ", executor.0.id())), "{text}");
}

#[test]
fn commands_reach_the_job() {
    let cluster = Cluster::new("commands");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    let epoch = session.epoch;
    session
        .launch(cluster.batch(1, "trap 'echo got; exit 5' USR1; touch ready; while :; do sleep 0.02; done"));
    eventually("ready", || cluster.work("ready").exists().then_some(()));
    session.send(Down::Announce(v1::Announce { key: Some(key(1)), text: "hello there".to_owned() }));
    eventually("the note", || cluster.text("out-1").contains("error: hello there\n").then_some(()));
    session.send(Down::Signal(v1::SendSignal {
        key: Some(key(1)),
        epoch,
        signal: 10,
        batch_only: true,
        full: false,
    }));
    assert_eq!(exit(&session.await_end(&key(1))), (5, 0));

    session.launch(cluster.batch(2, "while :; do echo x >> ticks; sleep 0.02; done"));
    eventually("ticks", || (!cluster.text("ticks").is_empty()).then_some(()));
    session.send(Down::Suspend(v1::Suspend { key: Some(key(2)), epoch }));
    eventually("standstill", || {
        let before = cluster.text("ticks").len();
        std::thread::park_timeout(std::time::Duration::from_millis(200));
        (cluster.text("ticks").len() == before).then_some(())
    });
    session.send(Down::Resume(v1::Resume { key: Some(key(2)), epoch }));
    let before = cluster.text("ticks").len();
    eventually("movement", || (cluster.text("ticks").len() > before).then_some(()));
    session.send(Down::ChangeLimit(v1::ChangeLimit { key: Some(key(2)), epoch, time_limit_ms: 1 }));
    let outcome = session.await_end(&key(2));
    assert_eq!((outcome.kind(), exit(&outcome)), (v1::OutcomeKind::OutcomeTimeLimit, (0, 15)));
}

#[test]
fn a_stop_that_overtakes_the_start_prevents_or_ends_it() {
    let cluster = Cluster::new("overtake");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    for job in 1..=20 {
        session.launch(cluster.batch(job, "sleep 1000"));
        session.terminate(&key(job));
    }
    let mut left: Vec<u32> = (1..=20).collect();
    while !left.is_empty() {
        let report = session.report().unwrap();
        if let Some(outcome) = report.outcome {
            assert_eq!(outcome.kind(), v1::OutcomeKind::OutcomeCancelled);
            left.retain(|job| Some(*job) != report.key.as_ref().map(|key| key.job_id));
        }
    }
}

#[test]
fn an_executor_of_a_user_runs_only_that_users_jobs() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: every other test is this one");
        return;
    }
    let cluster = Cluster::new("user");
    let _executor = cluster.start_as(12_346);
    let session = cluster.welcomed();
    session.launch(cluster.batch(1, "exit 0"));
    let outcome = session.await_end(&key(1));
    assert_eq!(outcome.kind(), v1::OutcomeKind::OutcomeLaunchFailed);
    assert_eq!(
        outcome.detail,
        "the executor of node n1 runs as user 12346 and cannot run jobs of user 12345"
    );
    let mut own = cluster.batch(2, "id -u");
    own.uid = 12_346;
    own.gid = 12_346;
    session.launch(own);
    assert_eq!(exit(&session.await_end(&key(2))), (0, 0));
    assert_eq!(cluster.text("out-2"), "12346\n");
}

#[test]
fn a_step_streams_to_its_client_across_an_executor_restart() {
    let cluster = Cluster::new("step");
    let executor = cluster.start();
    let session = cluster.welcomed();
    let mut launch = cluster.batch(1, "");
    let step_key = v1::RunKey { step_id: "0".to_owned(), ..key(1) };
    launch.key = Some(step_key.clone());
    launch.step = Some(v1::StepRequest::default());
    launch.step_nodes = vec![v1::StepNode {
        allocation: launch.allocation.first().cloned(),
        ranks: vec![0, 1],
        socket: String::new(),
    }];
    let text =
        "read line; echo \"$SLURM_PROCID of $SLURM_NTASKS on $SLURM_NODEID: $line\"; exit $SLURM_PROCID";
    launch.tasks = Some(v1::TaskLaunch {
        arguments: ["sh", "-c", text].iter().map(|word| word.as_bytes().to_vec().into()).collect(),
        environment: b"PATH=/usr/bin:/bin\0".to_vec().into(),
        umask: 0o022,
        cookie: b"cookie".to_vec().into(),
        ..v1::TaskLaunch::default()
    });
    session.launch(launch);
    session.await_stage(&step_key, v1::RunStage::RunBegun);
    let socket = cluster.run_folder(&step_key).join("socket");
    let mut stream = eventually("the socket", || frame::connect(&socket).ok());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut send = |frame: Frame| std::io::Write::write_all(&mut stream, &frame.to_bytes()).unwrap();
    send(Frame::Attach { version: frame::VERSION, cookie: b"cookie".to_vec(), received: Vec::new() });
    executor.kill();
    let _executor = cluster.start();
    let position = Position { rank: ALL_RANKS, stream: Stream::Input, offset: 0 };
    send(Frame::Data { position, bytes: b"word\n".to_vec() });
    let (mut decoder, mut seen, mut buffer) = (Decoder::default(), Vec::new(), [0; 4096]);
    loop {
        while let Some(frame) = decoder.next_frame().unwrap() {
            match frame {
                Frame::Data { position, bytes } => {
                    seen.extend_from_slice(&bytes);
                    let offset = position.offset + bytes.len() as u64;
                    let ack = Frame::Ack { position: Position { offset, ..position } };
                    std::io::Write::write_all(&mut stream, &ack.to_bytes()).unwrap();
                }
                Frame::Close { position } => {
                    let ack = Frame::Ack { position };
                    std::io::Write::write_all(&mut stream, &ack.to_bytes()).unwrap();
                }
                Frame::Ended => std::io::Write::write_all(&mut stream, &Frame::Leave.to_bytes()).unwrap(),
                _ => {}
            }
        }
        match std::io::Read::read(&mut stream, &mut buffer).unwrap() {
            0 => break,
            count => decoder.push(&buffer[..count]),
        }
    }
    let text = String::from_utf8(seen).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0 of 2 on 0: word", "1 of 2 on 0: word"]);
    let outcome = cluster.welcomed().await_earlier_end(&step_key);
    assert_eq!((exit(&outcome), outcome.tasks.len()), ((1, 0), 2));
}

#[test]
fn a_launch_that_cannot_be_is_reported_with_its_reason() {
    let cluster = Cluster::new("impossible");
    let _executor = cluster.start();
    let session = cluster.welcomed();
    let mut nothing = cluster.batch(1, "");
    nothing.key = Some(v1::RunKey { step_id: "3".to_owned(), ..key(1) });
    session.launch(nothing.clone());
    let outcome = session.await_end(&nothing.key.unwrap());
    assert_eq!(outcome.kind(), v1::OutcomeKind::OutcomeLaunchFailed);
    assert_eq!(outcome.detail, "the launch has no tasks");
}
