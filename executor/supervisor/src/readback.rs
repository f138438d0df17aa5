//! Asks the kernel what the step is held to, after the limits are set and before anything of it runs.
//!
//! What was written and what is in force can differ: a kernel without a controller's file, a processor that is offline, a
//! site's program that writes into the same directories. Each value is read where it counts and compared with what the
//! executor meant. More than that, or something else, is a failed launch that names the file and both values; fewer
//! processors are written down and the step runs. Costs one open, read and close for each value.

use std::ffi::CString;
use std::os::fd::AsFd;

use executor_supervisor::spec::{Measure, Reading};
use nix::libc;

use crate::sys;

/// Values are short; what is longer is compared by its front, and differs.
const VALUE_MAX: usize = 4096;

/// What the kernel said, in words, `told` (what the executor saw for itself) behind it.
///
/// # Errors
/// A sentence: what holds the step is not what was asked for.
pub(crate) fn read_back(readings: &[Reading], told: &str) -> Result<String, String> {
    let mut said = Vec::with_capacity(readings.len() + 1);
    for reading in readings {
        let value = read(&reading.path)
            .map_err(|error| format!("cannot read {} back: {error}", shown(&reading.path)))?;
        let note = compare(reading, value.trim()).map_err(|()| {
            format!(
                "{} is {}, not {}: the kernel does not hold the step to its {}",
                shown(&reading.path),
                value.trim(),
                shown(&reading.expected),
                reading.what
            )
        })?;
        said.push(format!("{} {note}", reading.what));
    }
    if !told.is_empty() {
        said.push(told.to_owned());
    }
    Ok(said.join(", "))
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(path: &[u8]) -> std::io::Result<String> {
    let name = CString::new(path).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
    let file = sys::open(&name, libc::O_RDONLY, 0)?;
    let mut buffer = [0; VALUE_MAX];
    let count = sys::read(file.as_fd(), &mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).into_owned())
}

/// The value in words; an error where it is not what was meant.
fn compare(reading: &Reading, value: &str) -> Result<String, ()> {
    let expected = String::from_utf8_lossy(&reading.expected);
    match reading.measure {
        Measure::Exact if *expected == *value => Ok(value.to_owned()),
        Measure::Exact => Err(()),
        Measure::Bytes => {
            let (meant, is) = (expected.parse::<u64>().map_err(drop)?, value.parse::<u64>().map_err(drop)?);
            // The kernel counts in pages.
            let whole = is <= meant && meant - is < sys::units().1;
            if whole { Ok(bytes(is)) } else { Err(()) }
        }
        Measure::Processors => {
            let (meant, is) = (processors(&expected).ok_or(())?, processors(value).ok_or(())?);
            if is.is_empty() || is.iter().any(|cpu| !meant.contains(cpu)) {
                return Err(());
            }
            let fewer = is.len() < meant.len();
            Ok(if fewer { format!("{value} of {expected} (others are offline)") } else { value.to_owned() })
        }
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        _ if bytes.is_multiple_of(1024) => format!("{}K", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// `0-3,8`, as sorted numbers; `None` where it is no such list.
fn processors(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        // No kernel has more; a scribbled value must not take memory.
        if last < first || last > 1 << 16 {
            return None;
        }
        all.extend(first..=last);
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::{compare, read_back};
    use executor_supervisor::spec::{Measure, Reading};

    fn reading(measure: Measure, expected: &str) -> Reading {
        Reading {
            what: "memory".to_owned(),
            path: b"/nowhere".to_vec(),
            expected: expected.as_bytes().to_vec(),
            measure,
        }
    }

    #[test]
    fn what_holds_is_said_and_what_does_not_is_refused() {
        for (measure, meant, is, said) in [
            (Measure::Bytes, "536870912", "536870912", Some("512M")),
            (Measure::Bytes, "536870913", "536870912", Some("512M")),
            (Measure::Bytes, "536870912", "536875008", None),
            (Measure::Bytes, "536870912", "268435456", None),
            (Measure::Bytes, "536870912", "max", None),
            (Measure::Bytes, "536870912", "9223372036854771712", None),
            (Measure::Bytes, "0", "0", Some("0")),
            (Measure::Exact, "200000 100000", "200000 100000", Some("200000 100000")),
            (Measure::Exact, "200000 100000", "max 100000", None),
            (Measure::Processors, "0-3,8", "0-3,8", Some("0-3,8")),
            (Measure::Processors, "0,1,2", "0-2", Some("0-2")),
            (Measure::Processors, "0-3", "0-1", Some("0-1 of 0-3 (others are offline)")),
            (Measure::Processors, "0-3", "0-4", None),
            (Measure::Processors, "0-3", "", None),
            (Measure::Processors, "0-3", "x", None),
        ] {
            let found = compare(&reading(measure, meant), is).ok();
            assert_eq!(found.as_deref(), said, "{meant} {is}");
        }
    }

    #[test]
    fn a_difference_names_the_file_and_both_values() {
        let path = std::env::temp_dir().join(format!("sluice-readback-{}", std::process::id()));
        std::fs::write(&path, "max\n").unwrap();
        let path_bytes = path.as_os_str().as_encoded_bytes().to_vec();
        let wrong = Reading { path: path_bytes.clone(), ..reading(Measure::Bytes, "4096") };
        let right = Reading { path: path_bytes, ..reading(Measure::Exact, "max") };
        let refused = read_back(&[right.clone(), wrong], "").unwrap_err();
        let said = read_back(&[right], "devices 1 program");
        std::fs::remove_file(&path).unwrap();
        assert!(refused.contains(" is max, not 4096: "), "{refused}");
        assert_eq!(said.as_deref(), Ok("memory max, devices 1 program"));
        let gone = read_back(&[reading(Measure::Exact, "1")], "").unwrap_err();
        assert!(gone.contains("cannot read /nowhere back"), "{gone}");
    }
}
