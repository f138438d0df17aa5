//! Streams of tasks and the client that reads them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Instant;

use executor_supervisor::frame::{Cause, Frame, Position, Stream};
use executor_supervisor::outcome::Kind;

use crate::ends::cancel;
use crate::support::{Heard, PATIENCE, Peer, Place, eventually, finish, input, wait_for_file};
use crate::{code, signal};

#[test]
fn streams_of_all_tasks_reach_the_client() {
    let place = Place::new("streams");
    let spec = place.step(3, "cat; echo err $RANK >&2; exit $RANK");
    let supervisor = place.start(&spec);
    let mut peer = supervisor.attach(Vec::new());
    peer.send(&Frame::Data { position: input(0), bytes: b"a\nb\n".to_vec() });
    peer.send(&Frame::Close { position: input(4) });
    let (heard, outcome) = finish(supervisor, &mut peer);
    for rank in 0..3 {
        assert_eq!(heard.text(rank, 1), "a\nb\n");
        assert_eq!(heard.text(rank, 2), format!("err {rank}\n"));
        assert_eq!(heard.exits[&rank], code(rank));
    }
    assert_eq!((outcome.exit, outcome.tasks), (code(2), vec![code(0), code(1), code(2)]));
}

#[test]
fn a_broken_connection_loses_and_repeats_nothing() {
    let place = Place::new("resume");
    let spec = place.step(1, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done");
    let supervisor = place.start(&spec);
    let mut heard = Heard::default();
    for round in 1..6 {
        let received: Vec<Position> = heard
            .bytes
            .iter()
            .map(|((rank, _), bytes)| Position {
                rank: *rank,
                stream: Stream::Output,
                offset: bytes.len() as u64,
            })
            .collect();
        let mut peer = supervisor.attach(received);
        for _ in 0..round {
            assert!(heard.take(&mut peer));
        }
    }
    let received = heard.bytes[&(0, 1)].len() as u64;
    let mut peer = supervisor.attach(vec![Position { rank: 0, stream: Stream::Output, offset: received }]);
    let heard = heard.all(&mut peer);
    let expected: String = (1..=20_000).map(|i| format!("line {i}\n")).collect();
    assert!(heard.text(0, 1) == expected, "every byte once, in order");
    assert_eq!(supervisor.outcome().exit, code(0));
}

#[test]
fn a_client_that_does_not_read_blocks_only_its_step() {
    let place = Place::new("block");
    let spec = place
        .step(1, "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo $i > at; head -c 65536 /dev/zero; done");
    let supervisor = place.start(&spec);
    let mut peer = supervisor.attach(Vec::new());
    let at = || place.text("at").trim().parse::<u32>().unwrap_or(0);
    eventually("a full buffer", || {
        let before = at();
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        (before > 0 && at() == before).then_some(())
    });
    assert!(at() < 1000);
    // It still answers, and ends when told.
    assert_eq!(supervisor.command(&cancel(Cause::Cancel)), Frame::Done);
    let (heard, outcome) = finish(supervisor, &mut peer);
    assert_eq!(outcome.kind, Kind::Cancelled);
    assert_eq!(heard.notes.len(), 2);
    assert!(heard.notes[0].starts_with(executor_supervisor::frame::ABORTED), "{:?}", heard.notes);
    assert!(
        heard.notes[1].starts_with("slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT "),
        "{:?}",
        heard.notes
    );
}

/// An srun that could not connect in time (its scheduler was restarted before it answered, its machine was far too busy).
#[test]
fn a_client_that_comes_late_finds_all_that_was_said() {
    let place = Place::new("late");
    let mut spec = place.step(1, "echo words; exit 3");
    spec.client_grace_ms = 40_000;
    let supervisor = place.start(&spec);
    let begin = std::time::Instant::now();
    // Longer than a client is waited for that was here and went away.
    eventually("eleven seconds", || (begin.elapsed().as_secs() >= 11).then_some(()));
    let mut peer = supervisor.attach(Vec::new());
    let (heard, outcome) = finish(supervisor, &mut peer);
    assert_eq!((heard.text(0, 1).as_str(), outcome.exit), ("words\n", code(3)));
}

#[test]
fn strangers_and_wrong_cookies_are_refused() {
    let place = Place::new("cookie");
    let supervisor = place.start(&place.step(1, "cat"));
    let mut peer = supervisor.connect();
    peer.send(&Frame::Attach { version: 1, cookie: b"guess".to_vec(), received: Vec::new() });
    assert_eq!(peer.next(), Some(Frame::Refused { reason: "wrong cookie".to_owned() }));
    assert_eq!(peer.next(), None);
    let mut rubbish = supervisor.connect();
    std::io::Write::write_all(&mut rubbish.stream, b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(rubbish.next(), None);
    // Many idle connections keep nobody out for good: one more is closed, those that were there go on.
    let idle: Vec<Peer> = (0..40).map(|_| supervisor.connect()).collect();
    drop(idle);
    let mut peer = supervisor.attach(Vec::new());
    peer.send(&Frame::Close { position: input(0) });
    assert_eq!(finish(supervisor, &mut peer).1.exit, code(0));
}

#[test]
fn another_user_is_not_heard() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not root: nobody else can be tried");
        return;
    }
    let place = Place::new("stranger");
    let supervisor = place.start(&place.batch("touch ready; sleep 1000"));
    wait_for_file(&place, "ready");
    // A terminate frame of cause 0 without a note, sent by a user who is neither root nor the owner.
    let bytes = cancel(Cause::Cancel).to_bytes();
    let escaped: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    eventually("the socket", || place.run().join("socket").exists().then_some(()));
    let script = format!(
        "import socket; s=socket.socket(socket.AF_UNIX); s.connect({:?}); s.sendall(b'{escaped}'); print(len(s.recv(100)))",
        place.run().join("socket").display().to_string()
    );
    let python = |uid: u32| {
        use std::os::unix::process::CommandExt;
        fs::set_permissions(place.run(), fs::Permissions::from_mode(0o711)).unwrap();
        Command::new("python3").args(["-c", &script]).uid(uid).gid(uid).output().map(|out| out.stdout)
    };
    let Ok(answer) = python(54_321) else {
        eprintln!("no python3 here: not tried");
        return;
    };
    assert!(answer.is_empty() || answer == b"0\n", "{}", String::from_utf8_lossy(&answer));
    assert!(!place.text("out").contains("CANCELLED"));
    assert_eq!(python(12_345).unwrap(), b"5\n", "the owner is answered");
    assert_eq!(supervisor.outcome().kind, Kind::Cancelled);
}

#[test]
fn a_lost_client_ends_the_step_after_its_grace() {
    let place = Place::new("lost");
    let mut spec = place.step(1, "touch ready; sleep 1000");
    spec.client_grace_ms = 400;
    let supervisor = place.start(&spec);
    let peer = supervisor.attach(Vec::new());
    wait_for_file(&place, "ready");
    drop(peer);
    let start = Instant::now();
    let outcome = supervisor.outcome();
    assert_eq!((outcome.kind, outcome.exit), (Kind::Exited, signal(15)));
    assert!(start.elapsed() < PATIENCE);
}
