//! `sluice.conf` beside slurm.conf: what only Sluice knows, in the same grammar. Optional.
//!
//! | key | meaning |
//! |---|---|
//! | `Acknowledge` | names of keys of slurm.conf that enforce something and are not supported: the scheduler starts without them |
//! | `MetricsPort` | the scheduler answers `/metrics`, `/livez` and `/readyz`, and nothing else, on this port of 127.0.0.1 |

use std::path::Path;

use super::Error;
use super::lex::{self, Reader};
use super::report::ENFORCING;

/// Its name.
pub const FILE_NAME: &str = "sluice.conf";

/// What the file says; without a file, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnConf {
    /// Keys whose absence is acknowledged, as the manual writes them.
    pub acknowledged: Vec<&'static str>,
    /// Port of 127.0.0.1 for figures and health.
    pub metrics_port: Option<u16>,
}

impl OwnConf {
    /// Reads the file. All its errors are returned.
    ///
    /// # Errors
    /// A key that is not known, a value that is wrong, a line that is none.
    pub fn parse(text: &str, path: &Path, read: Reader<'_>) -> Result<Self, Vec<Error>> {
        let mut errors = Vec::new();
        let mut conf = Self::default();
        for line in lex::lines(text, path, read, &mut errors) {
            for (key, value) in &line.pairs {
                let done = match key.to_ascii_lowercase().as_str() {
                    "acknowledge" => conf.acknowledge(value),
                    "metricsport" => conf.set_port(value),
                    _ => Err(format!("unrecognized key: {key}")),
                };
                errors.extend(done.err().map(|message| line.place.error(message)));
            }
        }
        if errors.is_empty() { Ok(conf) } else { Err(errors) }
    }

    fn acknowledge(&mut self, value: &str) -> Result<(), String> {
        for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let known = ENFORCING.iter().find(|name| name.eq_ignore_ascii_case(word));
            self.acknowledged.push(known.ok_or_else(|| {
                format!(
                    "Acknowledge: {word} is no key that has to be acknowledged ({})",
                    ENFORCING.join(", ")
                )
            })?);
        }
        Ok(())
    }

    fn set_port(&mut self, value: &str) -> Result<(), String> {
        let port = value.parse().ok().filter(|port| *port > 0);
        self.metrics_port = Some(port.ok_or_else(|| format!("MetricsPort: \"{value}\" is no port"))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_keys_and_no_others() {
        let parse = |text: &str| {
            OwnConf::parse(text, Path::new("sluice.conf"), &mut |_| Err("no file".to_owned()))
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        };
        let conf = parse("# ours\nacknowledge=jobsubmitplugins,PlugStackConfig\nMetricsPort=9341\n").unwrap();
        assert_eq!(conf.acknowledged, ["JobSubmitPlugins", "PlugStackConfig"]);
        assert_eq!(conf.metrics_port, Some(9341));
        assert_eq!(parse("").unwrap(), OwnConf::default());
        let wrong = parse("Frob=1\nMetricsPort=0\nAcknowledge=UsePAM\n").unwrap_err();
        assert!(wrong.contains("sluice.conf:1: unrecognized key: Frob"), "{wrong}");
        assert!(wrong.contains("sluice.conf:2: MetricsPort: \"0\" is no port"), "{wrong}");
        assert!(wrong.contains("sluice.conf:3: Acknowledge: UsePAM is no key"), "{wrong}");
    }
}
