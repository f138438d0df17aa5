//! `sbcast`: a file for every node of an allocation.
//!
//! The bytes travel as the standard input of a step with one task on each node, which this program makes by `srun`: so
//! they are written with the user's rights, once for each node, as fast as the slowest of them takes them. The task is
//! this program again (`sbcast --receive`): it writes beside the destination and renames, so a file that is there is whole.
//! The step has the name `sbcast` in accounting, where Slurm has none.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::libc;

use super::Call;
use crate::getopt::Spec;
use crate::getopt::Takes::{Maybe, Nothing, Value};
use crate::{local, say};

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Compress,
    Exclude,
    Fanout,
    Force,
    Help,
    Job,
    Preserve,
    Receive,
    SendLibs,
    Size,
    Timeout,
    TreeWidth,
    Usage,
    Verbose,
    Version,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::new(O::Compress, b'C', "compress", Maybe),
    Spec::long(O::Exclude, "exclude", Value),
    Spec::new(O::Fanout, b'F', "fanout", Value),
    Spec::new(O::Force, b'f', "force", Nothing),
    Spec::long(O::Help, "help", Nothing),
    Spec::new(O::Job, b'j', "jobid", Value),
    Spec::new(O::Preserve, b'p', "preserve", Nothing),
    Spec::long(O::Receive, "receive", Value),
    Spec::long(O::SendLibs, "send-libs", Maybe),
    Spec::new(O::Size, b's', "size", Value),
    Spec::new(O::Timeout, b't', "timeout", Value),
    Spec::long(O::TreeWidth, "treewidth", Value),
    Spec::long(O::Usage, "usage", Nothing),
    Spec::new(O::Verbose, b'v', "verbose", Nothing),
    Spec::new(O::Version, b'V', "version", Nothing),
];

const USAGE: &str = "Usage: sbcast [-CfFjpstvV] SOURCE DEST\n";
/// Slurm's exit status where nothing was sent.
const NOTHING_SENT: u8 = 255;

#[derive(Default)]
struct Asked {
    job: Option<String>,
    force: bool,
    preserve: bool,
    /// How often `-v` was given.
    verbose: u32,
    source: PathBuf,
    target: OsString,
}

/// Runs the command; a node's failure is its error number, as in Slurm.
pub(crate) fn run(call: &Call) -> u8 {
    let words = match call.split(OPTIONS) {
        Ok(words) => words,
        Err(status) => return status,
    };
    let fail = |line: String| {
        say::error(&call.program, line);
        1
    };
    let mut asked = Asked::default();
    for given in &words.options {
        match given.id {
            O::Compress => match given.text().as_str() {
                "none" => {}
                "" | "lz4" => say::err(format!(
                    "{}: warning: compression is not supported by sluice: the file is sent as it is",
                    call.program
                )),
                other => {
                    return fail(format!("Compression type '{other}' unknown, options are 'lz4', 'none'"));
                }
            },
            O::SendLibs if !matches!(given.text().to_ascii_lowercase().as_str(), "no" | "n") => {
                return fail("--send-libs is not supported by sluice yet".to_owned());
            }
            O::Exclude | O::SendLibs => {}
            // Shapes of Slurm's own tree of messages: here is one stream to each node.
            O::Fanout | O::TreeWidth | O::Timeout => {
                if given.text().parse::<u32>().is_err() {
                    return fail(format!("invalid number \"{}\"", given.text()));
                }
            }
            O::Size => {
                let text = given.text();
                if text.trim_end_matches(['k', 'K', 'm', 'M']).parse::<u32>().is_err() {
                    return fail(format!("invalid block size \"{text}\""));
                }
            }
            O::Force => asked.force = true,
            O::Job => asked.job = Some(given.text()),
            O::Preserve => asked.preserve = true,
            O::Verbose => asked.verbose += 1,
            O::Receive => return receive(call, &given.text(), &words.operands),
            O::Usage => {
                say::out(USAGE);
                return 0;
            }
            O::Help => {
                say::out(HELP);
                return 0;
            }
            O::Version => {
                say::out(super::version() + "\n");
                return 0;
            }
        }
    }
    let [source, target] = words.operands.as_slice() else {
        return fail(format!("Need two file names, have {} names", words.operands.len()));
    };
    (asked.source, asked.target) = (PathBuf::from(source), target.clone());
    send(call, &asked).unwrap_or_else(|(status, line)| {
        say::error(&call.program, line);
        status
    })
}

/// The job and step whose nodes are meant.
fn job(asked: &Asked) -> Option<String> {
    let own = || ["SLURM_JOB_ID", "SLURM_JOBID"].iter().find_map(|name| std::env::var(name).ok());
    asked.job.clone().or_else(own).filter(|text| !text.is_empty())
}

/// The block of `-vv`: the options as they were understood, and the file.
fn told(program: &str, asked: &Asked, facts: &Metadata, job: &str, target: &Path) {
    const RULE: &str = "-----------------------------";
    let time = |seconds: i64| local::ctime(seconds.saturating_mul(1000));
    let lines = [
        RULE.to_owned(),
        format!("force      = {}", asked.force),
        format!("jobid      = {job}"),
        format!("preserve   = {}", asked.preserve),
        "send_libs  = false".to_owned(),
        format!("verbose    = {}", asked.verbose),
        format!("source     = {}", asked.source.display()),
        format!("dest       = {}", target.display()),
        RULE.to_owned(),
        format!("modes    = {:o}", facts.mode()),
        format!("uid      = {}", facts.uid()),
        format!("gid      = {}", facts.gid()),
        format!("atime    = {}", time(facts.atime())),
        format!("mtime    = {}", time(facts.mtime())),
        format!("ctime    = {}", time(facts.ctime())),
        format!("size     = {}", facts.size()),
    ];
    lines.iter().for_each(|line| say::err(format!("{program}: {line}")));
}

fn send(call: &Call, asked: &Asked) -> Result<u8, (u8, String)> {
    let shown = asked.source.display();
    let cannot =
        |error: &io::Error| (NOTHING_SENT, format!("Can't open `{shown}`: {}", super::os_text(error)));
    let file = File::open(&asked.source).map_err(|error| cannot(&error))?;
    let facts = file.metadata().map_err(|error| cannot(&error))?;
    if !facts.is_file() {
        return Err((NOTHING_SENT, format!("`{shown}` is no regular file")));
    }
    let job = job(asked).ok_or((1, "Command only valid from within SLURM job".to_owned()))?;
    let job = job.split('.').next().unwrap_or_default().to_owned();
    let plan = Receiving {
        length: facts.len(),
        mode: facts.mode() & 0o7777,
        force: asked.force,
        times: asked
            .preserve
            .then(|| [(facts.atime(), facts.atime_nsec()), (facts.mtime(), facts.mtime_nsec())]),
    };
    let nodes = super::block_on(node_count(&job)).map_err(|text| (1, text))?;
    let program = std::env::current_exe().map_err(|error| (1, super::os_text(&error)))?;
    let target = destination(&asked.target, &asked.source);
    if asked.verbose > 0 {
        say::err(format!("{}: {shown} -> {} on {nodes} nodes of job {job}", call.program, target.display()));
    }
    if asked.verbose > 1 {
        told(&call.program, asked, &facts, &job, &target);
    }
    let mut srun = Command::new(&program);
    // What an srun around this would be told by its environment is not meant for this one.
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_option(name)) {
        srun.env_remove(name);
    }
    let output = srun
        .arg0("srun")
        .arg(format!("--jobid={job}"))
        .arg(format!("--nodes={nodes}"))
        .arg(format!("--ntasks={nodes}"))
        .args(["--ntasks-per-node=1", "--overlap", "--job-name=sbcast", "--mpi=none", "--container=none"])
        .args(["--chdir=/", "--cpu-bind=none", "--kill-on-bad-exit=0", "--export=ALL"])
        .arg(&program)
        .arg("sbcast")
        .arg(format!("--receive={}", plan.text()))
        .arg(absolute(&target))
        .stdin(Stdio::from(file))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| (1, format!("{}: {}", program.display(), super::os_text(&error))))?;
    let lines = String::from_utf8_lossy(&output.stderr);
    let own = |line: &&str| line.starts_with("sbcast: ");
    // srun's own account of a task that has said why it fails adds nothing.
    let all = !lines.lines().any(|line| own(&line));
    lines.lines().filter(|line| all || own(line)).for_each(say::err);
    Ok(output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Options of srun in the environment; what names the allocation is none.
fn is_option(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let kept = ["SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_UID"];
    name.starts_with("SLURM_") && !kept.contains(&&*name)
}

/// A destination that ends in a slash is a folder.
fn destination(target: &OsStr, source: &Path) -> PathBuf {
    let path = Path::new(target);
    match (target.as_bytes().ends_with(b"/"), source.file_name()) {
        (true, Some(name)) => path.join(name),
        _ => path.to_owned(),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::env::current_dir().map_or_else(|_| path.to_owned(), |dir| dir.join(path))
}

async fn node_count(job: &str) -> Result<usize, String> {
    let text = |error| format!("slurm_sbcast_lookup: {}", say::reason(&error));
    let invalid = || format!("slurm_sbcast_lookup: {}", model::refusal::Refusal::InvalidJobId);
    let id = job.parse().map_err(|_| invalid())?;
    let client = super::connect().await.map_err(text)?;
    let job = client.job(id).await.map_err(text)?.ok_or_else(invalid)?;
    if crate::api::has_ended(&job) {
        return Err(format!("slurm_sbcast_lookup: {}", model::refusal::Refusal::AlreadyDone));
    }
    Some(job.allocation.len()).filter(|count| *count > 0).ok_or_else(invalid)
}

/// What the task on a node must know: `LENGTH,MODE,FORCE[,ATIME.NS,MTIME.NS]`.
#[derive(Debug, PartialEq, Eq)]
struct Receiving {
    length: u64,
    mode: u32,
    force: bool,
    times: Option<[(i64, i64); 2]>,
}

impl Receiving {
    fn text(&self) -> String {
        let mut text = format!("{},{:o},{}", self.length, self.mode, u8::from(self.force));
        for (seconds, nanoseconds) in self.times.iter().flatten() {
            text += &format!(",{seconds}.{nanoseconds}");
        }
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(',');
        let length = words.next()?.parse().ok()?;
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let force = words.next()? == "1";
        let time = |word: &str| {
            let (seconds, nanoseconds) = word.split_once('.')?;
            Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
        };
        let times = match (words.next(), words.next()) {
            (Some(first), Some(second)) => Some([time(first)?, time(second)?]),
            _ => None,
        };
        Some(Self { length, mode, force, times })
    }
}

/// The task's side: standard input becomes the file.
fn receive(call: &Call, plan: &str, operands: &[OsString]) -> u8 {
    let (Some(plan), [target]) = (Receiving::parse(plan), operands) else {
        say::error(&call.program, "--receive is for sbcast itself");
        return 1;
    };
    let target = Path::new(target);
    write_file(&plan, target, &mut io::stdin().lock()).map_or_else(
        |error| {
            let node = std::env::var("SLURMD_NODENAME").unwrap_or_default();
            say::error("sbcast", format!("REQUEST_FILE_BCAST({node}): {}", super::os_text(&error)));
            error.raw_os_error().and_then(|number| u8::try_from(number).ok()).unwrap_or(1)
        },
        |()| 0,
    )
}

fn write_file(plan: &Receiving, target: &Path, source: &mut impl Read) -> io::Result<()> {
    if !plan.force && fs::symlink_metadata(target).is_ok() {
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    if target.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    let mut beside = target.as_os_str().as_bytes().to_vec();
    beside.extend_from_slice(format!(".sbcast-{}", std::process::id()).as_bytes());
    let beside = PathBuf::from(OsString::from_vec(beside));
    let done = fill(plan, &beside, source).and_then(|()| match plan.force {
        true => fs::rename(&beside, target),
        // A link fails where somebody was faster.
        false => fs::hard_link(&beside, target),
    });
    // Gone already where it was renamed.
    let _ = fs::remove_file(&beside);
    done
}

fn fill(plan: &Receiving, path: &Path, source: &mut impl Read) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut buffer = vec![0; 128 * 1024];
    let mut length = 0;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                file.write_all(&buffer[..count])?;
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if length != plan.length {
        return Err(io::Error::from_raw_os_error(libc::EIO));
    }
    // Without `-p` the mode is the source's too, less what the umask takes; set bits are never given.
    let mode = if plan.times.is_some() { plan.mode & 0o777 } else { plan.mode & 0o777 & !umask() };
    file.set_permissions(Permissions::from_mode(mode))?;
    if let Some(times) = plan.times {
        let [accessed, modified] = times.map(|(seconds, nanoseconds)| moment(seconds, nanoseconds));
        file.set_times(fs::FileTimes::new().set_accessed(accessed).set_modified(modified))?;
    }
    Ok(())
}

/// This process's own mask. There is no way to read it but to set it.
fn umask() -> u32 {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(mask);
    mask.bits()
}

fn moment(seconds: i64, nanoseconds: i64) -> SystemTime {
    let part = Duration::from_nanos(nanoseconds.unsigned_abs());
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = SystemTime::UNIX_EPOCH;
    (if seconds < 0 { base - whole } else { base + whole }) + part
}

const HELP: &str = "\
Usage: sbcast [options] SOURCE DEST
Options:
  -C, --compress[=none]  accepted; the file is sent as it is
      --exclude=PATHS    with --send-libs
  -F, --fanout=NUM       accepted; every node has a stream of its own
  -f, --force            replace a file that is there
  -j, --jobid=JOB[.STEP] the job whose nodes get the file (default: the one this runs in)
  -p, --preserve         keep mode and times
      --send-libs=no     shared libraries are not sent
  -s, --size=NUM[k|m]    accepted; pieces have one size
  -t, --timeout=SECONDS  accepted
  -v, --verbose          say what is done; twice: also with which options, of which file
  -V, --version          print the version and exit
Help options:
      --help             print this and exit
A DEST that ends in a slash is a folder.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_read_back() {
        for plan in [
            Receiving { length: 9, mode: 0o755, force: true, times: None },
            Receiving { length: 0, mode: 0o600, force: false, times: Some([(1, 2), (-3, 4)]) },
        ] {
            assert_eq!(Receiving::parse(&plan.text()), Some(plan));
        }
        assert_eq!(Receiving::parse("x"), None);
    }

    #[test]
    fn files_appear_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("sluice-sbcast-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let target = folder.join("t");
        let plan =
            |length, force| Receiving { length, mode: 0o640, force, times: Some([(5, 0), (981_158_400, 0)]) };
        let write = |plan: &Receiving, text: &str| write_file(plan, &target, &mut text.as_bytes());
        assert_eq!(write(&plan(9, false), "short").unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(!target.exists());
        write(&plan(3, false), "one").unwrap();
        assert_eq!(write(&plan(3, false), "two").unwrap_err().raw_os_error(), Some(libc::EEXIST));
        assert_eq!(fs::read_to_string(&target).unwrap(), "one");
        write(&plan(3, true), "two").unwrap();
        let facts = fs::metadata(&target).unwrap();
        assert_eq!((facts.mtime(), facts.mode() & 0o7777), (981_158_400, 0o640));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "something was left beside it");
        assert_eq!(destination(OsStr::new("/x/"), Path::new("/a/b")), Path::new("/x/b"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
