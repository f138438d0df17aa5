//! OCI bundles (`config.json` and a root folder), as Slurm's `--container` takes them.
//!
//! Of the configuration, what makes the container what it is counts: the root folder, its environment, and bind
//! mounts. Program, user, namespaces and limits are the job's.

use std::path::{Component, Path, PathBuf};

use model::container::Mount;
use serde_json::Value;

/// More than any tool writes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What a bundle says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Its root folder.
    pub root: PathBuf,
    /// `NAME=value` entries of its own.
    pub environment: Vec<String>,
    /// Its bind mounts.
    pub mounts: Vec<Mount>,
}

/// Whether the folder is a bundle.
#[must_use]
pub fn is_one(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

/// Reads a bundle's configuration.
///
/// # Errors
/// A sentence that names the file.
pub fn read(folder: &Path) -> Result<Bundle, String> {
    let path = folder.join("config.json");
    let complain = |why: String| format!("OCI bundle {}: config.json: {why}", folder.display());
    let size = std::fs::metadata(&path).map_err(|error| complain(error.to_string()))?.len();
    if size > CONFIG_BYTES_MAX {
        return Err(complain(format!("{size} bytes are too many")));
    }
    let text = std::fs::read(&path).map_err(|error| complain(error.to_string()))?;
    parse(folder, &text).map_err(complain)
}

fn parse(folder: &Path, text: &[u8]) -> Result<Bundle, String> {
    let config: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let root = config.pointer("/root/path").and_then(Value::as_str).ok_or("no root.path")?;
    let odd = Path::new(root).components().any(|part| part == Component::ParentDir);
    if odd {
        return Err(format!("root.path \"{root}\" leaves the bundle"));
    }
    let list = |pointer: &str| config.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
    let environment = list("/process/env").filter_map(Value::as_str).map(str::to_owned).collect();
    let mut mounts = Vec::new();
    for mount in list("/mounts") {
        let word = |name: &str| mount.get(name).and_then(Value::as_str);
        let options: Vec<&str> = mount
            .get("options")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let binds =
            word("type") == Some("bind") || options.iter().any(|option| matches!(*option, "bind" | "rbind"));
        // Everything else (proc, sysfs, tmpfs, devpts …) every container gets.
        if let (true, Some(source), Some(target)) = (binds, word("source"), word("destination")) {
            let source = folder.join(source).display().to_string();
            mounts.push(Mount {
                source: source.into(),
                target: target.into(),
                read_only: options.contains(&"ro"),
            });
        }
    }
    Ok(Bundle { root: folder.join(root), environment, mounts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_counts() {
        let text = br#"{"root":{"path":"rootfs"},"process":{"env":["A=1"]},"mounts":[
            {"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/data","type":"bind","source":"/d","options":["rbind","ro"]}]}"#;
        let bundle = parse(Path::new("/b"), text).unwrap();
        assert_eq!(bundle.root, Path::new("/b/rootfs"));
        assert_eq!(bundle.environment, ["A=1"]);
        assert_eq!(bundle.mounts, [Mount { source: "/d".into(), target: "/data".into(), read_only: true }]);
        for (text, why) in [
            (&b"{"[..], "EOF while parsing an object at line 1 column 1"),
            (b"{}", "no root.path"),
            (br#"{"root":{"path":"../x"}}"#, "root.path \"../x\" leaves the bundle"),
        ] {
            assert_eq!(parse(Path::new("/b"), text).unwrap_err(), why);
        }
    }
}
