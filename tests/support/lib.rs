//! What whole-cluster tests share: built binaries, daemons in a temporary folder, polling with a deadline.
//!
//! Everything that is started here is ended here, by process id, whatever the test does (see [`Cluster`]). Nothing
//! sleeps for a fixed time: a wait is for something, has a deadline, and says what it waited for. Only public
//! commands and processes are used; no test looks inside a daemon.

mod binaries;
mod cluster;
pub mod guest;
mod poll;
mod process;
mod random;
mod traces;

pub use binaries::{Binaries, workspace_root};
pub use cluster::{Cluster, Conf, Ran};
pub use poll::{wait_for, wait_for_some};
pub use process::{Daemon, send, sweep};
pub use random::Random;
