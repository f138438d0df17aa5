//! What both daemons owe the machine that they run on: a log, a word to the service manager, pages of figures.
//!
//! Owns no decision and knows nothing of jobs. Every part fails softly: a log that cannot be written, a service manager
//! that is not there, never stops a daemon.

pub mod figures;
pub mod log;
pub mod notify;
pub mod pages;
