//! What this machine says: the time, the time zone, names of users and groups, the host.
//!
//! The only place of the client that reads a clock or the user database. The zone comes from `TZ` or
//! `/etc/localtime` through jiff, because libc's own functions are unsafe to call beside threads.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp as Instant;
use jiff::tz::TimeZone;
use nix::unistd::{Gid, Group, Uid, User};

/// The present moment, milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn zone() -> &'static TimeZone {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    ZONE.get_or_init(|| TimeZone::try_system().unwrap_or(TimeZone::UTC))
}

/// How many seconds local time is ahead of UTC at that moment (seconds since 1970).
#[must_use]
pub fn offset_s(at_s: i64) -> i32 {
    Instant::from_second(at_s).map_or(0, |instant| zone().to_offset(instant).seconds())
}

fn local(ms: i64, format: &str) -> String {
    match Instant::from_second(ms.div_euclid(1000)) {
        Ok(instant) => instant.to_zoned(zone().clone()).strftime(format).to_string(),
        Err(_) => "Unknown".to_owned(),
    }
}

/// A moment as Slurm prints it: `2026-11-25T22:13:29`, or by `SLURM_TIME_FORMAT` where that is set.
#[must_use]
pub fn date(ms: i64) -> String {
    static FORMAT: OnceLock<Option<String>> = OnceLock::new();
    let format = FORMAT.get_or_init(|| {
        let format = std::env::var("SLURM_TIME_FORMAT").ok()?;
        match format.as_str() {
            "" | "standard" => None,
            "relative" => None,
            _ => Some(format),
        }
    });
    local(ms, format.as_deref().unwrap_or("%Y-%m-%dT%H:%M:%S"))
}

/// A moment in the form of `ctime`: `Wed Nov 25 22:13:29 2026`.
#[must_use]
pub fn ctime(ms: i64) -> String {
    local(ms, "%a %b %d %H:%M:%S %Y")
}

/// Name of a user, or the number as text where there is none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => uid.to_string(),
    }
}

/// Id of a user given by name or number.
#[must_use]
pub fn user_id(text: &str) -> Option<u32> {
    match User::from_name(text) {
        Ok(Some(user)) => Some(user.uid.as_raw()),
        _ => text.parse().ok(),
    }
}

/// Name of a group, or the number as text where there is none.
#[must_use]
pub fn group_name(gid: u32) -> String {
    match Group::from_gid(Gid::from_raw(gid)) {
        Ok(Some(group)) => group.name,
        _ => gid.to_string(),
    }
}

/// This machine's host name up to the first dot.
#[must_use]
pub fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    name.split('.').next().unwrap_or_default().to_owned()
}
