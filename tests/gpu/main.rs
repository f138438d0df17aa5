//! GPUs through a pretended `libnvidia-ml.so.1`, loaded as the real one is.

mod bind;
mod cluster;
mod driver;
mod shards;
