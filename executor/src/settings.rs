//! What the executor is told, and what follows from it. Pure: arguments, environment, uid, host name and the text of
//! the configuration arrive as values; reading files is the caller's.

use std::path::{Path, PathBuf};

use model::config::{NodeConf, SlurmConf};
use model::place::{DEFAULT_CONF, Place};

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: sluice-executor [-N NODE] [--conf FILE] [--state DIR] [--supervisor FILE] [--log-json] [-v]
                       [--apptainer FILE] [--container-cache DIR] [--container-cache-mib N]
                       [--metrics-port N]

Runs the jobs of one node. Dials the scheduler, and takes jobs back that outlived an earlier executor.

  -N, --node NODE    name of the node, as in slurm.conf (default: the short host name)
      --conf FILE    slurm.conf to read (default: $SLURM_CONF, then /etc/slurm/slurm.conf if it exists)
      --state DIR    where state is kept (default: sluice inside SlurmdSpoolDir, else /var/lib/sluice,
                     else $XDG_STATE_HOME/sluice)
      --supervisor FILE  the supervisor's program (default: sluice-supervisor beside this one)
      --apptainer FILE       Apptainer's program (default: $SLUICE_APPTAINER, else where a
                             login finds it)
      --container-cache DIR  where converted images are kept (default: beside the run folders)
      --container-cache-mib N    what they may take, in MiB (default: 20480)
      --dcgm-job-mapping DIR  where dcgm-exporter is told which jobs have which GPU
                              (its option --hpc-job-mapping-dir)
      --metrics-port N  answer /metrics, /livez and /readyz on this port of 127.0.0.1
                     (default: ExecutorMetricsPort of sluice.conf, else only on http.sock in
                     the state folder)
      --log-json     log as JSON
  -v, --verbose      say more (debug)
      --hold-cgroup  run no jobs: hold the cgroup of this process, which was delegated to it, for
                     executors that name it in SLUICE_CGROUP (sluice-jobs.service does this)
  -V, --version      print the version and exit
  -h, --help         print this and exit

The scheduler's socket: $SLUICE_SOCKET, else /run/sluice/CLUSTER/scheduler.sock as root,
$XDG_RUNTIME_DIR/sluice/CLUSTER/scheduler.sock as a user.
$SLUICE_CGROUP: a cgroup v2 directory that was delegated to this executor (default: its own).
$SLUICE_NVML: the library to look for GPUs with (default: libnvidia-ml.so.1).
$SLUICE_NVIDIA_ROOT: where the driver's proc/driver and dev/nvidia-caps are (default: /).
$SLUICE_JOB_PIDS: processes and threads that one job may have (default: half of the machine's).
";

/// Arguments as typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    /// `-N`.
    pub node: Option<String>,
    /// `--conf`.
    pub conf: Option<PathBuf>,
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--supervisor`.
    pub supervisor: Option<PathBuf>,
    /// `--log-json`.
    pub json: bool,
    /// `-v`: say more.
    pub verbose: bool,
    /// `--metrics-port`.
    pub metrics_port: Option<u16>,
    /// `--dcgm-job-mapping`.
    pub job_mapping: Option<PathBuf>,
    /// `--apptainer`.
    pub apptainer: Option<PathBuf>,
    /// `--container-cache`.
    pub container_cache: Option<PathBuf>,
    /// `--container-cache-mib`.
    pub container_cache_mib: Option<u64>,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run with these.
    Run(Arguments),
    /// Hold a cgroup for executors.
    HoldCgroup,
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
}

/// Reads the command line, program name left out.
///
/// # Errors
/// A sentence for the user.
pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut found = Arguments::default();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ if argument.starts_with("-N") && argument.len() > 2 => {
                ("-N".to_owned(), Some(argument[2..].to_owned()))
            }
            _ => (argument, None),
        };
        let mut value = || {
            attached
                .clone()
                .or_else(|| arguments.next())
                .ok_or_else(|| format!("option {name} needs a value"))
        };
        match name.as_str() {
            "-N" | "--node" => found.node = Some(value()?),
            "--conf" => found.conf = Some(value()?.into()),
            "--state" => found.state = Some(value()?.into()),
            "--supervisor" => found.supervisor = Some(value()?.into()),
            "--dcgm-job-mapping" => found.job_mapping = Some(value()?.into()),
            "--log-json" => found.json = true,
            "-v" | "--verbose" => found.verbose = true,
            "--metrics-port" => {
                let text = value()?;
                let port = text.parse().ok().filter(|port| *port > 0);
                found.metrics_port = Some(port.ok_or_else(|| format!("\"{text}\" is no port"))?);
            }
            "--apptainer" => found.apptainer = Some(value()?.into()),
            "--container-cache" => found.container_cache = Some(value()?.into()),
            "--container-cache-mib" => {
                let text = value()?;
                let mib = text.parse().map_err(|_| format!("\"{text}\" is no number of MiB"))?;
                found.container_cache_mib = Some(mib);
            }
            "--hold-cgroup" => return Ok(Command::HoldCgroup),
            "-h" | "--help" => return Ok(Command::Help),
            "-V" | "--version" => return Ok(Command::Version),
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(Command::Run(found))
}

/// The variables that count, where they are set and not empty.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// `SLUICE_SOCKET`.
    pub socket: Option<String>,
    /// `SLURM_CONF`.
    pub conf: Option<String>,
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<String>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<String>,
    /// `HOME`.
    pub home: Option<String>,
    /// `SLUICE_CGROUP`.
    pub cgroup: Option<String>,
    /// `SLUICE_JOB_PIDS`.
    pub job_pids: Option<String>,
    /// `SLUICE_APPTAINER`: as `--apptainer`.
    pub apptainer: Option<String>,
    /// `SLUICE_NVML`: NVIDIA's library, or one that stands in for it.
    pub nvml: Option<String>,
    /// `SLUICE_NVIDIA_ROOT`: the folder that holds the driver's `proc` and `dev`, where it is not `/`.
    pub nvidia_root: Option<String>,
    /// `SLUICE_CONTAINER_PROBE=lazy`: how containers run is found out by the first that is wanted.
    pub lazy_probe: bool,
}

impl Variables {
    /// Takes them from `look_up`.
    #[must_use]
    pub fn read(look_up: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| look_up(name).filter(|value| !value.is_empty());
        Self {
            socket: set("SLUICE_SOCKET"),
            conf: set("SLURM_CONF"),
            runtime_dir: set("XDG_RUNTIME_DIR"),
            state_home: set("XDG_STATE_HOME"),
            home: set("HOME"),
            cgroup: set("SLUICE_CGROUP"),
            job_pids: set("SLUICE_JOB_PIDS"),
            apptainer: set("SLUICE_APPTAINER"),
            nvml: set("SLUICE_NVML"),
            nvidia_root: set("SLUICE_NVIDIA_ROOT"),
            lazy_probe: set("SLUICE_CONTAINER_PROBE").as_deref() == Some("lazy"),
        }
    }
}

/// The configuration file in force; `None`: there is none. A file that was named must exist.
#[must_use]
pub fn conf_path(arguments: &Arguments, variables: &Variables, default_exists: bool) -> Option<PathBuf> {
    arguments
        .conf
        .clone()
        .or_else(|| variables.conf.clone().map(PathBuf::from))
        .or_else(|| default_exists.then(|| PathBuf::from(DEFAULT_CONF)))
}

/// Who this executor is and where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node's name.
    pub node: String,
    /// The scheduler's sockets, in the order to try.
    pub sockets: Vec<String>,
    /// The state folder.
    pub state: PathBuf,
    /// The node's line in the configuration.
    pub declared: Option<NodeConf>,
}

/// Decides who this executor is.
///
/// # Errors
/// A sentence: the node is not in the configuration, or no state folder can be named.
pub fn identify(
    arguments: &Arguments,
    variables: &Variables,
    conf: Option<(&Path, &SlurmConf)>,
    uid: u32,
    hostname: &str,
) -> Result<Identity, String> {
    let short = hostname.split('.').next().unwrap_or(hostname);
    let declared = match (conf, &arguments.node) {
        (None, _) => None,
        (Some((path, conf)), Some(name)) => {
            let found = conf.nodes.iter().find(|node| *node.name == **name);
            Some(found.ok_or_else(|| format!("node {name} is not in {}", path.display()))?)
        }
        (Some((path, conf)), None) => {
            let own = |node: &&NodeConf| {
                &*node.name == short || &*node.hostname == short || &*node.hostname == hostname
            };
            let found = conf.nodes.iter().find(own);
            Some(found.ok_or_else(|| {
                format!("no node of {} has the host name {short}; name one with -N", path.display())
            })?)
        }
    };
    let node = match (&declared, &arguments.node) {
        (Some(node), _) => node.name.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => short.to_owned(),
    };
    if node.is_empty() || node.contains('/') {
        return Err(format!("\"{node}\" is no name for a node"));
    }
    let state = match (&arguments.state, conf, &declared) {
        (Some(state), _, _) => state.clone(),
        (None, Some((_, conf)), Some(node)) => Path::new(&conf.spool_dir_of(node)).join("sluice"),
        _ => default_state(variables, uid)?,
    };
    let place = Place {
        socket: variables.socket.as_deref(),
        cluster: conf.map(|(_, conf)| &*conf.cluster_name),
        uid,
        runtime_dir: variables.runtime_dir.as_deref(),
    };
    Ok(Identity { node, sockets: place.candidates(), state, declared: declared.cloned() })
}

fn default_state(variables: &Variables, uid: u32) -> Result<PathBuf, String> {
    if uid == 0 {
        return Ok("/var/lib/sluice".into());
    }
    match (&variables.state_home, &variables.home) {
        (Some(folder), _) => Ok(Path::new(folder).join("sluice")),
        (None, Some(home)) => Ok(Path::new(home).join(".local/state/sluice")),
        (None, None) => Err("neither XDG_STATE_HOME nor HOME is set; name a folder with --state".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Command, Variables, conf_path, identify, parse};
    use model::config::SlurmConf;
    use std::path::{Path, PathBuf};

    fn run(words: &[&str]) -> Result<Arguments, String> {
        match parse(words.iter().map(|word| (*word).to_owned()))? {
            Command::Run(arguments) => Ok(arguments),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn reads_the_command_line() {
        let found = run(&["-N", "c1", "--conf=/x", "--state", "/s"]).unwrap();
        assert_eq!(found.node.as_deref(), Some("c1"));
        assert_eq!((found.conf, found.state), (Some("/x".into()), Some("/s".into())));
        assert_eq!(run(&["-Nc2"]).unwrap().node.as_deref(), Some("c2"));
        assert_eq!(run(&["--metrics-port", "9342"]).unwrap().metrics_port, Some(9342));
        assert_eq!(run(&["--metrics-port=0"]), Err("\"0\" is no port".to_owned()));
        assert_eq!(run(&["-N"]), Err("option -N needs a value".to_owned()));
        assert_eq!(run(&["--frob"]), Err("unknown option --frob".to_owned()));
    }

    #[test]
    fn finds_configuration_state_and_node() {
        let text = "ClusterName=conf\nSlurmctldHost=h\nSlurmdSpoolDir=/spool/%n\nNodeName=c[1-2] NodeHostname=big\nPartitionName=p Nodes=c1\n";
        let mut none = |_: &Path| Err("no includes".to_owned());
        let conf = SlurmConf::parse(text, Path::new("slurm.conf"), &mut none).unwrap();
        let given = Some((Path::new("slurm.conf"), &conf));
        let variables = Variables { home: Some("/home/a".to_owned()), ..Variables::default() };
        let c2 = run(&["-N", "c2"]).unwrap();
        let found = identify(&c2, &variables, given, 0, "big.site").unwrap();
        assert_eq!(found.state, PathBuf::from("/spool/c2/sluice"));
        assert_eq!(found.sockets, ["/run/sluice/conf/scheduler.sock"]);
        assert_eq!(found.declared.unwrap().name.as_ref(), "c2");
        let c9 = run(&["-N", "c9"]).unwrap();
        assert_eq!(identify(&c9, &variables, given, 0, "x").unwrap_err(), "node c9 is not in slurm.conf");
        assert_eq!(identify(&Arguments::default(), &variables, given, 0, "big").unwrap().node, "c1");
        assert!(identify(&Arguments::default(), &variables, given, 0, "other").is_err());
        let found = identify(&Arguments::default(), &variables, None, 1000, "box.lan").unwrap();
        assert_eq!((found.node.as_str(), found.state), ("box", "/home/a/.local/state/sluice".into()));
        assert_eq!(
            identify(&Arguments::default(), &variables, None, 0, "b").unwrap().state,
            PathBuf::from("/var/lib/sluice")
        );
        assert_eq!(conf_path(&Arguments::default(), &variables, false), None);
        assert_eq!(conf_path(&Arguments::default(), &variables, true), Some("/etc/slurm/slurm.conf".into()));
    }
}
