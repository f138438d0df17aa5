//! Nodes, node sets and partitions from their lines.

use super::lex::Line;
use super::node::{self, NodeConf};
use super::partition::{self, NodeSetConf, PartitionConf};
use super::settings::{Scope, comma_list};
use super::sort::Sorted;
use super::{Error, Notice};
use crate::hostlist;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Checks a line's keys, and lays its values over those of the DEFAULT lines before it.
fn overlay(defaults: &Scope, line: &Line, known: &[&str], errors: &Rc<RefCell<Vec<Error>>>) -> Scope {
    let mut settings = defaults.clone();
    for (key, value) in &line.pairs {
        if known.iter().any(|name| name.eq_ignore_ascii_case(key)) {
            settings.set(key, value, &line.place);
        } else {
            errors.borrow_mut().push(line.place.error(format!("unrecognized key: {key}")));
        }
    }
    settings
}

fn is_default(settings: &Scope, key: &str) -> bool {
    settings.text(key).is_some_and(|name| name.eq_ignore_ascii_case("DEFAULT"))
}

pub(super) fn build_nodes(sorted: &Sorted, errors: &Rc<RefCell<Vec<Error>>>) -> Vec<NodeConf> {
    let mut defaults = Scope::new(errors);
    let mut nodes: Vec<NodeConf> = Vec::new();
    let mut names: BTreeSet<Box<str>> = BTreeSet::new();
    for line in &sorted.nodes {
        let mut settings = overlay(&defaults, line, node::KEYS, errors);
        if is_default(&settings, "NodeName") {
            settings.unset("NodeName");
            defaults = settings;
            continue;
        }
        match node::expand(line, &settings) {
            Ok(made) => {
                for node in made {
                    if !names.insert(node.name.clone()) {
                        errors
                            .borrow_mut()
                            .push(line.place.error(format!("node {} is given twice", node.name)));
                    }
                    nodes.push(node);
                }
            }
            Err(message) => errors.borrow_mut().push(line.place.error(message)),
        }
    }
    for line in &sorted.down {
        apply_down(line, &mut nodes, errors);
    }
    nodes
}

/// `DownNodes=n[1-2] State=DOWN Reason="broken fan"`.
fn apply_down(line: &Line, nodes: &mut [NodeConf], errors: &Rc<RefCell<Vec<Error>>>) {
    let settings = overlay(&Scope::new(errors), line, &["DownNodes", "State", "Reason"], errors);
    let names = match hostlist::expand(settings.text("DownNodes").unwrap_or_default()) {
        Ok(names) => names,
        Err(error) => {
            return errors.borrow_mut().push(line.place.error(format!("invalid DownNodes: {error}")));
        }
    };
    let state = match settings.text("State").map(str::to_ascii_uppercase).as_deref() {
        None | Some("DOWN") => super::NodeStateConf::Down,
        Some("DRAIN") => super::NodeStateConf::Drain,
        Some("FAIL") => super::NodeStateConf::Fail,
        Some("FAILING") => super::NodeStateConf::Failing,
        Some("FUTURE") => super::NodeStateConf::Future,
        Some("UNKNOWN") => super::NodeStateConf::Unknown,
        Some(_) => return settings.fail("State", "not a state for DownNodes"),
    };
    for name in names {
        match nodes.iter_mut().find(|node| *node.name == *name) {
            Some(node) => {
                node.state = state;
                node.reason = Some(settings.text("Reason").unwrap_or("Unknown").into());
            }
            None => errors.borrow_mut().push(line.place.error(format!("DownNodes: there is no node {name}"))),
        }
    }
}

pub(super) fn build_node_sets(lines: &[Line], errors: &Rc<RefCell<Vec<Error>>>) -> Vec<NodeSetConf> {
    let mut sets = Vec::new();
    for line in lines {
        let settings = overlay(&Scope::new(errors), line, &["NodeSet", "Feature", "Nodes"], errors);
        let boxed = |key: &str| settings.text(key).map(Box::from);
        for name in settings.list("NodeSet") {
            let set = NodeSetConf {
                name,
                feature: boxed("Feature"),
                nodes: boxed("Nodes"),
                place: line.place.clone(),
            };
            if set.feature.is_none() && set.nodes.is_none() {
                errors
                    .borrow_mut()
                    .push(line.place.error(format!("NodeSet {} has neither Feature nor Nodes", set.name)));
            }
            sets.push(set);
        }
    }
    sets
}

pub(super) fn build_partitions(
    sorted: &mut Sorted,
    nodes: &[NodeConf],
    sets: &[NodeSetConf],
    errors: &Rc<RefCell<Vec<Error>>>,
) -> Vec<PartitionConf> {
    let known: BTreeSet<&str> = nodes.iter().map(|node| &*node.name).collect();
    let mut defaults = Scope::new(errors);
    let mut partitions: Vec<PartitionConf> = Vec::new();
    for line in &sorted.partitions {
        for (key, value) in &line.pairs {
            if let Some((name, effect)) =
                partition::UNSUPPORTED.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))
            {
                let message = format!("{name}={value} is not supported; it would have given {effect}");
                sorted.notices.push(Notice { place: line.place.clone(), message });
            }
        }
        let mut settings = overlay(&defaults, line, partition::KEYS, errors);
        if is_default(&settings, "PartitionName") {
            settings.unset("PartitionName");
            defaults = settings;
            continue;
        }
        let mut made = partition::build(line, &settings);
        match resolve_nodes(&made.nodes_text, nodes, &known, sets) {
            Ok(members) => made.nodes = members,
            Err(message) => {
                errors.borrow_mut().push(line.place.error(format!("partition {}: {message}", made.name)));
            }
        }
        for name in comma_list(&made.name.clone()) {
            if partitions.iter().any(|other| other.name == name) {
                errors.borrow_mut().push(line.place.error(format!("partition {name} is given twice")));
            }
            partitions.push(PartitionConf { name, ..made.clone() });
        }
    }
    // Of several defaults the last one counts, as in Slurm.
    if let Some(last) = partitions.iter().rposition(|partition| partition.default) {
        partitions.iter_mut().enumerate().for_each(|(at, partition)| partition.default = at == last);
    }
    partitions
}

/// The members of a partition: `ALL`, node sets and hostlists, in order, without repeats.
fn resolve_nodes(
    text: &str,
    nodes: &[NodeConf],
    known: &BTreeSet<&str>,
    sets: &[NodeSetConf],
) -> Result<Vec<Box<str>>, String> {
    let mut seen: BTreeSet<Box<str>> = BTreeSet::new();
    let mut members: Vec<Box<str>> = Vec::new();
    let mut add = |name: &str| {
        if seen.insert(name.into()) {
            members.push(name.into());
        }
    };
    for name in hostlist::expand(text).map_err(|error| format!("invalid Nodes: {error}"))? {
        let matching: Vec<&NodeSetConf> = sets.iter().filter(|set| *set.name == *name).collect();
        if name.eq_ignore_ascii_case("ALL") {
            nodes.iter().for_each(|node| add(&node.name));
        } else if matching.is_empty() {
            if !known.contains(name.as_str()) {
                return Err(format!("there is no node {name}"));
            }
            add(&name);
        }
        for set in matching {
            if let Some(feature) = &set.feature {
                nodes.iter().filter(|node| node.features.contains(feature)).for_each(|node| add(&node.name));
            }
            match set.nodes.as_deref() {
                Some(all) if all.eq_ignore_ascii_case("ALL") => nodes.iter().for_each(|node| add(&node.name)),
                Some(list) => {
                    for name in
                        hostlist::expand(list).map_err(|error| format!("NodeSet {}: {error}", set.name))?
                    {
                        if !known.contains(name.as_str()) {
                            return Err(format!("NodeSet {}: there is no node {name}", set.name));
                        }
                        add(&name);
                    }
                }
                None => {}
            }
        }
    }
    Ok(members)
}
