//! PMI-1: lines of `cmd=NAME key=value …`, answered in kind.

use super::{KEY_MAX, Language, NAME_MAX, REQUEST_MAX, Server, VALUE_MAX};

/// Takes the next request off the input. `Err`: it is longer than any may be.
///
/// A spawn is many lines up to `endcmd`; it is taken whole, to be refused.
pub(super) fn take(input: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    let end = match input.starts_with(b"mcmd=") {
        true => find(input, b"endcmd\n").map(|at| at + 7),
        false => input.iter().position(|byte| *byte == b'\n').map(|at| at + 1),
    };
    match end {
        Some(end) => Ok(Some(input.drain(..end).collect())),
        None if input.len() > REQUEST_MAX => Err(()),
        None => Ok(None),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The value of a word of the line; the last one, `value`, may hold blanks.
fn field<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lead = format!("{name}=");
    let mut at = 0;
    loop {
        let found = at + find(&line[at..], lead.as_bytes())?;
        if found == 0 || line[found - 1] == b' ' {
            let rest = &line[found + lead.len()..];
            let end = match name {
                "value" | "msg" => rest.len(),
                _ => rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()),
            };
            return Some(rest[..end].trim_ascii_end());
        }
        at = found + 1;
    }
}

/// Does what a line asks.
pub(super) fn obey(server: &mut Server, member: usize, line: &[u8]) {
    let line = line.trim_ascii_end();
    let command = if line.starts_with(b"mcmd=") { b"spawn" } else { field(line, "cmd").unwrap_or_default() };
    let value = |name| field(line, name).unwrap_or_default();
    match command {
        b"init" => init(server, member, value("pmi_version")),
        b"get_maxes" => {
            let maxes = format!(
                "cmd=maxes rc=0 kvsname_max={NAME_MAX} keylen_max={KEY_MAX} vallen_max={VALUE_MAX}\n"
            );
            answer(server, member, &maxes);
        }
        b"get_appnum" => answer(server, member, "cmd=appnum rc=0 appnum=0\n"),
        b"get_universe_size" => {
            let size = format!("cmd=universe_size rc=0 size={}\n", server.size);
            answer(server, member, &size);
        }
        b"get_my_kvsname" => {
            let name = format!("cmd=my_kvsname rc=0 kvsname={}\n", server.job);
            answer(server, member, &name);
        }
        b"put" => {
            let (key, value) = (value("key").to_vec(), value("value").to_vec());
            let line = match server.put(&key, &value) {
                Ok(()) => "cmd=put_result rc=0 msg=success\n".to_owned(),
                Err(why) => format!("cmd=put_result rc=-1 msg={}\n", why.replace(' ', "_")),
            };
            answer(server, member, &line);
        }
        b"get" => {
            let key = value("key").to_vec();
            let line = match server.get(&key) {
                Some(value) => [b"cmd=get_result rc=0 msg=success value=", value, b"\n"].concat(),
                None => [b"cmd=get_result rc=-1 msg=key_", &*key, b"_not_found value=unknown\n"].concat(),
            };
            server.members[member].output.extend_from_slice(&line);
        }
        b"barrier_in" => server.enter_fence(member),
        b"finalize" => {
            answer(server, member, "cmd=finalize_ack rc=0\n");
            server.leave(member);
        }
        b"abort" => {
            let code = String::from_utf8_lossy(value("exitcode")).into_owned();
            server.abort(member, &format!("exit code {code}"));
        }
        // Between jobs, and jobs within jobs: there is nothing here that could do it.
        b"spawn" => refuse(server, member, "spawn_result", "spawn"),
        b"publish_name" => refuse(server, member, "publish_result", "publish_name"),
        b"unpublish_name" => refuse(server, member, "unpublish_result", "unpublish_name"),
        b"lookup_name" => refuse(server, member, "lookup_result", "lookup_name"),
        other => {
            let name = String::from_utf8_lossy(other).into_owned();
            refuse(server, member, &format!("{name}_result"), &name);
        }
    }
}

fn init(server: &mut Server, member: usize, version: &[u8]) {
    let (language, line) = match version {
        b"2" => (Language::Two, "cmd=response_to_init rc=0 pmi_version=2 pmi_subversion=0\n"),
        b"1" => (Language::One, "cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=1\n"),
        _ => (Language::Unknown, "cmd=response_to_init rc=-1 pmi_version=1 pmi_subversion=1\n"),
    };
    server.members[member].language = language;
    if language == Language::One {
        server.members[member].standing = super::Standing::In;
    }
    answer(server, member, line);
}

fn answer(server: &mut Server, member: usize, line: &str) {
    server.members[member].output.extend_from_slice(line.as_bytes());
}

fn refuse(server: &mut Server, member: usize, answer_name: &str, asked: &str) {
    answer(
        server,
        member,
        &format!("cmd={answer_name} rc=-1 msg={asked}_is_not_supported info={asked}_is_not_supported\n"),
    );
}

/// The fence is whole.
pub(super) fn fenced(server: &mut Server, member: usize) {
    answer(server, member, "cmd=barrier_out rc=0\n");
}
