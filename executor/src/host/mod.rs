//! What this machine is: processors, memory, kernel, load. Reads kernel files; decides nothing.
//!
//! Processors and memory are what this process may use (affinity, cpuset, quota, cgroup limit), not what the
//! machine has. With a configuration that names the node, its declaration counts and the node says that it
//! was not observed.

pub mod gres;
mod topology;

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proto::v1;

/// The kernel's id of this boot.
///
/// # Errors
/// It cannot be read, or is no UUID.
pub fn boot_id() -> std::io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_uuid(&text).ok_or_else(|| std::io::Error::other("boot_id is no UUID"))
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    if digits.len() != 32 {
        return None;
    }
    let mut id = [0; 16];
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(id)
}

/// Name of the machine, as it calls itself.
#[must_use]
pub fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The present moment, ms since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The part of this machine that a processor is in, numbered as the kernel does.
#[must_use]
pub fn part_of(part: model::binding::Part, cpu: u32) -> u32 {
    topology::part_of(Path::new("/sys/devices/system/cpu"), part, cpu)
}

/// What is observed of this machine.
#[must_use]
pub fn observe() -> v1::NodeFacts {
    let cpus =
        std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    let shape = topology::read(Path::new("/sys/devices/system/cpu"), cpus);
    let release =
        |name: &str| fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).unwrap_or_default();
    v1::NodeFacts {
        cpus,
        boards: 1,
        sockets: shape.sockets,
        cores_per_socket: shape.cores_per_socket,
        threads_per_core: shape.threads_per_core,
        memory_mib: memory_bytes() >> 20,
        tmp_disk_mib: tmp_disk_mib(),
        os: format!("Linux {} {}", release("osrelease").trim(), release("version").trim()),
        architecture: std::env::consts::ARCH.to_owned(),
        boot_ms: boot_ms(),
        start_ms: now_ms(),
        gres: Vec::new(),
        lacks: Vec::new(),
        hostname: hostname(),
        declared: false,
        cgroups: String::new(),
        attested: Vec::new(),
        gpus: Vec::new(),
    }
}

/// The kernel's numbers of the processors that this process may use, in the order in which a node counts them: by
/// socket, core and thread.
#[must_use]
pub fn usable_cpus() -> Vec<u32> {
    let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)) else { return Vec::new() };
    let usable = (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false));
    let mut cpus: Vec<u32> = usable.filter_map(|cpu| u32::try_from(cpu).ok()).collect();
    cpus.sort_by_key(|cpu| topology::place(Path::new("/sys/devices/system/cpu"), *cpu));
    cpus
}

/// Processes and threads that the machine can have at one time; 0 where that cannot be read.
#[must_use]
pub fn pids_total() -> u64 {
    let read =
        |name: &str| fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?.trim().parse().ok();
    let limits: [Option<u64>; 2] = ["pid_max", "threads-max"].map(read);
    limits.into_iter().flatten().min().unwrap_or(0)
}

fn boot_ms() -> i64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    seconds.unwrap_or(0).saturating_mul(1000)
}

fn meminfo(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// The machine's memory, or the limit of the cgroup that this process is in.
fn memory_bytes() -> u64 {
    let total = meminfo("MemTotal").unwrap_or(0);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups.lines().filter_map(memory_limit).fold(total, u64::min)
}

/// The smallest limit on the way up from one of the process's groups.
fn memory_limit(line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let (mount, file) = match controllers {
        "" => ("/sys/fs/cgroup", "memory.max"),
        list if list.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        }
        _ => return None,
    };
    let own = Path::new(mount).join(path.trim_start_matches('/'));
    let limits = own
        .ancestors()
        .take_while(|folder| folder.starts_with(mount))
        .filter_map(|folder| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok());
    limits.min()
}

fn tmp_disk_mib() -> u64 {
    nix::sys::statvfs::statvfs("/tmp").map_or(0, |facts| (facts.blocks() * facts.fragment_size()) >> 20)
}

/// Load and free memory now.
#[must_use]
pub fn heartbeat() -> v1::Heartbeat {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0);
    let free = meminfo("MemAvailable").unwrap_or(0);
    v1::Heartbeat { load, memory_free_mib: free >> 20, containers: String::new(), gpus: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::{observe, parse_uuid};

    #[test]
    fn reads_a_boot_id() {
        let id = parse_uuid("0a0b0c0d-0102-0304-0506-0708090a0b0c\n").unwrap();
        assert_eq!((id[0], id[15]), (0x0a, 0x0c));
        assert_eq!(parse_uuid("0a0b"), None);
    }

    #[test]
    fn this_machine_has_something() {
        let facts = observe();
        assert!(facts.cpus >= 1 && facts.memory_mib > 0 && facts.boot_ms > 0);
        assert!(facts.sockets * facts.cores_per_socket * facts.threads_per_core >= facts.cpus);
    }
}
