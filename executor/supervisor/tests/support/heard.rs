//! What a client of a step is told.

use std::collections::BTreeMap;

use executor_supervisor::frame::{ALL_RANKS, Frame, Position, Stream};
use executor_supervisor::outcome::{Exit, Outcome};

use super::{Peer, Supervisor};

/// Everything that a client is told until the end, acknowledged as it comes.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) bytes: BTreeMap<(u32, u8), Vec<u8>>,
    pub(crate) exits: BTreeMap<u32, Exit>,
    pub(crate) notes: Vec<String>,
    pub(crate) ended: bool,
}

fn key(position: &Position) -> (u32, u8) {
    (position.rank, if position.stream == Stream::Output { 1 } else { 2 })
}

impl Heard {
    /// Takes one frame. False at the end.
    pub(crate) fn take(&mut self, peer: &mut Peer) -> bool {
        match peer.next() {
            Some(Frame::Data { position, bytes }) => {
                let known = self.bytes.entry(key(&position)).or_default();
                assert_eq!(position.offset, known.len() as u64, "no gap and no repetition");
                known.extend(&bytes);
                let offset = known.len() as u64;
                peer.send(&Frame::Ack { position: Position { offset, ..position } });
            }
            Some(Frame::Close { position }) => peer.send(&Frame::Ack { position }),
            Some(Frame::Exited { rank, exit, .. }) => {
                self.exits.insert(rank, exit);
            }
            Some(Frame::Note { text, .. }) => self.notes.push(text),
            Some(Frame::Ended) => {
                self.ended = true;
                peer.send(&Frame::Leave);
            }
            Some(Frame::Welcome { .. } | Frame::Ack { .. }) => {}
            Some(other) => panic!("{other:?}"),
            None => return false,
        }
        true
    }

    pub(crate) fn all(mut self, peer: &mut Peer) -> Self {
        while self.take(peer) {}
        self
    }

    pub(crate) fn text(&self, rank: u32, stream: u8) -> String {
        String::from_utf8(self.bytes.get(&(rank, stream)).cloned().unwrap_or_default()).unwrap()
    }
}

pub(crate) fn input(offset: u64) -> Position {
    Position { rank: ALL_RANKS, stream: Stream::Input, offset }
}

pub(crate) fn finish(supervisor: Supervisor, peer: &mut Peer) -> (Heard, Outcome) {
    let heard = Heard::default().all(peer);
    assert!(heard.ended);
    (heard, supervisor.outcome())
}
