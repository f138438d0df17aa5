//! Values of options: texts → typed values, or what is wrong with them.

use model::quantity::MemoryMib;
use model::refusal::Refusal;

/// Why a value is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// `Invalid --OPTION specification`, exit 255.
    Invalid,
    /// `Invalid numeric value "TEXT" for --OPTION.`, exit 1.
    Numeric(String),
    /// These words behind `error: `, exit 255.
    Said(String),
    /// This line as it is, then as [`Bad::Invalid`].
    Line(String),
    /// Each behind `error: `, exit 1.
    Lines(Vec<String>),
    /// What the scheduler would answer, exit 1.
    Refused(Refusal),
    /// The option, or this value, is not supported here.
    Unsupported(String),
    /// Print this and stop with success.
    Print(String),
}

pub(crate) type Outcome = Result<(), Bad>;

/// A whole number from `least`, as `strtol` reads all of the text.
pub(crate) fn number_from(text: &str, least: i64) -> Result<u32, Bad> {
    let bad = || Bad::Numeric(text.to_owned());
    let trimmed = text.trim_start().strip_prefix('+').unwrap_or(text.trim_start());
    let value: i64 = trimmed.parse().map_err(|_| bad())?;
    if value < least || value > i64::from(i32::MAX) {
        return Err(bad());
    }
    u32::try_from(value).map_err(|_| bad())
}

/// The number that a text begins with, as `strtol` reads it; 0 where there is none. What follows is passed over.
pub(crate) fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let count = digits.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, negative) = (&digits[..count], text.starts_with('-'));
    let value = if digits.is_empty() { 0 } else { digits.parse::<i64>().unwrap_or(i64::MAX) };
    if negative { -value } else { value }
}

/// A whole number from 1.
pub(crate) fn positive(text: &str) -> Result<u32, Bad> {
    number_from(text, 1)
}

/// A whole number from 0.
pub(crate) fn natural(text: &str) -> Result<u32, Bad> {
    number_from(text, 0)
}

/// A size in MiB.
pub(crate) fn mib(text: &str) -> Result<MemoryMib, Bad> {
    model::tres::parse_mib(text).map(MemoryMib).ok_or(Bad::Invalid)
}

/// `--nodes`: least and most. `Ok(None)` where the text asks for nothing (`0`).
///
/// Takes `2`, `2-4`, `1k`, and lists without gaps (`1,2`). What stands before a dash may be missing.
pub(crate) fn nodes(text: &str) -> Result<Option<(u32, Option<u32>)>, Bad> {
    let not_valid = || Bad::Said(format!("\"{text}\" is not a valid node count"));
    if text.contains([',', ':']) {
        return node_list(text).map(Some);
    }
    let Some((least, most)) = text.split_once('-') else {
        let count = node_count(text).ok_or_else(not_valid)?;
        return Ok((count > 0).then_some((count, Some(count))));
    };
    let least = if least.is_empty() { 1 } else { node_count(least).ok_or_else(not_valid)? };
    if most.is_empty() {
        return Err(Bad::Said(format!("Maximum node count -1 is less than minimum node count {least}")));
    }
    let most = node_count(most).ok_or_else(not_valid)?;
    if most < least {
        return Err(Bad::Said(format!("Maximum node count {most} is less than minimum node count {least}")));
    }
    Ok(Some((least.max(1), Some(most))))
}

/// A count with an optional `k` or `m`.
fn node_count(text: &str) -> Option<u32> {
    let (digits, unit) = match text.chars().last()? {
        'k' | 'K' => (&text[..text.len() - 1], 1024),
        'm' | 'M' => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u32>().ok()?.checked_mul(unit)
}

/// Allowed sizes: only lists that leave no gap can be kept as least and most.
fn node_list(text: &str) -> Result<(u32, Option<u32>), Bad> {
    let not_valid = || Bad::Said(format!("\"{text}\" is not a valid node count"));
    let sizes = model::array::ArraySpec::parse(text, 1_000_000).map_err(|_| not_valid())?.tasks;
    let (least, most) = (sizes.first().unwrap_or(1), sizes.last().unwrap_or(1));
    if most - least + 1 != sizes.len() {
        return Err(Bad::Unsupported(format!("a list of node counts with gaps (--nodes={text})")));
    }
    Ok((least.max(1), Some(most.max(1))))
}

/// Words of `--mail-type` in Slurm's order.
const MAIL_TYPES: [(&str, bool); 8] = [
    ("ARRAY_TASKS", false),
    ("INVALID_DEPEND", true),
    ("BEGIN", true),
    ("END", true),
    ("FAIL", true),
    ("REQUEUE", true),
    ("STAGE_OUT", true),
    ("TIME_LIMIT", false),
];

/// `--mail-type`: a comma list in Slurm's order; `None` for NONE.
pub(crate) fn mail_type(text: &str) -> Result<Option<String>, Bad> {
    let mut wanted = [false; MAIL_TYPES.len()];
    let mut none = false;
    for word in text.split(',').filter(|word| !word.is_empty()) {
        if word.eq_ignore_ascii_case("NONE") {
            none = true;
        } else if word.eq_ignore_ascii_case("ALL") {
            MAIL_TYPES.iter().zip(&mut wanted).for_each(|((_, in_all), wanted)| *wanted |= in_all);
        } else {
            // Nothing looks at a running job's limit before it is over.
            if ["TIME_LIMIT_50", "TIME_LIMIT_80", "TIME_LIMIT_90"]
                .iter()
                .any(|name| name.eq_ignore_ascii_case(word))
            {
                return Err(Bad::Unsupported(format!("--mail-type={word}")));
            }
            let at = MAIL_TYPES
                .iter()
                .position(|(name, _)| name.eq_ignore_ascii_case(word))
                .ok_or(Bad::Invalid)?;
            wanted[at] = true;
        }
    }
    if none {
        return Ok(None);
    }
    let words: Vec<&str> =
        MAIL_TYPES.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|((name, _), _)| *name).collect();
    if words.is_empty() { Err(Bad::Invalid) } else { Ok(Some(words.join(","))) }
}

/// `--distribution`: at most three levels, and Pack or NoPack.
pub(crate) fn distribution(text: &str) -> Outcome {
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split(',');
    let levels = words.next().unwrap_or_default();
    let packs = words.all(|word| matches!(word, "pack" | "nopack"));
    let plane =
        levels.strip_prefix("plane=").is_some_and(|size| size.parse::<u32>().is_ok_and(|size| size > 0));
    let count = levels.split(':').count();
    let level = |(at, word): (usize, &str)| match word {
        "block" | "cyclic" | "*" => true,
        "fcyclic" => at > 0,
        "arbitrary" => at == 0,
        _ => false,
    };
    let fits = plane || (count <= 3 && levels.split(':').enumerate().all(level));
    if fits && packs { Ok(()) } else { Err(Bad::Invalid) }
}

/// `--switches=COUNT[@TIME]`.
pub(crate) fn switches(text: &str) -> Result<(u32, Option<model::time::Span>), Bad> {
    let (count, time) = match text.split_once('@') {
        Some((count, time)) => (count, Some(time)),
        None => (text, None),
    };
    let time = match time {
        Some(time) => model::time::limit::parse(time).map_err(|_| Bad::Invalid)?,
        None => None,
    };
    Ok((positive(count)?, time))
}

/// `-B SOCKETS[:CORES[:THREADS]]`; `*` is no request. Of a range the least counts; what stands behind the threads is
/// passed over.
pub(crate) fn sockets_cores_threads(text: &str) -> Result<[Option<u32>; 3], Bad> {
    let mut counts = [None; 3];
    for ((count, word), which) in counts.iter_mut().zip(text.split(':')).zip(["first", "second", "third"]) {
        let invalid = || Bad::Lines(vec![format!("Invalid numeric value \"{word}\" for {which} arg of -B.")]);
        let least = word.split_once('-').map_or(word, |(least, _)| least);
        *count = match least {
            "*" | "" if least == word => None,
            least => Some(positive(least).map_err(|_| invalid())?),
        };
    }
    Ok(counts)
}

/// `--acctg-freq=30` or `task=30,energy=5,…`.
pub(crate) fn acctg_freq(text: &str) -> Outcome {
    let valid = |word: &str| match word.split_once('=') {
        Some((name, value)) => {
            ["task", "energy", "network", "filesystem"].iter().any(|known| known.eq_ignore_ascii_case(name))
                && value.parse::<u32>().is_ok()
        }
        None => word.parse::<u32>().is_ok(),
    };
    if text.is_empty() || text.split(',').all(valid) { Ok(()) } else { Err(Bad::Invalid) }
}

/// What `--mem-bind=help` prints.
const MEM_BIND_HELP: &str = "\
Memory bind options:
    --mem-bind=         Bind memory to locality domains (ldom)
        q[uiet]         say nothing when a task is bound (default)
        none            no memory binding (default)
        local           memory of the processors in use, which is what the kernel does anyway
        prefer          the same, and other memory where there is none
        help            this
";

/// `--mem-bind`: what the kernel does without being told is taken, other bindings are not done here.
pub(crate) fn mem_bind(text: &str) -> Outcome {
    let unknown = || Bad::Said(format!("unrecognized --mem-bind argument \"{text}\""));
    for word in text.split(',') {
        match word.to_ascii_lowercase().as_str() {
            "q" | "quiet" | "none" | "no" | "local" | "p" | "prefer" | "nosort" => {}
            "help" => return Err(Bad::Print(MEM_BIND_HELP.to_owned())),
            "v" | "verbose" | "rank" | "sort" => return Err(Bad::Unsupported(format!("--mem-bind={word}"))),
            other if other.starts_with("map_mem:") || other.starts_with("mask_mem:") => {
                return Err(Bad::Unsupported(format!("--mem-bind={word}")));
            }
            _ => return Err(unknown()),
        }
    }
    Ok(())
}

/// `yes` or `no` in Slurm's spellings.
pub(crate) fn yes_no(text: &str) -> Result<bool, Bad> {
    model::config::keys::parse_flag(text).ok_or(Bad::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_counts() {
        for (text, expected) in [
            ("2", Ok(Some((2, Some(2))))),
            ("2-4", Ok(Some((2, Some(4))))),
            ("1k", Ok(Some((1024, Some(1024))))),
            ("0", Ok(None)),
            ("-1", Ok(Some((1, Some(1))))),
            ("1,2", Ok(Some((1, Some(2))))),
            ("abc", Err(Bad::Said("\"abc\" is not a valid node count".to_owned()))),
            ("1.5", Err(Bad::Said("\"1.5\" is not a valid node count".to_owned()))),
            ("1-", Err(Bad::Said("Maximum node count -1 is less than minimum node count 1".to_owned()))),
            ("3-2", Err(Bad::Said("Maximum node count 2 is less than minimum node count 3".to_owned()))),
            ("1,4", Err(Bad::Unsupported("a list of node counts with gaps (--nodes=1,4)".to_owned()))),
        ] {
            assert_eq!(nodes(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers() {
        for text in ["abc", "0", "-1", "1.5", "", "9999999999"] {
            assert_eq!(positive(text), Err(Bad::Numeric(text.to_owned())));
        }
        assert_eq!((positive("3"), natural("0")), (Ok(3), Ok(0)));
        for (text, expected) in [("12x", 12), ("x", 0), ("", 0), ("-7-", -7), ("0x10", 0)] {
            assert_eq!(leading_number(text), expected, "{text}");
        }
    }

    #[test]
    fn mail() {
        assert_eq!(mail_type("END,FAIL"), Ok(Some("END,FAIL".to_owned())));
        assert_eq!(mail_type("fail,end"), Ok(Some("END,FAIL".to_owned())));
        assert_eq!(mail_type("ALL"), Ok(Some("INVALID_DEPEND,BEGIN,END,FAIL,REQUEUE,STAGE_OUT".to_owned())));
        assert_eq!(mail_type("NONE"), Ok(None));
        assert_eq!(mail_type("foo"), Err(Bad::Invalid));
    }

    #[test]
    fn distributions() {
        for text in
            ["cyclic", "block:cyclic", "block:block:fcyclic", "plane=3", "arbitrary", "*:block", "block,Pack"]
        {
            assert_eq!(distribution(text), Ok(()), "{text}");
        }
        for text in ["", "foo", "plane=0", "block:arbitrary", "a:b:c:d", "block,foo"] {
            assert_eq!(distribution(text), Err(Bad::Invalid), "{text}");
        }
    }

    #[test]
    fn other_values() {
        assert_eq!(sockets_cores_threads("2:2:1"), Ok([Some(2), Some(2), Some(1)]));
        assert_eq!(sockets_cores_threads("2:*"), Ok([Some(2), None, None]));
        assert_eq!(sockets_cores_threads("2-3:1:2:4"), Ok([Some(2), Some(1), Some(2)]));
        let said = "Invalid numeric value \"x\" for first arg of -B.".to_owned();
        assert_eq!(sockets_cores_threads("x"), Err(Bad::Lines(vec![said])));
        assert_eq!(switches("1@10"), Ok((1, Some(model::time::Span::from_mins(10)))));
        assert_eq!(acctg_freq("task=5,energy=0"), Ok(()));
        assert_eq!(acctg_freq("x"), Err(Bad::Invalid));
        assert_eq!(acctg_freq(""), Ok(()));
    }

    #[test]
    fn memory_bindings_that_the_kernel_does_itself() {
        assert_eq!(mem_bind("quiet,local"), Ok(()));
        assert_eq!(mem_bind("map_mem:0,1"), Err(Bad::Unsupported("--mem-bind=map_mem:0".to_owned())));
        for text in ["", "abc", "local,,"] {
            let said = format!("unrecognized --mem-bind argument \"{text}\"");
            assert_eq!(mem_bind(text), Err(Bad::Said(said)));
        }
    }
}
