//! The lines of `scontrol show config` that come from slurm.conf.

use super::keys::{self, Key, Kind};
use super::slurm::SlurmConf;

impl SlurmConf {
    /// Names and printed values in Slurm's order: `KillWait` and `2 sec`.
    ///
    /// What only the running daemons know (boot time, versions, the number of SlurmUser) is added by the
    /// caller. Keys of other releases appear only where the file gives them.
    #[must_use]
    pub fn shown(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for key in keys::KEYS {
            let given = self.settings.text(key.name);
            if key.name == "SlurmctldHost" {
                for (at, host) in self.slurmctld_hosts.iter().enumerate() {
                    let value = if host.name == host.addr {
                        host.name.to_string()
                    } else {
                        format!("{}({})", host.name, host.addr)
                    };
                    lines.push((format!("SlurmctldHost[{at}]"), value));
                }
            } else if given.is_some() || !NOT_LISTED.contains(&key.name) {
                lines.push((key.name.to_owned(), printed(key, given.unwrap_or(key.default))));
            }
        }
        lines
    }
}

/// Keys that the release whose texts are printed does not list: older ones, and newer ones.
const NOT_LISTED: &[&str] = &[
    "AccountingStorageLoc",
    "AccountingStoreJobComment",
    "AcctGatherInfinibandType",
    "BackupAddr",
    "BackupController",
    "CacheGroups",
    "CheckpointType",
    "ControlAddr",
    "ControlMachine",
    "CoreSpecPlugin",
    "CryptoType",
    "DefCpuPerGPU",
    "DefMemPerGPU",
    "DefRuntimePlugin",
    "ExtSensorsFreq",
    "ExtSensorsType",
    "FastSchedule",
    "HealthCheckTimeout",
    "JobCheckpointDir",
    "JobCompPass",
    "JobContainerType",
    "JobCredentialPrivateKey",
    "JobCredentialPublicCertificate",
    "LaunchType",
    "LicenseParameters",
    "MemLimitEnforce",
    "MetricsParameters",
    "MsgAggregationParams",
    "PowerParameters",
    "PowerPlugin",
    "ReconfigFlags",
    "RoutePlugin",
    "SchedulerPort",
    "SchedulerRootFilter",
    "SerializerParameters",
    "SerializerPlugins",
    "SlurmctldHttpAuthParameters",
    "SlurmdHttpAuthParameters",
    "SlurmrestdParameters",
    "SlurmstepdParameters",
];

fn printed(key: &Key, value: &str) -> String {
    match (key.name, value) {
        ("TaskPlugin", value) if value.to_ascii_lowercase().ends_with("none") => return "(null)".to_owned(),
        ("TaskPluginParam", "") => return "(null type)".to_owned(),
        (_, "") => return "(null)".to_owned(),
        ("SelectTypeParameters" | "PreemptMode", value) => return value.to_ascii_uppercase(),
        _ => {}
    }
    match key.kind {
        Kind::Seconds => format!("{value} sec"),
        Kind::Minutes => format!("{value} min"),
        Kind::Flag01 => u8::from(keys::parse_flag(value).unwrap_or(false)).to_string(),
        Kind::Flag => (if keys::parse_flag(value).unwrap_or(false) { "Yes" } else { "No" }).to_owned(),
        Kind::Time => match crate::time::limit::parse(value) {
            Ok(span) => crate::time::limit::long(span),
            Err(_) => value.to_owned(),
        },
        _ => value.to_owned(),
    }
}
