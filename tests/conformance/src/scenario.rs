//! Scenarios by name and weight, and the verdicts that the runner prints.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A scenario as far as the harness needs it.
#[derive(Clone)]
pub(crate) struct Scenario {
    /// `area/name`.
    pub(crate) name: String,
    /// Its time limit in seconds: what to start first, and how to share scenarios out.
    pub(crate) limit_s: u32,
}

/// What the runner said of one scenario.
pub(crate) struct Verdict {
    pub(crate) name: String,
    pub(crate) passed: bool,
    /// The parts that differ; empty for a pass.
    pub(crate) why: String,
}

/// Folders of scenarios: those that were recorded with the project's shared folder, and ours, recorded on the same cluster.
pub(crate) const FOLDERS: [&str; 2] = ["scenarios", "beside"];

/// Whether it is one of ours: their areas are named so.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with("beside-")
}

/// All scenarios that the runner knows and `only` matches (the runner's own regular expressions).
pub(crate) fn all(folder: &Path, only: Option<&str>) -> Result<Vec<Scenario>> {
    let mut command = Command::new("python3");
    command.arg(folder.join("conformance.py")).arg("--list");
    for scenarios in FOLDERS {
        command.arg("--scenarios").arg(folder.join(scenarios));
    }
    if let Some(only) = only {
        command.args(["--only", only]);
    }
    let out = command.output().context("run python3")?;
    if !out.status.success() {
        bail!("conformance.py --list: {}", String::from_utf8_lossy(&out.stderr));
    }
    let limits = limits(folder)?;
    let names = String::from_utf8(out.stdout).context("a scenario's name")?;
    let limit = |name: &str| limits.iter().find(|(known, _)| known == name).map_or(40, |(_, limit)| *limit);
    Ok(names.lines().map(|name| Scenario { name: name.to_owned(), limit_s: limit(name) }).collect())
}

/// `timeout=` of the `===` lines.
fn limits(folder: &Path) -> Result<Vec<(String, u32)>> {
    let mut limits = Vec::new();
    let mut paths = Vec::new();
    for scenarios in FOLDERS {
        for entry in fs::read_dir(folder.join(scenarios)).context("list the scenarios")? {
            paths.push(entry.context("list the scenarios")?.path());
        }
    }
    for path in paths.iter().filter(|path| path.extension().is_some_and(|end| end == "scn")) {
        let area = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        for line in text.lines().filter_map(|line| line.strip_prefix("=== ")) {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default();
            let limit = words.find_map(|word| word.strip_prefix("timeout=")?.parse().ok());
            if let Some(limit) = limit {
                limits.push((format!("{area}/{name}"), limit));
            }
        }
    }
    Ok(limits)
}

/// Reads the runner's `-v` lines: `ok   area/name   1.2s golden` or `FAIL area/name   1.2s stdout,rc`.
pub(crate) fn verdicts(output: &str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for line in output.lines() {
        let mut words = line.split_whitespace();
        let (Some(word), Some(name)) = (words.next(), words.next()) else { continue };
        if (word == "ok" || word == "FAIL") && name.contains('/') && !line.starts_with(' ') {
            let why = if word == "ok" { String::new() } else { words.skip(1).collect::<Vec<_>>().join(" ") };
            verdicts.push(Verdict { name: name.to_owned(), passed: word == "ok", why });
        }
    }
    verdicts
}

/// Shares scenarios out so that every shard has about the same sum of limits, long ones first.
pub(crate) fn share_out(scenarios: &[Scenario], shards: usize) -> Vec<Vec<String>> {
    let mut sorted: Vec<&Scenario> = scenarios.iter().collect();
    sorted.sort_by(|a, b| b.limit_s.cmp(&a.limit_s).then_with(|| a.name.cmp(&b.name)));
    let mut shares: Vec<(u32, Vec<String>)> = vec![(0, Vec::new()); shards.clamp(1, scenarios.len().max(1))];
    for scenario in sorted {
        let least = shares.iter_mut().min_by_key(|(sum, _)| *sum).expect("at least one shard");
        // A limit is a bound, not a duration: what has a longer one than usual waits for a limit of a minute.
        least.0 += if scenario.limit_s > 40 { 40 } else { 1 };
        least.1.push(scenario.name.clone());
    }
    shares.into_iter().map(|(_, names)| names).collect()
}

#[cfg(test)]
mod tests_of_scenarios {
    use super::*;

    #[test]
    fn the_runners_lines_are_read() {
        let output = "ok   array/basic                                        1.2s slurm-26.05.json\n\
                      FAIL srun/label                                         0.4s stdout,files [queue did not empty]\n    \
                      --- stdout\n\nsluice: 2 scenarios in 2 s\nfailed:\n  srun/label (stdout, files)\n1 passed, 1 failed\n";
        let seen: Vec<_> = verdicts(output).into_iter().map(|v| (v.name, v.passed, v.why)).collect();
        let won = ("array/basic".to_owned(), true, String::new());
        let lost = ("srun/label".to_owned(), false, "stdout,files [queue did not empty]".to_owned());
        assert_eq!(seen, [won, lost]);
    }

    #[test]
    fn every_scenario_is_in_one_share_and_long_ones_are_apart() {
        let scenario = |name: &str, limit_s| Scenario { name: name.to_owned(), limit_s };
        let all = [scenario("a/1", 40), scenario("a/2", 90), scenario("a/3", 40), scenario("b/4", 150)];
        let shares = share_out(&all, 2);
        let mut names: Vec<String> = shares.concat();
        names.sort();
        assert_eq!(names, ["a/1", "a/2", "a/3", "b/4"]);
        assert!(shares.iter().all(|share| share.len() == 2), "{shares:?}");
        assert_eq!(share_out(&all[..1], 4).len(), 1);
    }
}
