//! Lengths of time as texts: limits (`--time`, MaxTime) and the columns that show them.
//!
//! `None` stands for UNLIMITED throughout. Reading keeps seconds; [`parse_minutes`] rounds up as Slurm
//! stores limits.

use super::Span;

/// The text is no length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("invalid time limit")
    }
}

impl std::error::Error for Error {}

/// Reads `minutes`, `m:s`, `h:m:s`, `d-h`, `d-h:m`, `d-h:m:s`, `UNLIMITED`, `INFINITE` or `-1`.
///
/// `1-` is one day. `-5`, a negative number of days, is accepted as Slurm does, whose unsigned minutes
/// make it longer than any limit: it reads as UNLIMITED. Zero is zero; that it means UNLIMITED to
/// `--time` is the caller's to say. Source: goldens `opts/time-formats`, `errors/time-bad`.
pub fn parse(text: &str) -> Result<Option<Span>, Error> {
    if text == "-1" || text.eq_ignore_ascii_case("UNLIMITED") || text.eq_ignore_ascii_case("INFINITE") {
        return Ok(None);
    }
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (Some(days), clock),
        None => (None, text),
    };
    let fields: Vec<&str> = clock.split(':').collect();
    let Some(days) = days else {
        let numbers = fields.iter().map(|field| number(field)).collect::<Result<Vec<_>, _>>()?;
        return match numbers[..] {
            [minutes] => Ok(Some(total(0, 0, minutes, 0))),
            [minutes, seconds] => Ok(Some(total(0, 0, minutes, seconds))),
            [hours, minutes, seconds] => Ok(Some(total(0, hours, minutes, seconds))),
            _ => Err(Error),
        };
    };
    if days.is_empty() {
        number(clock)?;
        return Ok(None);
    }
    let days = number(days)?;
    if clock.is_empty() {
        return Ok(Some(total(days, 0, 0, 0)));
    }
    let numbers = fields.iter().map(|field| number(field)).collect::<Result<Vec<_>, _>>()?;
    match numbers[..] {
        [hours] => Ok(Some(total(days, hours, 0, 0))),
        [hours, minutes] => Ok(Some(total(days, hours, minutes, 0))),
        [hours, minutes, seconds] => Ok(Some(total(days, hours, minutes, seconds))),
        _ => Err(Error),
    }
}

/// [`parse`], rounded up to whole minutes.
pub fn parse_minutes(text: &str) -> Result<Option<Span>, Error> {
    Ok(parse(text)?.map(|span| Span::from_mins(span.as_mins_ceil())))
}

fn number(text: &str) -> Result<i64, Error> {
    if text.is_empty() || text.len() > 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error);
    }
    text.parse().map_err(|_| Error)
}

fn total(days: i64, hours: i64, minutes: i64, seconds: i64) -> Span {
    Span::from_secs(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

fn parts(span: Span) -> (i64, i64, i64, i64) {
    let seconds = span.as_secs();
    (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// `00:05:00`, `1-00:00:00`, `UNLIMITED`: scontrol's and sacct's form. Negative spans are `INVALID`.
#[must_use]
pub fn long(span: Option<Span>) -> String {
    let Some(span) = span else { return "UNLIMITED".to_owned() };
    if span.is_negative() {
        return "INVALID".to_owned();
    }
    match parts(span) {
        (0, hours, minutes, seconds) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        (days, hours, minutes, seconds) => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// `5:00`, `1:30:00`, `1-00:00:00`, `UNLIMITED`: squeue's and sinfo's form.
#[must_use]
pub fn short(span: Option<Span>) -> String {
    let Some(span) = span else { return "UNLIMITED".to_owned() };
    if span.is_negative() {
        return "INVALID".to_owned();
    }
    match parts(span) {
        (0, 0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (0, hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
        (days, hours, minutes, seconds) => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// CPU time as sacct prints it: `00:01.250` below an hour, `02:00:00` and `1-00:00:00` above.
#[must_use]
pub fn cpu(span: Span) -> String {
    if span.is_negative() {
        return "INVALID".to_owned();
    }
    match parts(span) {
        (0, 0, minutes, seconds) => {
            format!("{minutes:02}:{seconds:02}.{:03}", span.as_millis().rem_euclid(1000))
        }
        (0, hours, minutes, seconds) => format!("{hours:02}:{minutes:02}:{seconds:02}"),
        (days, hours, minutes, seconds) => format!("{days}-{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let table = "
            1         | 1:00       | 00:01:00
            5:00      | 5:00       | 00:05:00
            5:30      | 6:00       | 00:06:00
            1:30:00   | 1:30:00    | 01:30:00
            0-1       | 1:00:00    | 01:00:00
            0-1:30    | 1:30:00    | 01:30:00
            1-0       | 1-00:00:00 | 1-00:00:00
            0-0:7:30  | 8:00       | 00:08:00
            1-        | 1-00:00:00 | 1-00:00:00
            UNLIMITED | UNLIMITED  | UNLIMITED
            infinite  | UNLIMITED  | UNLIMITED
            -1        | UNLIMITED  | UNLIMITED
            -5        | UNLIMITED  | UNLIMITED
            0         | 0:00       | 00:00:00
            90        | 1:30:00    | 01:30:00
            abc       | refused    | refused
            1:2:3:4   | refused    | refused
            5x        | refused    | refused
            5:        | refused    | refused
            1-2-3     | refused    | refused
            -         | refused    | refused
            99999999999 | refused  | refused
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let (small, big) = match parse_minutes(cells[0]) {
                Ok(span) => (short(span), long(span)),
                Err(Error) => ("refused".to_owned(), "refused".to_owned()),
            };
            assert_eq!((small.as_str(), big.as_str()), (cells[1], cells[2]), "{}", cells[0]);
        }
        assert_eq!(parse(""), Err(Error));
        assert_eq!(cpu(Span(1250)), "00:01.250");
        assert_eq!(cpu(Span::from_secs(7200)), "02:00:00");
    }
}
