//! `scontrol update` of nodes and partitions, and the making and removing of partitions.

use std::sync::Arc;

use model::id::{NodeIdx, PartitionIdx};
use model::refusal::Refusal;
use model::time::limit;
use model::tres;

use crate::effect::{Asker, Refused};
use crate::machine::Call;
use crate::record::Record;
use crate::state::node::{Admin, Link, NodeDefinition};
use crate::state::partition::{OverSubscribe, PartitionDefinition, PartitionState, PreemptMode};

type Changes = [(Box<str>, Box<str>)];

impl Call<'_> {
    /// Changes every named node, or none of them. A node that RESUME finds in service, or with less
    /// than is declared, is passed over and makes the whole a refusal; the others are changed, as in Slurm 26.05.
    pub(crate) fn update_nodes(
        &mut self,
        nodes: &str,
        changes: &Changes,
        asker: &Asker,
    ) -> Result<(), Refused> {
        let named = self.named_nodes(nodes)?;
        let reason = value_of(changes, "reason");
        let wanted = value_of(changes, "state").unwrap_or_default();
        let one_of = |states: &[&str]| states.iter().any(|state| state.eq_ignore_ascii_case(wanted));
        let (resumes, returns) = (one_of(&["RESUME"]), one_of(&["RESUME", "IDLE", "UNDRAIN"]));
        let mut in_vain = false;
        for &node in &named {
            let invalid = self.state().node(node).admin.invalid;
            if resumes && self.is_in_service(node) || returns && invalid {
                in_vain = true;
                continue;
            }
            let mut admin = self.state().node(node).admin.clone();
            let mut definition = (*self.state().node(node).definition).clone();
            let mut end_jobs = false;
            for (key, value) in changes {
                match key.to_ascii_lowercase().as_str() {
                    "state" => {
                        end_jobs |= set_state(&mut admin, value, reason, self.state().node(node).link)?
                    }
                    "reason" => admin.reason = value.clone(),
                    "weight" => {
                        definition.weight = value.parse().map_err(|_| Refused::from(Refusal::NotSupported))?
                    }
                    "availablefeatures" | "activefeatures" | "features" => {
                        definition.features = list(value);
                    }
                    "comment" | "extra" => return Err(Refusal::NotSupported.into()),
                    _ => return Err(Refusal::NotSupported.into()),
                }
            }
            if reason.is_some() {
                admin.reason_uid = Some(asker.uid);
                admin.reason_at = Some(self.now);
            }
            self.set_node(node, admin, definition, end_jobs);
        }
        self.out.pass_wanted = true;
        if in_vain { Err(Refusal::InvalidNodeStateTransition.into()) } else { Ok(()) }
    }

    /// Whether there is nothing for RESUME to undo.
    fn is_in_service(&self, node: NodeIdx) -> bool {
        let node = self.state().node(node);
        node.is_available() && node.admin.reason.is_empty()
    }

    fn set_node(&mut self, node: NodeIdx, admin: Admin, definition: NodeDefinition, end_jobs: bool) {
        if admin != self.state().node(node).admin {
            self.emit(Record::NodeAdmin { node, admin });
        }
        if definition != *self.state().node(node).definition {
            self.emit(Record::NodeDefined { node, definition: Arc::new(definition), removed: false });
        }
        if end_jobs {
            self.all_lost(node, "the node was set DOWN");
        }
    }

    fn named_nodes(&self, nodes: &str) -> Result<Vec<NodeIdx>, Refused> {
        if nodes.eq_ignore_ascii_case("ALL") {
            return Ok((0..).zip(&self.state().nodes).map(|(place, _)| NodeIdx(place)).collect());
        }
        let names = model::hostlist::expand(nodes).map_err(|_| Refused::from(Refusal::InvalidNodeName))?;
        let found = names.iter().map(|name| self.state().node_named(name));
        found.collect::<Option<Vec<_>>>().ok_or(Refused::from(Refusal::InvalidNodeName))
    }

    /// Changes a partition, or makes one.
    pub(crate) fn update_partition(
        &mut self,
        name: &str,
        changes: &Changes,
        create: bool,
    ) -> Result<(), Refused> {
        let known = self.state().partition_named(name);
        let (idx, mut definition) = match (known, create) {
            (Some(_), true) => return Err(Refusal::InvalidPartitionName.into()),
            (None, false) => return Err(Refusal::InvalidPartitionName.into()),
            (Some(idx), false) => {
                let partition = self.state().partition(idx).expect("a named partition exists");
                (idx, (*partition.definition).clone())
            }
            (None, true) => {
                let next = u32::try_from(self.state().partitions.len()).expect("partitions are few");
                (PartitionIdx(next), PartitionDefinition::named(name))
            }
        };
        for (key, value) in changes {
            set_partition(&mut definition, key, value)?;
        }
        if definition.nodes.iter().any(|node| self.state().node_named(node).is_none()) {
            return Err(Refusal::InvalidNodeName.into());
        }
        self.emit(Record::PartitionDefined {
            partition: idx,
            definition: Arc::new(definition),
            changed_at_run_time: true,
        });
        self.out.pass_wanted = true;
        Ok(())
    }

    /// Removes a partition that no job needs.
    pub(crate) fn delete_partition(&mut self, name: &str) -> Result<(), Refused> {
        let idx = self.state().partition_named(name).ok_or(Refused::from(Refusal::InvalidPartitionName))?;
        let used = self.state().jobs.values().any(|job| {
            job.ended().is_none()
                && (job.partitions.contains(&idx)
                    || job.active().is_some_and(|active| active.partition == idx))
        });
        if used {
            return Err(Refusal::PartitionInUse.into());
        }
        self.emit(Record::PartitionRemoved(idx));
        Ok(())
    }
}

fn value_of<'a>(changes: &'a Changes, key: &str) -> Option<&'a str> {
    changes.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| &**value)
}

fn list(value: &str) -> Vec<Box<str>> {
    value.split(',').filter(|word| !word.is_empty()).map(Box::from).collect()
}

/// Sets the administrator's state; true if the node's jobs are to be taken for lost.
fn set_state(admin: &mut Admin, value: &str, reason: Option<&str>, link: Link) -> Result<bool, Refused> {
    let with_reason = reason.is_some() || !admin.reason.is_empty();
    match value.to_ascii_uppercase().as_str() {
        "DOWN" | "FAIL" => {
            if !with_reason {
                return Err(Refusal::InvalidNodeState.into());
            }
            admin.down = true;
            Ok(true)
        }
        "DRAIN" => {
            if !with_reason {
                return Err(Refusal::InvalidNodeState.into());
            }
            admin.drain = true;
            Ok(false)
        }
        "RESUME" | "IDLE" => {
            let was_out = admin.down || admin.drain;
            *admin = Admin { resume_pending: was_out && link != Link::Up, ..Admin::default() };
            Ok(false)
        }
        "UNDRAIN" => {
            *admin = Admin { down: admin.down, ..Admin::default() };
            Ok(false)
        }
        _ => Err(Refusal::InvalidNodeState.into()),
    }
}

fn set_partition(definition: &mut PartitionDefinition, key: &str, value: &str) -> Result<(), Refused> {
    let bad = || Refused::from(Refusal::NotSupported);
    let time = || limit::parse_minutes(value).map_err(|_| Refused::from(Refusal::InvalidTimeLimit));
    let number = || value.parse::<u32>().map_err(|_| bad());
    let mib = || tres::parse_mib(value).map(model::quantity::MemoryMib).ok_or_else(bad);
    let unlimited = value.eq_ignore_ascii_case("UNLIMITED");
    match key.to_ascii_lowercase().as_str() {
        "state" => {
            definition.state = match value.to_ascii_uppercase().as_str() {
                "UP" => PartitionState::Up,
                "DOWN" => PartitionState::Down,
                "DRAIN" => PartitionState::Drain,
                "INACTIVE" => PartitionState::Inactive,
                _ => return Err(bad()),
            }
        }
        "nodes" => {
            let names =
                model::hostlist::expand(value).map_err(|_| Refused::from(Refusal::InvalidNodeName))?;
            definition.nodes = names.into_iter().map(Box::from).collect();
            definition.nodes_text = value.into();
        }
        "maxtime" => definition.max_time = time()?,
        "defaulttime" => {
            definition.default_time = if value.eq_ignore_ascii_case("NONE") { None } else { time()? };
        }
        "maxnodes" => definition.max_nodes = if unlimited { None } else { Some(number()?) },
        "minnodes" => definition.min_nodes = number()?,
        "maxcpuspernode" => definition.max_cpus_per_node = if unlimited { None } else { Some(number()?) },
        "priority" => {
            definition.priority_tier = number()?;
            definition.priority_job_factor = definition.priority_tier;
        }
        "prioritytier" => definition.priority_tier = number()?,
        "priorityjobfactor" => definition.priority_job_factor = number()?,
        "default" => definition.is_default = value.eq_ignore_ascii_case("YES"),
        "hidden" => definition.hidden = value.eq_ignore_ascii_case("YES"),
        "rootonly" => definition.root_only = value.eq_ignore_ascii_case("YES"),
        "disablerootjobs" => definition.disable_root_jobs = value.eq_ignore_ascii_case("YES"),
        "allowaccounts" => definition.allow_accounts = all_or_list(value),
        "denyaccounts" => definition.deny_accounts = all_or_list(value),
        "allowgroups" => definition.allow_groups = all_or_list(value),
        "allowqos" => definition.allow_qos = all_or_list(value),
        "denyqos" => definition.deny_qos = all_or_list(value),
        "defmempercpu" => definition.def_mem_per_cpu = if unlimited { None } else { Some(mib()?) },
        "defmempernode" => definition.def_mem_per_node = if unlimited { None } else { Some(mib()?) },
        "maxmempercpu" => definition.max_mem_per_cpu = if unlimited { None } else { Some(mib()?) },
        "maxmempernode" => definition.max_mem_per_node = if unlimited { None } else { Some(mib()?) },
        "gracetime" => definition.grace = model::time::Span::from_secs(i64::from(number()?)),
        "preemptmode" => {
            definition.preempt_mode = match value.to_ascii_uppercase().as_str() {
                "OFF" => PreemptMode::Off,
                "REQUEUE" => PreemptMode::Requeue,
                "CANCEL" => PreemptMode::Cancel,
                "SUSPEND" => PreemptMode::Suspend,
                _ => return Err(bad()),
            }
        }
        "oversubscribe" | "shared" => definition.oversubscribe = oversubscribe(value).ok_or_else(bad)?,
        "maxcpuspersocket" if unlimited => show(definition, "MaxCPUsPerSocket", ""),
        "maxcpuspersocket" => show(definition, "MaxCPUsPerSocket", &number()?.to_string()),
        "tresbillingweights" if !are_weights(value) => return Err(Refusal::InvalidTresBillingWeights.into()),
        "tresbillingweights" => show(definition, "TRESBillingWeights", value),
        _ => return Err(bad()),
    }
    Ok(())
}

/// Sets an attribute that is only shown, as one of the configuration file is; an empty value takes it away.
fn show(definition: &mut PartitionDefinition, key: &str, value: &str) {
    definition.shown.retain(|(known, _)| !known.eq_ignore_ascii_case(key));
    if !value.is_empty() {
        definition.shown.push((key.into(), value.into()));
    }
}

/// Whether a text is `CPU=1.0,Mem=0.25G,GRES/gpu=2`: resources of Slurm's kinds, each with a number, which memory may
/// have a unit behind. An empty text takes all weights away.
fn are_weights(text: &str) -> bool {
    const KINDS: [&str; 6] = ["cpu", "mem", "energy", "node", "billing", "pages"];
    let is_weight = |item: &str| {
        let Some((kind, weight)) = item.split_once('=') else { return false };
        let kind = kind.to_ascii_lowercase();
        let known = KINDS.contains(&kind.as_str())
            || ["gres/", "license/", "bb/", "fs/", "ic/", "vmem"]
                .iter()
                .any(|prefix| kind.starts_with(prefix));
        let bare = weight.strip_suffix(['K', 'M', 'G', 'T', 'P', 'k', 'm', 'g', 't', 'p']).unwrap_or(weight);
        known && bare.parse::<f64>().is_ok_and(f64::is_finite)
    };
    text.split(',').filter(|item| !item.is_empty()).all(is_weight)
}

fn all_or_list(value: &str) -> Vec<Box<str>> {
    if value.eq_ignore_ascii_case("ALL") { Vec::new() } else { list(value) }
}

fn oversubscribe(value: &str) -> Option<OverSubscribe> {
    let (word, times) = value.split_once(':').unwrap_or((value, "4"));
    let times = times.parse().ok()?;
    match word.to_ascii_uppercase().as_str() {
        "NO" => Some(OverSubscribe::No),
        "EXCLUSIVE" => Some(OverSubscribe::Exclusive),
        "YES" => Some(OverSubscribe::Yes(times)),
        "FORCE" => Some(OverSubscribe::Force(times)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_that_are_only_shown_are_set_replaced_and_taken_away() {
        let mut definition = PartitionDefinition::named("p");
        for (key, value, shown) in [
            (
                "TRESBillingWeights",
                "cPu=1,mem=-0.5G,node=.3,energy=-10",
                Some("cPu=1,mem=-0.5G,node=.3,energy=-10"),
            ),
            ("TRESBillingWeights", "cpu=2,GRES/gpu=4", Some("cpu=2,GRES/gpu=4")),
            ("TRESBillingWeights", "", None),
            ("MaxCPUsPerSocket", "1", Some("1")),
            ("MaxCPUsPerSocket", "UNLIMITED", None),
        ] {
            set_partition(&mut definition, key, value).unwrap();
            let found: Vec<&str> = definition.shown.iter().map(|(_, value)| &**value).collect();
            assert_eq!(found, shown.into_iter().collect::<Vec<_>>(), "{key}={value}");
        }
    }

    #[test]
    fn priority_is_both_of_tier_and_of_jobs() {
        let mut definition = PartitionDefinition::named("p");
        set_partition(&mut definition, "Priority", "7").unwrap();
        assert_eq!((definition.priority_tier, definition.priority_job_factor), (7, 7));
    }

    #[test]
    fn weights_of_no_resource_or_no_number_are_refused() {
        let mut definition = PartitionDefinition::named("p");
        for wrong in ["foo=1", "cpu", "cpu=x", "cpu=1,mem=", "cpu=inf"] {
            let refused = set_partition(&mut definition, "TRESBillingWeights", wrong).unwrap_err();
            assert_eq!(refused.refusal, Refusal::InvalidTresBillingWeights, "{wrong}");
        }
        assert!(set_partition(&mut definition, "MaxCPUsPerSocket", "x").is_err());
        assert!(definition.shown.is_empty());
    }
}
