//! Accounting data as `sacctmgr` keeps it: clusters, accounts, users, associations, QOS.
//!
//! Limits and shares are kept as named attributes (sacctmgr's lower-case words): they are shown and
//! stored whole before the policy that reads them is built.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Named values.
pub type Attributes = BTreeMap<Box<str>, Box<str>>;

/// An account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Description.
    pub description: Box<str>,
    /// Organization.
    pub organization: Box<str>,
    /// Everything else.
    pub attributes: Attributes,
}

/// `AdminLevel=`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminLevel {
    /// An ordinary user.
    #[default]
    None,
    /// May act on others' jobs.
    Operator,
    /// May do all.
    Administrator,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Account that counts when a job names none.
    pub default_account: Box<str>,
    /// Rights.
    pub admin_level: AdminLevel,
    /// Accounts of which the user is coordinator.
    pub coordinates: Vec<Box<str>>,
    /// Everything else.
    pub attributes: Attributes,
}

/// What an association is of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AssociationKey {
    /// Cluster.
    pub cluster: Box<str>,
    /// Account.
    pub account: Box<str>,
    /// User; empty: the account itself.
    pub user: Box<str>,
    /// Partition; empty: all.
    pub partition: Box<str>,
}

/// The four names of a key, in its order, whoever owns them.
trait Names {
    fn names(&self) -> [&str; 4];
}

impl Names for AssociationKey {
    fn names(&self) -> [&str; 4] {
        [&self.cluster, &self.account, &self.user, &self.partition]
    }
}

impl Names for [&str; 4] {
    fn names(&self) -> [&str; 4] {
        *self
    }
}

impl<'a> Borrow<dyn Names + 'a> for AssociationKey {
    fn borrow(&self) -> &(dyn Names + 'a) {
        self
    }
}

impl PartialEq for dyn Names + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names()
    }
}

impl Eq for dyn Names + '_ {}

impl PartialOrd for dyn Names + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Names + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.names().cmp(&other.names())
    }
}

/// A user's or account's place in the tree, with its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Association {
    /// Its number.
    pub id: u32,
    /// The account above; empty for the root.
    pub parent: Box<str>,
    /// Fairshare, limits, QOS list, default QOS.
    pub attributes: Attributes,
}

/// A quality of service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Qos {
    /// Its number.
    pub id: u32,
    /// Priority, flags, limits.
    pub attributes: Attributes,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// By name.
    pub clusters: BTreeMap<Box<str>, Attributes>,
    /// By name.
    pub accounts: BTreeMap<Box<str>, Account>,
    /// By name.
    pub users: BTreeMap<Box<str>, User>,
    /// By what they are of.
    pub associations: BTreeMap<AssociationKey, Association>,
    /// By name.
    pub qos: BTreeMap<Box<str>, Qos>,
    /// Number of the next association.
    pub next_association: u32,
    /// Number of the next QOS.
    pub next_qos: u32,
}

impl Accounts {
    /// The association of cluster, account, user and partition (empty where it has none), without a copy of the names.
    #[must_use]
    pub fn association(&self, names: [&str; 4]) -> Option<(&AssociationKey, &Association)> {
        self.associations.get_key_value(&names as &dyn Names)
    }
}
