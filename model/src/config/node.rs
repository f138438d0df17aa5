//! NodeName lines: one value for each node after hostlists are expanded, in the order of the file.

use super::lex::{Line, Place};
use super::settings::Scope;
use crate::gres::{self, GresRequest};
use crate::hostlist;
use crate::quantity::{Cpus, MemoryMib};

/// Every attribute of a NodeName line.
pub(super) const KEYS: &[&str] = &[
    "NodeName",
    "NodeHostname",
    "NodeAddr",
    "BcastAddr",
    "Boards",
    "CoreSpecCount",
    "CoresPerSocket",
    "CpuBind",
    "CPUs",
    "CpuSpecList",
    "Feature",
    "Features",
    "Gres",
    "GresConf",
    "MemSpecLimit",
    "Parameters",
    "Port",
    "Procs",
    "RealMemory",
    "Reason",
    "RestrictedCoresPerGPU",
    "Sockets",
    "SocketsPerBoard",
    "State",
    "SuspendTime",
    "ThreadsPerCore",
    "TmpDisk",
    "Topology",
    "TRESWeights",
    "Weight",
];

/// The state that a NodeName line gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeStateConf {
    /// Known to exist; up as soon as it registers.
    #[default]
    Unknown,
    /// Not to be used.
    Down,
    /// Not to be given new jobs.
    Drain,
    /// Down, and about to be removed from service for a hardware cause.
    Fail,
    /// Like fail, jobs may still run.
    Failing,
    /// Not there yet: hidden from the scheduler.
    Future,
    /// Started on demand.
    Cloud,
    /// A slot for an external node.
    External,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConf {
    /// Name that users see.
    pub name: Box<str>,
    /// What the machine calls itself.
    pub hostname: Box<str>,
    /// Where it is reached.
    pub addr: Box<str>,
    /// Port of its daemon; `None`: SlurmdPort.
    pub port: Option<u16>,
    /// CPUs that are scheduled: threads, or cores where the line says as many.
    pub cpus: Cpus,
    /// Boards.
    pub boards: u32,
    /// Sockets in all.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// Threads of a core.
    pub threads_per_core: u32,
    /// Memory.
    pub real_memory: MemoryMib,
    /// Temporary disk space.
    pub tmp_disk: MemoryMib,
    /// Features, in order.
    pub features: Vec<Box<str>>,
    /// Generic resources.
    pub gres: Vec<GresRequest>,
    /// Nodes of low weight are taken first.
    pub weight: u32,
    /// State.
    pub state: NodeStateConf,
    /// Why it is down or drained.
    pub reason: Option<Box<str>>,
    /// Cores kept for the system.
    pub core_spec_count: u32,
    /// CPUs kept for the system, as written.
    pub cpu_spec_list: Option<Box<str>>,
    /// Memory kept for the system.
    pub mem_spec_limit: MemoryMib,
    /// Cores kept for jobs with GPUs, for each GPU.
    pub restricted_cores_per_gpu: u32,
    /// Default binding, as written.
    pub cpu_bind: Option<Box<str>>,
    /// Place in the topology, as written.
    pub topology: Option<Box<str>>,
    /// Where the line stands.
    pub place: Place,
}

/// The nodes of one line, whose settings already hold those of the DEFAULT lines before it.
pub(super) fn expand(line: &Line, settings: &Scope) -> Result<Vec<NodeConf>, String> {
    let names = expand_list(settings.text("NodeName").unwrap_or_default(), "NodeName")?;
    let hostnames = parallel(settings, "NodeHostname", &names)?.unwrap_or_else(|| names.clone());
    let addrs = parallel(settings, "NodeAddr", &names)?.unwrap_or_else(|| hostnames.clone());
    let ports = parallel(settings, "Port", &names)?;
    let shape = Shape::of(settings)?;
    let gres_text = settings.text("Gres").unwrap_or_default();
    let gres = gres::parse_list(gres_text)
        .map_err(|error| format!("invalid value \"{gres_text}\" for Gres: {error}"))?;
    let state = match settings.text("State") {
        Some(text) => parse_state(text).ok_or_else(|| format!("invalid value \"{text}\" for State"))?,
        None => NodeStateConf::Unknown,
    };
    let mut features = settings.list("Feature");
    features.extend(settings.list("Features"));
    let mib = |key| settings.mib(key).flatten();
    let boxed = |key| settings.text(key).map(Box::from);
    let mut nodes = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let port = match &ports {
            Some(ports) => {
                Some(ports[at].parse().map_err(|_| format!("invalid value \"{}\" for Port", ports[at]))?)
            }
            None => None,
        };
        nodes.push(NodeConf {
            name: name.as_str().into(),
            hostname: hostnames[at].as_str().into(),
            addr: addrs[at].as_str().into(),
            port,
            cpus: Cpus(shape.cpus),
            boards: shape.boards,
            sockets: shape.sockets,
            cores_per_socket: shape.cores,
            threads_per_core: shape.threads,
            real_memory: mib("RealMemory").unwrap_or(MemoryMib(1)),
            tmp_disk: mib("TmpDisk").unwrap_or_default(),
            features: features.clone(),
            gres: gres.clone(),
            weight: settings.number("Weight", 1),
            state,
            reason: boxed("Reason"),
            core_spec_count: settings.number("CoreSpecCount", 0),
            cpu_spec_list: boxed("CpuSpecList"),
            mem_spec_limit: mib("MemSpecLimit").unwrap_or_default(),
            restricted_cores_per_gpu: settings.number("RestrictedCoresPerGPU", 0),
            cpu_bind: boxed("CpuBind"),
            topology: boxed("Topology"),
            place: line.place.clone(),
        });
    }
    Ok(nodes)
}

fn expand_list(text: &str, key: &str) -> Result<Vec<String>, String> {
    hostlist::expand(text).map_err(|error| format!("invalid value \"{text}\" for {key}: {error}"))
}

/// A list that goes with the names: as many as these, or one for all.
fn parallel(settings: &Scope, key: &str, names: &[String]) -> Result<Option<Vec<String>>, String> {
    let Some(text) = settings.text(key) else { return Ok(None) };
    let list = expand_list(text, key)?;
    match list.len() {
        len if len == names.len() => Ok(Some(list)),
        1 => Ok(Some(vec![list[0].clone(); names.len()])),
        len => Err(format!("{key} names {len} for {} nodes", names.len())),
    }
}

/// Processors of a node.
struct Shape {
    cpus: u32,
    boards: u32,
    sockets: u32,
    cores: u32,
    threads: u32,
}

impl Shape {
    /// What the line says, with the rest filled in as Slurm does: without a count of CPUs it is the product,
    /// without sockets these make up the CPUs.
    fn of(settings: &Scope) -> Result<Shape, String> {
        let get = |key: &str| settings.number_opt::<u32>(key).filter(|&count| count > 0);
        let cpus = get("CPUs").or(get("Procs"));
        let boards = get("Boards").unwrap_or(1);
        let (cores, threads) = (get("CoresPerSocket").unwrap_or(1), get("ThreadsPerCore").unwrap_or(1));
        if let (Some(sockets), Some(per_board)) = (get("Sockets"), get("SocketsPerBoard")) {
            let agree = per_board.checked_mul(boards) == Some(sockets);
            return if agree {
                Shape::checked(cpus, boards, sockets, cores, threads)
            } else {
                Err(format!("Sockets={sockets} and SocketsPerBoard={per_board} are mutually exclusive"))
            };
        }
        let sockets = match (get("Sockets"), get("SocketsPerBoard"), cpus) {
            (Some(sockets), _, _) => sockets,
            (None, Some(per_board), _) => per_board.saturating_mul(boards),
            (None, None, Some(cpus)) => (cpus / cores.saturating_mul(threads).max(1)).max(1),
            (None, None, None) => boards,
        };
        Shape::checked(cpus, boards, sockets, cores, threads)
    }

    fn checked(
        cpus: Option<u32>,
        boards: u32,
        sockets: u32,
        cores: u32,
        threads: u32,
    ) -> Result<Shape, String> {
        let total_cores = sockets.checked_mul(cores).ok_or("more cores than can be counted")?;
        let total = total_cores.checked_mul(threads).ok_or("more CPUs than can be counted")?;
        match cpus {
            Some(cpus) if cpus != total && cpus != total_cores => Err(format!(
                "CPUs={cpus} match no Sockets, Sockets*CoresPerSocket or Sockets*CoresPerSocket*ThreadsPerCore ({total})"
            )),
            _ => Ok(Shape { cpus: cpus.unwrap_or(total), boards, sockets, cores, threads }),
        }
    }
}

fn parse_state(text: &str) -> Option<NodeStateConf> {
    Some(match text.to_ascii_uppercase().as_str() {
        "UNKNOWN" | "IDLE" | "UP" => NodeStateConf::Unknown,
        "DOWN" => NodeStateConf::Down,
        "DRAIN" | "DRAINED" => NodeStateConf::Drain,
        "FAIL" => NodeStateConf::Fail,
        "FAILING" => NodeStateConf::Failing,
        "FUTURE" => NodeStateConf::Future,
        "CLOUD" => NodeStateConf::Cloud,
        "EXTERNAL" => NodeStateConf::External,
        _ => return None,
    })
}
