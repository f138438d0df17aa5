//! Sockets, cores and threads from sysfs.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use model::binding::Part;

/// The machine's shape, scaled to what may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) sockets: u32,
    pub(super) cores_per_socket: u32,
    pub(super) threads_per_core: u32,
}

/// The shape that sysfs shows, if it has exactly `usable` processors; else one socket of `usable` cores: a part
/// of a machine has no shape that a scheduler could place by.
pub(super) fn read(root: &Path, usable: u32) -> Shape {
    let plain = Shape { sockets: 1, cores_per_socket: usable.max(1), threads_per_core: 1 };
    let mut packages = BTreeSet::new();
    let mut cores = BTreeSet::new();
    let mut threads = 0;
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_cpu =
            name.to_str().and_then(|name| name.strip_prefix("cpu")).is_some_and(|n| n.parse::<u32>().is_ok());
        let number = |file: &str| -> Option<i64> {
            fs::read_to_string(entry.path().join("topology").join(file)).ok()?.trim().parse().ok()
        };
        if let (true, Some(package), Some(core)) = (is_cpu, number("physical_package_id"), number("core_id"))
        {
            packages.insert(package);
            cores.insert((package, core));
            threads += 1;
        }
    }
    let (Ok(sockets), Ok(cores)) = (u32::try_from(packages.len()), u32::try_from(cores.len())) else {
        return plain;
    };
    let even = sockets > 0 && cores > 0 && cores % sockets == 0 && threads % cores == 0;
    if !even || threads != usable {
        return plain;
    }
    Shape { sockets, cores_per_socket: cores / sockets, threads_per_core: threads / cores }
}

/// Socket, core and number of a processor; what sysfs does not say counts as 0.
pub(super) fn place(root: &Path, cpu: u32) -> (i64, i64, u32) {
    let folder = root.join(format!("cpu{cpu}")).join("topology");
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok();
    (number("physical_package_id").unwrap_or(0), number("core_id").unwrap_or(0), cpu)
}

/// The part of the machine that a processor is in; what sysfs does not say counts as 0. Cost: one small file or folder.
pub(super) fn part_of(root: &Path, part: Part, cpu: u32) -> u32 {
    match part {
        Part::Socket => u32::try_from(place(root, cpu).0).unwrap_or(0),
        Part::Domain => {
            // `node0` is a link in the processor's folder.
            let entries = fs::read_dir(root.join(format!("cpu{cpu}"))).into_iter().flatten().flatten();
            let number = |name: &str| name.strip_prefix("node")?.parse().ok();
            entries.filter_map(|entry| number(entry.file_name().to_str()?)).min().unwrap_or(0)
        }
        Part::Board => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, Shape, part_of, read};

    #[test]
    fn counts_only_whole_machines() {
        let root = std::env::temp_dir().join(format!("sluice-topology-{}", std::process::id()));
        for cpu in 0..8 {
            let folder = root.join(format!("cpu{cpu}")).join("topology");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("physical_package_id"), format!("{}\n", cpu / 4)).unwrap();
            std::fs::write(folder.join("core_id"), format!("{}\n", cpu / 2)).unwrap();
            std::fs::create_dir_all(root.join(format!("cpu{cpu}/node{}", cpu / 2))).unwrap();
        }
        std::fs::create_dir_all(root.join("cpufreq")).unwrap();
        assert_eq!(read(&root, 8), Shape { sockets: 2, cores_per_socket: 2, threads_per_core: 2 });
        assert_eq!(read(&root, 3), Shape { sockets: 1, cores_per_socket: 3, threads_per_core: 1 });
        let parts = [Part::Socket, Part::Domain, Part::Board].map(|part| part_of(&root, part, 5));
        assert_eq!(parts, [1, 2, 0]);
        assert_eq!(part_of(&root, Part::Domain, 99), 0);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(read(&root, 2), Shape { sockets: 1, cores_per_socket: 2, threads_per_core: 1 });
    }
}
