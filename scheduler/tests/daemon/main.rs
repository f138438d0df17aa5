//! The whole daemon in this process, over a real socket and a real folder, with an executor that the tests play.

mod clock;
mod cluster;
mod disk;
mod explain;
mod foreign;
mod lives;
mod outside;
mod pipeline;
mod prediction;
