//! The configuration becomes records: nodes, partitions, predictions that differ from what `State` holds.

use std::sync::Arc;

use model::id::{NodeIdx, PartitionIdx};

use crate::machine::Call;
use crate::record::Record;
use crate::settings::Settings;
use crate::state::accounts::{Account, Association, AssociationKey, Attributes, Qos, User};
use crate::state::node::NodeDefinition;

impl Call<'_> {
    /// Makes nodes, partitions and predictions what the configuration says.
    ///
    /// A node that it no longer names stays, without new jobs; a partition goes. What an administrator
    /// changed at run time is overruled, as Slurm's reconfigure does.
    pub(crate) fn define_cluster(&mut self, settings: &Settings) {
        self.define_nodes(settings);
        self.define_partitions(settings);
        self.define_accounts(settings);
        let made = settings.policy.prediction;
        if made != self.state().predictions.made {
            self.emit(Record::Predicting(made));
        }
    }

    fn define_nodes(&mut self, settings: &Settings) {
        for definition in &settings.nodes {
            let known = self.state().node_named(&definition.name);
            let same = known.is_some_and(|idx| {
                let node = self.state().node(idx);
                !node.removed && *node.definition == *definition
            });
            if !same {
                self.define_node(definition);
            }
        }
        let gone: Vec<(NodeIdx, Arc<NodeDefinition>)> = (0..)
            .map(NodeIdx)
            .zip(&self.state().nodes)
            .filter(|(_, node)| {
                !node.removed
                    && !settings.dynamic_nodes
                    && !settings.nodes.iter().any(|named| named.name == node.definition.name)
            })
            .map(|(idx, node)| (idx, Arc::clone(&node.definition)))
            .collect();
        for (node, definition) in gone {
            self.emit(Record::NodeDefined { node, definition, removed: true });
        }
    }

    /// Defines a node under its name, at its place or a new one.
    pub(crate) fn define_node(&mut self, definition: &NodeDefinition) -> NodeIdx {
        let next = NodeIdx(u32::try_from(self.state().nodes.len()).expect("nodes are counted in 32 bits"));
        let node = self.state().node_named(&definition.name).unwrap_or(next);
        self.emit(Record::NodeDefined { node, definition: Arc::new(definition.clone()), removed: false });
        node
    }

    fn define_partitions(&mut self, settings: &Settings) {
        for definition in &settings.partitions {
            let known = self.state().partition_named(&definition.name);
            let same = known
                .and_then(|idx| self.state().partition(idx))
                .is_some_and(|partition| *partition.definition == *definition);
            if same {
                continue;
            }
            let next = u32::try_from(self.state().partitions.len()).expect("partitions are few");
            self.emit(Record::PartitionDefined {
                partition: known.unwrap_or(PartitionIdx(next)),
                definition: Arc::new(definition.clone()),
                changed_at_run_time: false,
            });
        }
        let gone: Vec<PartitionIdx> = self
            .state()
            .index
            .partition_by_name
            .iter()
            .filter(|(name, _)| !settings.partitions.iter().any(|named| named.name == **name))
            .map(|(_, idx)| *idx)
            .collect();
        for partition in gone {
            self.emit(Record::PartitionRemoved(partition));
        }
    }

    /// What Slurm's accounting has from the start: account and user `root`, QOS `normal`.
    fn define_accounts(&mut self, settings: &Settings) {
        if self.state().accounts.qos.is_empty() && self.state().accounts.next_qos == 0 {
            self.emit(Record::Qos("normal".into(), Some(Box::new(Qos { id: 1, ..Qos::default() }))));
        }
        if !self.state().accounts.accounts.is_empty() {
            return;
        }
        let root = Account {
            description: "default root account".into(),
            organization: "root".into(),
            attributes: Attributes::new(),
        };
        self.emit(Record::Account("root".into(), Some(Box::new(root))));
        let user = User {
            default_account: "root".into(),
            admin_level: crate::state::accounts::AdminLevel::Administrator,
            ..User::default()
        };
        self.emit(Record::User("root".into(), Some(Box::new(user))));
        for (id, user) in [(1, ""), (2, "root")] {
            let key = AssociationKey {
                cluster: settings.cluster.clone(),
                account: "root".into(),
                user: user.into(),
                partition: "".into(),
            };
            let row = Association { id, ..Association::default() };
            self.emit(Record::Association(Box::new(key), Some(Box::new(row))));
        }
    }
}
