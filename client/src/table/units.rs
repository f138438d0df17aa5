//! How Slurm writes amounts and lengths of time in its tables.

/// An amount of MiB with its unit: `200M`, `2G` where it is a whole number of them, `0`.
pub(crate) fn memory(mib: u64, convert: bool) -> String {
    if mib == 0 {
        return "0".to_owned();
    }
    let (mut amount, mut unit) = (mib, 0);
    const UNITS: [&str; 4] = ["M", "G", "T", "P"];
    while convert && unit + 1 < UNITS.len() && amount >= 1024 && amount % 1024 == 0 {
        amount /= 1024;
        unit += 1;
    }
    format!("{amount}{}", UNITS[unit])
}

/// Seconds as `squeue` and `sinfo` show them: `0:07`, `5:00`, `1:30:00`, `1-00:00:00`.
pub(crate) fn elapsed(seconds: i64) -> String {
    let (days, hours, minutes, seconds) = parts(seconds);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// Seconds as `scontrol` and `sacct` show them: `00:05:00`, `1-00:00:00`.
pub(crate) fn clock(seconds: i64) -> String {
    let (days, hours, minutes, seconds) = parts(seconds);
    if days > 0 {
        format!("{days}-{hours:02}:{minutes:02}:{seconds:02}")
    } else {
        format!("{hours:02}:{minutes:02}:{seconds:02}")
    }
}

fn parts(seconds: i64) -> (i64, i64, i64, i64) {
    let seconds = seconds.max(0);
    (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_slurm_writes_them() {
        let memories = [(200, "200M"), (1500, "1500M"), (2048, "2G"), (1 << 20, "1T"), (0, "0")];
        memories.iter().for_each(|&(mib, text)| assert_eq!(memory(mib, true), text));
        assert_eq!(memory(2048, false), "2048M");
        let lengths = [(0, "0:00"), (300, "5:00"), (5400, "1:30:00"), (86_400, "1-00:00:00")];
        lengths.iter().for_each(|&(seconds, text)| assert_eq!(elapsed(seconds), text));
        assert_eq!((clock(300), clock(90_000)), ("00:05:00".to_owned(), "1-01:00:00".to_owned()));
    }
}
