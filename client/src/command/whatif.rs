//! `sluice whatif …`: whose start moves if something were otherwise. Nothing is changed by asking.

use model::refusal::Refusal;
use proto::convert;
use proto::v1::what_if_request::Change;
use proto::v1::{Move, Outlook, WhatIfAdd, WhatIfPriority, WhatIfReply, WhatIfRequest, WhatIfWeight};
use serde_json::json;

use super::json::outlook;
use super::why::failed;
use super::{Call, block_on, submit};
use crate::api::Error;
use crate::option::Program;
use crate::table::units::elapsed;
use crate::{local, say};

/// Moves that are printed without `--all`.
const MOVES_SHOWN: usize = 40;

const HELP: &str = "\
Usage: sluice whatif [--json] [--all] ASSUMPTION

  drain NODES           the nodes take no new jobs
  end JOB               the job ends now
  priority JOB N        the waiting job has priority N
  weight KEY N          PriorityWeight… is N (Age, Fairshare, JobSize, Partition, QOS, Assoc)
  add N -- OPTIONS…     N jobs are submitted now, with sbatch's options or a script

Compares the planned starts of all waiting jobs with and without the assumption, on a copy:
nothing is changed. --all prints every job that moves, --json everything for programs.
";

/// How the answer is printed.
#[derive(Clone, Copy, Default)]
struct Manner {
    json: bool,
    all: bool,
}

/// Runs the verb: 0, 1 for a refusal or no answer, 2 for words that make no sense.
pub(crate) fn run(call: &Call) -> u8 {
    let words: Vec<String> = call.argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut manner = Manner::default();
    let mut rest = &words[..];
    while let Some((first, behind)) = rest.split_first().filter(|(first, _)| first.starts_with('-')) {
        match first.as_str() {
            "--json" => manner.json = true,
            "--all" => manner.all = true,
            "--help" | "-h" => {
                say::out(HELP);
                return 0;
            }
            other => {
                say::err(format!("{}: unrecognized option '{other}'", call.program));
                return usage();
            }
        }
        rest = behind;
    }
    let change = match assumption(call, rest, &mut manner) {
        Ok(change) => change,
        Err(status) => return status,
    };
    let request = WhatIfRequest { change: Some(change) };
    let answer =
        block_on(async { Ok(super::connect_to_ask().await?.raw().what_if(request).await?.into_inner()) });
    let reply: WhatIfReply = match answer {
        Ok(reply) => reply,
        Err(error) => return failed(call, &error),
    };
    if let Some(refused) = reply.refused {
        return failed(call, &Error::from(refused));
    }
    say::out(if manner.json { document(&reply) } else { text(&reply, manner.all) });
    0
}

fn usage() -> u8 {
    say::err(HELP.trim_end());
    2
}

/// Reads the assumption; flags may stand behind it too, except behind `--`.
fn assumption(call: &Call, words: &[String], manner: &mut Manner) -> Result<Change, u8> {
    let (before, options) = match words.iter().position(|word| word == "--") {
        Some(place) => (&words[..place], &words[place + 1..]),
        None => (words, &[][..]),
    };
    let mut plain: Vec<&str> = Vec::new();
    for word in before {
        match word.as_str() {
            "--json" => manner.json = true,
            "--all" => manner.all = true,
            other => plain.push(other),
        }
    }
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| {
            say::error(&call.program, format!("\"{text}\" is no number"));
            2
        })
    };
    match plain[..] {
        ["drain", nodes] if options.is_empty() => Ok(Change::Drain(nodes.to_owned())),
        ["end", job] if options.is_empty() => Ok(Change::End(job_id(call, job)?)),
        ["priority", job, priority] if options.is_empty() => {
            let job_id = job_id(call, job)?;
            Ok(Change::Priority(WhatIfPriority { job_id, priority: number(priority)? }))
        }
        ["weight", key, weight] if options.is_empty() => {
            Ok(Change::Weight(WhatIfWeight { key: key.to_owned(), weight: number(weight)? }))
        }
        ["add", count] => added(call, number(count)?, options),
        _ => Err(usage()),
    }
}

fn job_id(call: &Call, text: &str) -> Result<u32, u8> {
    text.parse().ok().filter(|&id| id > 0).ok_or_else(|| {
        say::error(&call.program, Refusal::InvalidJobId.text());
        1
    })
}

/// The jobs of `add`, read as sbatch reads its words; a script is not needed.
fn added(call: &Call, count: u32, options: &[String]) -> Result<Change, u8> {
    let names_a_script = options.last().is_some_and(|word| std::path::Path::new(word).is_file());
    let wrap = (!names_a_script).then(|| "--wrap=true".to_owned());
    let words = wrap.into_iter().chain(options.iter().cloned());
    let sbatch = Call { program: call.program.clone(), argv: words.map(Into::into).collect() };
    let parsed = submit::read(Program::Sbatch, &sbatch)?;
    let request = convert::request::outwards(&parsed.first().request);
    Ok(Change::Add(WhatIfAdd { count, request: Some(request) }))
}

fn count(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn text(reply: &WhatIfReply, all: bool) -> String {
    let mut out = String::new();
    for note in &reply.notes {
        out.push_str(&format!("assumed: {note}\n"));
    }
    out.push_str(&format!("{}\n", summary(reply)));
    let shown = if all { reply.moves.len() } else { reply.moves.len().min(MOVES_SHOWN) };
    out.push_str(&table(&reply.moves[..shown], reply.now_ms));
    let more = reply.moves.len() - shown + reply.left_out as usize;
    if more > 0 {
        out.push_str(&format!("and {more} more\n"));
    }
    out
}

fn summary(reply: &WhatIfReply) -> String {
    let moved = reply.earlier + reply.later + reply.lost + reply.gained;
    let mut parts = Vec::new();
    let kinds = [
        (reply.earlier, "earlier"),
        (reply.later, "later"),
        (reply.lost, "without a planned start any more"),
        (reply.gained, "with a planned start that had none"),
    ];
    for (number, word) in kinds {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let kinds = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let verb = if moved == 1 { "moves" } else { "move" };
    let head = match moved {
        0 => "no start moves".to_owned(),
        _ => format!("{} {verb}{kinds}", count(moved as usize, "start")),
    };
    let mut rest = format!("{} as before", reply.unmoved);
    if reply.unplanned > 0 {
        rest.push_str(&format!(", {} without a planned start as before", reply.unplanned));
    }
    format!("{head}; {rest}")
}

/// One line a job: who, when before, when after, by how much.
fn table(moves: &[Move], now_ms: i64) -> String {
    if moves.is_empty() {
        return String::new();
    }
    let head = ["JOB", "USER", "PARTITION", "NAME", "BEFORE", "AFTER", "NODES", "MOVES"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for one in moves {
        let place = one.after.as_ref().or(one.before.as_ref());
        rows.push(vec![
            if one.added { "(new)".to_owned() } else { one.id.clone() },
            one.user.clone(),
            one.partition.clone(),
            one.name.chars().take(20).collect(),
            if one.added { "-".to_owned() } else { start(one.before.as_ref(), &one.reason) },
            start(one.after.as_ref(), &one.reason),
            place
                .map(|place| place.nodes.clone())
                .filter(|nodes| !nodes.is_empty())
                .unwrap_or("-".to_owned()),
            moved(one, now_ms),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let text = cells.collect::<Vec<_>>().join("  ");
        format!("  {}\n", text.trim_end())
    };
    rows.iter().map(line).collect()
}

fn start(outlook: Option<&Outlook>, reason: &str) -> String {
    match outlook {
        Some(outlook) if outlook.now => "now".to_owned(),
        Some(Outlook { start_ms: Some(at), .. }) => local::date(*at),
        _ if reason == "None" => "unknown".to_owned(),
        _ => format!("unknown ({reason})"),
    }
}

/// Seconds since 1970 at which it starts, as they are shown.
fn start_s(outlook: Option<&Outlook>, now_ms: i64) -> Option<i64> {
    let outlook = outlook?;
    let ms = if outlook.now { Some(now_ms) } else { outlook.start_ms };
    ms.map(|ms| ms.div_euclid(1000))
}

fn moved(one: &Move, now_ms: i64) -> String {
    if one.added {
        return String::new();
    }
    match (start_s(one.before.as_ref(), now_ms), start_s(one.after.as_ref(), now_ms)) {
        (Some(before), Some(after)) if after >= before => format!("+{}", elapsed(after - before)),
        (Some(before), Some(after)) => format!("-{}", elapsed(before - after)),
        (Some(_), None) => "loses its start".to_owned(),
        (None, Some(_)) => "gets a start".to_owned(),
        (None, None) => String::new(),
    }
}

/// All of it, times in seconds since 1970.
fn document(reply: &WhatIfReply) -> String {
    let moves = reply.moves.iter().map(|one| {
        json!({
            "job_id": one.job_id, "id": if one.added { "" } else { &one.id }, "user": one.user,
            "name": one.name, "partition": one.partition, "reason": one.reason, "added": one.added,
            "before": outlook(one.before.as_ref()), "after": outlook(one.after.as_ref()),
        })
    });
    let value = json!({
        "now": reply.now_ms / 1000,
        "assumed": reply.notes,
        "earlier": reply.earlier,
        "later": reply.later,
        "lost": reply.lost,
        "gained": reply.gained,
        "unmoved": reply.unmoved,
        "unplanned": reply.unplanned,
        "left_out": reply.left_out,
        "moves": moves.collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call { program: "sluice".into(), argv: Vec::new() }
    }

    fn read(words: &str) -> Result<Change, u8> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        assumption(&call(), &words, &mut Manner::default())
    }

    #[test]
    fn assumptions() {
        assert_eq!(read("drain n[1-2]"), Ok(Change::Drain("n[1-2]".into())));
        assert_eq!(read("end 12"), Ok(Change::End(12)));
        assert_eq!(read("priority 12 99"), Ok(Change::Priority(WhatIfPriority { job_id: 12, priority: 99 })));
        let weight = WhatIfWeight { key: "Age".into(), weight: 5 };
        assert_eq!(read("weight Age 5 --json"), Ok(Change::Weight(weight)));
        let Ok(Change::Add(add)) = read("add 3 -- -n 4 --time=5") else { panic!("sbatch's words are read") };
        assert_eq!((add.count, add.request.unwrap().ntasks), (3, Some(4)));
        for (words, status) in [("", 2), ("drain", 2), ("end", 2), ("end x", 1), ("weight Age x", 2)] {
            assert_eq!(read(words), Err(status), "{words}");
        }
        // A script that is not there, and an option that sbatch does not know.
        assert!(read("add 1 -- --no-such-option").is_err());
    }

    #[test]
    fn what_is_printed() {
        let planned = |start_ms| Some(Outlook { start_ms, nodes: "n1".into(), ..Default::default() });
        let now = Some(Outlook { now: true, nodes: "n2".into(), ..Default::default() });
        let one = |id: &str, before, after| Move {
            job_id: 1,
            id: id.into(),
            user: "alice".into(),
            name: "wrap".into(),
            partition: "main".into(),
            reason: "Resources".into(),
            before,
            after,
            added: false,
        };
        let reply = WhatIfReply {
            notes: vec!["n1 drained".into()],
            moves: vec![
                one("7", planned(Some(60_000)), planned(Some(180_000))),
                one("8", planned(Some(3_600_000)), now),
                one("9", planned(Some(60_000)), planned(None)),
            ],
            earlier: 1,
            later: 1,
            lost: 1,
            unmoved: 4,
            ..Default::default()
        };
        let text = text(&reply, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "assumed: n1 drained");
        assert_eq!(
            lines[1],
            "3 starts move: 1 earlier, 1 later, 1 without a planned start any more; 4 as before"
        );
        assert!(lines[3].ends_with("+2:00"), "{text}");
        assert!(lines[4].contains(" now ") && lines[4].ends_with("-1:00:00"), "{text}");
        assert!(lines[5].ends_with("loses its start"), "{text}");
        let value: serde_json::Value = serde_json::from_str(&document(&reply)).unwrap();
        assert_eq!(value["moves"][1]["after"]["now"], true);
    }
}
