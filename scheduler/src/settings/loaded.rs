//! What is in force: the files' settings with what this machine adds (users, its own size).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::config::gres::GresConf;
use model::config::log::LogConf;
use model::config::{NodeStateConf, SlurmConf};
use model::id::Uid;
use nix::unistd::User;
use scheduler_core::gpu::shards::LANES;
use scheduler_core::settings::conf;

use super::Loaded;
use crate::store::history::{self, Kept};
use crate::{hooks, mail};

/// The partition of a machine without files.
pub const MAIN: &str = "main";

/// What is in force where there is no file: nodes come as they register, one partition holds them all.
#[must_use]
pub fn without_files() -> Loaded {
    let conf = SlurmConf::without_files(
        &crate::rpc::diagnostics::host(),
        super::dynamic::cpus_here(),
        super::dynamic::memory_here(),
    );
    let mut settings = conf::common(&conf);
    settings.dynamic_nodes = true;
    settings.track_memory = true;
    settings.whole_cores = false;
    settings.nodes = Vec::new();
    settings.partitions =
        conf.partitions.iter().map(|partition| conf::partition_definition(&conf, partition)).collect();
    for partition in &mut settings.partitions {
        partition.nodes = Vec::new();
        partition.nodes_text = "ALL".into();
    }
    // Whoever starts the daemon for himself administrates it.
    settings.administrators.push(Uid(nix::unistd::geteuid().as_raw()));
    settings.administrators.dedup();
    Loaded {
        settings: Arc::new(settings),
        shown: conf.shown(),
        private_data: Vec::new(),
        state_save_location: None,
        mail: mail_of(&conf, None),
        slurm_user: None,
        metrics_port: None,
        log: LogConf::default(),
        network_accepted: false,
        // Nobody asked for less, and what a comment says is no secret.
        history: history::Settings {
            kept: Kept { comment: true, extra: true, ..Kept::default() },
            ..history::Settings::default()
        },
        hooks: hooks::Settings::default(),
        notices: Vec::new(),
    }
}

/// What a file says.
///
/// # Errors
/// What cannot be honoured and must not be ignored.
pub fn loaded(conf: &SlurmConf, gres: &GresConf, path: &Path) -> Result<Loaded, Vec<String>> {
    let mut notices: Vec<String> =
        conf.notices.iter().chain(&gres.notices).map(ToString::to_string).collect();
    let mut settings = conf::settings(conf, gres);
    let mut slurm_user = None;
    match User::from_name(&conf.slurm_user) {
        Ok(Some(user)) => {
            settings.administrators.push(Uid(user.uid.as_raw()));
            slurm_user = Some((user.uid.as_raw(), user.gid.as_raw()));
        }
        Ok(None) | Err(_) => match conf.slurm_user.parse() {
            Ok(uid) => settings.administrators.push(Uid(uid)),
            Err(_) => notices.push(format!(
                "{}: SlurmUser={} is not a user of this machine; only root administrates",
                path.display(),
                conf.slurm_user
            )),
        },
    }
    settings.administrators.dedup();
    for node in &conf.nodes {
        if !matches!(node.state, NodeStateConf::Unknown | NodeStateConf::Future) {
            notices.push(format!(
                "{}: State= of node {} is not honoured; use scontrol update once it is up",
                node.place, node.name
            ));
        }
    }
    for node in &conf.nodes {
        let count = |name: &str| -> u64 {
            node.gres.iter().filter(|gres| &*gres.name == name).map(|gres| gres.count).sum()
        };
        let (gpus, shards) = (count("gpu"), count("shard"));
        let lost = match () {
            () if shards == 0 => continue,
            () if gpus == 0 => "it has no GPUs",
            () if gpus > LANES as u64 => "it has more than sixteen GPUs",
            () if shards.div_ceil(gpus) > 255 => "a GPU has at most 255 of them",
            () => continue,
        };
        notices.push(format!("{}: not all shards of node {} are offered: {lost}", node.place, node.name));
    }
    Ok(Loaded {
        settings: Arc::new(settings),
        shown: shown(conf),
        private_data: conf.private_data.clone(),
        state_save_location: Some(PathBuf::from(&*conf.state_save_location)),
        mail: mail_of(conf, slurm_user),
        slurm_user,
        metrics_port: None,
        log: LogConf::of_scheduler(conf),
        network_accepted: false,
        history: history::Settings {
            kept: Kept::of(&conf.accounting_store_flags),
            ..history::Settings::default()
        },
        hooks: hooks_of(conf, slurm_user),
        notices,
    })
}

/// MailProg runs as SlurmUser, where the daemon may choose. Slurm looks for its default at a second place too.
fn mail_of(conf: &SlurmConf, slurm_user: Option<(u32, u32)>) -> mail::Settings {
    const SECOND: &str = "/usr/bin/mail";
    let mut program = PathBuf::from(&*conf.mail_prog);
    if program == Path::new("/bin/mail") && !program.exists() && Path::new(SECOND).exists() {
        program = PathBuf::from(SECOND);
    }
    let root = nix::unistd::geteuid().is_root();
    let user = slurm_user.filter(|(uid, _)| root && *uid != 0);
    mail::Settings { program, domain: conf.mail_domain.clone(), user }
}

/// PrologSlurmctld and EpilogSlurmctld run as SlurmUser, where the daemon may choose.
fn hooks_of(conf: &SlurmConf, slurm_user: Option<(u32, u32)>) -> hooks::Settings {
    let programs = &conf.programs;
    let limit = |span: model::time::Span| Duration::from_millis(span.0.max(0).unsigned_abs());
    let root = nix::unistd::geteuid().is_root();
    let health = programs.health_check.as_ref().filter(|health| health.interval > model::time::Span::ZERO);
    hooks::Settings {
        prolog: programs.prolog_slurmctld.clone(),
        epilog: programs.epilog_slurmctld.clone(),
        prolog_timeout: programs.prolog_timeout.map(limit),
        epilog_timeout: programs.epilog_timeout.map(limit),
        health: health.map(|health| (limit(health.interval), health.states.clone())),
        user: slurm_user.filter(|(uid, _)| root && *uid != 0),
    }
}

/// SlurmUser is shown with its number.
fn shown(conf: &SlurmConf) -> Vec<(String, String)> {
    let mut pairs = conf.shown();
    for (key, value) in &mut pairs {
        if key == "SlurmUser"
            && let Ok(Some(user)) = User::from_name(value)
        {
            *value = format!("{value}({})", user.uid);
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use model::quantity::MemoryMib;
    use model::time::Span;
    use scheduler_core::state::partition::{PartitionState, PreemptMode};

    use super::*;

    fn read(text: &str) -> Loaded {
        let path = Path::new("/x/slurm.conf");
        let conf = SlurmConf::parse(text, path, &mut |_| Err("no file".to_owned())).unwrap();
        loaded(&conf, &GresConf::default(), path).unwrap()
    }

    #[test]
    fn shards_that_are_not_offered_are_named() {
        let loaded = read(
            "ClusterName=c\nSlurmctldHost=h\nSlurmUser=root\nGresTypes=gpu,shard\n\
             NodeName=a Gres=gpu:2,shard:8\nNodeName=b Gres=gpu:17,shard:64\nNodeName=d Gres=shard:4\n\
             NodeName=e Gres=gpu:1,shard:300\nPartitionName=p Nodes=ALL\n",
        );
        let of_shards = loaded.notices.iter().filter(|notice| notice.contains("shards"));
        let ends = of_shards.map(|notice| notice.split_once(": not all ").unwrap().1).collect::<Vec<_>>();
        assert_eq!(
            ends,
            [
                "shards of node b are offered: it has more than sixteen GPUs",
                "shards of node d are offered: it has no GPUs",
                "shards of node e are offered: a GPU has at most 255 of them",
            ]
        );
    }

    #[test]
    fn a_file_becomes_settings() {
        let loaded = read(
            "ClusterName=c\nSlurmctldHost=h\nSlurmUser=root\nSelectTypeParameters=CR_Core_Memory\n\
             DefMemPerCPU=500\nKillWait=2\nPreemptMode=REQUEUE\nPreemptType=preempt/partition_prio\n\
             StateSaveLocation=/s\nGresTypes=gpu\nLicenses=matlab:4\n\
             NodeName=n[1-2] CPUs=4 RealMemory=100 Gres=gpu:a100:2 RestrictedCoresPerGPU=1\n\
             PartitionName=p Nodes=ALL Default=YES MaxTime=10 QOS=q\n\
             PartitionName=o Nodes=n1 State=DOWN PreemptMode=OFF DefaultTime=5\n",
        );
        let settings = &loaded.settings;
        assert_eq!((&*settings.cluster, settings.nodes.len()), ("c", 2));
        let kept: Vec<_> = settings.kept_cores.iter().map(|one| (&*one.node, one.per_gpu)).collect();
        assert_eq!(kept, [("n1", 1), ("n2", 1)]);
        assert_eq!(settings.kill_wait, Span::from_secs(2));
        assert_eq!(settings.def_mem_per_cpu, Some(MemoryMib(500)));
        assert!(settings.whole_cores && settings.track_memory && !settings.dynamic_nodes);
        assert_eq!(settings.administrators, [Uid(0)]);
        let gres = &settings.nodes[0].gres[0];
        assert_eq!((&*gres.name, &*gres.kind, gres.count, gres.indexed), ("gpu", "a100", 2, true));
        let [p, o] = &settings.partitions[..] else { panic!("two partitions") };
        assert_eq!(
            (p.nodes.len(), p.preempt_mode, p.max_time),
            (2, PreemptMode::Requeue, Some(Span::from_mins(10)))
        );
        assert_eq!(p.shown, [("QOS".into(), "q".into())]);
        assert_eq!((o.state, o.preempt_mode), (PartitionState::Down, PreemptMode::Off));
        assert_eq!(loaded.state_save_location, Some(PathBuf::from("/s")));
    }

    /// `docs/guides/scheduler-parameters.md` is the table of `model::config::scheduler`, written anew by
    /// running this test with SLUICE_BLESS set.
    #[test]
    fn the_guide_to_parameters_is_the_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/scheduler-parameters.md");
        let guide = model::config::scheduler::guide();
        if std::env::var_os("SLUICE_BLESS").is_some() {
            std::fs::write(&path, &guide).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == guide, "cargo xtask bless renews {}", path.display());
    }

    #[test]
    fn without_files_there_is_a_main_partition() {
        let loaded = without_files();
        let [main] = &loaded.settings.partitions[..] else { panic!("one partition") };
        assert_eq!((&*main.name, main.is_default, main.max_time), (MAIN, true, None));
        assert_eq!(main.default_time, Some(Span::from_mins(60)));
        assert!(loaded.settings.dynamic_nodes && loaded.settings.def_mem_per_cpu.is_some());
    }
}
