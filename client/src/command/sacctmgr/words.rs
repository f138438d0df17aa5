//! The words behind `sacctmgr`: names, `key=value`, `where` and `set`; and what the keys are called.

/// How a value is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Set,
    Add,
    Remove,
}

/// `key=value`, `key+=value` or `key-=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// As typed.
    pub key: String,
    pub how: How,
    pub value: String,
}

impl Pair {
    /// As typed, for complaints.
    pub(super) fn typed(&self) -> String {
        let sign = match self.how {
            How::Set => "=",
            How::Add => "+=",
            How::Remove => "-=",
        };
        format!("{}{sign}{}", self.key, self.value)
    }

    /// The values of a list.
    pub(super) fn list(&self) -> Vec<String> {
        super::super::job::list(&self.value)
    }
}

/// What stands before and behind `set`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Words without `=`: names, and flags such as `tree`.
    pub names: Vec<String>,
    /// The conditions, or what is to be added.
    pub pairs: Vec<Pair>,
    /// Behind `set`; `None` where that word is not there.
    pub set: Option<Vec<Pair>>,
}

/// Reads the words. Values may be in quotes; `where` is only a filler.
pub(super) fn read(words: &[String]) -> Words {
    let mut read = Words::default();
    for word in words {
        if word.eq_ignore_ascii_case("set") {
            read.set.get_or_insert_with(Vec::new);
        } else if word.eq_ignore_ascii_case("where") {
        } else if let Some(pair) = pair(word) {
            match &mut read.set {
                Some(set) => set.push(pair),
                None => read.pairs.push(pair),
            }
        } else {
            read.names.extend(super::super::job::list(word));
        }
    }
    read
}

fn pair(word: &str) -> Option<Pair> {
    let (key, value) = word.split_once('=')?;
    let (key, how) = match (key.strip_suffix('+'), key.strip_suffix('-')) {
        (Some(key), _) => (key, How::Add),
        (_, Some(key)) => (key, How::Remove),
        (None, None) => (key, How::Set),
    };
    let value = value.trim_matches(['"', '\'']).to_owned();
    Some(Pair { key: key.to_owned(), how, value })
}

/// What a value of an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number; -1 takes it away.
    Number,
    /// A length of time, kept in whole minutes; -1 takes it away.
    Minutes,
    /// `cpu=4,mem=2G`; an amount of -1 takes that resource away.
    Tres,
    /// Names.
    List,
    Text,
}

/// An attribute: the name under which it is kept, the words for it with their least lengths, what it holds.
pub(super) struct Attribute {
    pub name: &'static str,
    pub words: &'static [(&'static str, usize)],
    pub kind: Kind,
    /// Its name in the list of settings that `add` and `modify` print.
    pub label: &'static str,
}

const fn attribute(
    name: &'static str,
    words: &'static [(&'static str, usize)],
    kind: Kind,
    label: &'static str,
) -> Attribute {
    Attribute { name, words, kind, label }
}

/// Attributes of associations.
pub(super) static ASSOCIATION: [Attribute; 24] = [
    attribute("fairshare", &[("Fairshare", 1), ("Shares", 1)], Kind::Text, "Fairshare"),
    attribute("grpjobs", &[("GrpJobs", 4)], Kind::Number, "GrpJobs"),
    attribute("grpjobsaccrue", &[("GrpJobsAccrue", 8)], Kind::Number, "GrpJobsAccrue"),
    attribute("grpsubmitjobs", &[("GrpSubmitJobs", 4)], Kind::Number, "GrpSubmitJobs"),
    attribute("grptres", &[("GrpTRES", 7)], Kind::Tres, "GrpTRES"),
    attribute("grptresmins", &[("GrpTRESMins", 8)], Kind::Tres, "GrpTRESMins"),
    attribute("grptresrunmins", &[("GrpTRESRunMins", 8)], Kind::Tres, "GrpTRESRunMins"),
    attribute("grpwall", &[("GrpWall", 4)], Kind::Minutes, "GrpWall"),
    attribute("maxjobs", &[("MaxJobs", 4)], Kind::Number, "MaxJobs"),
    attribute("maxjobsaccrue", &[("MaxJobsAccrue", 8)], Kind::Number, "MaxJobsAccrue"),
    attribute("maxsubmitjobs", &[("MaxSubmitJobs", 4)], Kind::Number, "MaxSubmitJobs"),
    attribute("maxtresperjob", &[("MaxTRESPerJob", 8), ("MaxTRES", 7)], Kind::Tres, "MaxTRES"),
    attribute("maxtrespernode", &[("MaxTRESPerNode", 11), ("MaxTRESPN", 9)], Kind::Tres, "MaxTRESPerNode"),
    attribute("maxtresmins", &[("MaxTRESMinsPerJob", 8)], Kind::Tres, "MaxTRESMins"),
    attribute("maxtresrunmins", &[("MaxTRESRunMins", 8)], Kind::Tres, "MaxTRESRunMins"),
    attribute("maxwall", &[("MaxWallDurationPerJob", 4)], Kind::Minutes, "MaxWall"),
    attribute("minprioritythresh", &[("MinPrioThreshold", 4)], Kind::Number, "MinPrioThreshold"),
    attribute("priority", &[("Priority", 3)], Kind::Number, "Priority"),
    attribute("qos", &[("QosLevel", 1)], Kind::List, "QOS"),
    attribute("defaultqos", &[("DefaultQOS", 8), ("DefQOS", 4)], Kind::Text, "DefQOS"),
    attribute("maxcpus", &[("MaxCPUsPerJob", 7)], Kind::Number, "MaxCPUs"),
    attribute("maxnodes", &[("MaxNodesPerJob", 4)], Kind::Number, "MaxNodes"),
    attribute("grpcpus", &[("GrpCPUs", 7)], Kind::Number, "GrpCPUs"),
    attribute("comment", &[("Comment", 3)], Kind::Text, "Comment"),
];

/// Attributes of QOS.
pub(super) static QOS: [Attribute; 30] = [
    attribute("description", &[("Description", 1)], Kind::Text, "Description"),
    attribute("flags", &[("Flags", 2)], Kind::List, "Flags"),
    attribute("gracetime", &[("GraceTime", 3)], Kind::Number, "GraceTime"),
    attribute("grpjobs", &[("GrpJobs", 4)], Kind::Number, "GrpJobs"),
    attribute("grpjobsaccrue", &[("GrpJobsAccrue", 8)], Kind::Number, "GrpJobsAccrue"),
    attribute("grpsubmitjobs", &[("GrpSubmitJobs", 4)], Kind::Number, "GrpSubmitJobs"),
    attribute("grptres", &[("GrpTRES", 7)], Kind::Tres, "GrpTRES"),
    attribute("grptresmins", &[("GrpTRESMins", 8)], Kind::Tres, "GrpTRESMins"),
    attribute("grptresrunmins", &[("GrpTRESRunMins", 8)], Kind::Tres, "GrpTRESRunMins"),
    attribute("grpwall", &[("GrpWall", 4)], Kind::Minutes, "GrpWall"),
    attribute("limitfactor", &[("LimitFactor", 5)], Kind::Text, "LimitFactor"),
    attribute(
        "maxjobsperuser",
        &[("MaxJobsPerUser", 8), ("MaxJobsPU", 9), ("MaxJobs", 4)],
        Kind::Number,
        "MaxJobsPerUser",
    ),
    attribute(
        "maxjobsperaccount",
        &[("MaxJobsPerAccount", 11), ("MaxJobsPA", 9)],
        Kind::Number,
        "MaxJobsPerAccount",
    ),
    attribute(
        "maxsubmitjobsperuser",
        &[("MaxSubmitJobsPerUser", 4), ("MaxSubmitPU", 11), ("MaxSubmitJobsPU", 15)],
        Kind::Number,
        "MaxSubmitJobsPerUser",
    ),
    attribute(
        "maxsubmitjobsperaccount",
        &[("MaxSubmitJobsPerAccount", 17), ("MaxSubmitPA", 11), ("MaxSubmitJobsPA", 15)],
        Kind::Number,
        "MaxSubmitJobsPerAccount",
    ),
    attribute("maxtresperjob", &[("MaxTRESPerJob", 10), ("MaxTRES", 7)], Kind::Tres, "MaxTRESPerJob"),
    attribute("maxtrespernode", &[("MaxTRESPerNode", 11)], Kind::Tres, "MaxTRESPerNode"),
    attribute("maxtresperuser", &[("MaxTRESPerUser", 11), ("MaxTRESPU", 9)], Kind::Tres, "MaxTRESPerUser"),
    attribute(
        "maxtresperaccount",
        &[("MaxTRESPerAccount", 11), ("MaxTRESPA", 9)],
        Kind::Tres,
        "MaxTRESPerAccount",
    ),
    attribute("maxtresmins", &[("MaxTRESMinsPerJob", 8)], Kind::Tres, "MaxTRESMinsPerJob"),
    attribute("maxtresrunminsperuser", &[("MaxTRESRunMinsPerUser", 18)], Kind::Tres, "MaxTRESRunMinsPU"),
    attribute(
        "maxtresrunminsperaccount",
        &[("MaxTRESRunMinsPerAccount", 18)],
        Kind::Tres,
        "MaxTRESRunMinsPA",
    ),
    attribute("maxwall", &[("MaxWallDurationPerJob", 4)], Kind::Minutes, "MaxWall"),
    attribute("minprioritythresh", &[("MinPrioThreshold", 4)], Kind::Number, "MinPrioThreshold"),
    attribute("mintresperjob", &[("MinTRESPerJob", 7)], Kind::Tres, "MinTRES"),
    attribute("preempt", &[("Preempt", 7)], Kind::List, "Preempt"),
    attribute("preemptmode", &[("PreemptMode", 8)], Kind::Text, "PreemptMode"),
    attribute("preemptexempttime", &[("PreemptExemptTime", 8)], Kind::Text, "PreemptExemptTime"),
    attribute("priority", &[("Priority", 3)], Kind::Number, "Priority"),
    attribute("usagefactor", &[("UsageFactor", 6)], Kind::Text, "UsageFactor"),
];

/// Whether `typed` is `word` or a beginning of it of at least `least` letters.
pub(super) fn is(typed: &str, word: &str, least: usize) -> bool {
    typed.len() >= least.min(word.len())
        && word.get(..typed.len()).is_some_and(|head| head.eq_ignore_ascii_case(typed))
}

/// The attribute of that key.
pub(super) fn find(attributes: &'static [Attribute], key: &str) -> Option<&'static Attribute> {
    let exact =
        attributes.iter().find(|one| one.words.iter().any(|(word, _)| word.eq_ignore_ascii_case(key)));
    exact
        .or_else(|| attributes.iter().find(|one| one.words.iter().any(|(word, least)| is(key, word, *least))))
}

/// The value to be kept: the old one with the change made. `None` where the text is no value of its kind.
pub(super) fn changed(kind: Kind, old: &str, pair: &Pair) -> Option<String> {
    let value = pair.value.as_str();
    match kind {
        Kind::Text => Some(if value == "-1" { String::new() } else { value.to_owned() }),
        Kind::Number => match value.parse::<i64>() {
            Ok(-1) => Some(String::new()),
            Ok(number) if number >= 0 => Some(number.to_string()),
            _ => None,
        },
        Kind::Minutes if value == "-1" => Some(String::new()),
        Kind::Minutes => match model::time::limit::parse_minutes(value) {
            Ok(Some(span)) => Some(span.as_mins().to_string()),
            Ok(None) => Some(String::new()),
            Err(_) => None,
        },
        Kind::Tres => tres(old, value),
        Kind::List => Some(list(old, pair)),
    }
}

fn tres(old: &str, change: &str) -> Option<String> {
    let split = |text: &str| -> Option<Vec<(String, String)>> {
        let items = text.split(',').filter(|item| !item.is_empty());
        items
            .map(|item| item.split_once('=').map(|(name, amount)| (name.to_lowercase(), amount.to_owned())))
            .collect()
    };
    let mut amounts = split(old)?;
    for (name, amount) in split(change)? {
        amounts.retain(|(known, _)| *known != name);
        if amount != "-1" {
            amounts.push((name, amount));
        }
    }
    let texts: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    Some(texts.join(","))
}

fn list(old: &str, pair: &Pair) -> String {
    let mut items = super::super::job::list(old);
    let new = pair.list();
    match pair.how {
        How::Set => items = new.into_iter().filter(|item| item != "-1").collect(),
        How::Add => items.extend(new),
        How::Remove => items.retain(|item| !new.contains(item)),
    }
    items.sort();
    items.dedup();
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn conditions_and_settings() {
        let read = words("where name=bob account=physics set MaxJobs=2 qos+=high");
        assert_eq!(read.pairs.len(), 2);
        let set = read.set.unwrap();
        assert_eq!((set[0].typed().as_str(), set[1].how), ("MaxJobs=2", How::Add));
        assert_eq!(words("bob tree").names, ["bob", "tree"]);
    }

    #[test]
    fn keys_may_be_shortened() {
        let name = |key: &str| find(&ASSOCIATION, key).map(|one| one.name);
        assert_eq!(name("MaxSubmit"), Some("maxsubmitjobs"));
        assert_eq!(name("grptres"), Some("grptres"));
        assert_eq!(name("maxwall"), Some("maxwall"));
        assert_eq!(name("nosuch"), None);
        assert_eq!(find(&QOS, "MaxTRESPerUser").map(|one| one.name), Some("maxtresperuser"));
        assert_eq!(find(&QOS, "MaxJobsPerUser").map(|one| one.name), Some("maxjobsperuser"));
        assert_eq!(find(&QOS, "MaxSubmitJobsPerUser").map(|one| one.name), Some("maxsubmitjobsperuser"));
    }

    #[test]
    fn values_change() {
        let check = |kind, old: &str, typed: &str, expected: Option<&str>| {
            assert_eq!(changed(kind, old, &pair(typed).unwrap()).as_deref(), expected, "{typed}");
        };
        check(Kind::Number, "2", "a=-1", Some(""));
        check(Kind::Number, "2", "a=x", None);
        check(Kind::Minutes, "", "a=1:00:00", Some("60"));
        check(Kind::Tres, "cpu=10,mem=5", "a=cpu=-1", Some("mem=5"));
        check(Kind::List, "b,a", "a+=c", Some("a,b,c"));
        check(Kind::List, "b,a", "a-=a", Some("b"));
    }
}
