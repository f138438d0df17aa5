//! What `sinfo` and `scontrol` say of a node's state, and how node names are ordered.

use std::cmp::Ordering;

use proto::v1::Node;

/// Whether jobs hold some of it.
pub(crate) fn is_in_use(node: &Node) -> bool {
    matches!(node.state.as_str(), "ALLOCATED" | "MIXED") || node.completing
}

/// Whether it is to be drained and nothing holds it any more.
pub(crate) fn is_drained(node: &Node) -> bool {
    node.drain && !is_in_use(node)
}

/// The one word of a state, long and short, without the mark of a node that does not answer.
fn words(node: &Node) -> (&'static str, &'static str) {
    if node.invalid {
        return ("INVAL", "INVAL");
    }
    if node.maintenance {
        return ("MAINT", "MAINT");
    }
    if node.drain {
        return if is_in_use(node) { ("DRAINING", "DRNG") } else { ("DRAINED", "DRAIN") };
    }
    if node.fail {
        return if is_in_use(node) { ("FAILING", "FAILG") } else { ("FAIL", "FAIL") };
    }
    match node.state.as_str() {
        "DOWN" => ("DOWN", "DOWN"),
        _ if node.power_down => ("POWERED_DOWN", "POW_DN"),
        "ALLOCATED" => ("ALLOCATED", "ALLOC"),
        "FUTURE" => ("FUTURE", "FUTR"),
        "UNKNOWN" => ("UNKNOWN", "UNK"),
        "MIXED" => ("MIXED", "MIX"),
        _ if node.completing => ("COMPLETING", "COMP"),
        "IDLE" if node.reserved => ("RESERVED", "RESV"),
        "IDLE" if node.planned => ("PLANNED", "PLND"),
        "IDLE" => ("IDLE", "IDLE"),
        _ => ("UNKNOWN", "UNK"),
    }
}

fn marked(word: &str, node: &Node) -> String {
    let mark = if node.not_responding { "*" } else { "" };
    format!("{}{mark}", word.to_ascii_lowercase())
}

/// As `sinfo -o %T`.
pub(crate) fn long(node: &Node) -> String {
    marked(words(node).0, node)
}

/// As `sinfo -o %t`.
pub(crate) fn compact(node: &Node) -> String {
    marked(words(node).1, node)
}

/// Base state and flags: `IDLE+DRAIN`, as scontrol shows it.
pub(crate) fn flags(node: &Node, joint: &str) -> String {
    let mut words = vec![if node.state.is_empty() { "UNKNOWN" } else { node.state.as_str() }];
    let flags = [
        (node.completing, "COMPLETING"),
        (node.drain, "DRAIN"),
        (node.invalid, "INVALID_REG"),
        (node.fail, "FAIL"),
        (node.maintenance, "MAINTENANCE"),
        (node.planned, "PLANNED"),
        (node.power_down, "POWERED_DOWN"),
        (node.reserved, "RESERVED"),
        (node.not_responding, "NOT_RESPONDING"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
    words.join(joint)
}

/// A number by which states are ordered, as Slurm's own numbers order them.
pub(crate) fn order(node: &Node) -> u32 {
    let base = match node.state.as_str() {
        "DOWN" => 1,
        "IDLE" => 2,
        "ALLOCATED" => 3,
        "MIXED" => 5,
        "FUTURE" => 6,
        _ => 0,
    };
    let flags = [
        (node.drain, 0x200),
        (node.completing, 0x400),
        (node.not_responding, 0x800),
        (node.power_down, 0x1000),
        (node.fail, 0x2000),
        (node.maintenance, 0x8000),
        (node.invalid, 0x40_0000),
        (node.reserved, 0x20),
    ];
    flags.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum::<u32>() + base
}

/// Orders names by their letters and then by the number at their end.
pub(crate) fn compare_names(a: &str, b: &str) -> Ordering {
    let split = |name: &str| {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (letters, number) = name.split_at(name.len() - digits);
        (letters.to_owned(), number.parse::<u64>().unwrap_or(0))
    };
    split(a).cmp(&split(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_as_slurm_words_them() {
        let idle = Node { state: "IDLE".into(), ..Node::default() };
        let drained = Node { drain: true, ..idle.clone() };
        let draining = Node { state: "MIXED".into(), drain: true, ..idle.clone() };
        let waiting = Node { not_responding: true, ..idle.clone() };
        let all = [&idle, &drained, &draining, &waiting].map(|node| (compact(node), long(node)));
        let expected = [("idle", "idle"), ("drain", "drained"), ("drng", "draining"), ("idle*", "idle*")];
        assert_eq!(all, expected.map(|(short, long)| (short.to_owned(), long.to_owned())));
        assert_eq!(flags(&draining, "+"), "MIXED+DRAIN");
        assert_eq!(compare_names("n9", "n10"), Ordering::Less);
    }
}
