//! `sacctmgr delete`: accounts, users, QOS, clusters, with what hangs on them.

use proto::v1::account_change::Change;
use proto::v1::{AccountRow, AssociationRow, ClusterRow, ListAccountsReply, QosRow, UserRow};

use super::super::words::Words;
use super::{Plan, Planned, Stop, any, conditions, lower};

fn nothing_deleted() -> Stop {
    Stop::Out(" Nothing deleted\n".to_owned())
}

/// `delete account`: with the associations of it; accounts below it go to the root.
pub(in crate::command::sacctmgr) fn delete_account(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut found = conditions(words)?;
    found.accounts.append(&mut lower(std::mem::take(&mut found.names)));
    if found.accounts.is_empty() {
        return Err(Stop::Err(" No conditions given to remove, not executing.".to_owned()));
    }
    let mut plan = Plan::default();
    let gone: Vec<&AccountRow> =
        rows.accounts.iter().filter(|row| found.accounts.contains(&row.name)).collect();
    if gone.is_empty() {
        return Err(nothing_deleted());
    }
    plan.say(" Deleting accounts...");
    for account in gone {
        plan.say(format!("  {}", account.name));
        for row in &rows.associations {
            if row.account == account.name {
                plan.push(Change::DeleteAssociation(row.clone()));
            } else if row.user.is_empty() && row.parent == account.name {
                plan.push(Change::PutAssociation(AssociationRow { parent: "root".into(), ..row.clone() }));
            }
        }
        plan.push(Change::DeleteAccount(account.name.clone()));
    }
    Ok(plan)
}

/// `delete user`: the user, or with an account only that association.
pub(in crate::command::sacctmgr) fn delete_user(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut found = conditions(words)?;
    found.users.append(&mut found.names);
    if found.users.is_empty() {
        return Err(Stop::Err(" No conditions given to remove, not executing.".to_owned()));
    }
    let mut plan = Plan::default();
    let whole = found.accounts.is_empty();
    let places: Vec<&AssociationRow> = rows
        .associations
        .iter()
        .filter(|row| found.users.contains(&row.user) && any(&found.accounts, &row.account))
        .collect();
    let users: Vec<&UserRow> = rows.users.iter().filter(|row| found.users.contains(&row.name)).collect();
    if whole && users.is_empty() || !whole && places.is_empty() {
        return Err(nothing_deleted());
    }
    if whole {
        plan.say(" Deleting users...");
        users.iter().for_each(|row| plan.say(format!("  {}", row.name)));
    } else {
        plan.say(" Deleting user associations...");
        // Narrower than where associations are made.
        places.iter().for_each(|row| {
            plan.say(format!("  C = {:<10} A = {:<10} U = {:<9}", row.cluster, row.account, row.user));
        });
    }
    places.into_iter().for_each(|row| plan.push(Change::DeleteAssociation(row.clone())));
    if whole {
        users.iter().for_each(|row| plan.push(Change::DeleteUser(row.name.clone())));
    }
    Ok(plan)
}

/// `delete qos`.
pub(in crate::command::sacctmgr) fn delete_qos(rows: &ListAccountsReply, words: &Words) -> Planned {
    let names = lower(conditions(words)?.names);
    let gone: Vec<&QosRow> = rows.qos.iter().filter(|row| names.contains(&row.name)).collect();
    if gone.is_empty() {
        return Err(nothing_deleted());
    }
    let mut plan = Plan::default();
    plan.say(" Deleting QOS(s)...");
    for row in gone {
        plan.say(format!("  {}", row.name));
        plan.push(Change::DeleteQos(row.name.clone()));
    }
    Ok(plan)
}

/// `delete cluster`: with all its associations.
pub(in crate::command::sacctmgr) fn delete_cluster(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut found = conditions(words)?;
    found.clusters.append(&mut found.names);
    let gone: Vec<&ClusterRow> =
        rows.clusters.iter().filter(|row| found.clusters.contains(&row.name)).collect();
    if gone.is_empty() {
        return Err(nothing_deleted());
    }
    let mut plan = Plan::default();
    plan.say(" Deleting clusters...");
    for cluster in gone {
        plan.say(format!("  {}", cluster.name));
        let held = rows.associations.iter().filter(|row| row.cluster == cluster.name);
        held.for_each(|row| plan.push(Change::DeleteAssociation(row.clone())));
        plan.push(Change::DeleteCluster(cluster.name.clone()));
    }
    Ok(plan)
}
