//! topology.conf: the switches of a tree, or the blocks, that nodes are connected by.
//!
//! Owns what the file says and whether it makes sense: a node or switch stands in one place, a tree has no
//! loop, sizes of blocks are multiples of each other. Contradictions are errors with file and line.

use super::lex::{self, Place, Reader};
use super::{Error, Notice, SlurmConf};
use crate::hostlist;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// How nodes are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plugin {
    /// topology/tree.
    Tree,
    /// topology/block.
    Block,
}

/// A switch with what hangs below it, or a block of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Name.
    pub name: Box<str>,
    /// Nodes directly on it, expanded, in order.
    pub nodes: Vec<Box<str>>,
    /// Switches below it.
    pub switches: Vec<Box<str>>,
    /// 0 for what nodes are on; one more than the highest below it.
    pub level: u32,
    /// LinkSpeed, as written; shown, not used.
    pub link_speed: u32,
    /// Where the line stands.
    pub place: Place,
}

/// All of topology.conf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Tree or blocks.
    pub plugin: Plugin,
    /// Only jobs that ask for `--switches` are placed by it (TopologyParam=TopoOptional).
    pub optional: bool,
    /// Units in the order of the file.
    pub units: Vec<Unit>,
    /// Nodes of a block, then of two blocks together and so on, ascending; blocks alone.
    pub block_sizes: Vec<u32>,
    /// For each node the way to it from the top: `spine.leaf1`, `block1`. Nodes that are not named are missing.
    pub ways: BTreeMap<Box<str>, Box<str>>,
    /// What the administrator should know.
    pub notices: Vec<Notice>,
}

const TREE_KEYS: &[&str] = &["SwitchName", "Switches", "Nodes", "LinkSpeed"];
const BLOCK_KEYS: &[&str] = &["BlockName", "Nodes", "BlockSizes"];

impl Topology {
    /// Reads topology.conf beside `slurm_conf` where its TopologyPlugin asks for one; `None` where it does not.
    ///
    /// # Errors
    /// A plugin that is not built, a file that cannot be read, and all that [`Topology::parse`] refuses; each with file and
    /// line.
    pub fn beside(
        conf: &SlurmConf,
        slurm_conf: &Path,
        read: Reader<'_>,
    ) -> Result<Option<Topology>, Vec<String>> {
        let wrong = |message: String| match conf.settings.place("TopologyPlugin") {
            Some(place) => vec![place.error(message).to_string()],
            None => vec![format!("{}: {message}", slurm_conf.display())],
        };
        let asked = conf.settings.text("TopologyPlugin").unwrap_or_default().to_ascii_lowercase();
        let plugin = match asked.as_str() {
            "topology/tree" => Plugin::Tree,
            "topology/block" => Plugin::Block,
            "topology/3d_torus" => return Err(wrong(format!("{asked} is not supported"))),
            _ => return Ok(None),
        };
        let path = slurm_conf.with_file_name("topology.conf");
        let text = read(&path).map_err(|why| wrong(format!("{asked} needs its file: {why}")))?;
        let parameters = conf.settings.text("TopologyParam").unwrap_or_default();
        let optional = parameters.split(',').any(|word| word.eq_ignore_ascii_case("TopoOptional"));
        let known = conf.nodes.iter().map(|node| node.name.clone()).collect();
        let topology = Topology::parse(&text, &path, plugin, optional, &known, read);
        topology.map(Some).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    /// Reads topology.conf for a plugin. `known` says which nodes slurm.conf names.
    ///
    /// # Errors
    /// All that contradicts itself or names what is not there, with file and line.
    pub fn parse(
        text: &str,
        path: &Path,
        plugin: Plugin,
        optional: bool,
        known: &BTreeSet<Box<str>>,
        read: Reader<'_>,
    ) -> Result<Topology, Vec<Error>> {
        let mut errors = Vec::new();
        let mut topology = Topology {
            plugin,
            optional,
            units: Vec::new(),
            block_sizes: Vec::new(),
            ways: BTreeMap::new(),
            notices: Vec::new(),
        };
        for line in lex::lines(text, path, read, &mut errors) {
            if let Err(message) = topology.line(&line, known) {
                errors.push(line.place.error(message));
            }
        }
        topology.check_names(&mut errors);
        if errors.is_empty() {
            match plugin {
                Plugin::Tree => topology.raise(&mut errors),
                Plugin::Block => topology.check_blocks(path, &mut errors),
            }
        }
        if errors.is_empty() {
            topology.find_ways();
            let missing: Vec<&str> =
                known.iter().filter(|node| !topology.ways.contains_key(*node)).map(|node| &**node).collect();
            if let (Some(first), Some(unit)) = (missing.first(), topology.units.first()) {
                let message = format!(
                    "{} nodes stand in no switch or block, {first} first: no job spans them",
                    missing.len()
                );
                topology.notices.push(Notice { place: unit.place.clone(), message });
            }
            return Ok(topology);
        }
        Err(errors)
    }

    fn line(&mut self, line: &lex::Line, known: &BTreeSet<Box<str>>) -> Result<(), String> {
        let keys = match self.plugin {
            Plugin::Tree => TREE_KEYS,
            Plugin::Block => BLOCK_KEYS,
        };
        let stray = |(key, _): &&(String, String)| !keys.iter().any(|name| name.eq_ignore_ascii_case(key));
        if let Some((key, _)) = line.pairs.iter().find(stray) {
            return Err(format!("unrecognized key: {key}"));
        }
        let get = |name: &str| {
            line.pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
        };
        let list = |name: &str| -> Result<Vec<Box<str>>, String> {
            let text = get(name).unwrap_or_default();
            let names = hostlist::expand(text).map_err(|error| format!("{name}={text}: {error}"))?;
            Ok(names.into_iter().map(Into::into).collect())
        };
        if let Some(sizes) = get("BlockSizes") {
            self.block_sizes = sizes
                .split(',')
                .map(|size| size.parse().ok().filter(|&size| size > 0))
                .collect::<Option<_>>()
                .ok_or_else(|| format!("BlockSizes={sizes} is not a list of numbers of nodes"))?;
            return Ok(());
        }
        let name = get("SwitchName").or(get("BlockName")).ok_or("a line names no switch and no block")?;
        let (nodes, switches) = (list("Nodes")?, list("Switches")?);
        match (nodes.is_empty(), switches.is_empty()) {
            (true, true) => return Err(format!("{name} has neither nodes nor switches")),
            (false, false) => return Err(format!("{name} has both nodes and switches")),
            _ => {}
        }
        if let Some(node) = nodes.iter().find(|node| !known.contains(*node)) {
            return Err(format!("{name} names node {node}, which slurm.conf does not"));
        }
        let link_speed = match get("LinkSpeed") {
            Some(text) => text.parse().map_err(|_| format!("LinkSpeed={text} is not a number"))?,
            None => 1,
        };
        let place = line.place.clone();
        for name in hostlist::expand(name).map_err(|error| format!("{name}: {error}"))? {
            self.units.push(Unit {
                name: name.into(),
                nodes: nodes.clone(),
                switches: switches.clone(),
                level: 0,
                link_speed,
                place: place.clone(),
            });
        }
        Ok(())
    }

    /// Every unit has a name of its own, every node and switch one place, every switch exists.
    fn check_names(&self, errors: &mut Vec<Error>) {
        let mut names = BTreeSet::new();
        for unit in &self.units {
            if !names.insert(&unit.name) {
                errors.push(unit.place.error(format!("{} is defined twice", unit.name)));
            }
        }
        let (mut nodes, mut switches) = (BTreeMap::new(), BTreeMap::new());
        for unit in &self.units {
            for node in &unit.nodes {
                if let Some(other) = nodes.insert(node, &unit.name) {
                    errors.push(unit.place.error(format!("node {node} is in {other} and in {}", unit.name)));
                }
            }
            for below in &unit.switches {
                if !names.contains(below) {
                    errors.push(unit.place.error(format!("{} names {below}, which is no switch", unit.name)));
                }
                if let Some(other) = switches.insert(below, &unit.name) {
                    let message = format!("switch {below} is below {other} and below {}", unit.name);
                    errors.push(unit.place.error(message));
                }
            }
        }
    }

    /// Gives each switch its level; a switch below itself has none.
    fn raise(&mut self, errors: &mut Vec<Error>) {
        let mut levels: BTreeMap<Box<str>, u32> = BTreeMap::new();
        loop {
            let known = levels.len();
            for unit in &self.units {
                let below: Option<Vec<u32>> =
                    unit.switches.iter().map(|name| levels.get(name).copied()).collect();
                if let Some(below) = below {
                    levels.insert(unit.name.clone(), below.iter().max().map_or(0, |level| level + 1));
                }
            }
            if levels.len() == known {
                break;
            }
        }
        for unit in &mut self.units {
            match levels.get(&unit.name) {
                Some(level) => unit.level = *level,
                None => errors.push(unit.place.error(format!("{} is below itself", unit.name))),
            }
        }
    }

    fn check_blocks(&mut self, path: &Path, errors: &mut Vec<Error>) {
        let largest = self.units.iter().map(|unit| unit.nodes.len()).max().unwrap_or(0);
        let place = self
            .units
            .first()
            .map_or(Place { file: std::sync::Arc::from(path), line: 1 }, |unit| unit.place.clone());
        let base = u32::try_from(largest).unwrap_or(u32::MAX);
        if self.block_sizes.is_empty() {
            self.block_sizes.push(base.max(1));
        }
        self.block_sizes.sort_unstable();
        let sizes = &self.block_sizes;
        if let Some(unit) = self.units.iter().find(|unit| unit.nodes.len() > sizes[0] as usize) {
            let message =
                format!("{} has more nodes than the smallest of BlockSizes, {}", unit.name, sizes[0]);
            errors.push(unit.place.error(message));
        }
        let factor = |size: &u32| size.is_multiple_of(sizes[0]) && (size / sizes[0]).is_power_of_two();
        if let Some(size) = sizes.iter().find(|size| !factor(size)) {
            let message = format!("BlockSizes: {size} is not {} times a power of two", sizes[0]);
            errors.push(place.error(message));
        }
    }

    fn find_ways(&mut self) {
        let mut above: BTreeMap<&str, &str> = BTreeMap::new();
        for unit in &self.units {
            above.extend(unit.switches.iter().map(|below| (&**below, &*unit.name)));
        }
        let mut ways = BTreeMap::new();
        for unit in &self.units {
            let mut way = vec![&*unit.name];
            while let Some(next) = above.get(way[way.len() - 1]) {
                way.push(next);
            }
            way.reverse();
            let way: Box<str> = way.join(".").into();
            ways.extend(unit.nodes.iter().map(|node| (node.clone(), way.clone())));
        }
        self.ways = ways;
    }

    /// SLURM_TOPOLOGY_ADDR of a node, and its pattern.
    #[must_use]
    pub fn address(&self, node: &str) -> (String, String) {
        let Some(way) = self.ways.get(node) else { return (node.to_owned(), "node".to_owned()) };
        let word = match self.plugin {
            Plugin::Tree => "switch.",
            Plugin::Block => "block.",
        };
        (format!("{way}.{node}"), word.repeat(way.split('.').count()) + "node")
    }

    /// All nodes at or below a unit, in the order of the file.
    #[must_use]
    pub fn nodes_below<'a>(&'a self, unit: &'a Unit) -> Vec<&'a str> {
        let mut nodes: Vec<&str> = unit.nodes.iter().map(|node| &**node).collect();
        for below in &unit.switches {
            if let Some(below) = self.units.iter().find(|one| one.name == *below) {
                nodes.extend(self.nodes_below(below));
            }
        }
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, plugin: Plugin) -> Result<Topology, Vec<String>> {
        let known = hostlist::expand("n[0-7]").unwrap().into_iter().map(Into::into).collect();
        let mut nothing = |_: &Path| Err("no file".to_owned());
        Topology::parse(text, Path::new("t"), plugin, false, &known, &mut nothing)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_tree_has_levels_and_ways() {
        let text =
            "SwitchName=a Nodes=n[0-3]\nSwitchName=b Nodes=n[4-6]\nSwitchName=top Switches=a,b LinkSpeed=9\n";
        let tree = read(text, Plugin::Tree).unwrap();
        assert_eq!(tree.units.iter().map(|unit| unit.level).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(&*tree.ways["n4"], "top.b");
        assert_eq!(tree.address("n4"), ("top.b.n4".to_owned(), "switch.switch.node".to_owned()));
        assert_eq!(tree.address("n7"), ("n7".to_owned(), "node".to_owned()));
        assert_eq!(tree.nodes_below(&tree.units[2]).len(), 7);
        assert!(tree.notices[0].message.contains("n7 first"), "{:?}", tree.notices);
    }

    #[test]
    fn blocks_have_sizes() {
        let blocks =
            read("BlockName=b[1-1] Nodes=n[0-3]\nBlockName=b2 Nodes=n[4-7]\nBlockSizes=4,8\n", Plugin::Block);
        let blocks = blocks.unwrap();
        assert_eq!(blocks.block_sizes, [4, 8]);
        assert_eq!(blocks.address("n5").0, "b2.n5");
    }

    #[test]
    fn contradictions_are_refused_with_their_lines() {
        for (text, plugin, expected) in [
            ("SwitchName=a Nodes=n0\nSwitchName=b Nodes=n0", Plugin::Tree, "t:2: node n0 is in a and in b"),
            ("SwitchName=a Nodes=n0\nSwitchName=a Nodes=n1", Plugin::Tree, "t:2: a is defined twice"),
            ("SwitchName=a Switches=b", Plugin::Tree, "t:1: a names b, which is no switch"),
            ("SwitchName=a Switches=b\nSwitchName=b Switches=a", Plugin::Tree, "t:1: a is below itself"),
            ("SwitchName=a Nodes=x1", Plugin::Tree, "t:1: a names node x1, which slurm.conf does not"),
            ("SwitchName=a", Plugin::Tree, "t:1: a has neither nodes nor switches"),
            ("SwitchName=a Nodes=n0 Switches=b", Plugin::Tree, "t:1: a has both nodes and switches"),
            ("SwitchName=a Nodes=n0 Color=red", Plugin::Tree, "t:1: unrecognized key: Color"),
            (
                "BlockName=a Nodes=n[0-3]\nBlockSizes=2",
                Plugin::Block,
                "t:1: a has more nodes than the smallest of BlockSizes, 2",
            ),
            (
                "BlockName=a Nodes=n[0-3]\nBlockSizes=4,12",
                Plugin::Block,
                "t:1: BlockSizes: 12 is not 4 times a power of two",
            ),
            ("SwitchName=a Nodes=n0", Plugin::Block, "t:1: unrecognized key: SwitchName"),
        ] {
            assert_eq!(read(text, plugin).unwrap_err()[0], expected, "{text}");
        }
    }
}
