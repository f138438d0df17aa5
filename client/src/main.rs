//! The one binary behind `sbatch`, `squeue`, `scancel`, … and `sluice` with its own verbs.

fn main() -> std::process::ExitCode {
    client::command::main()
}
