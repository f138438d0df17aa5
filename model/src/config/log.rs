//! What slurm.conf says of the daemons' logs: file, level, how instants are written. Pure: nothing is opened here.

use super::SlurmConf;

/// How much a daemon says. Slurm's levels, as far as there is a difference here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing (`quiet`, 0).
    Quiet,
    /// Errors only (`fatal`, `error`, 1, 2).
    Error,
    /// Also warnings and what an administrator should see (`info`, 3).
    #[default]
    Info,
    /// Also what explains a decision (`verbose`, `debug`, 4, 5).
    Debug,
    /// Everything (`debug2` to `debug5`, 6 to 9).
    Trace,
}

/// Slurm's words for its levels, in the order of their numbers.
const WORDS: [&str; 10] =
    ["quiet", "fatal", "error", "info", "verbose", "debug", "debug2", "debug3", "debug4", "debug5"];

impl Level {
    /// Slurm's word or number, without regard to case; the word as Slurm writes it beside. `None`: it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<(Self, &'static str)> {
        let at = WORDS.iter().position(|word| word.eq_ignore_ascii_case(text));
        let at = at.or_else(|| text.parse().ok().filter(|at| *at < WORDS.len()))?;
        let level = match at {
            0 => Self::Quiet,
            1 | 2 => Self::Error,
            3 => Self::Info,
            4 | 5 => Self::Debug,
            _ => Self::Trace,
        };
        Some((level, WORDS[at]))
    }
}

/// How the instant of a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum TimeFormat {
    /// Microseconds of UTC, where nothing else is asked for.
    #[default]
    Utc,
    /// `iso8601`: seconds of the local time.
    Iso8601,
    /// `iso8601_ms`.
    Iso8601Ms,
    /// `rfc3339` and `rfc5424`: seconds with the zone's offset.
    Rfc3339,
    /// `rfc5424_ms`.
    Rfc5424Ms,
    /// `short`: `Mar 01 13:00:07`.
    Short,
}

impl TimeFormat {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Utc, Self::Iso8601, Self::Iso8601Ms, Self::Rfc3339, Self::Rfc5424Ms, Self::Short];

    /// The value of LogTimeFormat. `clock` and `thread_id`, which only make sense within Slurm, are as `iso8601_ms`;
    /// `format_stderr` is always so.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut words =
            text.split(',').map(str::trim).filter(|word| !word.eq_ignore_ascii_case("format_stderr"));
        match words.next_back().map(str::to_ascii_lowercase).as_deref() {
            None | Some("") => Self::Utc,
            Some("iso8601") => Self::Iso8601,
            Some("rfc3339" | "rfc5424") => Self::Rfc3339,
            Some("rfc5424_ms") => Self::Rfc5424Ms,
            Some("short") => Self::Short,
            Some(_) => Self::Iso8601Ms,
        }
    }
}

/// The log of one daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogConf {
    /// Where lines are appended; `None`: standard error.
    pub file: Option<String>,
    /// How much is said.
    pub level: Level,
    /// How instants are written.
    pub times: TimeFormat,
}

impl LogConf {
    /// The scheduler's: SlurmctldLogFile, SlurmctldDebug, LogTimeFormat.
    #[must_use]
    pub fn of_scheduler(conf: &SlurmConf) -> Self {
        Self::of(conf, "SlurmctldLogFile", "SlurmctldDebug", |file| file.to_owned())
    }

    /// An executor's: SlurmdLogFile, with `%n` for the node and `%h` for the host, and SlurmdDebug.
    #[must_use]
    pub fn of_executor(conf: &SlurmConf, node: &str, hostname: &str) -> Self {
        let host = hostname.split('.').next().unwrap_or(hostname);
        let expand = |file: &str| file.replace("%n", node).replace("%h", host);
        Self::of(conf, "SlurmdLogFile", "SlurmdDebug", expand)
    }

    fn of(conf: &SlurmConf, file: &str, level: &str, expand: impl Fn(&str) -> String) -> Self {
        let text = |key: &str| conf.settings.text(key).filter(|text| !text.is_empty());
        Self {
            file: text(file).map(expand),
            level: text(level).and_then(Level::parse).map(|(level, _)| level).unwrap_or_default(),
            times: text("LogTimeFormat").map(TimeFormat::parse).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn levels_have_words_and_numbers() {
        for (text, expected) in [
            ("QUIET", Some((Level::Quiet, "quiet"))),
            ("2", Some((Level::Error, "error"))),
            ("verbose", Some((Level::Debug, "verbose"))),
            ("9", Some((Level::Trace, "debug5"))),
            ("10", None),
            ("loud", None),
        ] {
            assert_eq!(Level::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn each_daemon_has_its_log() {
        let text = "ClusterName=c\nSlurmctldHost=h\nSlurmctldDebug=debug2\nSlurmdLogFile=/l/%h-%n.log\n\
                    LogTimeFormat=rfc5424_ms,format_stderr\nNodeName=n1\nPartitionName=p Nodes=n1\n";
        let conf = SlurmConf::parse(text, Path::new("slurm.conf"), &mut |_| Err(String::new())).unwrap();
        let scheduler = LogConf::of_scheduler(&conf);
        assert_eq!((scheduler.file, scheduler.level), (None, Level::Trace));
        let executor = LogConf::of_executor(&conf, "n1", "box.site");
        assert_eq!((executor.file.as_deref(), executor.level), (Some("/l/box-n1.log"), Level::Info));
        assert_eq!(executor.times, TimeFormat::Rfc5424Ms);
    }
}
