//! `sluice-scheduler`: the controller daemon. Runtime, log, signals and exit status; everything else is the
//! library's.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Parser;
use model::config::log::Level;
use scheduler::daemon::{Daemon, Options};
use scheduler::settings::Configuration;
use scheduler::settings::place::Environment;
use service::log::Log;
use service::notify::Manager;
use tokio::signal::unix::{SignalKind, signal};

/// The controller daemon of a Sluice cluster.
#[derive(Parser)]
#[command(name = "sluice-scheduler", version)]
struct Arguments {
    /// The slurm.conf to use instead of SLURM_CONF or /etc/slurm/slurm.conf.
    #[arg(long, short = 'f', value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Folder of the state.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Make a snapshot of the state when so much journal has come since the last one: a number of bytes, or with K,
    /// M or G behind it; at least 256K. Less of it makes restarts quicker and writes more.
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = snapshot_after)]
    snapshot_after: u64,
    /// Records the machine's inputs to this file, for sluice simulate --inputs.
    #[arg(long, value_name = "FILE")]
    record_inputs: Option<PathBuf>,
    /// Say more (debug); twice: everything.
    #[arg(long, short = 'v', action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    match words.next().as_deref() {
        Some("compact") => return compact(words),
        Some(command @ ("restore" | "journal")) => {
            return ExitCode::from(scheduler::offline::run(command, words));
        }
        _ => {}
    }
    let arguments = Arguments::parse();
    let log = start_log(&arguments);
    match run(&arguments, &log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-scheduler: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The daemon's own child: makes one snapshot.
fn compact(arguments: impl Iterator<Item = String>) -> ExitCode {
    match scheduler::store::compact::command(arguments).map_err(anyhow::Error::from) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-scheduler: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Bytes, with K, M or G for powers of 1024.
fn snapshot_after(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) => (digits, &text[digits.len()..]),
        None => (text, ""),
    };
    let shift = match unit {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => 0,
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no size"))?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(|| format!("{text:?} is too much"))?;
    if bytes < 256 << 10 {
        return Err(format!("{text:?} is below 256K"));
    }
    Ok(bytes)
}

/// Ours, among all that speaks in the log.
const TARGETS: &[&str] = &["scheduler", "sluice_scheduler", "service"];

fn start_log(arguments: &Arguments) -> Log {
    let least = match arguments.verbose {
        0 => None,
        1 => Some(Level::Debug),
        _ => Some(Level::Trace),
    };
    Log::start(TARGETS, arguments.log_json, least)
}

fn run(arguments: &Arguments, log: &Log) -> anyhow::Result<()> {
    let environment = Environment::read();
    let source = environment.conf(arguments.conf.as_deref());
    let configuration = Configuration::load(source.clone()).map_err(|errors| anyhow!(errors.join("\n")))?;
    let loaded = configuration.current();
    // Made as root, the file is SlurmUser's, who opens it again.
    let root = nix::unistd::geteuid().is_root();
    log.configure(&loaded.log, loaded.slurm_user.filter(|_| root));
    for notice in &loaded.notices {
        tracing::warn!("{notice}");
    }
    let cluster = source.is_some().then_some(&*loaded.settings.cluster);
    let socket = environment.socket(cluster);
    let state = environment.state(arguments.state.as_deref(), loaded.state_save_location.as_deref());
    let user = scheduler::privilege::become_slurm_user(loaded.slurm_user, &state, &socket)?;
    if let Some(user) = user {
        tracing::info!(user, "running as SlurmUser");
    }
    // The program that runs now, also after an upgrade has put another one in its place.
    let compactor = Some(PathBuf::from("/proc/self/exe"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("rpc")
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
        let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be handled")?;
        let mut rotated = signal(SignalKind::user_defined2()).context("SIGUSR2 cannot be handled")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
        let daemon = Daemon::start(Options {
            configuration,
            state: state.clone(),
            socket,
            compactor,
            snapshot_after: Some(arguments.snapshot_after),
            disk: None,
            record_inputs: arguments.record_inputs.clone(),
            log: log.clone(),
            clock_skew: None,
        })?;
        let stop = daemon.shutdown();
        let keep_socket = daemon.keep_socket();
        tracing::info!(
            cluster = %loaded.settings.cluster,
            socket = %daemon.socket().display(),
            state = %state.display(),
            "the scheduler is up"
        );
        let manager = Manager::of_environment();
        manager.ready(&format!("socket {}", daemon.socket().display()));
        if let Some(every) = manager.alive_every() {
            tokio::spawn(watched(manager.clone(), every, daemon.pulse()));
        }
        let reopened = log.clone();
        tokio::spawn(async move {
            while rotated.recv().await.is_some() {
                reopened.reopen();
            }
        });
        let reconfigure = daemon.reconfigurer();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reconfigure().await;
            }
        });
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {
                    // A service manager stops this one, to start the next as a rule: clients shall wait for it.
                    keep_socket.store(true, std::sync::atomic::Ordering::SeqCst);
                    tracing::info!("SIGTERM: stopping; jobs go on");
                }
                _ = interrupt.recv() => tracing::info!("SIGINT: stopping; jobs go on"),
            }
            stop.trigger();
        });
        let stopping = daemon.shutdown();
        tokio::spawn(async move {
            stopping.wait().await;
            manager.stopping();
        });
        daemon.run().await;
        tracing::info!("the scheduler has stopped");
        Ok(())
    })
}

/// Tells the service manager that the daemon is alive, as long as its machine gets on.
async fn watched(manager: Manager, every: Duration, mut pulse: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        if pulse() {
            manager.alive();
        } else {
            tracing::error!(
                "inputs wait and none was handled since the last look; the service manager is not told"
            );
        }
    }
}
