//! Whole outputs of the conformance cluster, from hand-made answers.

use super::*;

fn node(name: &str, features: &str) -> Node {
    Node {
        name: name.to_owned(),
        state: "IDLE".to_owned(),
        cpus: 8,
        sockets: 2,
        cores_per_socket: 4,
        threads_per_core: 1,
        memory_mib: 8000,
        weight: 1,
        features: features.split(',').map(str::to_owned).collect(),
        ..Node::default()
    }
}

fn partition(name: &str, nodes: &str, max_time_s: i64) -> Partition {
    Partition {
        name: name.to_owned(),
        state: "UP".to_owned(),
        is_default: name == "debug",
        node_names: hostlist::expand(nodes).unwrap(),
        max_time_ms: if max_time_s < 0 { -1 } else { max_time_s * 1000 },
        ..Partition::default()
    }
}

fn check(asked: &Asked, nodes: &[Node], expected: &str) {
    let partitions = [partition("debug", "c[1-4]", 600), partition("gpu", "g[1-2]", -1)];
    let format = match &asked.format {
        Some(format) => table::parse_letters(format, &FIELDS),
        None => table::parse_letters(&default_format(asked, 9, 9), &FIELDS),
    };
    let nodes: Vec<Node> = nodes.iter().filter(|node| is_wanted(asked, node)).cloned().collect();
    let mut rows = group(asked, &partitions, &nodes, &format);
    sort(&mut rows, asked.sort.as_deref().unwrap_or(if asked.node_mode { "N,#P" } else { "#P,-t" }));
    let mut out = table::header(&format.columns).trim_end().to_owned() + "\n";
    rows.iter()
        .for_each(|row| out.push_str(&(table::line(&format.columns, row).trim_end().to_owned() + "\n")));
    assert_eq!(out, expected);
}

fn cluster() -> Vec<Node> {
    let mut nodes =
        vec![node("c1", "intel,ib"), node("c2", "intel,ib"), node("c3", "amd"), node("c4", "amd")];
    nodes.extend([node("g1", "gpu"), node("g2", "gpu")]);
    nodes
}

#[test]
fn default_lines() {
    check(
        &Asked::default(),
        &cluster(),
        "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n\
         debug*       up      10:00      4   idle c[1-4]\n\
         gpu          up   infinite      2   idle g[1-2]\n",
    );
}

#[test]
fn summary_and_empty_partitions() {
    let asked = Asked { summary: true, nodes: Some(vec!["c1".to_owned()]), ..Asked::default() };
    check(
        &asked,
        &cluster(),
        "PARTITION AVAIL  TIMELIMIT   NODES(A/I/O/T) NODELIST\n\
         debug*       up      10:00          0/1/0/1 c1\n\
         gpu          up   infinite          0/0/0/0\n",
    );
    let asked = Asked { nodes: Some(vec!["c1".to_owned()]), ..Asked::default() };
    check(
        &asked,
        &cluster(),
        "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n\
         debug*       up      10:00      1   idle c1\n\
         gpu          up   infinite      0    n/a\n",
    );
}

#[test]
fn node_lines() {
    check(
        &Asked { node_mode: true, ..Asked::default() },
        &cluster()[2..5],
        "NODELIST   NODES PARTITION STATE\n\
         c3             1    debug* idle\n\
         c4             1    debug* idle\n\
         g1             1       gpu idle\n",
    );
    check(
        &Asked { node_mode: true, long: true, ..Asked::default() },
        &cluster()[..1],
        "NODELIST   NODES PARTITION       STATE CPUS    S:C:T MEMORY TMP_DISK WEIGHT AVAIL_FE REASON\n\
         c1             1    debug*        idle 8       2:4:1   8000        0      1 intel,ib none\n",
    );
}

#[test]
fn drained_nodes_come_first() {
    let mut nodes = cluster();
    nodes[3].drain = true;
    nodes[3].reason = "disk broke".to_owned();
    nodes[3].reason_uid = Some(0);
    check(
        &Asked { partitions: None, ..Asked::default() },
        &nodes[..4],
        "PARTITION AVAIL  TIMELIMIT  NODES  STATE NODELIST\n\
         debug*       up      10:00      1  drain c4\n\
         debug*       up      10:00      3   idle c[1-3]\n\
         gpu          up   infinite      0    n/a\n",
    );
    check(
        &Asked { reasons: true, format: Some("%20E %12U %6t %N".to_owned()), ..Asked::default() },
        &nodes,
        "REASON               USER         STATE  NODELIST\n\
         disk broke           root(0)      drain  c4\n",
    );
}

#[test]
fn widths_and_totals() {
    let asked = |format: &str| Asked { format: Some(format.to_owned()), ..Asked::default() };
    check(
        &asked("[%10P][%.3P]"),
        &cluster()[..4],
        "[PARTITION ][PAR]\n[debug*    ][de*]\n[gpu       ][gpu]\n",
    );
    check(&asked("%C %D"), &cluster(), "CPUS(A/I/O/T) NODES\n0/48/0/48 6\n");
    check(&asked("%f"), &cluster()[..4], "AVAIL_FEATURES\nintel,ib\namd\n");
}

#[test]
fn all_partitions_and_some_are_no_question() {
    let call =
        |words: &[&str]| Call { program: "sinfo".into(), argv: words.iter().map(Into::into).collect() };
    assert_eq!(read(&call(&["-a", "-p", "debug"])).err(), Some(1));
    assert_eq!(
        read(&call(&["-p", "debug"])).ok().and_then(|asked| asked.partitions),
        Some(vec!["debug".into()])
    );
    assert!(read(&call(&["-a"])).is_ok_and(|asked| asked.all && asked.partitions.is_none()));
}
