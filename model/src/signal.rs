//! Signals by name and number, as `scancel -s` and `--signal` take them. Linux numbering (x86, ARM).

/// Name and number, without `SIG`; of two names for one number the first is the one to print.
const NAMES: [(&str, u8); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("CLD", 17),
    ("PWR", 30),
    ("SYS", 31),
];

/// The highest signal that Linux knows.
pub const SIGNAL_MAX: u8 = 64;

/// Reads `USR1`, `SIGUSR1`, `usr1` or `10`; `None` where there is no such signal.
#[must_use]
pub fn parse(text: &str) -> Option<u8> {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return text.parse().ok().filter(|&number| (1..=SIGNAL_MAX).contains(&number));
    }
    let upper = text.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES.iter().find(|(name, _)| *name == bare).map(|&(_, number)| number)
}

/// `USR1` for 10; the number's text where it has no name.
#[must_use]
pub fn name(number: u8) -> String {
    match NAMES.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => (*name).to_owned(),
        None => number.to_string(),
    }
}

/// What the C library says of a signal that ended a process: `Killed`, `Terminated`, …
#[must_use]
pub fn describe(number: u8) -> String {
    let text = match number {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        16 => "Stack fault",
        17 => "Child exited",
        18 => "Continued",
        19 => "Stopped (signal)",
        20 => "Stopped",
        21 => "Stopped (tty input)",
        22 => "Stopped (tty output)",
        23 => "Urgent I/O condition",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        26 => "Virtual timer expired",
        27 => "Profiling timer expired",
        28 => "Window changed",
        29 => "I/O possible",
        30 => "Power failure",
        31 => "Bad system call",
        34..=SIGNAL_MAX => return format!("Real-time signal {}", number - 34),
        _ => return format!("Unknown signal {number}"),
    };
    text.to_owned()
}

/// A warning signal: `[R][B]:SIGNAL[@SECONDS]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The signal's number.
    pub signal: u8,
    /// How many seconds before the end; 60 where nothing is said.
    pub before_seconds: u16,
    /// `B`: only to the batch shell.
    pub batch_only: bool,
    /// `R`: also where a reservation overlaps.
    pub reservation: bool,
}

/// Reads the value of `--signal`; `None` where it is not valid.
#[must_use]
pub fn parse_warning(text: &str) -> Option<Warning> {
    let (mut batch_only, mut reservation) = (false, false);
    let rest = match text.split_once(':') {
        Some((flags, rest)) => {
            for flag in flags.chars() {
                match flag.to_ascii_uppercase() {
                    'B' => batch_only = true,
                    'R' => reservation = true,
                    _ => return None,
                }
            }
            rest
        }
        None => text,
    };
    let (signal, before_seconds) = match rest.split_once('@') {
        Some((signal, before)) => (signal, before.parse().ok()?),
        None => (rest, 60),
    };
    Some(Warning { signal: parse(signal)?, before_seconds, batch_only, reservation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, number) in [
            ("USR1", Some(10)),
            ("sigusr1", Some(10)),
            ("9", Some(9)),
            ("64", Some(64)),
            ("65", None),
            ("0", None),
            ("NOPE", None),
            ("", None),
            ("-9", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
        assert_eq!((name(9), name(6), name(40)), ("KILL".into(), "ABRT".into(), "40".into()));
        assert!((1..=31).all(|number| parse(&name(number)) == Some(number)));
        assert_eq!(describe(9), "Killed");
    }

    #[test]
    fn warnings() {
        let make = |signal, before_seconds, batch_only, reservation| {
            Some(Warning { signal, before_seconds, batch_only, reservation })
        };
        assert_eq!(parse_warning("USR1@30"), make(10, 30, false, false));
        assert_eq!(parse_warning("B:USR1@20"), make(10, 20, true, false));
        assert_eq!(parse_warning("RB:12"), make(12, 60, true, true));
        assert_eq!(parse_warning("X:12"), None);
        assert_eq!(parse_warning("12@x"), None);
        assert_eq!(parse_warning("12@65536"), None);
    }
}
