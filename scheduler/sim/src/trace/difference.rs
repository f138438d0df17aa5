//! The first decision in which two runs differ, with what each scheduler saw then.

use std::fmt::Write;
use std::io::BufRead;

use serde_json::Value;

use super::decisions::MARK;

/// A file of decisions, line by line.
struct Reader<R> {
    name: String,
    lines: std::io::Lines<R>,
    number: u64,
    /// The pass at hand and the next of its starts.
    pass: Value,
    next: usize,
}

/// One start and where it was decided.
struct Decision {
    time: i64,
    job: i64,
    text: String,
    pass: Value,
}

impl<R: BufRead> Reader<R> {
    fn open(name: &str, from: R) -> Result<(Self, Value), String> {
        let mut reader =
            Self { name: name.to_owned(), lines: from.lines(), number: 0, pass: Value::Null, next: 0 };
        let header = reader.line()?.ok_or_else(|| format!("{name}: empty"))?;
        if header.get(MARK).is_none() {
            return Err(format!(
                "{name}: no file of decisions (sluice simulate --decisions FILE writes one)"
            ));
        }
        Ok((reader, header))
    }

    fn line(&mut self) -> Result<Option<Value>, String> {
        let Some(line) = self.lines.next() else { return Ok(None) };
        self.number += 1;
        let wrong = |error: &dyn std::fmt::Display| format!("{}:{}: {error}", self.name, self.number);
        let line = line.map_err(|error| wrong(&error))?;
        serde_json::from_str(&line).map(Some).map_err(|error| wrong(&error))
    }

    fn decision(&mut self) -> Result<Option<Decision>, String> {
        loop {
            if let Some(start) = self.pass["starts"].get(self.next) {
                self.next += 1;
                let time = self.pass["t"].as_i64().unwrap_or(-1);
                let job = start["job"].as_i64().unwrap_or(-1);
                return Ok(Some(Decision {
                    time,
                    job,
                    text: start_text(time, start),
                    pass: self.pass.clone(),
                }));
            }
            match self.line()? {
                Some(pass) => (self.pass, self.next) = (pass, 0),
                None => return Ok(None),
            }
        }
    }
}

/// `None`: every decision is the same, and so many there are; else the report.
///
/// # Errors
/// A file that is none of decisions.
pub fn first(a: (&str, impl BufRead), b: (&str, impl BufRead)) -> Result<(u64, Option<String>), String> {
    let names = [a.0.to_owned(), b.0.to_owned()];
    let (mut a, header_a) = Reader::open(a.0, a.1)?;
    let (mut b, header_b) = Reader::open(b.0, b.1)?;
    let mut common = 0;
    let mut last = None;
    loop {
        let pair = (a.decision()?, b.decision()?);
        match &pair {
            (None, None) => return Ok((common, None)),
            (Some(one), Some(other)) if (one.time, one.job) == (other.time, other.job) => {
                common += 1;
                last = pair.0.map(|decision| decision.text);
            }
            (one, other) => {
                let mut text = format!("decision {} is the first that differs\n", common + 1);
                if let Some(last) = last {
                    writeln!(text, "  the one before, in both: {last}")
                        .expect("writing to a string cannot fail");
                }
                for (name, header, decision) in [(&names[0], header_a, one), (&names[1], header_b, other)] {
                    describe(&mut text, name, &header, decision.as_ref());
                }
                return Ok((common, Some(text)));
            }
        }
    }
}

fn start_text(time: i64, start: &Value) -> String {
    let number = |key: &str| start[key].as_i64().unwrap_or(-1);
    let cause = match start["cause"].as_str().unwrap_or("?") {
        "head" => "as the head of the queue",
        "before-shadow" => "out of turn, to end before the shadow time",
        "within-extra" => "out of turn, within the extra processors",
        "promise-due" => "since its promise is due",
        other => other,
    };
    let promised = start["promised"].as_i64().map_or(String::new(), |at| format!(", promised for {at} s"));
    let (job, procs, limit) = (number("job"), number("procs"), number("limit"));
    format!("at {time} s job {job} ({procs} processors, {limit} s) starts {cause}{promised}")
}

fn describe(text: &mut String, name: &str, header: &Value, decision: Option<&Decision>) {
    let say = |key: &str| header[key].as_str().unwrap_or("?").to_owned();
    let _ = writeln!(
        text,
        "\n{name}: trace {}, policy {}, estimates {}",
        say("trace"),
        say("policy"),
        say("estimates")
    );
    let Some(Decision { text: what, pass, .. }) = decision else {
        let _ = writeln!(text, "  no more decisions");
        return;
    };
    let _ = writeln!(text, "  {what}");
    let empty = Vec::new();
    let list = |key: &str| pass[key].as_array().unwrap_or(&empty);
    let waiting = pass["waiting"].as_u64().unwrap_or(0);
    let _ = writeln!(text, "  queue before the pass, {waiting} jobs:");
    for job in list("queue") {
        let number = |key: &str| job[key].as_i64().unwrap_or(-1);
        let _ = writeln!(
            text,
            "    job {:<9} {:>7} processors {:>9} s",
            number("job"),
            number("procs"),
            number("limit")
        );
    }
    if waiting > list("queue").len() as u64 {
        let _ = writeln!(text, "    …");
    }
    let mut free = pass["free"].as_u64().unwrap_or(0);
    let _ = writeln!(text, "  profile before the pass: {free} processors free");
    for end in list("ends") {
        free += end[1].as_u64().unwrap_or(0);
        let _ = writeln!(text, "    from {:>10} s {free:>7} free", end[0].as_i64().unwrap_or(-1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(policy: &str, job: i64) -> String {
        format!(
            "{{\"sluice_decisions\":1,\"trace\":\"x\",\"policy\":\"{policy}\",\"estimates\":\"user\"}}\n\
             {{\"t\":0,\"free\":4,\"waiting\":1,\"starts\":[{{\"job\":1,\"procs\":2,\"limit\":9,\"cause\":\"head\",\"promised\":null}}],\"queue\":[],\"ends\":[]}}\n\
             {{\"t\":5,\"free\":2,\"waiting\":2,\"starts\":[{{\"job\":{job},\"procs\":1,\"limit\":3,\"cause\":\"before-shadow\",\"promised\":null}}],\
             \"queue\":[{{\"job\":2,\"procs\":4,\"limit\":9}}],\"ends\":[[9,2]]}}\n"
        )
    }

    #[test]
    fn names_the_first_difference() {
        let (a, b) = (file("easy", 3), file("cons", 4));
        let (common, report) = first(("a", a.as_bytes()), ("b", b.as_bytes())).unwrap();
        let report = report.unwrap();
        assert_eq!(common, 1);
        for part in [
            "decision 2 is the first",
            "job 3 (1 processors, 3 s) starts out of turn",
            "job 4 ",
            "2 processors free",
            "from          9 s       4 free",
            "b: trace x, policy cons",
        ] {
            assert!(report.contains(part), "{part} is not in {report}");
        }
        assert_eq!(first(("a", a.as_bytes()), ("c", a.as_bytes())).unwrap(), (2, None));
        assert!(first(("a", a.as_bytes()), ("b", &b"{}\n"[..])).unwrap_err().starts_with("b: no file"));
    }
}
