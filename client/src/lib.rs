#![recursion_limit = "256"]
//! The job API of Sluice, and the commands of Slurm on top of it.
//!
//! A program uses [`Client`]: it submits with an idempotency key (a repeated call gives the same job), asks
//! for jobs, watches them as a stream, cancels them and waits for their end. Messages are those of
//! [`proto::v1`]; who asks is what the kernel says of the socket, never a field.
//!
//! ```no_run
//! use client::{Client, Submission};
//!
//! # async fn run() -> Result<(), client::Error> {
//! let client = Client::connect().await?;
//! let hello = Submission::script("hello", "#!/bin/sh\necho hello from $(hostname)\n").cpus(2).memory_mib(500);
//! let job = client.submit(&hello).await?;
//! println!("submitted job {job}");
//!
//! let mut changes = client.watch(&[job]).await?;
//! while let Some(change) = changes.next().await? {
//!     println!("job {} is {}", change.job_id, change.state);
//!     if client::has_ended(&change) {
//!         break;
//!     }
//! }
//! let ended = client.wait(job).await?;
//! println!("it ended with exit code {}", ended.exit.unwrap_or_default().code);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here decides anything about jobs, and nothing is kept between calls. The modules that are hidden
//! here are the commands' own and promise nothing to other programs.

mod api;
mod attach;
#[doc(hidden)]
pub mod command;
mod connect;
#[doc(hidden)]
pub mod getopt;
#[doc(hidden)]
pub mod local;
mod option;
mod say;
mod table;

pub use api::{Changes, Client, Error, Key, Submission, Submissions, has_ended};
pub use connect::candidates;
