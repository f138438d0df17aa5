//! gres.conf: which devices a node has.

use super::lex::{self, Place, Reader};
use super::{Error, Notice};
use crate::hostlist;
use std::path::Path;
use std::sync::Arc;

/// How devices are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoDetect {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// They are not looked for.
    Off,
    /// NVIDIA's library.
    Nvml,
    /// The NVIDIA driver's files.
    Nvidia,
    /// All that a node has.
    Full,
    /// A library for devices that are not supported here.
    Other(Unsupported),
}

/// What AutoDetect can name and is not looked for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// `rsmi`.
    Rsmi,
    /// `oneapi`.
    OneApi,
    /// `nrt`.
    Nrt,
}

impl Unsupported {
    /// A sentence: the value, and what it would have found.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Rsmi => {
                "AutoDetect=rsmi is not supported; it would have found AMD GPUs through ROCm's library"
            }
            Self::OneApi => {
                "AutoDetect=oneapi is not supported; it would have found Intel GPUs through oneAPI's library"
            }
            Self::Nrt => {
                "AutoDetect=nrt is not supported; it would have found AWS Trainium and Inferentia devices"
            }
        }
    }
}

/// One resource of one or more nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GresLine {
    /// The nodes, expanded; empty: all.
    pub nodes: Vec<Box<str>>,
    /// `gpu`.
    pub name: Box<str>,
    /// `a100`.
    pub kind: Option<Box<str>>,
    /// Device files, expanded, in order.
    pub files: Vec<Box<str>>,
    /// All the files of each device, where a device has several.
    pub multiple_files: Vec<Box<str>>,
    /// How many: the number of files where not given, and 1 without files.
    pub count: u64,
    /// Cores near the device, as written (`0-3,8`).
    pub cores: Option<Box<str>>,
    /// The same as first and last of each range, flattened.
    pub core_ranges: Vec<u32>,
    /// Links to the other devices, as written.
    pub links: Option<Box<str>>,
    /// The same by the other devices' places; 0 for the device itself.
    pub link_counts: Vec<u32>,
    /// Flags, in lower case.
    pub flags: Vec<Box<str>>,
    /// AutoDetect of this line.
    pub auto_detect: AutoDetect,
    /// Where the line stands.
    pub place: Place,
}

impl GresLine {
    /// True if the line speaks of this node.
    #[must_use]
    pub fn concerns(&self, node: &str) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|name| &**name == node)
    }
}

/// All of gres.conf.
#[derive(Clone, Debug, Default)]
pub struct GresConf {
    /// AutoDetect for all nodes.
    pub auto_detect: AutoDetect,
    /// The lines, in order; those that only set AutoDetect for some nodes have an empty name.
    pub lines: Vec<GresLine>,
    /// What the administrator should know.
    pub notices: Vec<Notice>,
}

/// The highest core that a line can name.
const CORE_MAX: u32 = 65_535;

const KEYS: &[&str] = &[
    "AutoDetect",
    "Cores",
    "Count",
    "CPUs",
    "File",
    "Files",
    "Flags",
    "Ignore",
    "Link",
    "Links",
    "MultipleFiles",
    "Name",
    "NodeName",
    "RestrictedCoresPerGPU",
    "Type",
];

impl GresConf {
    /// Reads gres.conf. `path` names `text` in errors and is what `Include` is relative to.
    pub fn parse(text: &str, path: &Path, read: Reader<'_>) -> Result<GresConf, Vec<Error>> {
        let mut errors = Vec::new();
        let mut conf = GresConf::default();
        let mut defaults: Vec<(String, String)> = Vec::new();
        let mut all_at = None;
        for line in lex::lines(text, path, read, &mut errors) {
            if let Some((key, _)) =
                line.pairs.iter().find(|(key, _)| !KEYS.iter().any(|name| name.eq_ignore_ascii_case(key)))
            {
                let hint = if key.eq_ignore_ascii_case("Mig") { " (it stands in sluice.conf)" } else { "" };
                errors.push(line.place.error(format!("unrecognized key: {key}{hint}")));
                continue;
            }
            let is_default = line.pairs.iter().any(|(key, value)| {
                key.eq_ignore_ascii_case("Name") && value.eq_ignore_ascii_case("DEFAULT")
            });
            if is_default {
                defaults =
                    line.pairs.into_iter().filter(|(key, _)| !key.eq_ignore_ascii_case("Name")).collect();
                continue;
            }
            for (key, value) in &line.pairs {
                if let Some(message) = without_effect(key, value) {
                    conf.notices.push(Notice { place: line.place.clone(), message });
                }
            }
            match build(&defaults, &line.pairs, &line.place) {
                Ok(made) if made.name.is_empty() && made.nodes.is_empty() => {
                    conf.auto_detect = made.auto_detect;
                    all_at = Some(made.place);
                }
                Ok(made) => {
                    if &*made.name == "shard" && (made.kind.is_some() || !made.files.is_empty()) {
                        let message = "Type= and File= of a shard line are not used: the shards are spread evenly over the GPUs";
                        conf.notices.push(Notice { place: line.place.clone(), message: message.to_owned() });
                    }
                    conf.lines.push(made);
                }
                Err(message) => errors.push(line.place.error(message)),
            }
        }
        let lines = conf.lines.iter().map(|line| (line.auto_detect, line.place.clone()));
        let first = Place { file: Arc::from(path), line: 1 };
        for (found, place) in lines.chain([(conf.auto_detect, all_at.unwrap_or(first))]) {
            if let AutoDetect::Other(other) = found {
                conf.notices.push(Notice { place, message: other.sentence().to_owned() });
            }
        }
        if errors.is_empty() { Ok(conf) } else { Err(errors) }
    }
}

/// What a key, or the resource that it names, would have done and does not do here; `None`: it has its effect.
fn without_effect(key: &str, value: &str) -> Option<String> {
    let what = match (key.to_ascii_lowercase().as_str(), value.to_ascii_lowercase().as_str()) {
        ("name", "mps") => "jobs would have shared a GPU through CUDA MPS; jobs that ask for it are refused",
        ("restrictedcorespergpu", _) => "it stands in the node's line of slurm.conf",
        ("ignore", _) => "devices would have been left out",
        _ => return None,
    };
    Some(format!("{key}={value} is not supported: {what}"))
}

fn build(
    defaults: &[(String, String)],
    pairs: &[(String, String)],
    place: &Place,
) -> Result<GresLine, String> {
    let get = |name: &str| {
        let of = |pairs: &[(String, String)]| {
            pairs.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        of(pairs).or_else(|| of(defaults))
    };
    let expand = |name: &str| -> Result<Vec<Box<str>>, String> {
        let text = get(name).unwrap_or_default();
        let names = hostlist::expand(&text)
            .map_err(|error| format!("invalid value \"{text}\" for {name}: {error}"))?;
        Ok(names.into_iter().map(String::into_boxed_str).collect())
    };
    let mut files = expand("File")?;
    files.extend(expand("Files")?);
    let multiple_files = expand("MultipleFiles")?;
    let count = match get("Count") {
        Some(text) => {
            crate::gres::parse_count(&text).ok_or_else(|| format!("invalid value \"{text}\" for Count"))?
        }
        None => (files.len().max(usize::from(!multiple_files.is_empty())) as u64).max(1),
    };
    if !multiple_files.is_empty() && (!files.is_empty() || count != 1) {
        return Err(
            "MultipleFiles are the files of one device: neither File nor Count goes with them".to_owned()
        );
    }
    if !files.is_empty() && get("Count").is_some() && count != files.len() as u64 && is_gpu(&get("Name")) {
        return Err(format!("Count={count} and {} files do not agree", files.len()));
    }
    let auto_detect = match get("AutoDetect").map(|text| text.to_ascii_lowercase()).as_deref() {
        None => AutoDetect::Unsaid,
        Some("off") => AutoDetect::Off,
        Some("nvml") => AutoDetect::Nvml,
        Some("nvidia") => AutoDetect::Nvidia,
        Some("full") => AutoDetect::Full,
        Some("rsmi") => AutoDetect::Other(Unsupported::Rsmi),
        Some("oneapi") => AutoDetect::Other(Unsupported::OneApi),
        Some("nrt") => AutoDetect::Other(Unsupported::Nrt),
        Some(other) => return Err(format!("invalid value \"{other}\" for AutoDetect")),
    };
    let name = get("Name").unwrap_or_default().to_ascii_lowercase();
    if name.is_empty() && auto_detect == AutoDetect::Unsaid {
        return Err("the line has no Name".to_owned());
    }
    let boxed = |name: &str| get(name).map(String::into_boxed_str);
    let (cores, links) = (boxed("Cores").or_else(|| boxed("CPUs")), boxed("Links").or_else(|| boxed("Link")));
    let core_ranges = core_ranges(cores.as_deref().unwrap_or_default());
    let link_counts = link_counts(links.as_deref().unwrap_or_default());
    let flags = get("Flags").unwrap_or_default().to_ascii_lowercase();
    Ok(GresLine {
        nodes: expand("NodeName")?,
        name: name.into_boxed_str(),
        kind: boxed("Type"),
        files,
        multiple_files,
        count,
        core_ranges: core_ranges.ok_or_else(|| invalid("Cores", cores.as_deref()))?,
        cores,
        link_counts: link_counts.ok_or_else(|| invalid("Links", links.as_deref()))?,
        links,
        flags: super::settings::comma_list(&flags),
        auto_detect,
        place: place.clone(),
    })
}

fn invalid(name: &str, text: Option<&str>) -> String {
    format!("invalid value \"{}\" for {name}", text.unwrap_or_default())
}

/// `0-3,8` as first and last of each range.
fn core_ranges(text: &str) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    for piece in text.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last > CORE_MAX {
            return None;
        }
        found.extend([first, last]);
    }
    Some(found)
}

/// `-1,16,16`: the device itself is -1.
fn link_counts(text: &str) -> Option<Vec<u32>> {
    let pieces = text.split(',').map(str::trim).filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| piece.parse::<i32>().ok().filter(|count| *count >= -1))
        .map(|count| count.map(|count| u32::try_from(count).unwrap_or(0)))
        .collect()
}

fn is_gpu(name: &Option<String>) -> bool {
    name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case("gpu"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GresConf, Vec<String>> {
        let mut read = |_: &Path| Err("no includes here".to_owned());
        GresConf::parse(text, Path::new("gres.conf"), &mut read)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reference() {
        let conf = parse("NodeName=g[1-2] Name=gpu Type=a100 File=/srv/fakegpu/gpu[0-3]\n").unwrap();
        let line = &conf.lines[0];
        assert_eq!((line.count, line.files.len()), (4, 4));
        assert_eq!(&*line.files[3], "/srv/fakegpu/gpu3");
        assert!(line.concerns("g2") && !line.concerns("c1"));
        assert_eq!(line.kind.as_deref(), Some("a100"));
    }

    #[test]
    fn other_forms() {
        let conf = parse("AutoDetect=nvml\nName=gpu File=/dev/nvidia0 Cores=0-3\nName=shard Count=8\nNodeName=n1 AutoDetect=off\n").unwrap();
        assert_eq!(conf.auto_detect, AutoDetect::Nvml);
        assert_eq!(conf.lines.iter().map(|line| line.count).collect::<Vec<_>>(), [1, 8, 1]);
        assert_eq!(conf.lines[2].auto_detect, AutoDetect::Off);
        assert_eq!(conf.lines[0].cores.as_deref(), Some("0-3"));
        let conf =
            parse("Name=gpu File=/dev/a Cores=0-3,8 Links=-1,4\nName=x MultipleFiles=/dev/b[1-2]\n").unwrap();
        assert_eq!(
            (&*conf.lines[0].core_ranges, &*conf.lines[0].link_counts),
            (&[0, 3, 8, 8][..], &[0, 4][..])
        );
        assert_eq!((conf.lines[1].count, conf.lines[1].multiple_files.len()), (1, 2));
    }

    #[test]
    fn what_is_not_looked_for_is_named() {
        let conf = parse("Name=gpu File=/dev/a\nAutoDetect=rsmi\nNodeName=x AutoDetect=nrt\n").unwrap();
        let notices: Vec<String> =
            conf.notices.iter().map(|notice| format!("{}: {}", notice.place, notice.message)).collect();
        assert!(notices[0].starts_with("gres.conf:3: AutoDetect=nrt is not supported"), "{notices:?}");
        assert!(notices[1].starts_with("gres.conf:2: AutoDetect=rsmi is not supported"), "{notices:?}");
    }

    #[test]
    fn what_has_no_effect_is_said() {
        let text = "Name=gpu File=/dev/a Ignore=yes\nName=shard Count=8\nName=gpu File=/dev/b RestrictedCoresPerGPU=2\n\
                    Name=shard Count=4 File=/dev/a\n";
        let notices: Vec<String> = parse(text)
            .unwrap()
            .notices
            .iter()
            .map(|one| format!("{}: {}", one.place, one.message))
            .collect();
        assert_eq!(notices.len(), 3, "{notices:?}");
        assert!(notices[2].starts_with("gres.conf:4: Type= and File= of a shard line"), "{notices:?}");
        assert!(notices[0].starts_with("gres.conf:1: Ignore=yes is not supported: "), "{notices:?}");
        assert!(
            notices[1].starts_with("gres.conf:3: RestrictedCoresPerGPU=2 is not supported"),
            "{notices:?}"
        );
    }

    #[test]
    fn errors() {
        for (text, message) in [
            ("Name=gpu Foo=1", "gres.conf:1: unrecognized key: Foo"),
            ("Name=gpu Count=x", "gres.conf:1: invalid value \"x\" for Count"),
            ("File=/dev/a", "gres.conf:1: the line has no Name"),
            ("AutoDetect=maybe", "gres.conf:1: invalid value \"maybe\" for AutoDetect"),
            ("Name=gpu Mig=dynamic", "gres.conf:1: unrecognized key: Mig (it stands in sluice.conf)"),
            ("Name=gpu File=/dev/g[0-1] Count=3", "gres.conf:1: Count=3 and 2 files do not agree"),
            ("Name=gpu File=/dev/g Cores=3-1", "gres.conf:1: invalid value \"3-1\" for Cores"),
            ("Name=gpu File=/dev/g Links=-2", "gres.conf:1: invalid value \"-2\" for Links"),
            (
                "Name=gpu MultipleFiles=/dev/a,/dev/b Count=2",
                "gres.conf:1: MultipleFiles are the files of one device: neither File nor Count goes with them",
            ),
        ] {
            assert_eq!(parse(text).err(), Some(vec![message.to_owned()]), "{text}");
        }
    }
}
