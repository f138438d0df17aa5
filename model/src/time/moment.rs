//! Moments as texts: `--begin`, `--starttime`, and `2026-11-25T22:07:00`.
//!
//! The present and the time zone are arguments. A zone is a function from seconds since the epoch to the
//! seconds that local time is ahead of UTC at that moment.

use super::{Span, Timestamp};

/// Seconds that local time is ahead of UTC, at a moment given in seconds since the epoch.
pub type Zone<'a> = &'a dyn Fn(i64) -> i32;

/// The zone of UTC.
#[must_use]
pub fn utc(_: i64) -> i32 {
    0
}

/// Whether a time of day without a date means the next one or today's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sense {
    /// The next such time (`--begin`).
    Future,
    /// Today's, even where it has passed (`sacct --starttime`).
    Past,
}

/// The text is no moment. Prints as Slurm's line, which has no program name before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Where the text stops making sense, in bytes.
    pub position: usize,
    /// The whole text.
    pub text: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Invalid time specification (pos={}): {}", self.position, self.text)
    }
}

impl std::error::Error for Error {}

/// Local calendar time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Such as 2026.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

/// Days since the epoch of a date of the Gregorian calendar (days and months out of range carry over).
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the leap day is the last of its year.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month, day of a day since the epoch.
fn date_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Day of the week, 0 for Sunday, of a moment in local time.
#[must_use]
pub fn weekday(moment: Timestamp, zone: Zone<'_>) -> u8 {
    let seconds = moment.as_secs();
    let days = (seconds + i64::from(zone(seconds))).div_euclid(86_400);
    (days + 4).rem_euclid(7) as u8
}

impl Civil {
    /// Local calendar time of a moment.
    #[must_use]
    pub fn of(moment: Timestamp, zone: Zone<'_>) -> Civil {
        let seconds = moment.as_secs();
        let local = seconds.saturating_add(i64::from(zone(seconds)));
        let (year, month, day) = date_from_days(local.div_euclid(86_400));
        let rest = local.rem_euclid(86_400);
        Civil { year, month, day, hour: rest / 3600, minute: rest / 60 % 60, second: rest % 60 }
    }

    /// The moment of this local time; where a clock change makes two, the later one.
    #[must_use]
    pub fn moment(self, zone: Zone<'_>) -> Timestamp {
        let days = days_from_date(self.year, self.month, self.day);
        let local = days * 86_400 + self.hour * 3600 + self.minute * 60 + self.second;
        let guess = local - i64::from(zone(local));
        Timestamp::from_secs(local - i64::from(zone(guess)))
    }
}

/// `2026-11-25T22:07:00` in local time; `Unknown` for no time.
#[must_use]
pub fn text(moment: Timestamp, zone: Zone<'_>) -> String {
    if moment.is_zero() {
        return "Unknown".to_owned();
    }
    let Civil { year, month, day, hour, minute, second } = Civil::of(moment, zone);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// What has been read so far.
#[derive(Default)]
struct Reading {
    clock: Option<(i64, i64, i64)>,
    date: Option<(Option<i64>, i64, i64)>,
}

/// Reads a moment in one of Slurm's forms.
///
/// `now`, `now+60`, `now-2days`, `today`, `tomorrow`, `midnight`, `noon`, `elevenses`, `fika`,
/// `teatime`, `HH:MM[:SS] [AM|PM]`, `MMDD[YY]`, `MM/DD[/YY]`, `MM.DD[.YY]`, `YYYY-MM-DD[THH:MM[:SS]]`, and
/// `uts` with seconds since the epoch. A date without a time is its midnight; a time without a date is
/// the next such time, or today's in [`Sense::Past`]. An empty text is no time. Cost: O(text).
pub fn parse(text: &str, now: Timestamp, zone: Zone<'_>, sense: Sense) -> Result<Timestamp, Error> {
    let fail = |position| Error { position, text: text.to_owned() };
    let lower = text.to_ascii_lowercase();
    if let Some(seconds) = lower.strip_prefix("uts") {
        return seconds.parse().map(Timestamp::from_secs).map_err(|_| fail(0));
    }
    let today = Civil::of(now, zone);
    let mut reading = Reading::default();
    let mut at = 0;
    while at < lower.len() {
        let rest = &lower[at..];
        let first = rest.as_bytes()[0];
        if first.is_ascii_whitespace() || (first == b't' && at > 0 && followed_by_digit(rest)) {
            at += 1;
        } else if let Some(after) = rest.strip_prefix("now") {
            return from_now(after, at + 3, now).map_err(fail);
        } else if rest.starts_with("today") {
            reading.date = Some((Some(today.year), today.month, today.day));
            at += "today".len();
        } else if rest.starts_with("tomorrow") {
            let (year, month, day) = date_from_days(days_from_date(today.year, today.month, today.day) + 1);
            reading.date = Some((Some(year), month, day));
            at += "tomorrow".len();
        } else if let Some((word, hour)) = WORDS.iter().find(|(word, _)| rest.starts_with(word)) {
            reading.clock = Some((*hour, 0, 0));
            at += word.len();
        } else if !first.is_ascii_digit() {
            return Err(fail(at));
        } else if rest.as_bytes().get(1) == Some(&b':') || rest.as_bytes().get(2) == Some(&b':') {
            at = read_clock(&lower, at, &mut reading).map_err(fail)?;
        } else {
            at = read_date(&lower, at, &mut reading).map_err(fail)?;
        }
    }
    Ok(assemble(&reading, today, zone, sense))
}

/// Names for times of the day.
const WORDS: [(&str, i64); 5] =
    [("midnight", 0), ("noon", 12), ("elevenses", 11), ("fika", 15), ("teatime", 16)];

fn followed_by_digit(rest: &str) -> bool {
    rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit)
}

/// What follows `now`: nothing, or `+COUNT[unit]`. The error is a position.
fn from_now(after: &str, position: usize, now: Timestamp) -> Result<Timestamp, usize> {
    let trimmed = after.trim();
    if trimmed.is_empty() {
        return Ok(now);
    }
    let sign = match trimmed.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return Err(position),
    };
    let amount = trimmed[1..].trim_start();
    let digits = amount.bytes().take_while(u8::is_ascii_digit).count();
    let count: i64 = amount[..digits].parse().map_err(|_| position)?;
    let unit = match amount[digits..].trim() {
        "" | "second" | "seconds" => 1,
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86_400,
        "week" | "weeks" => 7 * 86_400,
        _ => return Err(position),
    };
    Ok(now + Span::from_secs(sign * count.saturating_mul(unit)))
}

/// One or two digits at `at`: the number and where it ends.
fn two_digits(text: &str, at: usize) -> Option<(i64, usize)> {
    let digits = text[at..].bytes().take(2).take_while(u8::is_ascii_digit).count();
    Some((text[at..at + digits].parse().ok()?, at + digits))
}

/// `H:MM[:SS] [AM|PM]`. The error is a position.
fn read_clock(text: &str, start: usize, reading: &mut Reading) -> Result<usize, usize> {
    let (mut hour, colon) = two_digits(text, start).ok_or(start)?;
    if hour > 23 {
        return Err(start);
    }
    let at = colon + 1;
    let (minute, mut end) = two_digits(text, at).filter(|(minute, _)| *minute < 60).ok_or(at)?;
    let mut second = 0;
    if text[end..].starts_with(':') {
        let at = end + 1;
        (second, end) = two_digits(text, at).filter(|(second, _)| *second < 60).ok_or(at)?;
    }
    let rest = text[end..].trim_start();
    let blanks = text.len() - end - rest.len();
    if rest.starts_with("pm") || rest.starts_with("am") {
        if hour > 12 {
            return Err(end + blanks);
        }
        hour = hour % 12 + if rest.starts_with("pm") { 12 } else { 0 };
        end += blanks + 2;
    }
    reading.clock = Some((hour, minute, second));
    Ok(end)
}

/// `YYYY-MM-DD`, `MMDD[YY]`, `MM/DD[/YY]` or `MM.DD[.YY]`. The error is a position.
fn read_date(text: &str, start: usize, reading: &mut Reading) -> Result<usize, usize> {
    let digits = text[start..].bytes().take_while(u8::is_ascii_digit).count();
    let valid_month = |month: i64| (1..=12).contains(&month);
    let valid_day = |day: i64| (1..=31).contains(&day);
    if digits == 4 && text[start + 4..].starts_with('-') {
        let year = text[start..start + 4].parse().map_err(|_| start)?;
        let at = start + 5;
        let (month, end) = two_digits(text, at).filter(|found| valid_month(found.0)).ok_or(at)?;
        if !text[end..].starts_with('-') {
            return Err(end);
        }
        let at = end + 1;
        let (day, end) = two_digits(text, at).filter(|found| valid_day(found.0)).ok_or(at)?;
        reading.date = Some((Some(year), month, day));
        return Ok(end);
    }
    let (month, end) = two_digits(text, start).filter(|found| valid_month(found.0)).ok_or(start)?;
    let skip = |at: usize| if text[at..].starts_with(['/', '.']) { at + 1 } else { at };
    let at = skip(end);
    let (day, end) = two_digits(text, at).filter(|found| valid_day(found.0)).ok_or(at)?;
    let at = skip(end);
    let Some((year, end)) = two_digits(text, at) else {
        reading.date = Some((None, month, day));
        return Ok(end);
    };
    reading.date = Some((Some(2000 + year), month, day));
    Ok(end)
}

fn assemble(reading: &Reading, today: Civil, zone: Zone<'_>, sense: Sense) -> Timestamp {
    let Civil { year: this_year, month: this_month, day: this_day, .. } = today;
    let (year, month, day, clock) = match (reading.date, reading.clock) {
        (None, None) => return Timestamp::ZERO,
        (None, Some(clock)) => {
            let passed = (clock.0, clock.1) <= (today.hour, today.minute);
            let ahead = i64::from(passed && sense == Sense::Future);
            let (year, month, day) = date_from_days(days_from_date(this_year, this_month, this_day) + ahead);
            (year, month, day, clock)
        }
        (Some((year, month, day)), clock) => {
            let passed = (month, day) < (this_month, this_day);
            let next = i64::from(passed && sense == Sense::Future);
            (year.unwrap_or(this_year + next), month, day, clock.unwrap_or((0, 0, 0)))
        }
    };
    Civil { year, month, day, hour: clock.0, minute: clock.1, second: clock.2 }.moment(zone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Civil { year: 2026, month: 11, day: 25, hour: 22, minute: 7, second: 30 }.moment(&utc)
    }

    #[test]
    fn forms() {
        let table = "
            now            | 2026-11-25T22:07:30
            now+60         | 2026-11-25T22:08:30
            now+1hour      | 2026-11-25T23:07:30
            now + 2 days   | 2026-11-27T22:07:30
            now-1week      | 2026-11-18T22:07:30
            NOW+10minutes  | 2026-11-25T22:17:30
            today          | 2026-11-25T00:00:00
            tomorrow       | 2026-11-26T00:00:00
            midnight       | 2026-11-26T00:00:00
            noon           | 2026-11-26T12:00:00
            fika           | 2026-11-26T15:00:00
            teatime        | 2026-11-26T16:00:00
            noon tomorrow  | 2026-11-26T12:00:00
            23:15          | 2026-11-25T23:15:00
            22:07          | 2026-11-26T22:07:00
            8:05:09        | 2026-11-26T08:05:09
            11:30 pm       | 2026-11-25T23:30:00
            1201           | 2026-12-01T00:00:00
            0101           | 2027-01-01T00:00:00
            010130         | 2030-01-01T00:00:00
            12/24          | 2026-12-24T00:00:00
            12/24/27       | 2027-12-24T00:00:00
            12.24.27       | 2027-12-24T00:00:00
            2027-02-28     | 2027-02-28T00:00:00
            2027-02-28T10:20    | 2027-02-28T10:20:00
            2027-02-28t10:20:30 | 2027-02-28T10:20:30
            2020-01-01     | 2020-01-01T00:00:00
            uts1000000000  | 2001-09-09T01:46:40
            yesterday      | Invalid time specification (pos=0): yesterday
            25:00          | Invalid time specification (pos=0): 25:00
            2020-13-01     | Invalid time specification (pos=5): 2020-13-01
            now+x          | Invalid time specification (pos=3): now+x
            foo            | Invalid time specification (pos=0): foo
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let (form, expected) = line.split_once('|').unwrap();
            let got = match parse(form.trim(), now(), &utc, Sense::Future) {
                Ok(moment) => text(moment, &utc),
                Err(error) => error.to_string(),
            };
            assert_eq!(got, expected.trim(), "{form}");
        }
        assert_eq!(parse("", now(), &utc, Sense::Future), Ok(Timestamp::ZERO));
        assert_eq!(text(Timestamp::ZERO, &utc), "Unknown");
        let past = parse("8:00", now(), &utc, Sense::Past).unwrap();
        assert_eq!(text(past, &utc), "2026-11-25T08:00:00");
    }

    #[test]
    fn any_text_answers() {
        // Odd texts are refused or read, never a panic: positions lie on character boundaries.
        for text in
            ["é", "12é", "1:é", "2020-é", "0é", "now+é", "12/é/", "t", "1", "9999999999", "11:30 \u{e9}"]
        {
            let _ = parse(text, now(), &utc, Sense::Future);
        }
    }

    #[test]
    fn days_round_trip() {
        for days in (-800_000..800_000).step_by(97) {
            let (year, month, day) = date_from_days(days);
            assert_eq!(days_from_date(year, month, day), days);
        }
        assert_eq!(date_from_days(0), (1970, 1, 1));
        assert_eq!(weekday(now(), &utc), 3);
    }

    #[test]
    fn zones() {
        // One hour ahead in winter, two in summer (changes at 2026-03-29 and 2026-10-25, 01:00 UTC).
        let berlin = |seconds: i64| {
            if (1_774_746_000..1_792_890_000).contains(&seconds) { 7200 } else { 3600 }
        };
        let summer = parse("2026-07-01T12:00", now(), &berlin, Sense::Future).unwrap();
        assert_eq!(text(summer, &utc), "2026-07-01T10:00:00");
        let winter = parse("2026-12-01T12:00", now(), &berlin, Sense::Future).unwrap();
        assert_eq!(text(winter, &utc), "2026-12-01T11:00:00");
        assert_eq!(text(winter, &berlin), "2026-12-01T12:00:00");
    }
}
