//! Which files, limits and signals a launch turns into.

use super::{Context, compose, sample_ms};
use crate::cgroup::StepGroups;
use crate::gpu::bind::Visible;
use crate::key::Key;
use crate::launch::user::Account;
use executor_supervisor::spec::{Rlimit, Spec, Stdio, Warning};
use model::id::StepId;
use proto::v1;
use std::path::Path;

fn made(step: StepId, launch: &v1::Launch) -> Spec {
    let context = Context {
        node: "c1",
        mark: "0a",
        hostname: "host",
        commands: "/opt/bin",
        socket: None,
        task_prolog: Some("/site/prolog"),
        task_epilog: None,
        append: true,
        propagated: crate::launch::rlimits::Propagated::ALL,
        client_grace_ms: 5,
        sample_ms: 30_000,
        gpus: &Visible::default(),
        mpi_default: super::mpi::Kind::None,
        pmix: None,
    };
    let account =
        Account { name: "alice".into(), groups: vec![2001, 4], home: "/".into(), shell: "/bin/sh".into() };
    let key = Key { job_id: 7, step, run: 2 };
    compose(&context, key, launch, &account, Path::new("/run/slurm_script"), StepGroups::default(), 1_000)
        .unwrap()
}

fn file(path: &str, truncate: bool) -> Stdio {
    Stdio::File { path: path.as_bytes().to_vec(), truncate }
}

fn launch() -> v1::Launch {
    let request = v1::JobRequest { work_dir: "/w".to_owned(), name: "nm".to_owned(), ..Default::default() };
    v1::Launch {
        user: "alice".to_owned(),
        request: Some(request),
        time_limit_ms: 60_000,
        ..Default::default()
    }
}

#[test]
fn a_batch_scripts_files() {
    let mut launch = launch();
    let task = &made(StepId::Batch, &launch).tasks[0];
    assert_eq!((&task.stdin, &task.stderr), (&Stdio::Null, &Stdio::Output));
    assert_eq!(task.stdout, file("/w/slurm-7.out", false), "the site appends");
    let request = launch.request.as_mut().unwrap();
    request.set_open_mode(v1::OpenMode::Truncate);
    request.stdin = Some("in-%j".to_owned());
    request.stdout = Some("/o/%x".to_owned());
    request.stderr = Some("err".to_owned());
    request.arguments = vec!["a b".to_owned()];
    let task = &made(StepId::Batch, &launch).tasks[0];
    assert_eq!(task.stdin, file("/w/in-7", false));
    assert_eq!((&task.stdout, &task.stderr), (&file("/o/nm", true), &file("/w/err", true)));
    assert_eq!(task.arguments, [b"/run/slurm_script".to_vec(), b"a b".to_vec()]);
    let request = launch.request.as_mut().unwrap();
    request.stderr = Some("/o/nm".to_owned());
    assert_eq!(made(StepId::Batch, &launch).tasks[0].stderr, Stdio::Output, "one file is opened once");
    launch.request.as_mut().unwrap().stdout = Some("none".to_owned());
    assert_eq!(made(StepId::Batch, &launch).tasks[0].stdout, Stdio::Null);
}

#[test]
fn limits_and_warnings() {
    let mut launch = launch();
    launch.request.as_mut().unwrap().rare = Some(v1::RareRequest {
        warn_signal: Some(v1::WarnSignal {
            signal: 10,
            before_ms: 20_000,
            batch_only: true,
            reservation: false,
        }),
        rlimits: vec![
            v1::Rlimit { name: "NOFILE".to_owned(), value: 64 },
            v1::Rlimit { name: "NEW".to_owned(), value: 1 },
        ],
        ..Default::default()
    });
    let spec = made(StepId::Batch, &launch);
    assert_eq!(spec.warning, Some(Warning { signal: 10, after_ms: 40_000, first_process_only: true }));
    assert_eq!(spec.rlimits, [Rlimit { resource: 7, soft: 64, chosen: true }]);
    assert_eq!((spec.limit_ms, spec.groups, spec.cookie.is_empty()), (Some(60_000), vec![2001, 4], true));
    launch.time_limit_ms = -1;
    let spec = made(StepId::Batch, &launch);
    assert_eq!((spec.limit_ms, spec.warning), (None, None));
}

fn step(ranks: &[u32], tasks: v1::TaskLaunch) -> v1::Launch {
    let allocation = v1::NodeAllocation { node: "c1".to_owned(), cpus: 1, ..Default::default() };
    let node = v1::StepNode { allocation: Some(allocation), ranks: ranks.to_vec(), ..Default::default() };
    v1::Launch { step_nodes: vec![node], tasks: Some(tasks), ..launch() }
}

fn run_true() -> v1::TaskLaunch {
    v1::TaskLaunch {
        arguments: vec![b"true".to_vec().into()],
        cookie: b"c".to_vec().into(),
        ..Default::default()
    }
}

#[test]
fn a_steps_streams() {
    let spec = made(StepId::Number(3), &step(&[0, 2], run_true()));
    assert!(spec.tasks.iter().all(|task| task.stdin == Stdio::Stream && task.stdout == Stdio::Stream));
    assert_eq!((spec.cookie.as_slice(), spec.client_grace_ms), (b"c".as_slice(), 5));
    assert_eq!(spec.task_prologs, [b"/site/prolog".to_vec()]);
    let one = v1::TaskLaunch { stdin_rank: Some(2), ..run_true() };
    let spec = made(StepId::Number(3), &step(&[0, 2], one));
    assert_eq!((&spec.tasks[0].stdin, &spec.tasks[1].stdin), (&Stdio::Null, &Stdio::Stream));
    let none = v1::TaskLaunch { stdin_rank: Some(-1), ..run_true() };
    assert_eq!(made(StepId::Number(3), &step(&[0], none)).tasks[0].stdin, Stdio::Null);
}

#[test]
fn a_file_that_tasks_share_is_emptied_once() {
    let tasks = v1::TaskLaunch {
        stdout: Some("o-%N-%n".to_owned()),
        open_mode: v1::OpenMode::Truncate.into(),
        work_dir: "/elsewhere".to_owned(),
        ..run_true()
    };
    let spec = made(StepId::Number(0), &step(&[0, 1], tasks));
    assert_eq!(spec.tasks[0].stdout, file("/elsewhere/o-c1-0", true));
    assert_eq!(spec.tasks[1].stdout, file("/elsewhere/o-c1-0", false));
    assert_eq!(spec.tasks[1].stderr, Stdio::Output);
}

#[test]
fn each_rank_its_program() {
    let program =
        |rank, word: &str| v1::RankProgram { rank, arguments: vec![word.as_bytes().to_vec().into()] };
    let tasks = v1::TaskLaunch { programs: vec![program(0, "a"), program(1, "b")], ..run_true() };
    let spec = made(StepId::Number(0), &step(&[1, 0], tasks));
    assert_eq!(spec.tasks[0].arguments, [b"b".to_vec()]);
    assert_eq!(spec.tasks[1].arguments, [b"a".to_vec()]);
}

#[test]
fn the_terminal_is_rank_zeros() {
    let tasks = v1::TaskLaunch { pty: true, pty_rows: 24, pty_columns: 80, ..run_true() };
    let spec = made(StepId::Number(0), &step(&[0, 1], tasks));
    assert_eq!((&spec.tasks[0].stdout, &spec.tasks[1].stdout), (&Stdio::Pty, &Stdio::Null));
    assert_eq!(spec.window, (24, 80));
}

#[test]
fn a_step_is_warned_before_its_jobs_end() {
    let mut launch = step(&[0], run_true());
    launch.end_ms = Some(61_000);
    launch.request.as_mut().unwrap().rare = Some(v1::RareRequest {
        warn_signal: Some(v1::WarnSignal {
            signal: 12,
            before_ms: 10_000,
            batch_only: false,
            reservation: false,
        }),
        ..Default::default()
    });
    let warning = made(StepId::Number(0), &launch).warning;
    assert_eq!(warning, Some(Warning { signal: 12, after_ms: 50_000, first_process_only: false }));
    assert_eq!(made(StepId::Batch, &launch).warning, None, "the script itself is not meant");
}

#[test]
fn the_time_between_two_looks_is_read() {
    for (text, ms) in [
        ("30", Some(30_000)),
        ("task=5,energy=0", Some(5_000)),
        ("energy=9,Task=1", Some(1_000)),
        ("0", Some(0)),
        ("energy=9", None),
        ("x", None),
    ] {
        assert_eq!(sample_ms(text), ms, "{text}");
    }
}
