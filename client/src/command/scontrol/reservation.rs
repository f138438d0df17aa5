//! `scontrol` on reservations: show, create, update, delete.
//!
//! What must be given is said here, as Slurm's own client does; what it means is the scheduler's.

use model::time::{Span, limit};
use proto::v1::control_request::Act;
use proto::v1::{DeleteReservation, KeyValue, Reservation, UpdateReservation};

use super::act::{refusal, send};
use super::show_job::Style;
use super::update::moment_text;
use super::{Session, is};
use crate::{local, say};

/// A key of a reservation, and the least number of letters that name it.
const KEYS: [(&str, usize); 9] = [
    ("Accounts", 1),
    ("Duration", 1),
    ("EndTime", 1),
    ("Flags", 2),
    ("NodeCnt", 5),
    ("Nodes", 5),
    ("PartitionName", 1),
    ("StartTime", 1),
    ("Users", 1),
];

/// Keys that Slurm knows and nothing is built for.
const UNSUPPORTED: [&str; 13] = [
    "AllowedPartitions",
    "BurstBuffer",
    "Comment",
    "CoreCnt",
    "Cores",
    "Features",
    "Groups",
    "Licenses",
    "MaxStartDelay",
    "QOS",
    "Skip",
    "TRES",
    "Watts",
];

/// The changes that words name, and the reservation's name (empty: none); `None` after a complaint.
fn changes(session: &mut Session, words: &[String]) -> Option<(String, Vec<KeyValue>)> {
    let mut name = String::new();
    let mut changes = Vec::new();
    for word in words {
        let Some((key, value)) = word.split_once('=') else {
            if word.get(..3).is_some_and(|head| head.eq_ignore_ascii_case("res")) {
                // `create reservation NAME=…`
                continue;
            }
            session.fail_with_name(format!("Unknown parameter {word}.  No reservation created."));
            return None;
        };
        if is(key, "ReservationName", 1) {
            value.clone_into(&mut name);
            continue;
        }
        let bare = key.trim_end_matches(['+', '-']);
        let known = KEYS.iter().find(|(word, least)| is(bare, word, *least));
        let more = bare.len() < key.len();
        let of_flags = known.is_some_and(|(key, _)| *key == "Flags");
        if (more && !of_flags) || UNSUPPORTED.iter().any(|word| word.eq_ignore_ascii_case(key)) {
            session.fail_with_name(format!("reservation {key}= is not supported by sluice yet"));
            return None;
        }
        // `Flags+=MAINT` is `Flags=+MAINT`.
        let sign = &key[bare.len()..];
        let Some((key, _)) = known else {
            session.fail_with_name(format!("Unknown parameter {key}.  No reservation created."));
            return None;
        };
        let value = match *key {
            "StartTime" | "EndTime" => match moment_text(value) {
                Ok(text) => text,
                Err(_) => {
                    let what = if *key == "StartTime" { "start" } else { "end" };
                    session.fail_with_name(format!("Invalid {what} time {value}"));
                    return None;
                }
            },
            "Duration" if limit::parse(value).is_err() => {
                session.fail_with_name(format!("Invalid duration {value}"));
                return None;
            }
            _ => format!("{sign}{value}"),
        };
        changes.push(KeyValue { key: (*key).to_owned(), value });
    }
    Some((name, changes))
}

/// `create reservation KEY=VALUE…`.
pub(super) async fn create(session: &mut Session, words: &[String]) {
    let Some((name, changes)) = changes(session, words) else { return };
    let has = |wanted: &[&str]| changes.iter().any(|one| wanted.contains(&one.key.as_str()));
    let missing = if !has(&["StartTime"]) {
        "A start time must be given."
    } else if !has(&["EndTime", "Duration"]) {
        "An end time or duration must be given."
    } else if !has(&["Nodes", "NodeCnt"]) {
        "CoreCnt, Nodes, NodeCnt, TRES or Watts must be specified."
    } else if !has(&["Users", "Accounts"]) {
        "Either Users/Groups, AllowedPartitions, QOS and/or Accounts must be specified."
    } else {
        ""
    };
    if !missing.is_empty() {
        return session.fail_with_name(format!("{missing}  No reservation created."));
    }
    let act = Act::UpdateReservation(UpdateReservation { name, changes, create: true });
    let Some(outcomes) = send(session, "slurm_create_reservation", act).await else { return };
    for outcome in outcomes {
        match outcome.refused {
            Some(refused) => {
                refused.lines.iter().for_each(|line| session.fail_with_name(line));
                session.fail(format!("Error creating the reservation: {}", refusal(refused.number)));
            }
            None => say::out(format!("Reservation created: {}\n", outcome.object)),
        }
    }
}

/// `update ReservationName=NAME KEY=VALUE…`.
pub(super) async fn update(session: &mut Session, words: &[String]) {
    let Some((name, changes)) = changes(session, words) else { return };
    if changes.is_empty() {
        return session.fail("No changes specified");
    }
    let act = Act::UpdateReservation(UpdateReservation { name, changes, create: false });
    let Some(outcomes) = send(session, "slurm_update_reservation", act).await else { return };
    match outcomes.into_iter().find_map(|outcome| outcome.refused) {
        Some(refused) => {
            refused.lines.iter().for_each(|line| session.fail_with_name(line));
            session.fail(format!("slurm_update error: {}", refusal(refused.number)));
        }
        None => say::out("Reservation updated.\n"),
    }
}

/// `delete ReservationName=NAME`; `word` as typed.
pub(super) async fn delete(session: &mut Session, word: &str, name: &str) {
    let act = Act::DeleteReservation(DeleteReservation { name: name.to_owned() });
    let Some(outcomes) = send(session, "slurm_delete_reservation", act).await else { return };
    if let Some(refused) = outcomes.into_iter().find_map(|outcome| outcome.refused) {
        session.fail(format!("delete_reservation {word}: {}", refusal(refused.number)));
    }
}

/// `show reservation [NAME]`.
pub(super) async fn show(session: &mut Session, wanted: Option<&str>) {
    let answer = match session.client().await {
        Ok(client) => client.list_reservations().await,
        Err(error) => Err(error),
    };
    let mut rows = match answer {
        Ok(rows) => rows,
        Err(error) => return session.fail_call("slurm_load_reservations", &error),
    };
    rows.retain(|row| wanted.is_none_or(|name| row.name == name));
    match (rows.is_empty(), wanted) {
        (true, Some(name)) => {
            session.status = 1;
            say::out(format!("Reservation {name} not found\n"));
        }
        (true, None) => say::out("No reservations in the system\n"),
        (false, _) => say::out(rows.iter().map(|row| text(row, session.style)).collect::<String>()),
    }
}

/// How long it lasts, as Slurm prints it.
pub(in crate::command) fn duration(row: &Reservation) -> String {
    limit::long(Some(Span::from_millis(row.end_ms - row.start_ms)))
}

/// Slurm's word for whether it is in force.
pub(in crate::command) fn state(row: &Reservation) -> &'static str {
    if row.active { "ACTIVE" } else { "INACTIVE" }
}

/// One reservation as text, its final newline included. Source: golden `resv/update`.
fn text(row: &Reservation, style: Style) -> String {
    let or_null = |text: String| if text.is_empty() { "(null)".to_owned() } else { text };
    let lines = [
        format!(
            "ReservationName={} StartTime={} EndTime={} Duration={}",
            row.name,
            local::date(row.start_ms),
            local::date(row.end_ms),
            duration(row)
        ),
        format!(
            "Nodes={} NodeCnt={} CoreCnt={} Features=(null) PartitionName={} Flags={}",
            row.nodes,
            row.node_count,
            row.core_count,
            or_null(row.partition.clone()),
            row.flags
        ),
        format!("TRES=cpu={}", row.cpu_count),
        format!(
            "Users={} Groups=(null) Accounts={} Licenses=(null) State={} BurstBuffer=(null)",
            or_null(row.users.join(",")),
            or_null(row.accounts.join(",")),
            state(row)
        ),
        "MaxStartDelay=(null)".to_owned(),
    ];
    style.join(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_four_lines() {
        let row = Reservation {
            name: "r1".into(),
            end_ms: 25 * 3_600_000,
            nodes: "c[3-4]".into(),
            node_count: 2,
            core_count: 16,
            cpu_count: 16,
            users: vec!["alice".into(), "bob".into()],
            flags: "SPEC_NODES".into(),
            ..Reservation::default()
        };
        let shown = text(&row, Style::default());
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].ends_with(" Duration=1-01:00:00"), "{shown}");
        assert_eq!(
            lines[1],
            "   Nodes=c[3-4] NodeCnt=2 CoreCnt=16 Features=(null) PartitionName=(null) Flags=SPEC_NODES"
        );
        assert!(lines[3].starts_with("   Users=alice,bob Groups=(null) Accounts=(null) "), "{shown}");
        assert!(lines[3].contains(" State=INACTIVE "), "{shown}");
    }
}
