//! What is made of each key of a slurm.conf: for `sluice config check`.
//!
//! Tables only: the verdicts are those that the daemons act on (`keys`, `scheduler`, `node`, `partition`), in words for the
//! administrator. Reads no file itself.

use std::path::Path;

use super::keys::{self, Class};
use super::lex::{self, Place, Reader};
use super::topology::Topology;
use super::{SlurmConf, partition, scheduler};

/// Keys that let a site's own code rewrite or refuse what users ask for: to start without them would let through what they
/// stopped.
pub const ENFORCING: &[&str] = &["CliFilterPlugins", "JobSubmitPlugins", "PlugStackConfig"];

/// What is made of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does what Slurm's does.
    Done,
    /// This value asks for nothing that is missing.
    Harmless,
    /// It steers a mechanism that does not exist here; why.
    NoMeaning(String),
    /// It is not honoured; what it would have done.
    Unsupported(String),
    /// The same, of a key that enforces something: the start is refused until it is acknowledged by name.
    Enforcing(String),
    /// It is wrong.
    Wrong(String),
}

/// One key, as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where.
    pub place: Place,
    /// The key as the manual writes it, or as it was written where no release knows it.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is made of it.
    pub verdict: Verdict,
}

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Keys in the order of the file, those of included files where they are included.
    pub rows: Vec<Row>,
    /// What stops the start, with file and line.
    pub errors: Vec<String>,
    /// What the daemons say at their start, without what a row says too.
    pub notices: Vec<String>,
}

/// Looks at every key. `path` names `text`, and is what `Include` is relative to.
#[must_use]
pub fn report(text: &str, path: &Path, read: Reader<'_>) -> Report {
    let mut report = Report::default();
    match SlurmConf::parse(text, path, read) {
        Ok(conf) => {
            report.notices = conf.notices.iter().map(ToString::to_string).collect();
            match Topology::beside(&conf, path, read) {
                Ok(topology) => report
                    .notices
                    .extend(topology.iter().flat_map(|topology| &topology.notices).map(ToString::to_string)),
                Err(errors) => report.errors = errors,
            }
        }
        Err(errors) => report.errors = errors.iter().map(ToString::to_string).collect(),
    }
    // What cannot be read as a line is among the errors above.
    for line in lex::lines(text, path, read, &mut Vec::new()) {
        let first = line.pairs.first().map(|(key, _)| key.to_ascii_lowercase()).unwrap_or_default();
        for (key, value) in &line.pairs {
            let (name, verdict) = match first.as_str() {
                "nodename" => (key.clone(), of_list(key, super::node::KEYS)),
                "downnodes" => (key.clone(), of_list(key, &["DownNodes", "State", "Reason"])),
                "nodeset" => (key.clone(), of_list(key, &["NodeSet", "Feature", "Nodes"])),
                "partitionname" => (key.clone(), of_partition(key)),
                "frontendname" => {
                    (key.clone(), Verdict::Unsupported("a front end that runs batch scripts".into()))
                }
                "poweraction" => {
                    (key.clone(), Verdict::Unsupported("a program that switches nodes on or off".into()))
                }
                _ => of_file(key, value),
            };
            if name.eq_ignore_ascii_case("SchedulerParameters") && verdict == Verdict::Done {
                parameters(value, &line.place, &mut report.rows);
                continue;
            }
            report.rows.push(Row { place: line.place.clone(), key: name, value: value.clone(), verdict });
        }
    }
    let told = |notice: &&String| !report.rows.iter().any(|row| row.says(notice));
    report.notices = report.notices.iter().filter(told).cloned().collect();
    report
}

impl Row {
    /// Whether a notice of the start says no more than this row's verdict.
    fn says(&self, notice: &str) -> bool {
        let (Verdict::Unsupported(effect) | Verdict::Enforcing(effect)) = &self.verdict else { return false };
        notice.starts_with(&format!("{}: ", self.place)) && notice.ends_with(effect.as_str())
    }
}

/// Keys of the file that enforce something and are not honoured, as the manual writes them.
#[must_use]
pub fn enforcing(conf: &SlurmConf) -> Vec<&'static str> {
    let set = |key: &&&str| {
        let value = conf.settings.text(key).unwrap_or_default();
        asks_for_something(value)
    };
    ENFORCING.iter().filter(set).copied().collect()
}

/// Whether a plugstack.conf loads anything.
#[must_use]
pub fn loads_plugins(plugstack: &str) -> bool {
    plugstack.lines().any(|line| !line.split('#').next().unwrap_or_default().trim().is_empty())
}

fn asks_for_something(value: &str) -> bool {
    !value.is_empty() && !value.eq_ignore_ascii_case("none") && !value.ends_with("/none")
}

fn of_list(key: &str, known: &[&str]) -> Verdict {
    match known.iter().any(|name| name.eq_ignore_ascii_case(key)) {
        true => Verdict::Done,
        false => Verdict::Wrong("no release knows this key here".into()),
    }
}

fn of_partition(key: &str) -> Verdict {
    match partition::UNSUPPORTED.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
        Some((_, effect)) => Verdict::Unsupported((*effect).into()),
        None => of_list(key, partition::KEYS),
    }
}

fn of_file(key: &str, value: &str) -> (String, Verdict) {
    let Some(known) = keys::find(key) else {
        return (key.to_owned(), Verdict::Wrong("no release knows this key".into()));
    };
    if let Err(wanted) = keys::check(known, value) {
        return (known.name.to_owned(), Verdict::Wrong(format!("it takes {wanted}")));
    }
    let verdict = match known.class {
        Class::Done => Verdict::Done,
        Class::NoMeaning => Verdict::NoMeaning(why_no_meaning(known.name).into()),
        Class::Unsupported(effect, _) if ENFORCING.contains(&known.name) && asks_for_something(value) => {
            Verdict::Enforcing(effect.into())
        }
        Class::Unsupported(effect, harmless) => {
            let asks_nothing = value.is_empty()
                || value.eq_ignore_ascii_case(known.default)
                || harmless.iter().any(|word| word.eq_ignore_ascii_case(value))
                || ENFORCING.contains(&known.name);
            if asks_nothing { Verdict::Harmless } else { Verdict::Unsupported(effect.into()) }
        }
    };
    (known.name.to_owned(), verdict)
}

/// Each word of SchedulerParameters for itself.
fn parameters(value: &str, place: &Place, rows: &mut Vec<Row>) {
    for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let verdict = match scheduler::find(name).map(|known| &known.fate) {
            None => Verdict::NoMeaning("no release knows it".into()),
            Some(scheduler::Fate::Done(_)) => Verdict::Done,
            Some(scheduler::Fate::NoMeaning(why)) => Verdict::NoMeaning((*why).into()),
            Some(scheduler::Fate::Lost(effect)) => Verdict::Unsupported((*effect).into()),
        };
        let key = format!("SchedulerParameters: {name}");
        rows.push(Row { place: place.clone(), key, value: value.to_owned(), verdict });
    }
}

/// Why a key that is read and passed over means nothing here.
fn why_no_meaning(name: &str) -> &'static str {
    const STARTS: &[(&str, &str)] = &[
        (
            "AccountingStorage",
            "accounting data are the scheduler's own records: there is no database to reach",
        ),
        ("Certgen", "no certificates are used yet: no daemon listens on TCP"),
        ("Certmgr", "no certificates are used yet: no daemon listens on TCP"),
        ("Cred", "launches carry no credential: executors hold a session with the scheduler"),
        ("Crypto", "launches carry no credential: executors hold a session with the scheduler"),
        ("JobCredential", "launches carry no credential: executors hold a session with the scheduler"),
        ("Metrics", "figures are always on the scheduler's socket; MetricsPort of sluice.conf opens a port"),
        ("Msg", "messages are not relayed: each executor has one stream to the scheduler"),
        ("Plugin", "there are no plugins to load"),
        ("Serializer", "there are no plugins to load"),
        ("Slurmrestd", "there is no REST daemon"),
        ("TLS", "no daemon listens on TCP"),
    ];
    match name {
        "CacheGroups"
        | "FastSchedule"
        | "LaunchType"
        | "SchedulerPort"
        | "SchedulerRootFilter"
        | "MemLimitEnforce"
        | "SlurmSchedLogFile"
        | "SlurmSchedLogLevel" => "newer releases of Slurm do not know it either",
        "CommunicationParameters"
        | "EioTimeout"
        | "KeepAliveTime"
        | "TCPTimeout"
        | "TreeWidth"
        | "RoutePlugin"
        | "EpilogMsgTime"
        | "SrunPortRange"
        | "HashPlugin"
        | "HttpParserType"
        | "DataParserParameters"
        | "UrlParserType" => "messages run over a Unix socket, in one stream for each executor",
        "DebugFlags" => {
            "the log has fields and levels, no parts to switch on (scontrol setdebug, --log-json)"
        }
        "SlurmctldSyslogDebug" | "SlurmdSyslogDebug" => {
            "the log goes to a file, or to standard error, which a service manager keeps"
        }
        "SlurmctldPidFile" | "SlurmdPidFile" => "a state folder's lock names its owner",
        "SlurmctldTimeout" => "there is one scheduler",
        "SlurmdUser" => "an executor runs as whoever starts it",
        "ProctrackType" => "processes are always tracked: by cgroup where one can be made, else by descent",
        "GetEnvTimeout" => "a login's environment is made without a shell",
        "MaxDBDMsgs" => "accounting data are the scheduler's own records: there is no database to reach",
        _ => {
            let group = STARTS.iter().find(|(start, _)| name.starts_with(start));
            group.map_or("what it steers does not exist here", |(_, why)| why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(text: &str) -> Vec<(String, Verdict)> {
        let rows = report(text, Path::new("slurm.conf"), &mut |_| Err("no file".to_owned())).rows;
        rows.into_iter().map(|row| (row.key, row.verdict)).collect()
    }

    #[test]
    fn each_key_has_a_verdict() {
        let found = verdicts(
            "clustername=c\nSlurmctldPidFile=/x\nJobSubmitPlugins=lua\nCliFilterPlugins=none\nUsePAM=1\nUsePAM=0\n\
             SchedulerParameters=nohold_on_prolog_fail,frob=1\nFrobnicate=1\nMaxJobCount=many\nNodeName=n1 CPUs=1 Frob=2\n\
             PartitionName=p Nodes=n1\n",
        );
        let of = |key: &str| {
            found.iter().filter(|(name, _)| name == key).map(|(_, verdict)| verdict).collect::<Vec<_>>()
        };
        assert_eq!(of("ClusterName"), [&Verdict::Done]);
        assert_eq!(
            of("SlurmctldPidFile"),
            [&Verdict::NoMeaning("a state folder's lock names its owner".into())]
        );
        assert_eq!(
            of("JobSubmitPlugins"),
            [&Verdict::Enforcing("site plugins that rewrite or refuse submissions".into())]
        );
        assert_eq!(of("CliFilterPlugins"), [&Verdict::Harmless]);
        assert_eq!(of("UsePAM"), [&Verdict::Unsupported("PAM sessions of jobs".into()), &Verdict::Harmless]);
        assert_eq!(of("SchedulerParameters: frob"), [&Verdict::NoMeaning("no release knows it".into())]);
        assert_eq!(of("Frobnicate"), [&Verdict::Wrong("no release knows this key".into())]);
        assert_eq!(of("MaxJobCount"), [&Verdict::Wrong("it takes a whole number".into())]);
        assert_eq!(of("Frob"), [&Verdict::Wrong("no release knows this key here".into())]);
        assert_eq!(found.len(), 15, "{found:?}");
    }

    #[test]
    fn enforcing_keys_are_in_the_table_and_unsupported() {
        for name in ENFORCING {
            let key = keys::find(name).unwrap();
            assert!(matches!(key.class, Class::Unsupported(..)), "{name} is built: take it off the list");
        }
    }

    #[test]
    fn no_meaning_has_a_reason() {
        let vague: Vec<&str> = keys::KEYS
            .iter()
            .filter(|key| key.class == Class::NoMeaning && why_no_meaning(key.name).starts_with("what it"))
            .map(|key| key.name)
            .collect();
        assert!(vague.len() < 12, "{vague:?}");
    }
}
