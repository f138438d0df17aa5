//! The file that holds the pretended machine: one fact a line, to be written and read by people and tests.
//!
//! ```text
//! gpu h100-80 mig            a GPU, in PCI order; "mig" where MIG mode is on, "lost" where it fell off the bus
//! gi 0 9 4 17                a GPU instance: GPU, profile id, start, serial number
//! ci 0 2 0 3 18              a compute instance: GPU, GPU instance, id, slices, serial number
//! cpus 0 f0                  the CPUs near a GPU, as a mask; without such a line 16 for each half of the GPUs
//! link 0 3 4                 so many NVLinks between two GPUs; without any such line as the cards have them
//! util 0 35                  a GPU's utilisation in percent
//! xid 0 79                   a critical error, told once to whoever waits for events
//! fail nvmlDeviceCreateGpuInstanceWithPlacement 23 2     the next two calls answer 23 (without a count: all)
//! delay nvmlDeviceGetHandleByUUID 500                    each call takes so many milliseconds
//! serial 18                  the last serial number given
//! ```
//!
//! Serial numbers make the UUIDs of MIG devices, which change when an instance is made again. A call holds a
//! lock on the file beside it (`.lock`) and replaces the file as a whole.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::card::Card;

/// A GPU.
#[derive(Clone, Copy, Debug)]
pub struct Gpu {
    /// The product.
    pub card: &'static Card,
    /// Whether MIG mode is on.
    pub mig: bool,
    /// Whether it answers no more.
    pub lost: bool,
    /// Percent.
    pub utilisation: u32,
    /// CPUs near it, as bits.
    pub cpus: Option<u64>,
}

/// A GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuInstance {
    /// Index of the GPU.
    pub gpu: usize,
    /// Profile id.
    pub profile: u32,
    /// First memory slice.
    pub start: u32,
    /// Never given twice.
    pub serial: u32,
}

/// A compute instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeInstance {
    /// Index of the GPU.
    pub gpu: usize,
    /// Id of the GPU instance.
    pub parent: u32,
    /// Id within it.
    pub id: u32,
    /// Compute slices.
    pub slices: u32,
    /// Never given twice.
    pub serial: u32,
}

/// What a function does instead of working.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Name of the function.
    pub function: String,
    /// The code it answers.
    pub code: u32,
    /// How often; `None` for always.
    pub times: Option<u32>,
}

/// The pretended machine.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// In PCI order, which is NVML's.
    pub gpus: Vec<Gpu>,
    /// By GPU and id.
    pub gpu_instances: Vec<GpuInstance>,
    /// By GPU, parent and id.
    pub compute_instances: Vec<ComputeInstance>,
    /// So many NVLinks between two GPUs; empty: as the cards have them.
    pub links: Vec<(usize, usize, u32)>,
    /// Critical errors that nobody has heard of: GPU and XID.
    pub errors: Vec<(usize, u32)>,
    /// Injected errors.
    pub faults: Vec<Fault>,
    /// Injected latencies: function, milliseconds.
    pub delays: Vec<(String, u64)>,
    /// The last serial number given.
    pub serial: u32,
}

impl State {
    /// Reads the lines.
    ///
    /// # Errors
    /// The first line that says nothing we know.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut state = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if !words.is_empty() && !words[0].starts_with('#') {
                state.read(&words).ok_or_else(|| line.to_owned())?;
            }
        }
        Ok(state)
    }

    fn read(&mut self, words: &[&str]) -> Option<()> {
        let number = |text: &str| text.parse::<u32>().ok();
        let gpu = |text: &str| text.parse::<usize>().ok();
        match *words {
            ["gpu", card, ref flags @ ..] => {
                let has = |flag: &str| flags.contains(&flag);
                let (card, mig, lost) = (Card::named(card)?, has("mig"), has("lost"));
                self.gpus.push(Gpu { card, mig, lost, utilisation: 0, cpus: None });
            }
            ["gi", on, profile, start, serial] => self.gpu_instances.push(GpuInstance {
                gpu: gpu(on)?,
                profile: number(profile)?,
                start: number(start)?,
                serial: number(serial)?,
            }),
            ["ci", on, parent, id, slices, serial] => self.compute_instances.push(ComputeInstance {
                gpu: gpu(on)?,
                parent: number(parent)?,
                id: number(id)?,
                slices: number(slices)?,
                serial: number(serial)?,
            }),
            ["util", on, percent] => self.gpus.get_mut(gpu(on)?)?.utilisation = number(percent)?,
            ["cpus", on, mask] => {
                self.gpus.get_mut(gpu(on)?)?.cpus = Some(u64::from_str_radix(mask, 16).ok()?)
            }
            ["link", one, other, count] => self.links.push((gpu(one)?, gpu(other)?, number(count)?)),
            ["xid", on, number_of] => self.errors.push((gpu(on)?, number(number_of)?)),
            ["fail", function, code, ref times @ ..] => {
                let times = times.first().map(|times| number(times)).map_or(Some(None), |n| n.map(Some))?;
                self.faults.push(Fault { function: function.to_owned(), code: number(code)?, times });
            }
            ["delay", function, ms] => self.delays.push((function.to_owned(), ms.parse().ok()?)),
            ["serial", last] => self.serial = number(last)?,
            _ => return None,
        }
        Some(())
    }

    /// The lines.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::from("# A pretended machine: executor/fake-nvml\n");
        let mut line = |words: std::fmt::Arguments<'_>| {
            text.write_fmt(words).expect("a text takes what is written");
            text.push('\n');
        };
        for gpu in &self.gpus {
            let (mig, lost) = (if gpu.mig { " mig" } else { "" }, if gpu.lost { " lost" } else { "" });
            line(format_args!("gpu {}{mig}{lost}", gpu.card.key));
        }
        for (at, gpu) in self.gpus.iter().enumerate().filter(|(_, gpu)| gpu.utilisation > 0) {
            line(format_args!("util {at} {}", gpu.utilisation));
        }
        for (at, cpus) in self.gpus.iter().enumerate().filter_map(|(at, gpu)| Some((at, gpu.cpus?))) {
            line(format_args!("cpus {at} {cpus:x}"));
        }
        for (one, other, count) in &self.links {
            line(format_args!("link {one} {other} {count}"));
        }
        for gi in &self.gpu_instances {
            line(format_args!("gi {} {} {} {}", gi.gpu, gi.profile, gi.start, gi.serial));
        }
        for ci in &self.compute_instances {
            line(format_args!("ci {} {} {} {} {}", ci.gpu, ci.parent, ci.id, ci.slices, ci.serial));
        }
        for (gpu, xid) in &self.errors {
            line(format_args!("xid {gpu} {xid}"));
        }
        for fault in &self.faults {
            let times = fault.times.map(|times| format!(" {times}")).unwrap_or_default();
            line(format_args!("fail {} {}{times}", fault.function, fault.code));
        }
        for (function, ms) in &self.delays {
            line(format_args!("delay {function} {ms}"));
        }
        line(format_args!("serial {}", self.serial));
        text
    }

    /// The fault that is due for the function; counts it.
    pub fn fault(&mut self, function: &str) -> Option<u32> {
        let at = self.faults.iter().position(|fault| fault.function == function && fault.times != Some(0))?;
        let fault = &mut self.faults[at];
        fault.times = fault.times.map(|times| times - 1);
        Some(fault.code)
    }
}

/// The file, held against other processes and threads.
#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    _lock: Flock<fs::File>,
}

impl Held {
    /// Waits for the file's lock.
    ///
    /// # Errors
    /// The lock file cannot be made or locked.
    pub fn wait(path: &Path) -> std::io::Result<Self> {
        let beside = path.with_extension("lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(beside)?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| std::io::Error::from(errno))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Reads the state.
    ///
    /// # Errors
    /// There is no such file, or a line says nothing we know.
    pub fn read(&self) -> std::io::Result<State> {
        State::parse(&fs::read_to_string(&self.path)?).map_err(std::io::Error::other)
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, state: &State) -> std::io::Result<()> {
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, state.text())?;
        fs::rename(fresh, &self.path)
    }
}
