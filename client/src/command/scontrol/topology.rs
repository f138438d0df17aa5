//! `scontrol show topology [NAME]`: the switches or blocks, or those above a node.

use proto::v1::{ShowTopologyReply, ShowTopologyRequest, TopologyUnit};

use super::Session;
use crate::api::Error;
use crate::say;

/// Shows all units, the one of that name, or those that a node is below.
pub(super) async fn show(session: &mut Session, wanted: Option<&str>) {
    let answer = match session.client().await {
        Ok(client) => client.raw().show_topology(ShowTopologyRequest {}).await.map_err(Error::Failed),
        Err(error) => Err(error),
    };
    let reply = match answer {
        Ok(reply) => reply.into_inner(),
        Err(error) => return session.fail_call("slurm_load_topo", &error),
    };
    // Without a topology Slurm prints nothing.
    if reply.units.is_empty() {
        return;
    }
    let lines = lines(&reply, wanted);
    match (lines.is_empty(), wanted) {
        (true, Some(name)) => {
            session.fail(format!("Topology information contains no switch, block or node named {name}"));
        }
        _ => say::out(lines),
    }
}

fn lines(reply: &ShowTopologyReply, wanted: Option<&str>) -> String {
    let names = |nodes: &[String]| model::hostlist::compress(nodes);
    let is_wanted = |unit: &&TopologyUnit| {
        wanted.is_none_or(|name| unit.name == name || unit.nodes.iter().any(|node| node == name))
    };
    let units = reply.units.iter().enumerate().filter(|(_, unit)| is_wanted(unit));
    let Some((&base, larger)) = reply.block_sizes.split_first() else {
        let line = |(_, unit): (usize, &TopologyUnit)| {
            let below =
                if unit.switches.is_empty() { String::new() } else { format!(" Switches={}", unit.switches) };
            let TopologyUnit { name, level, link_speed, nodes, .. } = unit;
            format!("SwitchName={name} Level={level} LinkSpeed={link_speed} Nodes={}{below}\n", names(nodes))
        };
        return units.map(line).collect();
    };
    let block = |(at, unit): (usize, &TopologyUnit)| {
        format!("BlockName={} BlockIndex={at} Nodes={} BlockSize={base}\n", unit.name, names(&unit.nodes))
    };
    let mut text: String = units.map(block).collect();
    if wanted.is_some() {
        return text;
    }
    let mut index = reply.units.len();
    for &size in larger {
        for aggregate in reply.units.chunks((size / base.max(1)).max(1) as usize) {
            let blocks: Vec<String> = aggregate.iter().map(|unit| unit.name.clone()).collect();
            let nodes: Vec<String> = aggregate.iter().flat_map(|unit| unit.nodes.clone()).collect();
            let (blocks, nodes) = (names(&blocks), names(&nodes));
            text += &format!("AggregatedBlock={blocks} BlockIndex={index} Nodes={nodes} BlockSize={size}\n");
            index += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, level: u32, nodes: &[&str], switches: &str) -> TopologyUnit {
        let nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        TopologyUnit { name: name.into(), level, link_speed: 1, nodes, switches: switches.into() }
    }

    #[test]
    fn trees_and_blocks_are_shown_as_slurm_does() {
        let tree = ShowTopologyReply {
            units: vec![unit("a", 0, &["n1", "n2"], ""), unit("t", 1, &["n1", "n2", "n3"], "a,b")],
            block_sizes: Vec::new(),
        };
        let expected = "SwitchName=a Level=0 LinkSpeed=1 Nodes=n[1-2]\n\
                        SwitchName=t Level=1 LinkSpeed=1 Nodes=n[1-3] Switches=a,b\n";
        assert_eq!(lines(&tree, None), expected);
        assert!(lines(&tree, Some("n3")).starts_with("SwitchName=t"));
        assert_eq!(lines(&tree, Some("x")), "");
        let blocks = ShowTopologyReply {
            units: vec![unit("b1", 0, &["n1", "n2"], ""), unit("b2", 0, &["n3", "n4"], "")],
            block_sizes: vec![2, 4],
        };
        let expected = "BlockName=b1 BlockIndex=0 Nodes=n[1-2] BlockSize=2\n\
                        BlockName=b2 BlockIndex=1 Nodes=n[3-4] BlockSize=2\n\
                        AggregatedBlock=b[1-2] BlockIndex=2 Nodes=n[1-4] BlockSize=4\n";
        assert_eq!(lines(&blocks, None), expected);
    }
}
