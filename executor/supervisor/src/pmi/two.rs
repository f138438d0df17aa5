//! PMI-2: six digits of length, then `cmd=NAME;key=value;…`, where `;;` stands for a semicolon in a value.

use executor_supervisor::exchange::Pair;

use super::{Language, REQUEST_MAX, Server, Standing, Waiting};

const LENGTH_DIGITS: usize = 6;
/// MPICH's numbers for "failed" and "not supported here".
const FAILED: &str = "14";

/// Takes the next request off the input. `Err`: what arrives is none.
pub(super) fn take(input: &mut Vec<u8>) -> Result<Option<Vec<u8>>, ()> {
    let Some(digits) = input.get(..LENGTH_DIGITS) else { return Ok(None) };
    let length: usize =
        std::str::from_utf8(digits).ok().and_then(|text| text.trim().parse().ok()).ok_or(())?;
    if length > REQUEST_MAX {
        return Err(());
    }
    if input.len() < LENGTH_DIGITS + length {
        return Ok(None);
    }
    Ok(Some(input.drain(..LENGTH_DIGITS + length).skip(LENGTH_DIGITS).collect()))
}

/// The pairs of a request.
fn fields(request: &[u8]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut bytes = request.iter().copied().peekable();
    while bytes.peek().is_some() {
        let mut key = Vec::new();
        while let Some(byte) = bytes.next_if(|byte| !matches!(byte, b'=' | b';')) {
            key.push(byte);
        }
        let mut value = Vec::new();
        if bytes.next() == Some(b'=') {
            while let Some(byte) = bytes.next() {
                if byte == b';' && bytes.next_if_eq(&b';').is_none() {
                    break;
                }
                value.push(byte);
            }
        }
        let key = key.trim_ascii().to_vec();
        // Some clients pad what they send with zero bytes.
        if !key.is_empty() && key[0] != 0 {
            pairs.push((key, value));
        }
    }
    pairs
}

/// Does what a request asks.
pub(super) fn obey(server: &mut Server, member: usize, request: &[u8]) {
    let pairs = fields(request);
    let value =
        |name: &str| pairs.iter().find(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice());
    let text = |name: &str| value(name).unwrap_or_default().to_vec();
    server.members[member].thread = value("thrid").map(<[u8]>::to_vec);
    let command = String::from_utf8_lossy(value("cmd").unwrap_or_default()).into_owned();
    match command.as_str() {
        "fullinit" => {
            server.members[member].standing = Standing::In;
            let (rank, size) = (server.members[member].rank.to_string(), server.size.to_string());
            let facts: [(&str, &[u8]); 8] = [
                ("rc", b"0"),
                ("pmi-version", b"2"),
                ("pmi-subversion", b"0"),
                ("rank", rank.as_bytes()),
                ("size", size.as_bytes()),
                ("appnum", b"0"),
                ("debugged", b"FALSE"),
                ("pmiverbose", b"FALSE"),
            ];
            answer(server, member, &command, &facts);
        }
        "job-getid" => {
            let job = server.job.clone();
            answer(server, member, &command, &[("rc", b"0"), ("jobid", job.as_bytes())]);
        }
        "info-getjobattr" => {
            let found = server.attribute(&text("key"));
            told(server, member, &command, found.as_deref());
        }
        "info-putnodeattr" => {
            let result = server.put_for_node(&text("key"), &text("value"));
            settled(server, member, &command, result);
        }
        "info-getnodeattr" => {
            let key = text("key");
            let found = server.node_store.get(&key).cloned();
            let waits = value("wait").is_some_and(|wait| wait.eq_ignore_ascii_case(b"TRUE"));
            if found.is_none() && waits {
                let thread = server.members[member].thread.take();
                server.waiting.push(Waiting { member, key, thread });
            } else {
                found_for_node(server, member, found.as_deref());
            }
        }
        "kvs-put" => {
            let result = server.put(&text("key"), &text("value"));
            settled(server, member, &command, result);
        }
        "kvs-get" => {
            let found = server.get(&text("key")).map(<[u8]>::to_vec);
            told(server, member, &command, found.as_deref());
        }
        "kvs-fence" => server.enter_fence(member),
        "finalize" => {
            answer(server, member, &command, &[("rc", b"0")]);
            server.leave(member);
        }
        "abort" => server.abort(member, String::from_utf8_lossy(&text("msg")).trim()),
        // spawn, job-connect, job-disconnect, name-publish, -unpublish, -lookup, ring: nothing here can do it.
        other => {
            let message = format!("{other} is not supported");
            answer(server, member, other, &[("rc", FAILED.as_bytes()), ("errmsg", message.as_bytes())]);
        }
    }
}

fn settled(server: &mut Server, member: usize, command: &str, result: Result<(), &'static str>) {
    match result {
        Ok(()) => answer(server, member, command, &[("rc", b"0")]),
        Err(why) => answer(server, member, command, &[("rc", FAILED.as_bytes()), ("errmsg", why.as_bytes())]),
    }
}

fn told(server: &mut Server, member: usize, command: &str, found: Option<&[u8]>) {
    match found {
        Some(value) => {
            answer(server, member, command, &[("rc", b"0"), ("found", b"TRUE"), ("value", value)]);
        }
        None => answer(server, member, command, &[("rc", b"0"), ("found", b"FALSE")]),
    }
}

/// Answers a question for an attribute of the node.
pub(super) fn found_for_node(server: &mut Server, member: usize, value: Option<&[u8]>) {
    told(server, member, "info-getnodeattr", value);
}

/// The fence is whole.
pub(super) fn fenced(server: &mut Server, member: usize) {
    debug_assert_eq!(server.members[member].language, Language::Two);
    answer(server, member, "kvs-fence", &[("rc", b"0")]);
}

fn answer(server: &mut Server, member: usize, command: &str, facts: &[(&str, &[u8])]) {
    let mut body = format!("cmd={command}-response;").into_bytes();
    let thread = server.members[member].thread.take();
    let thread = thread.as_deref().map(|thread| ("thrid", thread));
    for (key, value) in thread.into_iter().chain(facts.iter().copied()) {
        body.extend_from_slice(key.as_bytes());
        body.push(b'=');
        for byte in value {
            body.push(*byte);
            if *byte == b';' {
                body.push(b';');
            }
        }
        body.push(b';');
    }
    let output = &mut server.members[member].output;
    output.extend_from_slice(format!("{:6}", body.len()).as_bytes());
    output.append(&mut body);
}
