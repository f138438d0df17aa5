//! `sacctmgr modify`: users, accounts, clusters, QOS.

use proto::v1::account_change::Change;
use proto::v1::{AccountRow, AssociationRow, ListAccountsReply, QosRow, UserRow};

use super::super::tree;
use super::super::words::{ASSOCIATION, How, Pair, QOS, Words, find, is};
use super::{
    Plan, Planned, Stop, any, apply, conditions, find_association, lower, place, set_attribute, setting,
};

fn nothing_modified(what: &str) -> Stop {
    Stop::Out(format!(" Modified {what}...\n  Nothing modified\n"))
}

fn settings_of(words: &Words) -> Result<&[Pair], Stop> {
    match words.set.as_deref() {
        Some(set) if !set.is_empty() => Ok(set),
        _ => Err(Stop::Err(" You didn't give me anything to set".to_owned())),
    }
}

/// `Unknown option` of `modify` comes with a hint.
fn with_hint(stop: Stop) -> Stop {
    match stop {
        Stop::Err(line) if line.starts_with(" Unknown option") => {
            Stop::Err(format!("{line}\n Use keyword 'where' to modify condition"))
        }
        other => other,
    }
}

/// `modify user`.
pub(in crate::command::sacctmgr) fn modify_user(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut found = conditions(words)?;
    found.users.append(&mut found.names);
    let mut plan = Plan::default();
    let (mut of_user, mut of_association): (Vec<&Pair>, Vec<&Pair>) = (Vec::new(), Vec::new());
    for pair in settings_of(words)? {
        let key = pair.key.as_str();
        let is_user = is(key, "DefaultAccount", 8) || is(key, "DefAccount", 4) || is(key, "AdminLevel", 2);
        if is_user { of_user.push(pair) } else { of_association.push(pair) }
    }
    let mut rows_of_users: Vec<UserRow> =
        rows.users.iter().filter(|row| any(&found.users, &row.name)).cloned().collect();
    if !found.accounts.is_empty() {
        let belongs = |name: &str| {
            found.accounts.iter().any(|account| {
                rows.associations.iter().any(|row| row.user == name && row.account == *account)
            })
        };
        rows_of_users.retain(|row| belongs(&row.name));
    }
    if !of_user.is_empty() {
        for row in &mut rows_of_users {
            for pair in &of_user {
                if is(&pair.key, "AdminLevel", 2) {
                    row.admin_level = pair.value.clone();
                } else {
                    let account = pair.value.to_lowercase();
                    if !rows.associations.iter().any(|one| one.user == row.name && one.account == account) {
                        let text = format!(
                            " Can't modify because these users aren't associated with new default account '{account}'...\n  U = {}",
                            row.name
                        );
                        return Err(Stop::Err(text));
                    }
                    row.default_account = account;
                }
            }
        }
        if rows_of_users.is_empty() {
            return Err(nothing_modified("users"));
        }
        plan.say(" Modified users...");
        rows_of_users.iter().for_each(|row| plan.say(format!("  {}", row.name)));
        rows_of_users.into_iter().for_each(|row| plan.push(Change::PutUser(row)));
    }
    if !of_association.is_empty() {
        let chosen = |row: &&AssociationRow| {
            !row.user.is_empty()
                && any(&found.users, &row.user)
                && any(&found.accounts, &row.account)
                && any(&found.clusters, &row.cluster)
                && any(&found.partitions, &row.partition)
        };
        let chosen: Vec<&AssociationRow> = rows.associations.iter().filter(chosen).collect();
        modify_associations(&mut plan, rows, chosen, &of_association, "user associations")?;
    }
    Ok(plan)
}

fn modify_associations(
    plan: &mut Plan,
    rows: &ListAccountsReply,
    chosen: Vec<&AssociationRow>,
    settings: &[&Pair],
    what: &str,
) -> Result<(), Stop> {
    let mut changed = Vec::new();
    // The settings are read even where nothing matches, so that a mistyped one is told.
    let none = AssociationRow::default();
    let subjects = if chosen.is_empty() { vec![&none] } else { chosen.clone() };
    for row in subjects {
        let mut row = row.clone();
        for pair in settings {
            if is(&pair.key, "Parents", 1) && row.user.is_empty() && !is(&pair.key, "Priority", 3) {
                let parent = pair.value.to_lowercase();
                if find_association(rows, &row.cluster, &parent, "").is_none() && !row.account.is_empty() {
                    let text = format!(" error: No parent account '{parent}' on cluster '{}'", row.cluster);
                    return Err(Stop::Err(text));
                }
                row.parent = parent;
                continue;
            }
            let mut pair = (*pair).clone();
            if pair.how != How::Set {
                // A list that is changed begins with what holds now, from above too.
                if let Some(attribute) = find(&ASSOCIATION, &pair.key)
                    && tree::own(&row, attribute.name).is_empty()
                {
                    let held = tree::inherited(rows, &row, attribute.name).to_owned();
                    set_attribute(&mut row.attributes, attribute.name, held);
                }
            }
            pair.key = pair.key.clone();
            apply(&mut row.attributes, &ASSOCIATION, &pair).map_err(with_hint)?;
        }
        changed.push(row);
    }
    if chosen.is_empty() {
        return Err(nothing_modified(what));
    }
    plan.say(format!(" Modified {what}..."));
    changed.iter().for_each(|row| plan.say(place(row)));
    changed.into_iter().for_each(|row| plan.push(Change::PutAssociation(row)));
    Ok(())
}

/// `modify account`.
pub(in crate::command::sacctmgr) fn modify_account(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut found = conditions(words)?;
    found.accounts.append(&mut lower(std::mem::take(&mut found.names)));
    let mut plan = Plan::default();
    let (mut of_account, mut of_association): (Vec<&Pair>, Vec<&Pair>) = (Vec::new(), Vec::new());
    for pair in settings_of(words)? {
        let is_account = is(&pair.key, "Description", 3) || is(&pair.key, "Organization", 1);
        if is_account { of_account.push(pair) } else { of_association.push(pair) }
    }
    if !of_account.is_empty() {
        let mut accounts: Vec<AccountRow> =
            rows.accounts.iter().filter(|row| any(&found.accounts, &row.name)).cloned().collect();
        if accounts.is_empty() {
            return Err(nothing_modified("accounts"));
        }
        for row in &mut accounts {
            for pair in &of_account {
                match is(&pair.key, "Description", 3) {
                    true => row.description = pair.value.clone(),
                    false => row.organization = pair.value.clone(),
                }
            }
        }
        plan.say(" Modified accounts...");
        accounts.iter().for_each(|row| plan.say(format!("  {}", row.name)));
        accounts.into_iter().for_each(|row| plan.push(Change::PutAccount(row)));
    }
    if !of_association.is_empty() {
        let chosen = |row: &&AssociationRow| {
            row.user.is_empty()
                && any(&found.accounts, &row.account)
                && any(&found.clusters, &row.cluster)
                && any(&found.parents, &row.parent)
        };
        let chosen: Vec<&AssociationRow> = rows.associations.iter().filter(chosen).collect();
        modify_associations(&mut plan, rows, chosen, &of_association, "account associations")?;
    }
    Ok(plan)
}

/// `modify cluster`: the limits of its root.
pub(in crate::command::sacctmgr) fn modify_cluster(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut found = conditions(words)?;
    found.clusters.append(&mut found.names);
    let mut plan = Plan::default();
    let settings: Vec<&Pair> = settings_of(words)?.iter().collect();
    let chosen = |row: &&AssociationRow| {
        row.user.is_empty() && row.account == "root" && any(&found.clusters, &row.cluster)
    };
    let chosen: Vec<&AssociationRow> = rows.associations.iter().filter(chosen).collect();
    let names: Vec<String> = chosen.iter().map(|row| row.cluster.clone()).collect();
    modify_associations(&mut plan, rows, chosen, &settings, "cluster associations")?;
    plan.said.clear();
    plan.say(" Setting");
    settings.iter().for_each(|pair| plan.say(setting(&pair.key, &pair.value)));
    plan.say(" For cluster(s)");
    names.iter().for_each(|name| plan.say(format!("  {name}")));
    Ok(plan)
}

/// `modify qos`.
pub(in crate::command::sacctmgr) fn modify_qos(rows: &ListAccountsReply, words: &Words) -> Planned {
    let found = conditions(words)?;
    let names = lower(found.names);
    let mut plan = Plan::default();
    let mut changed: Vec<QosRow> = rows.qos.iter().filter(|row| any(&names, &row.name)).cloned().collect();
    for pair in settings_of(words)? {
        let mut probe = Vec::new();
        apply(&mut probe, &QOS, pair).map_err(with_hint)?;
        for row in &mut changed {
            apply(&mut row.attributes, &QOS, pair)?;
        }
    }
    if changed.is_empty() {
        return Err(nothing_modified("qos"));
    }
    plan.say(" Modified qos...");
    changed.iter().for_each(|row| plan.say(format!("  {}", row.name)));
    changed.into_iter().for_each(|row| plan.push(Change::PutQos(row)));
    Ok(plan)
}
