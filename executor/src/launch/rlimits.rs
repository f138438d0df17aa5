//! Resource limits of the submitter's shell, and which of them a job gets.
//!
//! As in Slurm they travel in the environment, `SLURM_RLIMIT_CORE=0`, and are taken out of it before anything runs; a `U`
//! before the number says that the submitter chose it (`--propagate`). The others are subject to this node's
//! PropagateResourceLimits and PropagateResourceLimitsExcept. A program that submits without the variables passes on
//! nothing. Source: slurm.conf(5), and what 22.05 was seen to do.

use executor_supervisor::spec::Rlimit;
use nix::libc;
use proto::v1;

use super::environment::Environment;

/// Names without `RLIMIT_`, in Slurm's order, and the kernel's numbers.
const KNOWN: [(&str, u32); 10] = [
    ("CPU", libc::RLIMIT_CPU),
    ("FSIZE", libc::RLIMIT_FSIZE),
    ("DATA", libc::RLIMIT_DATA),
    ("STACK", libc::RLIMIT_STACK),
    ("CORE", libc::RLIMIT_CORE),
    ("RSS", libc::RLIMIT_RSS),
    ("NPROC", libc::RLIMIT_NPROC),
    ("NOFILE", libc::RLIMIT_NOFILE),
    ("MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("AS", libc::RLIMIT_AS),
];

/// The limits that this node takes over where the submitter does not choose: bits in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagated(u16);

impl Propagated {
    /// All of them: Slurm's default.
    pub const ALL: Self = Self(u16::MAX);

    /// From the two keys' words in capitals: ALL, NONE or names, with or without `RLIMIT_`. Exceptions count where there
    /// are some, as in Slurm, which takes one of the keys.
    #[must_use]
    pub fn of(named: &[Box<str>], except: &[Box<str>]) -> Self {
        let (words, wanted) = if except.is_empty() { (named, true) } else { (except, false) };
        let names = |name: &str| {
            let mut words = words.iter().map(|word| word.strip_prefix("RLIMIT_").unwrap_or(word));
            words.any(|word| word == "ALL" || word == name)
        };
        let bit = |(at, (name, _)): (usize, &(&str, u32))| u16::from(names(name) == wanted) << at;
        Self(KNOWN.iter().enumerate().map(bit).sum())
    }
}

/// Takes the limits out of an environment; those of the request come first.
pub fn take(environment: &mut Environment, request: &[v1::Rlimit], site: Propagated) -> Vec<Rlimit> {
    let mut limits: Vec<Rlimit> = request.iter().filter_map(of_request).collect();
    for (at, (name, resource)) in KNOWN.into_iter().enumerate() {
        let Some(value) = environment.take(&format!("SLURM_RLIMIT_{name}")) else { continue };
        let text = String::from_utf8_lossy(&value);
        let (chosen, digits) = match text.strip_prefix('U') {
            Some(digits) => (true, digits),
            None => (false, &*text),
        };
        let Ok(soft) = digits.parse::<u64>() else { continue };
        if chosen || site.0 & 1 << at != 0 {
            limits.retain(|limit| limit.resource != resource);
            limits.push(Rlimit { resource, soft, chosen });
        }
    }
    limits
}

/// A limit of a program that submits, by Slurm's name; unknown names are of another kernel.
fn of_request(limit: &v1::Rlimit) -> Option<Rlimit> {
    let name = limit.name.strip_prefix("RLIMIT_").unwrap_or(&limit.name);
    let (_, resource) = *KNOWN.iter().find(|(known, _)| *known == name)?;
    Some(Rlimit { resource, soft: limit.value, chosen: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Box<str>> {
        text.split(',').filter(|word| !word.is_empty()).map(Box::from).collect()
    }

    #[track_caller]
    fn check(named: &str, except: &str, environment: &str, expected: &[(u32, u64, bool)]) {
        let mut environment = Environment::read(environment.replace(' ', "\0").as_bytes());
        let site = Propagated::of(&words(named), &words(except));
        let limits = take(&mut environment, &[], site);
        let found: Vec<_> = limits.iter().map(|limit| (limit.resource, limit.soft, limit.chosen)).collect();
        assert_eq!(found, expected);
        assert_eq!(environment.into_entries(), [b"A=1".to_vec()], "no job sees them");
    }

    #[test]
    fn the_site_and_the_submitter_choose() {
        let (core, files) = (libc::RLIMIT_CORE, libc::RLIMIT_NOFILE);
        let sent = "SLURM_RLIMIT_CORE=0 A=1 SLURM_RLIMIT_NOFILE=18446744073709551615";
        check("ALL", "", sent, &[(core, 0, false), (files, u64::MAX, false)]);
        check("NONE", "", sent, &[]);
        check("NOFILE", "", sent, &[(files, u64::MAX, false)]);
        check("ALL", "RLIMIT_NOFILE,AS", sent, &[(core, 0, false)]);
        check("NONE", "", "SLURM_RLIMIT_CORE=U7 SLURM_RLIMIT_AS=7 A=1", &[(core, 7, true)]);
        check("ALL", "", "SLURM_RLIMIT_CORE=x A=1", &[]);
    }
}
