//! What the tasks used.

use std::fs;

use executor_supervisor::frame::Frame;
use executor_supervisor::spec::Stdio;

use crate::support::{Place, eventually};

/// What holds 50 MB and waits for a file, in the task of rank 1 only.
const HOLDS_MEMORY: &str = "[ $RANK = 0 ] || head -c 50000000 /dev/zero | tail -c 50000000 | \
    sh -c 'until [ -e go ]; do sleep 0.02; done'; until [ -e go ]; do sleep 0.02; done";

#[test]
fn the_task_with_the_most_is_named() {
    let place = Place::new("account");
    let mut spec = place.step(2, HOLDS_MEMORY);
    spec.cookie = Vec::new();
    for task in &mut spec.tasks {
        (task.stdin, task.stdout, task.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
    }
    let supervisor = place.start(&spec);
    let account = eventually("rank 1 to hold its memory", || match supervisor.command(&Frame::AskAccount) {
        Frame::Account(account) => Some(account).filter(|account| account.rss.most > 45_000_000),
        other => panic!("{other:?}"),
    });
    assert_eq!((account.rss.rank, account.virtual_memory.rank), (1, 1), "{account:?}");
    assert!(account.rss.total > account.rss.most, "the other one has some too: {account:?}");
    assert!(account.virtual_memory.most >= account.rss.most, "{account:?}");
    fs::write(place.work("go"), "").unwrap();
    let outcome = supervisor.outcome();
    assert_eq!((outcome.account.rss.rank, outcome.max_rss_bytes), (1, outcome.account.rss.most));
    assert!(outcome.account.rss.most >= account.rss.most, "{outcome:?}");
}

#[test]
fn tasks_are_looked_at_on_a_timer() {
    for (sample_ms, looked) in [(20, true), (0, false)] {
        let place = Place::new("sample");
        let mut spec = place.batch("sleep 0.3");
        spec.sample_ms = sample_ms;
        let outcome = place.end(&spec);
        assert_eq!(outcome.account.virtual_memory.most > 0, looked, "{sample_ms}: {outcome:?}");
        assert!(outcome.account.rss.most > 0, "the kernel keeps that of single processes");
    }
}
