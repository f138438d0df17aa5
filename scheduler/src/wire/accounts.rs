//! `ChangeAccountsRequest` → account changes.

use proto::convert::{Error, Problem};
use proto::v1;
use proto::v1::account_change::Change;
use scheduler_core::input::AccountChange;
use scheduler_core::state::accounts::{Account, AdminLevel, Association, AssociationKey, Qos, User};

use super::{attributes, boxed};

/// Most changes of one call.
const CHANGES_MAX: usize = 10_000;

/// Reads the changes.
///
/// # Errors
/// Too many of them, an empty change, an unknown AdminLevel.
pub fn inwards(from: v1::ChangeAccountsRequest) -> Result<Vec<AccountChange>, Error> {
    if from.changes.len() > CHANGES_MAX {
        return Err(Error { field: "changes", problem: Problem::TooLong { max: CHANGES_MAX } });
    }
    from.changes.into_iter().map(one).collect()
}

fn one(from: v1::AccountChange) -> Result<AccountChange, Error> {
    let change = from.change.ok_or(Error { field: "change", problem: Problem::Missing })?;
    Ok(match change {
        Change::PutCluster(row) => AccountChange::Cluster(row.name.into(), Some(attributes(row.attributes))),
        Change::PutAccount(row) => AccountChange::Account(
            row.name.into(),
            Some(Account {
                description: row.description.into(),
                organization: row.organization.into(),
                attributes: attributes(row.attributes),
            }),
        ),
        Change::PutUser(row) => AccountChange::User(
            row.name.into(),
            Some(User {
                default_account: row.default_account.into(),
                admin_level: level(&row.admin_level)?,
                coordinates: boxed(row.coordinates),
                attributes: attributes(row.attributes),
            }),
        ),
        Change::PutAssociation(row) => {
            let key = key(&row);
            // The number is given by the machine.
            let value =
                Association { id: 0, parent: row.parent.into(), attributes: attributes(row.attributes) };
            AccountChange::Association(key, Some(value))
        }
        Change::PutQos(row) => {
            AccountChange::Qos(row.name.into(), Some(Qos { id: 0, attributes: attributes(row.attributes) }))
        }
        Change::DeleteCluster(name) => AccountChange::Cluster(name.into(), None),
        Change::DeleteAccount(name) => AccountChange::Account(name.into(), None),
        Change::DeleteUser(name) => AccountChange::User(name.into(), None),
        Change::DeleteAssociation(row) => AccountChange::Association(key(&row), None),
        Change::DeleteQos(name) => AccountChange::Qos(name.into(), None),
    })
}

fn key(row: &v1::AssociationRow) -> AssociationKey {
    AssociationKey {
        cluster: row.cluster.as_str().into(),
        account: row.account.as_str().into(),
        user: row.user.as_str().into(),
        partition: row.partition.as_str().into(),
    }
}

/// sacctmgr accepts any beginning of the words, and `Admin`.
fn level(text: &str) -> Result<AdminLevel, Error> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "" => Ok(AdminLevel::None),
        _ if "none".starts_with(&lower) => Ok(AdminLevel::None),
        _ if "operator".starts_with(&lower) => Ok(AdminLevel::Operator),
        _ if "administrator".starts_with(&lower) => Ok(AdminLevel::Administrator),
        _ => Err(Error { field: "admin_level", problem: Problem::Malformed }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_levels() {
        assert_eq!(level("Admin"), Ok(AdminLevel::Administrator));
        assert_eq!(level("Operator"), Ok(AdminLevel::Operator));
        assert_eq!(level(""), Ok(AdminLevel::None));
        assert_eq!(level("boss").unwrap_err().field, "admin_level");
    }

    #[test]
    fn an_association_is_named_by_its_key() {
        let row = v1::AssociationRow { account: "a".into(), user: "u".into(), id: 9, ..Default::default() };
        let request = v1::ChangeAccountsRequest {
            changes: vec![v1::AccountChange { change: Some(Change::PutAssociation(row)) }],
        };
        let changes = inwards(request).unwrap();
        let [AccountChange::Association(key, Some(value))] = &changes[..] else { panic!("{changes:?}") };
        assert_eq!((&*key.account, &*key.user, value.id), ("a", "u", 0));
    }
}
