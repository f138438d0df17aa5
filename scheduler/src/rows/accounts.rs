//! Rows of accounting data.

use proto::v1;
use scheduler_core::settings::Settings;
use scheduler_core::state::accounts::{Accounts, AdminLevel, Association, AssociationKey, Attributes};

/// Everything. Cost: O(rows).
#[must_use]
pub fn reply(accounts: &Accounts, settings: &Settings, asker: &str) -> v1::ListAccountsReply {
    let users = accounts.users.iter().map(|(name, user)| v1::UserRow {
        name: name.to_string(),
        default_account: user.default_account.to_string(),
        admin_level: level_text(user.admin_level).to_owned(),
        coordinates: user.coordinates.iter().map(ToString::to_string).collect(),
        attributes: pairs(&user.attributes),
    });
    let account_rows = accounts.accounts.iter().map(|(name, account)| v1::AccountRow {
        name: name.to_string(),
        description: account.description.to_string(),
        organization: account.organization.to_string(),
        attributes: pairs(&account.attributes),
    });
    let clusters = accounts
        .clusters
        .iter()
        .map(|(name, attributes)| v1::ClusterRow { name: name.to_string(), attributes: pairs(attributes) });
    let associations = accounts.associations.iter().map(|(key, row)| association(accounts, key, row));
    let qos = accounts.qos.iter().map(|(name, qos)| v1::QosRow {
        id: qos.id,
        name: name.to_string(),
        attributes: pairs(&qos.attributes),
    });
    let asker_level = accounts.users.get(asker).map_or(AdminLevel::None, |user| user.admin_level);
    let mut reply = v1::ListAccountsReply {
        clusters: clusters.collect(),
        accounts: account_rows.collect(),
        users: users.collect(),
        associations: associations.collect(),
        qos: qos.collect(),
        tres: tres(settings),
        enforced: settings.enforce.associations,
        asker_admin_level: level_text(asker_level).to_owned(),
    };
    // In the order in which they were made, as sacctmgr lists them.
    reply.associations.sort_by_key(|row| row.id);
    reply.qos.sort_by_key(|row| row.id);
    reply
}

/// sacctmgr's word for a level.
#[must_use]
pub fn level_text(level: AdminLevel) -> &'static str {
    match level {
        AdminLevel::None => "None",
        AdminLevel::Operator => "Operator",
        AdminLevel::Administrator => "Administrator",
    }
}

fn association(accounts: &Accounts, key: &AssociationKey, row: &Association) -> v1::AssociationRow {
    let default = accounts.users.get(&key.user).is_some_and(|user| user.default_account == key.account);
    v1::AssociationRow {
        id: row.id,
        cluster: key.cluster.to_string(),
        account: key.account.to_string(),
        user: key.user.to_string(),
        partition: key.partition.to_string(),
        parent: row.parent.to_string(),
        attributes: pairs(&row.attributes),
        is_default: !key.user.is_empty() && default,
    }
}

fn pairs(attributes: &Attributes) -> Vec<v1::KeyValue> {
    attributes
        .iter()
        .map(|(key, value)| v1::KeyValue { key: key.to_string(), value: value.to_string() })
        .collect()
}

/// The trackable resources with Slurm's fixed numbers; those of generic resources begin at 1001.
fn tres(settings: &Settings) -> Vec<v1::TresRow> {
    const FIXED: [(u32, &str, &str); 8] = [
        (1, "cpu", ""),
        (2, "mem", ""),
        (3, "energy", ""),
        (4, "node", ""),
        (5, "billing", ""),
        (6, "fs", "disk"),
        (7, "vmem", ""),
        (8, "pages", ""),
    ];
    let fixed = FIXED.iter().map(|&(id, kind, name)| (id, kind, name));
    let named = settings.tres.iter().filter_map(|word| word.split_once('/'));
    let named = (1001_u32..).zip(named).map(|(id, (kind, name))| (id, kind, name));
    fixed
        .chain(named)
        .map(|(id, kind, name)| v1::TresRow { id, r#type: kind.to_owned(), name: name.to_owned() })
        .collect()
}
