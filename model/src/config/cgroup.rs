//! cgroup.conf: how jobs are confined.

use super::keys::parse_flag;
use super::lex::{self, Reader};
use super::{Error, Notice};
use std::path::Path;

/// All of cgroup.conf, with Slurm's defaults.
#[derive(Clone, Debug)]
pub struct CgroupConf {
    /// `autodetect`, `cgroup/v1`, `cgroup/v2` or `disabled`, in lower case.
    pub plugin: Box<str>,
    /// Where the hierarchy is mounted.
    pub mountpoint: Box<str>,
    /// Jobs keep to their cores.
    pub constrain_cores: bool,
    /// Jobs keep to their memory.
    pub constrain_ram: bool,
    /// Jobs keep to their swap space.
    pub constrain_swap: bool,
    /// Jobs keep to their devices.
    pub constrain_devices: bool,
    /// Memory limit as a percentage of what was allocated.
    pub allowed_ram_percent: f64,
    /// Swap space beside it, as a percentage of the memory allocated.
    pub allowed_swap_percent: f64,
    /// The most of a node's memory that a job may have, in percent.
    pub max_ram_percent: f64,
    /// The most swap space, as a percentage of the node's memory.
    pub max_swap_percent: f64,
    /// The least memory limit, in MiB.
    pub min_ram_mib: u64,
    /// Swappiness, where it is set.
    pub swappiness: Option<u8>,
    /// Every key as written, in order.
    pub written: Vec<(String, String)>,
    /// What the administrator should know.
    pub notices: Vec<Notice>,
}

impl Default for CgroupConf {
    fn default() -> CgroupConf {
        CgroupConf {
            plugin: "autodetect".into(),
            mountpoint: "/sys/fs/cgroup".into(),
            constrain_cores: false,
            constrain_ram: false,
            constrain_swap: false,
            constrain_devices: false,
            allowed_ram_percent: 100.0,
            allowed_swap_percent: 0.0,
            max_ram_percent: 100.0,
            max_swap_percent: 100.0,
            min_ram_mib: 30,
            swappiness: None,
            written: Vec::new(),
            notices: Vec::new(),
        }
    }
}

/// Keys that have no meaning here: obsolete ones, and details of systemd.
const NO_MEANING: &[&str] = &[
    "AllowedDevicesFile",
    "CgroupAutomount",
    "CgroupReleaseAgentDir",
    "IgnoreSystemd",
    "IgnoreSystemdOnFailure",
    "EnableControllers",
    "EnableExtraControllers",
    "MemoryLimitEnforcement",
    "MemoryLimitThreshold",
    "SystemdTimeout",
    "TaskAffinity",
    "AllowedKmemSpace",
    "MaxKmemPercent",
    "MinKmemSpace",
    "CgroupSlice",
];

impl CgroupConf {
    /// Reads cgroup.conf. `path` names `text` in errors and is what `Include` is relative to.
    pub fn parse(text: &str, path: &Path, read: Reader<'_>) -> Result<CgroupConf, Vec<Error>> {
        let mut errors = Vec::new();
        let mut conf = CgroupConf::default();
        for line in lex::lines(text, path, read, &mut errors) {
            for (key, value) in &line.pairs {
                match conf.set(key, value) {
                    Ok(None) => {}
                    Ok(Some(effect)) => {
                        let message = format!("{key}={value} is not supported; it would have given {effect}");
                        conf.notices.push(Notice { place: line.place.clone(), message });
                    }
                    Err(message) => errors.push(line.place.error(message)),
                }
                conf.written.push((key.clone(), value.clone()));
            }
        }
        if errors.is_empty() { Ok(conf) } else { Err(errors) }
    }

    /// Sets one key; says what is lost where it is not honoured.
    fn set(&mut self, key: &str, value: &str) -> Result<Option<&'static str>, String> {
        let invalid = || format!("invalid value \"{value}\" for {key}");
        let flag = || parse_flag(value).ok_or_else(invalid);
        let percent = || {
            let number: f64 = value.trim_end_matches('%').parse().map_err(|_| invalid())?;
            if (0.0..=1e6).contains(&number) { Ok(number) } else { Err(invalid()) }
        };
        match key.to_ascii_lowercase().as_str() {
            "cgroupplugin" => {
                let lower = value.to_ascii_lowercase();
                if !["autodetect", "cgroup/v1", "cgroup/v2", "disabled"].contains(&lower.as_str()) {
                    return Err(invalid());
                }
                self.plugin = lower.into();
            }
            "cgroupmountpoint" => self.mountpoint = value.into(),
            "constraincores" => self.constrain_cores = flag()?,
            "constrainramspace" => self.constrain_ram = flag()?,
            "constrainswapspace" => self.constrain_swap = flag()?,
            "constraindevices" => self.constrain_devices = flag()?,
            "allowedramspace" => self.allowed_ram_percent = percent()?,
            "allowedswapspace" => self.allowed_swap_percent = percent()?,
            "maxrampercent" => self.max_ram_percent = percent()?,
            "maxswappercent" => self.max_swap_percent = percent()?,
            "minramspace" => self.min_ram_mib = crate::tres::parse_mib(value).ok_or_else(invalid)?,
            "memoryswappiness" => {
                let number: u8 = value.parse().map_err(|_| invalid())?;
                self.swappiness = Some(number).filter(|&number| number <= 100);
                self.swappiness.ok_or_else(invalid)?;
            }
            "constrainkmemspace" => {
                return Ok(flag()?.then_some("a limit of kernel memory, which kernels gave up"));
            }
            "signalchildrenprocesses" => return Ok(flag()?.then_some("signals to all processes of a step")),
            _ if NO_MEANING.iter().any(|name| name.eq_ignore_ascii_case(key)) => {}
            _ => return Err(format!("unrecognized key: {key}")),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CgroupConf, Vec<String>> {
        let mut read = |_: &Path| Err("no includes here".to_owned());
        CgroupConf::parse(text, Path::new("cgroup.conf"), &mut read)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_usual_file() {
        let conf = parse(
            "CgroupAutomount=yes\nCgroupPlugin=cgroup/v2\nConstrainCores=yes\nConstrainRAMSpace=yes\n\
             AllowedRAMSpace=90.5\nAllowedSwapSpace=10\nMemorySwappiness=0\nConstrainKmemSpace=no\n",
        )
        .unwrap();
        assert!(conf.constrain_cores && conf.constrain_ram && !conf.constrain_devices);
        assert_eq!((conf.allowed_ram_percent, conf.allowed_swap_percent), (90.5, 10.0));
        assert_eq!((&*conf.plugin, conf.swappiness, conf.notices.len()), ("cgroup/v2", Some(0), 0));
    }

    #[test]
    fn errors() {
        assert_eq!(parse("Foo=1").err(), Some(vec!["cgroup.conf:1: unrecognized key: Foo".to_owned()]));
        assert_eq!(
            parse("\nConstrainCores=maybe").err(),
            Some(vec!["cgroup.conf:2: invalid value \"maybe\" for ConstrainCores".to_owned()])
        );
        assert_eq!(parse("ConstrainKmemSpace=yes").unwrap().notices.len(), 1);
    }
}
