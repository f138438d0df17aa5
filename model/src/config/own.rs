//! `sluice.conf` beside slurm.conf: what only Sluice knows, in the same grammar. Optional. The table below is the
//! page `docs/reference/sluice-conf.md`.
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `Acknowledge` | names of keys of slurm.conf that enforce something and are not supported: the scheduler starts without them | none |
//! | `ExecutorMetricsPort` | executors do the same as `MetricsPort` makes the scheduler do, with figures of their own | none |
//! | `MetricsPort` | the scheduler answers `/metrics`, `/livez` and `/readyz`, and nothing else, on this port of 127.0.0.1 | none |
//! | `HistoryKeep` | how long finished jobs stay in history: a number with `hours`, `days` or `months` (of 31 days) behind it | `366days` |
//! | `HistoryMaxSize` | most bytes of history files, with K, M, G or T behind the number; beyond, the oldest go even if they are young | `16G` |
//! | `StateOnNetwork` | `accept`: the daemons keep their state on a network file system too, where a lock may not keep a second one out; `refuse`: they do not start there | `refuse` |
//! | `Defragment` | `yes`: batch jobs in slices that are made for them are requeued where that lets a larger slice start earlier, and what is saved exceeds what is lost; `no` | `no` |
//! | `PredictRunTimes` | `avg2`: the plan believes that a job runs as long as the mean of the last two of its user that ended before its submission, at most to its limit; jobs are ended at their limits all the same; `none` | `none` |
//! | `Mig` | `dynamic`: instances (slices) of the GPUs that the line names are made for jobs and removed after them; `fixed`: the instances that exist stay and are offered. The line names GPUs by `NodeName` (a hostlist), `Type` (a part of the product's name) and `File` (device files), each of them optional; the last line that speaks of a GPU counts | `fixed` |
//! | `MigCreateTime` | seconds that making a slice takes, as the plan sees it: 0 to 600 | 2 |
//! | `MigDestroyTime` | seconds that removing a slice takes, as the plan sees it: 0 to 600 | 1 |

use std::path::Path;

use super::Error;
use super::lex::{self, Line, Place, Reader};
use super::report::ENFORCING;
use crate::hostlist;
use crate::time::Span;

/// Its name.
pub const FILE_NAME: &str = "sluice.conf";

/// The longest time of making or removing a slice that makes sense, seconds.
const MIG_TIME_MAX: u32 = 600;

/// What the file says; without a file, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnConf {
    /// Keys whose absence is acknowledged, as the manual writes them.
    pub acknowledged: Vec<&'static str>,
    /// Port of 127.0.0.1 for figures and health.
    pub metrics_port: Option<u16>,
    /// The same for executors.
    pub executor_metrics_port: Option<u16>,
    /// State on a network file system is accepted.
    pub state_on_network: bool,
    /// How long finished jobs stay in history.
    pub history_keep: Option<Span>,
    /// Most bytes of history files.
    pub history_max_bytes: Option<u64>,
    /// Which GPUs are cut as jobs need it, in the order of the lines.
    pub mig: Vec<MigLine>,
    /// What making a slice takes.
    pub mig_create: Option<Span>,
    /// What removing a slice takes.
    pub mig_destroy: Option<Span>,
    /// Jobs in small slices are moved for large ones.
    pub defragment: bool,
    /// What the plan believes of run times.
    pub run_times: RunTimes,
}

/// What a plan believes of how long jobs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunTimes {
    /// To their limits.
    #[default]
    Limits,
    /// As long as the last two of their users.
    Avg2,
}

/// What is done with the instances of some GPUs whose MIG mode is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigLine {
    /// Their nodes, expanded; empty: all.
    pub nodes: Vec<Box<str>>,
    /// A part of the product's name, in lower case.
    pub kind: Option<Box<str>>,
    /// Their device files, expanded; empty: all.
    pub files: Vec<Box<str>>,
    /// Instances are made for jobs; else those that exist stay.
    pub dynamic: bool,
    /// Where the line stands.
    pub place: Place,
}

impl MigLine {
    /// Whether it speaks of the GPU with that device file and product (in lower case, blanks as underscores).
    #[must_use]
    pub fn concerns(&self, node: &str, file: &str, product: &str) -> bool {
        (self.nodes.is_empty() || self.nodes.iter().any(|name| **name == *node))
            && (self.files.is_empty() || self.files.iter().any(|name| **name == *file))
            && self.kind.as_deref().is_none_or(|kind| product.contains(kind))
    }
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
            if line.pairs.iter().any(|(key, _)| key.eq_ignore_ascii_case("Mig")) {
                match mig_line(&line) {
                    Ok(mig) => conf.mig.push(mig),
                    Err(message) => errors.push(line.place.error(message)),
                }
                continue;
            }
            for (key, value) in &line.pairs {
                let done = match key.to_ascii_lowercase().as_str() {
                    "acknowledge" => conf.acknowledge(value),
                    "metricsport" => port(key, value).map(|port| conf.metrics_port = Some(port)),
                    "executormetricsport" => {
                        port(key, value).map(|port| conf.executor_metrics_port = Some(port))
                    }
                    "migcreatetime" => mig_time(key, value).map(|time| conf.mig_create = Some(time)),
                    "migdestroytime" => mig_time(key, value).map(|time| conf.mig_destroy = Some(time)),
                    "defragment" => yes_or_no(key, value).map(|yes| conf.defragment = yes),
                    "predictruntimes" => conf.set_run_times(value),
                    "nodename" | "type" | "file" => Err(format!("{key} stands on a line with Mig only")),
                    "historykeep" => span(value).map(|span| conf.history_keep = Some(span)),
                    "historymaxsize" => bytes(value).map(|bytes| conf.history_max_bytes = Some(bytes)),
                    "stateonnetwork" => conf.set_network(value),
                    _ => Err(format!("unrecognized key: {key}")),
                };
                errors.extend(done.err().map(|message| line.place.error(message)));
            }
        }
        if errors.is_empty() { Ok(conf) } else { Err(errors) }
    }

    /// Whether instances of a GPU are made for jobs; arguments as of [`MigLine::concerns`].
    #[must_use]
    pub fn is_dynamic(&self, node: &str, file: &str, product: &str) -> bool {
        self.mig.iter().rfind(|line| line.concerns(node, file, product)).is_some_and(|line| line.dynamic)
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

    fn set_run_times(&mut self, value: &str) -> Result<(), String> {
        self.run_times = match value.to_ascii_lowercase().as_str() {
            "none" => RunTimes::Limits,
            "avg2" => RunTimes::Avg2,
            _ => return Err(format!("PredictRunTimes: \"{value}\" is neither none nor avg2")),
        };
        Ok(())
    }

    fn set_network(&mut self, value: &str) -> Result<(), String> {
        self.state_on_network = match value.to_ascii_lowercase().as_str() {
            "accept" => true,
            "refuse" => false,
            _ => return Err(format!("StateOnNetwork: \"{value}\" is neither accept nor refuse")),
        };
        Ok(())
    }
}

fn port(key: &str, value: &str) -> Result<u16, String> {
    let port = value.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| format!("{key}: \"{value}\" is no port"))
}

/// `366days`, `12months`, `48hours`, as slurmdbd's Purge keys are written.
fn span(value: &str) -> Result<Span, String> {
    const HOUR_S: i64 = 3600;
    let wrong = || format!("HistoryKeep: \"{value}\" is no number of hours, days or months");
    let at = value.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = value.split_at(at);
    let unit = match unit.to_ascii_lowercase().trim_end_matches('s') {
        "hour" => HOUR_S,
        "day" => 24 * HOUR_S,
        "month" => 31 * 24 * HOUR_S,
        _ => return Err(wrong()),
    };
    let number: i64 = number.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    number.checked_mul(unit).and_then(|s| s.checked_mul(1000)).map(Span::from_millis).ok_or_else(wrong)
}

fn bytes(value: &str) -> Result<u64, String> {
    let wrong = || format!("HistoryMaxSize: \"{value}\" is no number of bytes (K, M, G, T)");
    let shift = match value.chars().last().map(|letter| letter.to_ascii_uppercase()) {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        _ => 0,
    };
    let digits = if shift == 0 { value } else { &value[..value.len() - 1] };
    let number: u64 = digits.parse().ok().filter(|number| *number > 0).ok_or_else(wrong)?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

fn yes_or_no(key: &str, value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("{key}: \"{value}\" is neither yes nor no")),
    }
}

fn mig_time(key: &str, value: &str) -> Result<Span, String> {
    let seconds: Option<u32> = value.parse().ok().filter(|seconds| *seconds <= MIG_TIME_MAX);
    let seconds =
        seconds.ok_or_else(|| format!("{key}: \"{value}\" is no number from 0 to {MIG_TIME_MAX}"))?;
    Ok(Span::from_secs(i64::from(seconds)))
}

fn mig_line(line: &Line) -> Result<MigLine, String> {
    let mut mig = MigLine {
        nodes: Vec::new(),
        kind: None,
        files: Vec::new(),
        dynamic: false,
        place: line.place.clone(),
    };
    for (key, value) in &line.pairs {
        let names = || -> Result<Vec<Box<str>>, String> {
            let names = hostlist::expand(value).map_err(|error| format!("{key}: \"{value}\": {error}"))?;
            Ok(names.into_iter().map(String::into_boxed_str).collect())
        };
        match key.to_ascii_lowercase().as_str() {
            "mig" if value.eq_ignore_ascii_case("dynamic") => mig.dynamic = true,
            "mig" if value.eq_ignore_ascii_case("fixed") => mig.dynamic = false,
            "mig" => return Err(format!("Mig: \"{value}\" is neither dynamic nor fixed")),
            "nodename" => mig.nodes = names()?,
            "file" => mig.files = names()?,
            "type" => mig.kind = Some(value.to_ascii_lowercase().into()),
            _ => return Err(format!("{key} does not stand on a line with Mig")),
        }
    }
    Ok(mig)
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
        let conf = parse("# ours\nacknowledge=jobsubmitplugins,PlugStackConfig\nMetricsPort=9341\nExecutorMetricsPort=9342\nStateOnNetwork=Accept\nHistoryKeep=90days\nHistoryMaxSize=2g\n").unwrap();
        assert_eq!(conf.acknowledged, ["JobSubmitPlugins", "PlugStackConfig"]);
        assert_eq!((conf.metrics_port, conf.executor_metrics_port), (Some(9341), Some(9342)));
        assert!(conf.state_on_network);
        assert_eq!(conf.history_keep, Some(Span::from_secs(90 * 24 * 3600)));
        assert_eq!(conf.history_max_bytes, Some(2 << 30));
        assert_eq!(parse("").unwrap(), OwnConf::default());
        for (value, run_times) in [("None", RunTimes::Limits), ("AVG2", RunTimes::Avg2)] {
            assert_eq!(parse(&format!("PredictRunTimes={value}")).unwrap().run_times, run_times);
        }
        let message = "sluice.conf:1: PredictRunTimes: \"best\" is neither none nor avg2";
        assert_eq!(parse("PredictRunTimes=best").unwrap_err(), message);
        let wrong = parse("Frob=1\nMetricsPort=0\nAcknowledge=UsePAM\nStateOnNetwork=1\n").unwrap_err();
        assert!(wrong.contains("sluice.conf:1: unrecognized key: Frob"), "{wrong}");
        assert!(wrong.contains("sluice.conf:2: MetricsPort: \"0\" is no port"), "{wrong}");
        assert!(wrong.contains("sluice.conf:3: Acknowledge: UsePAM is no key"), "{wrong}");
        for bad in [
            "HistoryKeep=90",
            "HistoryKeep=0days",
            "HistoryKeep=days",
            "HistoryMaxSize=0",
            "HistoryMaxSize=1P",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(wrong.contains("sluice.conf:4: StateOnNetwork: \"1\" is neither"), "{wrong}");
    }

    #[test]
    fn says_which_gpus_are_cut() {
        let parse = |text: &str| {
            OwnConf::parse(text, Path::new("sluice.conf"), &mut |_| Err("no file".to_owned()))
                .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        };
        let text = "Mig=dynamic NodeName=g[1-2]\nNodeName=g2 File=/dev/nvidia[2-3] Mig=Fixed\nType=H100 mig=dynamic\n\
                    MigCreateTime=5 MigDestroyTime=0\n";
        let conf = parse(text).unwrap();
        let a100 = "nvidia_a100-sxm4-40gb";
        for (node, file, product, expected) in [
            ("g1", "/dev/nvidia2", a100, true),
            ("g2", "/dev/nvidia1", a100, true),
            ("g2", "/dev/nvidia2", a100, false),
            ("g3", "/dev/nvidia1", a100, false),
            ("g3", "/dev/nvidia1", "nvidia_h100_80gb_hbm3", true),
        ] {
            assert_eq!(conf.is_dynamic(node, file, product), expected, "{node} {file} {product}");
        }
        assert_eq!((conf.mig_create, conf.mig_destroy), (Some(Span::from_secs(5)), Some(Span::ZERO)));
        for (text, message) in [
            ("Mig=maybe", "sluice.conf:1: Mig: \"maybe\" is neither dynamic nor fixed"),
            ("Mig=dynamic Cores=1", "sluice.conf:1: Cores does not stand on a line with Mig"),
            ("Defragment=1", "sluice.conf:1: Defragment: \"1\" is neither yes nor no"),
            ("NodeName=g1", "sluice.conf:1: NodeName stands on a line with Mig only"),
            ("MigCreateTime=601", "sluice.conf:1: MigCreateTime: \"601\" is no number from 0 to 600"),
        ] {
            assert_eq!(parse(text).unwrap_err(), message, "{text}");
        }
    }
}
