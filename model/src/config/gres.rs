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
    /// A library for devices that are not supported here (rsmi, oneapi, nrt).
    Other,
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
    /// Links to the other devices, as written.
    pub links: Option<Box<str>>,
    /// Flags, in lower case.
    pub flags: Vec<Box<str>>,
    /// AutoDetect of this line.
    pub auto_detect: AutoDetect,
    /// `Mig=dynamic`, our key: instances are made for jobs, where it is not said they stay as they are.
    pub mig_dynamic: bool,
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
    "Mig",
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
        for line in lex::lines(text, path, read, &mut errors) {
            if let Some((key, _)) =
                line.pairs.iter().find(|(key, _)| !KEYS.iter().any(|name| name.eq_ignore_ascii_case(key)))
            {
                errors.push(line.place.error(format!("unrecognized key: {key}")));
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
            match build(&defaults, &line.pairs, &line.place) {
                Ok(made) if made.name.is_empty() && made.nodes.is_empty() => {
                    conf.auto_detect = made.auto_detect
                }
                Ok(made) => conf.lines.push(made),
                Err(message) => errors.push(line.place.error(message)),
            }
        }
        for (found, place) in conf.lines.iter().map(|line| (line.auto_detect, &line.place)) {
            if found == AutoDetect::Other {
                let message =
                    "this AutoDetect is not supported; it would have found devices of another maker"
                        .to_owned();
                conf.notices.push(Notice { place: place.clone(), message });
            }
        }
        if conf.auto_detect == AutoDetect::Other {
            let place = Place { file: Arc::from(path), line: 1 };
            let message =
                "this AutoDetect is not supported; it would have found devices of another maker".to_owned();
            conf.notices.push(Notice { place, message });
        }
        if errors.is_empty() { Ok(conf) } else { Err(errors) }
    }
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
    if !files.is_empty() && get("Count").is_some() && count != files.len() as u64 && is_gpu(&get("Name")) {
        return Err(format!("Count={count} and {} files do not agree", files.len()));
    }
    let auto_detect = match get("AutoDetect").map(|text| text.to_ascii_lowercase()).as_deref() {
        None => AutoDetect::Unsaid,
        Some("off") => AutoDetect::Off,
        Some("nvml") => AutoDetect::Nvml,
        Some("nvidia") => AutoDetect::Nvidia,
        Some("full") => AutoDetect::Full,
        Some("rsmi" | "oneapi" | "nrt") => AutoDetect::Other,
        Some(other) => return Err(format!("invalid value \"{other}\" for AutoDetect")),
    };
    let name = get("Name").unwrap_or_default().to_ascii_lowercase();
    if name.is_empty() && auto_detect == AutoDetect::Unsaid {
        return Err("the line has no Name".to_owned());
    }
    let mig_dynamic = match get("Mig").map(|text| text.to_ascii_lowercase()).as_deref() {
        None | Some("fixed") => false,
        Some("dynamic") if name == "gpu" => true,
        Some("dynamic") => return Err(format!("Mig=dynamic is for gpu, not for {name}")),
        Some(other) => return Err(format!("invalid value \"{other}\" for Mig")),
    };
    let boxed = |name: &str| get(name).map(String::into_boxed_str);
    let flags = get("Flags").unwrap_or_default().to_ascii_lowercase();
    Ok(GresLine {
        nodes: expand("NodeName")?,
        name: name.into_boxed_str(),
        kind: boxed("Type"),
        files,
        multiple_files,
        count,
        cores: boxed("Cores").or_else(|| boxed("CPUs")),
        links: boxed("Links").or_else(|| boxed("Link")),
        flags: super::settings::comma_list(&flags),
        auto_detect,
        mig_dynamic,
        place: place.clone(),
    })
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
        assert!(!conf.lines[0].mig_dynamic);
        assert!(parse("Name=gpu Mig=Dynamic\n").unwrap().lines[0].mig_dynamic);
    }

    #[test]
    fn errors() {
        for (text, message) in [
            ("Name=gpu Foo=1", "gres.conf:1: unrecognized key: Foo"),
            ("Name=gpu Count=x", "gres.conf:1: invalid value \"x\" for Count"),
            ("File=/dev/a", "gres.conf:1: the line has no Name"),
            ("AutoDetect=maybe", "gres.conf:1: invalid value \"maybe\" for AutoDetect"),
            ("Name=gpu Mig=maybe", "gres.conf:1: invalid value \"maybe\" for Mig"),
            ("Name=shard Mig=dynamic", "gres.conf:1: Mig=dynamic is for gpu, not for shard"),
            ("Name=gpu File=/dev/g[0-1] Count=3", "gres.conf:1: Count=3 and 2 files do not agree"),
        ] {
            assert_eq!(parse(text).err(), Some(vec![message.to_owned()]), "{text}");
        }
    }
}
