//! Generic resources of this node: what `slurm.conf` declares, held against the device files of `gres.conf`.
//!
//! Where files are named, the files that exist are the inventory. Nothing is observed through a driver yet: the
//! node says so.

use std::collections::BTreeMap;
use std::path::Path;

use model::config::NodeConf;
use model::config::gres::{GresConf, GresLine};
use proto::v1;

use crate::cgroup::policy::Device;

/// What the node has, and a sentence for each difference.
#[must_use]
pub fn inventory(node: &NodeConf, conf: Option<&GresConf>, root: &Path) -> (Vec<v1::Gres>, Vec<String>) {
    let mut lacks = Vec::new();
    let mut found = Vec::new();
    for declared in &node.gres {
        let kind = declared.kind.as_deref().unwrap_or_default();
        let lines = conf.into_iter().flat_map(|conf| &conf.lines).filter(|line| {
            line.concerns(&node.name)
                && line.name == declared.name
                && (line.kind.is_none() || declared.kind.is_none() || line.kind == declared.kind)
        });
        // Shards lie on the files of GPUs.
        let lines = lines.filter(|line| &*line.name != "shard");
        // A device with several files is there when all of them are.
        let files: Vec<&[Box<str>]> = lines.flat_map(files_of).collect();
        let exists = |file: &str| root.join(file.trim_start_matches('/')).exists();
        let there = files.iter().filter(|files| files.iter().all(|file| exists(file))).count();
        let count = if files.is_empty() { declared.count } else { declared.count.min(there as u64) };
        if count < declared.count {
            lacks.push(format!(
                "{} of {} declared {} have a device file",
                count, declared.count, declared.name
            ));
        }
        found.push(v1::Gres { name: declared.name.to_string(), r#type: kind.to_owned(), count });
    }
    if !found.is_empty() {
        lacks.push("generic resources are declared, not observed through a driver".to_owned());
    }
    (found, lacks)
}

/// The device files of this node's generic resources, each with its place among those of its name.
#[must_use]
pub fn devices(node: &NodeConf, conf: &GresConf, root: &Path) -> Vec<Device> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut found = Vec::new();
    for line in conf.lines.iter().filter(|line| line.concerns(&node.name) && &*line.name != "shard") {
        for files in files_of(line) {
            let facts = |file: &str| std::fs::metadata(root.join(file.trim_start_matches('/')));
            let Ok(facts) = files.iter().map(|file| facts(file)).collect::<Result<Vec<_>, _>>() else {
                continue;
            };
            let index = counts.entry(&line.name).or_insert(0);
            for facts in facts {
                let kind = facts.file_type();
                if kind.is_char_device() || kind.is_block_device() {
                    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
                    found.push(Device {
                        gres: line.name.clone(),
                        index: *index,
                        block: kind.is_block_device(),
                        major: number(nix::sys::stat::major(facts.rdev())),
                        minor: number(nix::sys::stat::minor(facts.rdev())),
                    });
                }
            }
            *index += 1;
        }
    }
    found
}

/// The devices of a line, each with its files: one, or all of `MultipleFiles`.
fn files_of(line: &GresLine) -> impl Iterator<Item = &[Box<str>]> {
    let several = Some(&*line.multiple_files).filter(|files| !files.is_empty());
    line.files.chunks(1).chain(several)
}

#[cfg(test)]
mod tests {
    use super::{devices, inventory};
    use model::config::SlurmConf;
    use model::config::gres::GresConf;
    use std::path::Path;

    #[test]
    fn files_that_exist_are_the_inventory() {
        let text = "ClusterName=c\nSlurmctldHost=h\nGresTypes=gpu\nNodeName=g1 Gres=gpu:a100:4\nPartitionName=p Nodes=g1\n";
        let mut none = |_: &Path| Err("no includes".to_owned());
        let conf = SlurmConf::parse(text, Path::new("slurm.conf"), &mut none).unwrap();
        let lines = "NodeName=g1 Name=gpu Type=a100 File=/dev/fake[0-3]\n";
        let gres = GresConf::parse(lines, Path::new("gres.conf"), &mut none).unwrap();
        let root = std::env::temp_dir().join(format!("sluice-gres-{}", std::process::id()));
        std::fs::create_dir_all(root.join("dev")).unwrap();
        for name in ["fake0", "fake2", "fake9"] {
            std::fs::write(root.join("dev").join(name), "").unwrap();
        }
        let (found, lacks) = inventory(&conf.nodes[0], Some(&gres), &root);
        assert_eq!((found[0].count, found[0].r#type.as_str(), lacks.len()), (2, "a100", 2));
        let (found, lacks) = inventory(&conf.nodes[0], None, &root);
        assert_eq!((found[0].count, lacks.len()), (4, 1));
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_device_with_several_files_is_one_device_of_all_of_them() {
        let text = "ClusterName=c\nSlurmctldHost=h\nGresTypes=gpu\nNodeName=g1 Gres=gpu:2\nPartitionName=p Nodes=g1\n";
        let mut none = |_: &Path| Err("no includes".to_owned());
        let conf = SlurmConf::parse(text, Path::new("slurm.conf"), &mut none).unwrap();
        // Three character devices that every machine has, and one that is not there.
        let lines = "Name=gpu MultipleFiles=/dev/null,/dev/zero\nName=gpu MultipleFiles=/dev/full,/dev/none\n\
                     Name=gpu File=/dev/full\n";
        let gres = GresConf::parse(lines, Path::new("gres.conf"), &mut none).unwrap();
        let (found, _) = inventory(&conf.nodes[0], Some(&gres), Path::new("/"));
        assert_eq!(found[0].count, 2);
        let found = devices(&conf.nodes[0], &gres, Path::new("/"));
        let numbers: Vec<(u32, u32, u32)> =
            found.iter().map(|one| (one.index, one.major, one.minor)).collect();
        assert_eq!(numbers, [(0, 1, 3), (0, 1, 5), (1, 1, 7)]);
    }
}
