//! `sluice config check FILE`: what is made of every key of a slurm.conf, without a daemon.
//!
//! Reads the file, what it includes, and sluice.conf, topology.conf, gres.conf, cgroup.conf and plugstack.conf beside it; changes nothing.

use std::path::{Path, PathBuf};

use model::config::Notice;
use model::config::cgroup::CgroupConf;
use model::config::gres::GresConf;
use model::config::own::{FILE_NAME, OwnConf};
use model::config::report::{self, Report, Verdict};

use super::Call;
use crate::{connect, say};

const HELP: &str = "\
Usage: sluice config check [FILE]

Says of every key of a slurm.conf what is made of it here: done, no meaning here and why, not supported and what
it would have done, wrong. A key that enforces something (JobSubmitPlugins, CliFilterPlugins, PlugStackConfig)
stops the scheduler's start until Acknowledge=KEY stands in sluice.conf beside the file. Without FILE:
SLURM_CONF, then /etc/slurm/slurm.conf. Exit status: 0 if a scheduler would start with it, else 1.
";

/// Runs the verb: 0, 1 where the file would be refused, 2 for words that make no sense.
pub(crate) fn run(call: &Call) -> u8 {
    let words: Vec<String> = call.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let path = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["-h" | "--help"] | ["check", "-h" | "--help"] => {
            say::out(HELP);
            return 0;
        }
        ["check"] => connect::conf_path(),
        ["check", file] if !file.starts_with('-') => Some(PathBuf::from(file)),
        _ => {
            say::err(HELP.trim_end());
            return 2;
        }
    };
    let Some(path) = path else {
        say::error(&call.program, "there is no slurm.conf; name a file");
        return 1;
    };
    match check(&path) {
        Ok((text, sound)) => {
            say::out(text);
            u8::from(!sound)
        }
        Err(sentence) => {
            say::error(&call.program, sentence);
            1
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {}", path.display(), super::os_text(&error)))
}

/// The report as text, and whether a scheduler would start.
fn check(path: &Path) -> Result<(String, bool), String> {
    let text = read(path)?;
    let mut report = report::report(&text, path, &mut |included| read(included));
    let own = own(path, &mut report);
    beside(path, &mut report);
    let plugstack = path.with_file_name("plugstack.conf");
    let loads = read(&plugstack).is_ok_and(|text| report::loads_plugins(&text))
        && !report.rows.iter().any(|row| row.key == "PlugStackConfig");
    let mut out = String::new();
    let mut counts = [0_u32; 5];
    let mut open = Vec::new();
    for row in &report.rows {
        let (place, words) = match &row.verdict {
            Verdict::Done => (0, "done".to_owned()),
            Verdict::Harmless => (0, "done: this value asks for nothing that is missing".to_owned()),
            Verdict::NoMeaning(why) => (1, format!("no meaning here: {why}")),
            Verdict::Unsupported(effect) => (2, format!("not supported; it would have given {effect}")),
            Verdict::Enforcing(effect) => {
                let acknowledged = own.acknowledged.iter().any(|name| *name == row.key);
                if !acknowledged {
                    open.push(row.key.clone());
                }
                let end = if acknowledged { " (acknowledged)" } else { ": it ENFORCES something" };
                (3, format!("not supported; it would have given {effect}{end}"))
            }
            Verdict::Wrong(what) => (4, format!("wrong: {what}")),
        };
        counts[place] += 1;
        out.push_str(&format!("{}: {}={}: {words}\n", row.place, row.key, row.value));
    }
    if loads && !own.acknowledged.contains(&"PlugStackConfig") {
        open.push("PlugStackConfig".to_owned());
        out.push_str(&format!(
            "{}: SPANK plugins are not supported: they ENFORCE something\n",
            plugstack.display()
        ));
    }
    report.notices.iter().for_each(|notice| out.push_str(&format!("note: {notice}\n")));
    report.errors.iter().for_each(|error| out.push_str(&format!("error: {error}\n")));
    let [done, none, lost, enforcing, wrong] = counts;
    out.push_str(&format!(
        "{} keys: {done} done, {none} without meaning here, {lost} not supported, {enforcing} enforcing and not \
         supported, {wrong} wrong\n",
        report.rows.len()
    ));
    for key in &open {
        out.push_str(&format!(
            "the scheduler does not start before {key} is acknowledged: put Acknowledge={key} into {}\n",
            path.with_file_name(FILE_NAME).display()
        ));
    }
    Ok((out, report.errors.is_empty() && open.is_empty()))
}

/// sluice.conf beside the file; its errors are the report's.
fn own(path: &Path, report: &mut Report) -> OwnConf {
    let file = path.with_file_name(FILE_NAME);
    let Ok(text) = read(&file) else { return OwnConf::default() };
    OwnConf::parse(&text, &file, &mut |included| read(included)).unwrap_or_else(|errors| {
        report.errors.extend(errors.iter().map(ToString::to_string));
        OwnConf::default()
    })
}

/// The other files that daemons read.
fn beside(path: &Path, report: &mut Report) {
    type Parsed = Result<Vec<Notice>, Vec<model::config::Error>>;
    let mut add = |name: &str, parse: &dyn Fn(&str, &Path) -> Parsed| {
        let file = path.with_file_name(name);
        let Ok(text) = read(&file) else { return };
        match parse(&text, &file) {
            Ok(notices) => report.notices.extend(notices.iter().map(ToString::to_string)),
            Err(errors) => report.errors.extend(errors.iter().map(ToString::to_string)),
        }
    };
    add("gres.conf", &|text, file| {
        GresConf::parse(text, file, &mut |path| read(path)).map(|conf| conf.notices)
    });
    add("cgroup.conf", &|text, file| {
        CgroupConf::parse(text, file, &mut |path| read(path)).map(|conf| conf.notices)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sites")
    }

    /// Each folder is a site's configuration, made up in the style of real ones. The first line of `expected` says whether
    /// a scheduler starts; the others are lines of the check that must be there.
    #[test]
    fn sites_are_judged_as_recorded() {
        let mut count = 0;
        for entry in std::fs::read_dir(sites()).unwrap() {
            let folder = entry.unwrap().path();
            let (text, sound) = check(&folder.join("slurm.conf")).unwrap();
            let text = text.replace(&format!("{}/", folder.display()), "");
            let expected = std::fs::read_to_string(folder.join("expected")).unwrap();
            let mut lines = expected.lines();
            let verdict = if sound { "starts" } else { "does not start" };
            assert_eq!(lines.next(), Some(verdict), "{}\n{text}", folder.display());
            for line in lines {
                assert!(text.lines().any(|known| known == line), "{}: {line}\n{text}", folder.display());
            }
            count += 1;
        }
        assert!(count >= 6, "{count} sites");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        assert_eq!(
            check(Path::new("/no/slurm.conf")).unwrap_err(),
            "/no/slurm.conf: No such file or directory"
        );
    }
}
