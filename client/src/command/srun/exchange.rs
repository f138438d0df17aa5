//! Where the nodes of a step meet: parts of a fence are put together, questions are passed on. Pure.
//!
//! Parts are held until every node that takes part has sent one; then each of them gets all. What is in them
//! is not looked at. A node whose tasks have begun to leave can send no further part: a fence that would wait for one is the
//! end of the step.

use std::collections::BTreeMap;

use executor_supervisor::exchange::{Decoder, Message};

/// What follows from bytes of a node.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// For these nodes.
    pub messages: Vec<(usize, Vec<u8>)>,
    /// The step is to be ended, for this reason.
    pub abort: Option<String>,
}

struct Node {
    decoder: Decoder,
    left: bool,
    /// It has sent what is none; nothing more is taken from it.
    broken: bool,
}

/// A fence that waits for parts.
struct Fence {
    nodes: Vec<usize>,
    parts: BTreeMap<usize, Vec<u8>>,
}

/// See the module comment.
pub(super) struct Hub {
    nodes: Vec<Node>,
    fences: BTreeMap<Vec<u8>, Fence>,
    aborted: bool,
}

impl Hub {
    /// For a step of so many nodes.
    pub(super) fn new(nodes: usize) -> Self {
        let node = |_| Node { decoder: Decoder::default(), left: false, broken: false };
        Self { nodes: (0..nodes).map(node).collect(), fences: BTreeMap::new(), aborted: false }
    }

    /// Takes bytes of a node's exchange stream.
    pub(super) fn take(&mut self, node: usize, bytes: &[u8]) -> Said {
        let mut said = Said::default();
        if self.nodes[node].broken {
            return said;
        }
        self.nodes[node].decoder.push(bytes);
        loop {
            match self.nodes[node].decoder.next_message() {
                Ok(Some(message)) => self.obey(node, message, &mut said),
                Ok(None) => break,
                Err(error) => {
                    self.nodes[node].broken = true;
                    self.abort(&mut said, format!("what node {node} of the step tells the others {error}"));
                    break;
                }
            }
        }
        said
    }

    fn obey(&mut self, from: usize, message: Message, said: &mut Said) {
        match message {
            Message::Part { fence, nodes, bytes } => self.part(from, fence, &nodes, bytes, said),
            Message::Left => {
                self.nodes[from].left = true;
                self.look_for_the_missing(said);
            }
            Message::Abort { text } => self.abort(said, text),
            Message::Ask { node, ticket, bytes } => {
                self.pass_on(from, node, said, |node| Message::Ask { node, ticket, bytes });
            }
            Message::Answer { node, ticket, bytes } => {
                self.pass_on(from, node, said, |node| Message::Answer { node, ticket, bytes });
            }
            Message::Whole { .. } => self.abort(said, "a node spoke out of turn".to_owned()),
        }
    }

    fn part(&mut self, from: usize, name: Vec<u8>, nodes: &[u32], bytes: Vec<u8>, said: &mut Said) {
        let all = || (0..self.nodes.len()).collect();
        let nodes: Vec<usize> =
            if nodes.is_empty() { all() } else { nodes.iter().map(|node| *node as usize).collect() };
        if nodes.iter().any(|node| *node >= self.nodes.len()) || !nodes.contains(&from) {
            return self.abort(said, "a fence of nodes that the step has not".to_owned());
        }
        let fence = self.fences.entry(name.clone()).or_insert(Fence { nodes, parts: BTreeMap::new() });
        fence.parts.insert(from, bytes);
        if fence.nodes.iter().all(|node| fence.parts.contains_key(node)) {
            if let Some(Fence { nodes, mut parts }) = self.fences.remove(&name) {
                let parts = nodes.iter().map(|node| parts.remove(node).unwrap_or_default()).collect();
                let bytes = Message::Whole { fence: name, parts }.to_bytes();
                said.messages.extend(nodes.iter().map(|node| (*node, bytes.clone())));
            }
        } else {
            self.look_for_the_missing(said);
        }
    }

    fn pass_on(&self, from: usize, to: u32, said: &mut Said, message: impl FnOnce(u32) -> Message) {
        let to = to as usize;
        // Whoever asks for what is not there waits for the step's end, as with any question without an answer.
        if to < self.nodes.len() {
            let from = u32::try_from(from).unwrap_or(u32::MAX);
            said.messages.push((to, message(from).to_bytes()));
        }
    }

    /// A fence whose missing part can never come.
    fn look_for_the_missing(&mut self, said: &mut Said) {
        let missing = |fence: &Fence| {
            let waits = fence.nodes.iter().filter(|node| !fence.parts.contains_key(node));
            waits.copied().find(|node| self.nodes[*node].left)
        };
        if let Some(node) = self.fences.values().find_map(missing) {
            self.abort(
                said,
                format!("tasks wait in a fence for one of node {node} of the step that has left"),
            );
        }
    }

    /// Said once: what follows is the same end.
    fn abort(&mut self, said: &mut Said, reason: String) {
        if !self.aborted {
            self.aborted = true;
            said.abort = Some(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(fence: u8, nodes: &[u32], bytes: &[u8]) -> Vec<u8> {
        Message::Part { fence: vec![fence], nodes: nodes.to_vec(), bytes: bytes.to_vec() }.to_bytes()
    }

    #[test]
    fn a_fence_is_one_message_from_each_node_and_one_to_each() {
        let mut hub = Hub::new(3);
        assert_eq!(hub.take(1, &part(1, &[], b"one")), Said::default());
        // Some fences are for some.
        assert_eq!(hub.take(0, &part(9, &[2, 0], b"x")), Said::default());
        let said = hub.take(2, &part(9, &[2, 0], b"y"));
        let whole = |fence: u8, parts: &[&[u8]]| {
            let parts = parts.iter().map(|part| part.to_vec()).collect();
            Message::Whole { fence: vec![fence], parts }.to_bytes()
        };
        assert_eq!(said.messages, [(2, whole(9, &[b"y", b"x"])), (0, whole(9, &[b"y", b"x"]))]);
        assert_eq!(hub.take(0, &part(1, &[], b"zero")), Said::default());
        let bytes = part(1, &[], b"two");
        assert_eq!(hub.take(2, &bytes[..5]), Said::default());
        let said = hub.take(2, &bytes[5..]);
        let expected = whole(1, &[b"zero", b"one", b"two"]);
        assert_eq!(said.messages, [(0, expected.clone()), (1, expected.clone()), (2, expected)]);
        assert_eq!(said.abort, None);
    }

    #[test]
    fn what_cannot_come_ends_the_step_once() {
        let mut hub = Hub::new(2);
        assert_eq!(hub.take(1, &Message::Left.to_bytes()), Said::default());
        assert!(hub.take(0, &part(1, &[], b"")).abort.is_some());
        assert!(hub.take(0, &Message::Abort { text: "no".to_owned() }.to_bytes()).abort.is_none());
        let mut hub = Hub::new(2);
        assert!(hub.take(0, &part(1, &[], b"")).abort.is_none());
        assert!(hub.take(1, &Message::Left.to_bytes()).abort.is_some());
        for bad in [part(1, &[0, 7], b""), part(1, &[1], b""), vec![1, 0, 0, 0, 99], vec![255; 4]] {
            assert!(Hub::new(2).take(0, &bad).abort.is_some(), "{bad:?}");
        }
    }

    #[test]
    fn questions_find_their_node() {
        let mut hub = Hub::new(2);
        let ask = |node| Message::Ask { node, ticket: 4, bytes: b"q".to_vec() }.to_bytes();
        assert_eq!(hub.take(0, &ask(1)).messages, [(1, ask(0))]);
        let answer = |node| Message::Answer { node, ticket: 4, bytes: b"a".to_vec() }.to_bytes();
        assert_eq!(hub.take(1, &answer(0)).messages, [(0, answer(1))]);
        assert_eq!(hub.take(0, &ask(8)), Said::default());
    }
}
