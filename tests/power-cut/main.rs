//! The power cut: a journal written in a virtual machine, cut at random points of the disk's write log, recovered.
//!
//! A guest with its own ext4 appends numbered batches and prints each number once its journal said that it is durable.
//! qemu records every write and flush of the disk (`blklogwrites`). Afterwards the log is replayed up to a point
//! between two flushes, with a random subset of the writes that no flush had covered yet, in units of 512 bytes: what
//! a disk with a volatile cache may hold. The file system is repaired (`e2fsck` replays ext4's journal), the folder is
//! read out (`debugfs`), and `verify` recovers it. It must hold every number that was printed before that point.
//!
//! A control run mounts the guest's ext4 with `nobarrier`, so that no flush reaches the disk: there losses must be
//! found, else this test could not fail. Neither root nor a mount is needed.
//!
//! usage: power-cut --kernel FOLDER [--cuts N] [--seed N] [--acks N]

mod machine;
mod write_log;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use tests::Random;
use tests::guest::ran;

use crate::machine::{Barriers, Recording};
use crate::write_log::{Cut, WriteLog};

struct Arguments {
    kernel: PathBuf,
    cuts: u64,
    seed: u64,
    acks: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("power-cut: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = parse()?;
    println!("seed {}", arguments.seed);
    let folder = nix::unistd::mkdtemp("/tmp/sluice-power-XXXXXX").context("make a temporary folder")?;
    let result = both(&arguments, &folder);
    match &result {
        Ok(()) => fs::remove_dir_all(&folder).context("remove the temporary folder")?,
        Err(_) => println!("the disk and its log are kept in {}", folder.display()),
    }
    result
}

fn both(arguments: &Arguments, folder: &Path) -> Result<()> {
    let tools = machine::build(folder, &arguments.kernel)?;
    let recording = machine::record(&tools, folder, Barriers::On, arguments.acks)?;
    let told = cut_and_recover(arguments, &tools.verify, folder, &recording)?;
    println!("{}", told.line());
    if told.lost > 0 || told.refused > 0 {
        bail!("{} cuts lost what was acknowledged, {} journals were refused", told.lost, told.refused);
    }
    let control = machine::record(&tools, folder, Barriers::Off, arguments.acks)?;
    let control = cut_and_recover(arguments, &tools.verify, folder, &control)?;
    println!("control without flushes: {}", control.line());
    if control.lost == 0 {
        bail!("the control run, in which no flush reaches the disk, lost nothing: this test proves nothing");
    }
    println!("power cut: acknowledged <= recovered at each of {} cuts (seed {})", told.cuts, arguments.seed);
    Ok(())
}

fn parse() -> Result<Arguments> {
    let mut arguments =
        Arguments { kernel: PathBuf::new(), cuts: 40, seed: u64::from(std::process::id()), acks: 1500 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} needs a value"))?;
        let number = || value.parse::<u64>().with_context(|| format!("{word} {value}: not a number"));
        match word.as_str() {
            "--kernel" => arguments.kernel = PathBuf::from(value),
            "--cuts" => arguments.cuts = number()?,
            "--seed" => arguments.seed = number()?,
            "--acks" => arguments.acks = number()?,
            other => bail!("unknown argument {other:?}"),
        }
    }
    if arguments.kernel.as_os_str().is_empty() {
        bail!("--kernel FOLDER: an unpacked Debian kernel package (boot/ and lib/)");
    }
    Ok(arguments)
}

/// What a series of cuts came to.
#[derive(Default)]
struct Told {
    cuts: u64,
    acknowledged: u64,
    lost: u64,
    refused: u64,
    /// Cuts at which the acknowledged number was the recovered one: as close as it gets.
    tight: u64,
    dropped_units: u64,
}

impl Told {
    fn line(&self) -> String {
        format!(
            "{} cuts, {} numbers acknowledged in all, {} cuts lost some, {} journals refused, {} recovered exactly what was acknowledged, {} units of 512 bytes dropped",
            self.cuts, self.acknowledged, self.lost, self.refused, self.tight, self.dropped_units
        )
    }
}

fn cut_and_recover(
    arguments: &Arguments,
    verify: &Path,
    folder: &Path,
    recording: &Recording,
) -> Result<Told> {
    let log = WriteLog::read(&recording.log)?;
    let first = recording.acks.first().context("the guest acknowledged nothing")?.log_bytes;
    let from = log.entry_at(first);
    if log.entries() < from + 10 {
        bail!("the write log has only {} entries", log.entries());
    }
    let mut random = Random::new(arguments.seed);
    let mut points: Vec<usize> = (0..arguments.cuts)
        .map(|_| {
            from + usize::try_from(random.below((log.entries() - from) as u64))
                .expect("below the number of entries")
        })
        .collect();
    points.sort_unstable();
    let durable = folder.join("durable.img");
    fs::copy(&recording.base, &durable).context("copy the empty disk")?;
    let mut told = Told { acknowledged: recording.acks.len() as u64, ..Told::default() };
    let mut done = 0;
    for point in points {
        let cut = Cut::at(&log, point);
        // What a flush covered is written in order, once; the image only ever moves forward.
        log.apply(&durable, done..cut.durable_until)?;
        done = done.max(cut.durable_until);
        let image = folder.join("cut.img");
        ran(Command::new("cp").arg("--sparse=always").arg(&durable).arg(&image))?;
        told.dropped_units += log.apply_subset(&image, cut.durable_until..point, &mut random)?;
        let least = recording.acknowledged_before(log.offset(point));
        told.cuts += 1;
        match recover(verify, &image, folder, least)? {
            Recovered::All(highest) => told.tight += u64::from(highest == least),
            Recovered::Lost(said) => {
                told.lost += 1;
                say_first(told.lost, &format!("cut at entry {point}: {said}"));
            }
            Recovered::Refused(said) => {
                told.refused += 1;
                say_first(told.refused, &format!("cut at entry {point}: refused: {said}"));
            }
        }
    }
    Ok(told)
}

fn say_first(count: u64, said: &str) {
    if count <= 3 {
        println!("{said}");
    }
}

enum Recovered {
    All(u64),
    Lost(String),
    Refused(String),
}

fn recover(verify: &Path, image: &Path, folder: &Path, least: u64) -> Result<Recovered> {
    // 0: clean, 1: repaired (the journal was replayed).
    let checked = Command::new("/sbin/e2fsck").args(["-fy"]).arg(image).output().context("run e2fsck")?;
    if !matches!(checked.status.code(), Some(0 | 1)) {
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        return Ok(Recovered::Lost(format!("the file system is beyond repair: {said}")));
    }
    let out = folder.join("out");
    let _ = fs::remove_dir_all(&out);
    fs::create_dir(&out).context("make a folder")?;
    let dump = format!("rdump /j {}", out.display());
    ran(Command::new("/sbin/debugfs").args(["-R", &dump]).arg(image))?;
    if !out.join("j").is_dir() {
        return Ok(Recovered::Lost("the journal's folder is gone".to_owned()));
    }
    let ran =
        Command::new(verify).arg(out.join("j")).arg(least.to_string()).output().context("run verify")?;
    let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    match ran.status.code() {
        Some(0) => {
            let highest = String::from_utf8_lossy(&ran.stdout).trim().parse().context("verify's answer")?;
            Ok(Recovered::All(highest))
        }
        Some(2) => Ok(Recovered::Lost(said)),
        _ => Ok(Recovered::Refused(said)),
    }
}
