//! `sluice-executor`: runs the jobs of one node. See `--help`.
//!
//! SIGTERM and SIGINT end it; its jobs go on, and the next executor on the same state takes them back.

use std::process::ExitCode;

use executor::settings::{self, Arguments, Command, Variables};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

fn main() -> ExitCode {
    let arguments = match settings::parse(std::env::args().skip(1)) {
        Ok(Command::Run(arguments)) => arguments,
        Ok(Command::Help) => {
            print!("{}", settings::USAGE);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("sluice-executor {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(sentence) => {
            eprintln!(
                "sluice-executor: error: {sentence}\nTry \"sluice-executor --help\" for more information"
            );
            return ExitCode::from(2);
        }
    };
    start_log(arguments.json);
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice-executor: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(json: bool) {
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO);
    if json {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    // One thread for agent and connection: a message wakes nobody else. What blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let variables = Variables::read(|name| std::env::var(name).ok());
    let ended = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping; jobs go on");
            let _ = stop.send(());
        });
        executor::daemon::run(arguments, variables, stopped).await
    });
    // What still runs beside (removals, look-ups) is not waited for.
    runtime.shutdown_background();
    ended
}
