//! `sacctmgr add`, `modify` and `delete`: words → the rows that are to be put or deleted, and what is said.
//!
//! Nothing is sent here. A change is worked out against all rows, as the database daemon would do it.

mod add;
mod delete;
mod modify;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use proto::v1::account_change::Change;
use proto::v1::{AccountChange, AssociationRow, KeyValue, ListAccountsReply};

use super::words::{Attribute, Pair, Words, changed, find, is};

pub(super) use add::{add_account, add_cluster, add_qos, add_user};
pub(super) use delete::{delete_account, delete_cluster, delete_qos, delete_user};
pub(super) use modify::{modify_account, modify_cluster, modify_qos, modify_user};

/// What is to be done, once it is confirmed.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Printed before the question.
    pub said: String,
    pub changes: Vec<AccountChange>,
}

/// Why nothing is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// For standard output.
    Out(String),
    /// For standard error.
    Err(String),
}

impl Plan {
    fn push(&mut self, change: Change) {
        self.changes.push(AccountChange { change: Some(change) });
    }

    fn say(&mut self, line: impl AsRef<str>) {
        self.said.push_str(line.as_ref());
        self.said.push('\n');
    }
}

type Planned = Result<Plan, Stop>;

fn unknown(pair: &Pair) -> Stop {
    Stop::Err(format!(" Unknown option: {}", pair.typed()))
}

fn bad_value(pair: &Pair, label: &str) -> Stop {
    Stop::Err(format!(" Bad value for {label}: {}", pair.value))
}

fn set_attribute(attributes: &mut Vec<KeyValue>, name: &str, value: String) {
    attributes.retain(|pair| pair.key != name);
    if !value.is_empty() {
        attributes.push(KeyValue { key: name.to_owned(), value });
    }
}

fn apply(
    attributes: &mut Vec<KeyValue>,
    known: &'static [Attribute],
    pair: &Pair,
) -> Result<&'static Attribute, Stop> {
    let attribute = find(known, &pair.key).ok_or_else(|| unknown(pair))?;
    let old = attributes.iter().find(|one| one.key == attribute.name).map(|one| one.value.clone());
    let value = changed(attribute.kind, old.as_deref().unwrap_or_default(), pair);
    let value = value.ok_or_else(|| bad_value(pair, attribute.label))?;
    set_attribute(attributes, attribute.name, value);
    Ok(attribute)
}

/// `  C = conf       A = physics              U = bob`
fn place(row: &AssociationRow) -> String {
    let mut text = format!("  C = {:<10} A = {:<20}", row.cluster, row.account);
    if !row.user.is_empty() {
        text += &format!(" U = {:<9}", row.user);
    }
    if !row.partition.is_empty() {
        text += &format!(" P = {}", row.partition);
    }
    text
}

fn setting(label: &str, value: &str) -> String {
    format!("  {label:<13} = {value}")
}

/// The clusters of a change: those that are named, else all.
fn clusters(rows: &ListAccountsReply, named: &[String]) -> Vec<String> {
    if named.is_empty() { all_clusters(rows) } else { named.to_vec() }
}

/// All that are known: also one that was never added, but has its root account, as the scheduler's own always has.
pub(super) fn all_clusters(rows: &ListAccountsReply) -> Vec<String> {
    let added = rows.clusters.iter().map(|row| row.name.clone());
    let rooted = rows.associations.iter().filter(|row| row.account == "root" && row.user.is_empty());
    let names: BTreeSet<String> = added.chain(rooted.map(|row| row.cluster.clone())).collect();
    names.into_iter().collect()
}

fn lower(names: Vec<String>) -> Vec<String> {
    names.into_iter().map(|name| name.to_lowercase()).collect()
}

fn find_association<'a>(
    rows: &'a ListAccountsReply,
    cluster: &str,
    account: &str,
    user: &str,
) -> Option<&'a AssociationRow> {
    rows.associations.iter().find(|row| row.cluster == cluster && row.account == account && row.user == user)
}

/// `add coordinator` and `delete coordinator`.
pub(super) fn coordinator(rows: &ListAccountsReply, words: &Words, add: bool) -> Planned {
    let (mut users, mut accounts) = (words.names.clone(), Vec::new());
    for pair in &words.pairs {
        if is(&pair.key, "Names", 1) || is(&pair.key, "Users", 1) {
            users.extend(pair.list());
        } else if is(&pair.key, "Accounts", 1) || pair.key.eq_ignore_ascii_case("acct") {
            accounts.extend(pair.list());
        } else {
            return Err(unknown(pair));
        }
    }
    let accounts = lower(accounts);
    let mut plan = Plan::default();
    plan.say(if add { " Adding Coordinator User(s)" } else { " Removing Coordinators with user name" });
    users.iter().for_each(|name| plan.say(format!("  {name}")));
    plan.say(if add { " To Account(s) and all sub-accounts" } else { " From Account(s)" });
    accounts.iter().for_each(|name| plan.say(format!("  {name}")));
    for user in rows.users.iter().filter(|row| users.contains(&row.name)) {
        let mut user = user.clone();
        user.coordinates.retain(|account| !accounts.contains(account));
        if add {
            user.coordinates.extend(accounts.iter().cloned());
            user.coordinates.sort();
        }
        plan.push(Change::PutUser(user));
    }
    if plan.changes.is_empty() {
        return Err(Stop::Out(if add { " Nothing new added.\n" } else { " Nothing deleted\n" }.to_owned()));
    }
    Ok(plan)
}

/// The conditions of `modify` and `delete`.
#[derive(Default)]
struct Conditions {
    names: Vec<String>,
    accounts: Vec<String>,
    users: Vec<String>,
    clusters: Vec<String>,
    parents: Vec<String>,
    partitions: Vec<String>,
}

fn conditions(words: &Words) -> Result<Conditions, Stop> {
    let mut found = Conditions { names: words.names.clone(), ..Conditions::default() };
    for pair in &words.pairs {
        let key = pair.key.as_str();
        if is(key, "Names", 1) {
            found.names.extend(pair.list());
        } else if is(key, "Accounts", 1) || key.eq_ignore_ascii_case("acct") {
            found.accounts.extend(lower(pair.list()));
        } else if is(key, "Users", 1) {
            found.users.extend(pair.list());
        } else if is(key, "Clusters", 1) {
            found.clusters.extend(pair.list());
        } else if is(key, "ParentName", 4) {
            found.parents.extend(lower(pair.list()));
        } else if is(key, "Partitions", 4) {
            found.partitions.extend(pair.list());
        } else {
            return Err(Stop::Err(format!(" Unknown condition: {}", pair.typed())));
        }
    }
    Ok(found)
}

fn any(wanted: &[String], value: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| one == value)
}

/// What is said where the scheduler does not let the asker do it.
pub(super) fn denied(said: &str) -> String {
    match said.lines().find(|line| line.starts_with(" Modified")) {
        Some(line) => format!("{line}\n  Nothing modified\n"),
        None => String::new(),
    }
}
