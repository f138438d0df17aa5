//! The administrator: changes partitions, what nodes have, and limits of a QOS and of an account, while jobs wait and run.
//!
//! A partition, a QOS or an account is changed by a command, as `scontrol` and `sacctmgr` send it; what a node has, by
//! another configuration, which the scheduler reads at once or, if it is down, at its next start. When things have gone
//! wrong for long enough, all of it becomes again what it was, so that every job can end.

use std::sync::Arc;

use model::id::{JobId, Uid};

use scheduler_core::effect::{Asker, ReplyTo, Selector};
use scheduler_core::input::{AccountChange, Command, Input, JobFilter};
use scheduler_core::settings::Settings;
use scheduler_core::state::accounts::{Account, Association, AssociationKey, Attributes, Qos, User};

use crate::random::SplitMix64;

/// Whom answers to the administrator are for; nobody waits for them.
pub(super) const REPLY: ReplyTo = ReplyTo(u64::MAX);

/// QOS that jobs are of.
const QOS: [&str; 2] = ["normal", "some"];

/// Something that an administrator does.
pub(super) enum Act {
    /// A command.
    Say(Input),
    /// The configuration is another one.
    Configure(Arc<Settings>),
}

/// Something, at random; `settings`: as they are now.
pub(super) fn act(settings: &Settings, random: &mut SplitMix64) -> Act {
    let two = |random: &mut SplitMix64, values: [&'static str; 2]| random.pick(&values).expect("two values");
    let partition = two(random, ["main", "second"]);
    let (key, value) = match random.below(9) {
        0 => ("state", random.pick(&["UP", "UP", "UP", "DOWN", "DRAIN", "INACTIVE"]).expect("some states")),
        1 => ("maxtime", two(random, ["UNLIMITED", "1"])),
        2 => ("prioritytier", two(random, ["1", "2"])),
        3 => ("maxnodes", two(random, ["UNLIMITED", "1"])),
        4 => ("nodes", if partition == "main" { "n[0-3]" } else { two(random, ["n[0-1]", "n[1-2]"]) }),
        5 | 6 => return Act::Configure(Arc::new(weighed(settings, random))),
        7 => {
            let most = random.below(4);
            let name = two(random, QOS);
            return Act::Say(limit_of_qos(name, (most > 0).then(|| ("grpjobs", most.to_string()))));
        }
        _ => {
            let limit = random.pick(&[None, Some(("grpjobs", "3")), Some(("grptres", "cpu=6"))]);
            let limit = limit.expect("three limits").map(|(key, value)| (key, value.to_owned()));
            return Act::Say(accounts(limit));
        }
    };
    let nodes_are_few = key == "nodes" && settings.nodes.len() < 4;
    let (key, value) = if nodes_are_few { ("prioritytier", "1") } else { (key, value) };
    let changes = vec![(key.into(), value.into())];
    Act::Say(command(Command::UpdatePartition { name: partition.into(), changes, create: false }))
}

/// What makes everything as it was, beside the configuration.
pub(super) fn restored() -> Vec<Input> {
    let mut inputs: Vec<Input> = QOS.iter().map(|name| limit_of_qos(name, None)).collect();
    inputs.push(accounts(None));
    inputs
}

/// Jobs are cancelled.
pub(super) fn cancelled(jobs: Vec<JobId>) -> Input {
    let jobs = jobs.into_iter().map(|job| Selector { job, tasks: None, step: None }).collect();
    let filter = JobFilter::default();
    command(Command::Cancel { jobs, filter, signal: None, batch_only: false, full: false })
}

/// Nodes are used again.
pub(super) fn resumed(nodes: &str) -> Input {
    command(Command::UpdateNodes { nodes: nodes.into(), changes: vec![("state".into(), "RESUME".into())] })
}

/// One node has another weight, so that it is of another kind; what it has of CPUs, memory and devices stays.
fn weighed(settings: &Settings, random: &mut SplitMix64) -> Settings {
    let mut settings = settings.clone();
    let place = usize::try_from(random.below(settings.nodes.len() as u64)).expect("nodes are few");
    settings.nodes[place].weight = random.pick(&[1, 1, 2]).expect("three weights");
    settings
}

fn limit_of_qos(name: &str, limit: Option<(&str, String)>) -> Input {
    let qos = Qos { attributes: attributes(limit), ..Qos::default() };
    command(Command::ChangeAccounts(vec![AccountChange::Qos(name.into(), Some(qos))]))
}

/// The account of all jobs, perhaps with a limit, and the user in it.
fn accounts(limit: Option<(&str, String)>) -> Input {
    let key = |user: &str| AssociationKey {
        cluster: "sim".into(),
        account: "lab".into(),
        user: user.into(),
        partition: "".into(),
    };
    let row = |parent: &str, attributes| Association {
        parent: parent.into(),
        attributes,
        ..Association::default()
    };
    let account = Account { description: "".into(), organization: "".into(), attributes: Attributes::new() };
    let user = User { default_account: "lab".into(), ..User::default() };
    command(Command::ChangeAccounts(vec![
        AccountChange::Account("lab".into(), Some(account)),
        AccountChange::Association(key(""), Some(row("root", attributes(limit)))),
        AccountChange::User("sim".into(), Some(user)),
        AccountChange::Association(key("sim"), Some(row("", Attributes::new()))),
    ]))
}

fn attributes(limit: Option<(&str, String)>) -> Attributes {
    limit.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

fn command(command: Command) -> Input {
    let asker = Asker { uid: Uid(0), gid: model::id::Gid(0), name: "root".into(), groups: Arc::from([]) };
    Input::Command { reply: REPLY, asker, command: Box::new(command) }
}
