//! `salloc`: an allocation for a command that runs here.

use model::quantity::runs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use proto::v1::{self, Job};
use tokio::process::Command;

use super::allocation::{self, Held};
use super::{Call, block_on, clusters, submit};
use crate::api::has_ended;
use crate::option::{Parsed, Program};
use crate::{connect, say};

const PROGRAM: Program = Program::Salloc;

/// Runs the command; its exit status is that of the command inside, 1 where there is no allocation.
pub(crate) fn run(call: &Call) -> u8 {
    let parsed = match submit::read_for_this_cluster(PROGRAM, call) {
        Ok(parsed) => parsed,
        Err(status) => return status,
    };
    if parsed.first().manner.test_only {
        return block_on(submit::test_only(PROGRAM, &parsed));
    }
    block_on(allocate(&parsed))
}

async fn allocate(parsed: &Parsed) -> u8 {
    let mut held = match allocation::ask(PROGRAM, parsed).await {
        Ok(held) => held,
        Err(status) => return status,
    };
    let quiet = parsed.first().manner.quiet;
    let note = |text: String| {
        if !quiet {
            say::err(format!("salloc: {text}"));
        }
    };
    let id = held.job_id;
    note(format!("Granted job allocation {id}"));
    let Some(job) = allocation::configured(PROGRAM, quiet, &mut held).await else {
        note(format!("Job allocation {id} has been revoked."));
        say::error(PROGRAM.name(), format!("Job allocation {id} has been revoked"));
        return 1;
    };
    note(format!("Nodes {} are ready for job", job.node_list));
    if parsed.first().manner.no_shell {
        held.leave();
        return 0;
    }
    let (status, revoked) = inside(parsed, held, &job).await;
    if revoked {
        note(format!("Job allocation {id} has been revoked."));
    } else {
        note(format!("Relinquishing job allocation {id}"));
    }
    status
}

/// Runs the command in the allocation and gives that back. Whether the job ended first is told too.
async fn inside(parsed: &Parsed, mut held: Held, job: &Job) -> (u8, bool) {
    let component = parsed.first();
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let (name, arguments) = match component.command.split_first() {
        Some((name, arguments)) => (name.clone(), arguments.to_vec()),
        None => (shell(), Vec::new()),
    };
    let mut command = Command::new(&name);
    command.args(arguments).env_clear().envs(parsed.environment.iter().cloned()).envs(variables(parsed, job));
    if let Some(folder) = &component.manner.chdir {
        command.current_dir(folder);
    }
    // The command has the terminal; what is typed there is for it alone.
    let _ignored = super::interrupt();
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let name = name.to_string_lossy();
            say::error(
                PROGRAM.name(),
                match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        format!("_fork_command: Unable to find command \"{name}\"")
                    }
                    _ => format!("{name}: {}", super::os_text(&error)),
                },
            );
            held.end(v1::ExitStatus { code: 1, signal: 0 }).await;
            return (1, false);
        }
    };
    let revoked = tokio::select! {
        _ = child.wait() => false,
        job = held.wait(has_ended) => job.is_some(),
    };
    if revoked {
        // A shell goes with its terminal's hang-up; another command goes on unless `-K` says otherwise.
        let usual = component.command.is_empty().then_some(1);
        if let Some(signal) = component.manner.kill_command.map(i32::from).or(usual) {
            signal_child(&child, signal);
        }
    }
    let status = child.wait().await.unwrap_or_default();
    held.end(wire(status)).await;
    (status.code().map_or(0, |code| u8::try_from(code).unwrap_or(1)), revoked)
}

fn signal_child(child: &tokio::process::Child, number: i32) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    let signal = nix::sys::signal::Signal::try_from(number).ok();
    if let (Some(pid), Some(signal)) = (pid, signal) {
        // It may have ended in this very moment.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}

fn wire(status: ExitStatus) -> v1::ExitStatus {
    let number = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0);
    v1::ExitStatus { code: number(status.code()), signal: number(status.signal()) }
}

/// What the command learns of its allocation.
fn variables(parsed: &Parsed, job: &Job) -> Vec<(String, String)> {
    let component = parsed.first();
    let request = &component.request;
    let cpus = runs(job.allocation.iter().map(|node| node.cpus));
    let tasks = runs(job.allocation.iter().map(|node| node.tasks.max(1)));
    let mut set = vec![
        ("SLURM_CLUSTER_NAME", clusters::name()),
        ("SLURM_JOBID", job.job_id.to_string()),
        ("SLURM_JOB_ACCOUNT", job.account.clone()),
        ("SLURM_JOB_CPUS_PER_NODE", cpus),
        ("SLURM_JOB_ID", job.job_id.to_string()),
        ("SLURM_JOB_NAME", request.name.to_string()),
        ("SLURM_JOB_NODELIST", job.node_list.clone()),
        ("SLURM_JOB_NUM_NODES", job.num_nodes.to_string()),
        ("SLURM_JOB_PARTITION", job.partition.clone()),
        ("SLURM_JOB_QOS", job.qos.clone()),
        ("SLURM_NNODES", job.num_nodes.to_string()),
        ("SLURM_NODELIST", job.node_list.clone()),
        ("SLURM_TASKS_PER_NODE", tasks),
    ];
    if let Some(conf) = connect::conf_path() {
        set.push(("SLURM_CONF", conf.to_string_lossy().into_owned()));
    }
    let ntasks = request.ntasks.or(request.ntasks_per_node.map(|each| each * job.num_nodes));
    if let Some(ntasks) = ntasks {
        set.push(("SLURM_NPROCS", ntasks.to_string()));
        set.push(("SLURM_NTASKS", ntasks.to_string()));
    }
    let optional = [
        ("SLURM_CPUS_PER_TASK", request.cpus_per_task.map(u64::from)),
        ("SLURM_NTASKS_PER_NODE", request.ntasks_per_node.map(u64::from)),
        ("SLURM_NTASKS_PER_CORE", request.rare().ntasks_per_core.map(u64::from)),
        ("SLURM_NTASKS_PER_SOCKET", request.rare().ntasks_per_socket.map(u64::from)),
        ("SLURM_MEM_PER_CPU", job.min_memory_mib_per_cpu.filter(|_| request.memory.is_some())),
        (
            "SLURM_MEM_PER_NODE",
            job.min_memory_mib_per_node.filter(|&mib| mib > 0 && request.memory.is_some()),
        ),
    ];
    set.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?.to_string()))));
    if let Some(tres) = crate::option::tres_per_task(request) {
        set.push(("SLURM_TRES_PER_TASK", tres));
    }
    if let Some(reservation) = &request.rare().reservation {
        set.push(("SLURM_JOB_RESERVATION", reservation.to_string()));
    }
    set.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
