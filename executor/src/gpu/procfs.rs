//! The driver's files as a [`Driver`], for `AutoDetect=nvidia` where the library is not there: whole GPUs only.
//!
//! `/proc/driver/nvidia/gpus/ADDRESS/information` names product, UUID and minor; sysfs knows the processors nearby.

use std::path::{Path, PathBuf};

use super::{Driver, Fault, Gpu, Instance, Observed, Profile, Vitals, code};

/// See the module comment.
pub struct Files {
    root: PathBuf,
    addresses: Vec<String>,
}

impl Files {
    /// Reads which GPUs the driver lists below `root`.
    ///
    /// # Errors
    /// A sentence: it lists none.
    pub fn read(root: &Path) -> Result<Self, String> {
        let folder = root.join("proc/driver/nvidia/gpus");
        let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut addresses: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        // Names of one length: their order is that of the bus.
        addresses.sort();
        Ok(Self { root: root.to_owned(), addresses })
    }

    fn one(&self, address: &str) -> Observed {
        let path = self.root.join("proc/driver/nvidia/gpus").join(address).join("information");
        let lost = |error: std::io::Error| Fault {
            call: "information",
            code: code::GPU_IS_LOST,
            text: format!("{}: {error}", path.display()),
        };
        let text = std::fs::read_to_string(&path).map_err(lost)?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
            line.map(|value| value.trim().to_owned()).unwrap_or_default()
        };
        let near = self.root.join("sys/bus/pci/devices").join(address).join("local_cpulist");
        let near = std::fs::read_to_string(near).unwrap_or_default();
        Ok(Gpu {
            uuid: field("GPU UUID"),
            product: field("Model"),
            pci: address.to_owned(),
            minor: field("Device Minor").parse().unwrap_or(u32::MAX),
            cpus: super::inventory::numbers(near.trim()).unwrap_or_default(),
            ..Gpu::default()
        })
    }
}

fn refused(call: &'static str) -> Fault {
    Fault { call, code: code::NOT_SUPPORTED, text: "the library is not there".to_owned() }
}

impl Driver for Files {
    fn version(&self) -> String {
        let text = std::fs::read_to_string(self.root.join("proc/driver/nvidia/version")).unwrap_or_default();
        text.lines().next().unwrap_or("of unknown version").to_owned()
    }

    fn observe(&self) -> Result<Vec<Observed>, Fault> {
        Ok(self.addresses.iter().map(|address| self.one(address)).collect())
    }

    fn instances(&self, _: usize) -> Result<Vec<Instance>, Fault> {
        Ok(Vec::new())
    }

    fn create(&self, _: usize, _: &Profile, _: u32) -> Result<Instance, Fault> {
        Err(refused("create"))
    }

    fn destroy(&self, _: usize, _: &Instance) -> Result<(), Fault> {
        Err(refused("destroy"))
    }

    fn vitals(&self, _: usize) -> Result<Vitals, Fault> {
        Ok(Vitals::default())
    }

    fn instance_memory_used_mib(&self, _: usize, _: &Instance) -> Result<u64, Fault> {
        Err(refused("memory"))
    }

    fn errors(&self) -> Vec<(usize, u64)> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Files;
    use crate::gpu::Driver;

    #[test]
    fn the_drivers_files_are_read_in_bus_order() {
        let root = std::env::temp_dir().join(format!("sluice-gpu-files-{}", std::process::id()));
        for (address, minor) in [("0000:3b:00.0", 0), ("0000:18:00.0", 1)] {
            let folder = root.join("proc/driver/nvidia/gpus").join(address);
            std::fs::create_dir_all(&folder).unwrap();
            let text = format!(
                "Model: \t\t Tesla T4\nIRQ:   \t\t 70\nGPU UUID: \t GPU-{minor}\nDevice Minor: \t {minor}\n"
            );
            std::fs::write(folder.join("information"), text).unwrap();
        }
        let near = root.join("sys/bus/pci/devices/0000:18:00.0");
        std::fs::create_dir_all(&near).unwrap();
        std::fs::write(near.join("local_cpulist"), "0-1,4\n").unwrap();
        let found = Files::read(&root).unwrap().observe().unwrap();
        let first = found[0].as_ref().unwrap();
        assert_eq!((first.product.as_str(), first.uuid.as_str(), first.minor), ("Tesla T4", "GPU-1", 1));
        assert_eq!(first.cpus, [0, 1, 4]);
        assert_eq!(found[1].as_ref().unwrap().minor, 0);
        std::fs::remove_dir_all(&root).unwrap();
        assert!(Files::read(&root).is_err());
    }
}
