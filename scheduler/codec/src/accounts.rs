//! Accounting data.

use proto::journal_v1 as w;
use scheduler_core::record::Record;
use scheduler_core::state::accounts::{
    Account, AdminLevel, Association, AssociationKey, Attributes, Qos, User,
};
use scheduler_core::state::spent::Charge;
use scheduler_core::tally::Tally;

use crate::allocation::{words_in, words_out};
use crate::error::Error;

fn pairs_out(attributes: &Attributes) -> Vec<w::Pair> {
    attributes.iter().map(|(key, value)| w::Pair { key: key.to_string(), value: value.to_string() }).collect()
}

fn pairs_in(pairs: Vec<w::Pair>) -> Attributes {
    pairs.into_iter().map(|pair| (pair.key.into(), pair.value.into())).collect()
}

pub(crate) fn cluster_out(name: &str, row: Option<&Attributes>) -> w::ClusterRow {
    w::ClusterRow { name: name.to_owned(), row: row.map(|row| w::Attributes { pairs: pairs_out(row) }) }
}

pub(crate) fn cluster_in(wire: w::ClusterRow) -> Record {
    Record::Cluster(wire.name.into(), wire.row.map(|row| pairs_in(row.pairs)))
}

pub(crate) fn account_out(name: &str, row: Option<&Account>) -> w::AccountRow {
    let row = row.map(|row| w::Account {
        description: row.description.to_string(),
        organization: row.organization.to_string(),
        attributes: pairs_out(&row.attributes),
    });
    w::AccountRow { name: name.to_owned(), row }
}

pub(crate) fn account_in(wire: w::AccountRow) -> Record {
    let row = wire.row.map(|row| {
        Box::new(Account {
            description: row.description.into(),
            organization: row.organization.into(),
            attributes: pairs_in(row.attributes),
        })
    });
    Record::Account(wire.name.into(), row)
}

pub(crate) fn user_out(name: &str, row: Option<&User>) -> w::UserRow {
    use w::user::AdminLevel as Wire;
    let row = row.map(|row| w::User {
        default_account: row.default_account.to_string(),
        admin_level: match row.admin_level {
            AdminLevel::None => Wire::None,
            AdminLevel::Operator => Wire::Operator,
            AdminLevel::Administrator => Wire::Administrator,
        }
        .into(),
        coordinates: words_out(&row.coordinates),
        attributes: pairs_out(&row.attributes),
    });
    w::UserRow { name: name.to_owned(), row }
}

pub(crate) fn user_in(wire: w::UserRow) -> Result<Record, Error> {
    use w::user::AdminLevel as Wire;
    let user = |row: w::User| {
        let admin_level = match Wire::try_from(row.admin_level) {
            Ok(Wire::None) => AdminLevel::None,
            Ok(Wire::Operator) => AdminLevel::Operator,
            Ok(Wire::Administrator) => AdminLevel::Administrator,
            Ok(Wire::LevelNewer) | Err(_) => return Err(Error::Field { field: "admin_level" }),
        };
        Ok(Box::new(User {
            default_account: row.default_account.into(),
            admin_level,
            coordinates: words_in(row.coordinates),
            attributes: pairs_in(row.attributes),
        }))
    };
    Ok(Record::User(wire.name.into(), wire.row.map(user).transpose()?))
}

pub(crate) fn association_out(key: &AssociationKey, row: Option<&Association>) -> w::AssociationRow {
    w::AssociationRow {
        cluster: key.cluster.to_string(),
        account: key.account.to_string(),
        user: key.user.to_string(),
        partition: key.partition.to_string(),
        row: row.map(|row| w::Association {
            id: row.id,
            parent: row.parent.to_string(),
            attributes: pairs_out(&row.attributes),
        }),
    }
}

pub(crate) fn association_in(wire: w::AssociationRow) -> Record {
    let key = AssociationKey {
        cluster: wire.cluster.into(),
        account: wire.account.into(),
        user: wire.user.into(),
        partition: wire.partition.into(),
    };
    let row = wire.row.map(|row| {
        Box::new(Association { id: row.id, parent: row.parent.into(), attributes: pairs_in(row.attributes) })
    });
    Record::Association(Box::new(key), row)
}

pub(crate) fn qos_out(name: &str, row: Option<&Qos>) -> w::QosRow {
    let row = row.map(|row| w::Qos { id: row.id, attributes: pairs_out(&row.attributes) });
    w::QosRow { name: name.to_owned(), row }
}

pub(crate) fn qos_in(wire: w::QosRow) -> Record {
    let row = wire.row.map(|row| Box::new(Qos { id: row.id, attributes: pairs_in(row.attributes) }));
    Record::Qos(wire.name.into(), row)
}

pub(crate) fn charge_out(charge: &Charge) -> w::Charged {
    let tres = &charge.tres_s;
    let gres = tres.gres().map(|(name, amount)| w::GresSeconds { name: name.to_owned(), amount });
    w::Charged {
        associations: charge.associations.clone(),
        qos: charge.qos.clone(),
        wall_s: charge.wall_s,
        cpu_s: tres.cpus,
        memory_mib_s: tres.memory,
        node_s: tres.nodes,
        gres: gres.collect(),
    }
}

pub(crate) fn charge_in(wire: w::Charged) -> Record {
    let mut tres_s = Tally::default();
    (tres_s.cpus, tres_s.memory, tres_s.nodes) = (wire.cpu_s, wire.memory_mib_s, wire.node_s);
    let gres = wire.gres.into_iter().map(|one| (one.name.into(), one.amount));
    Record::Charged(Box::new(Charge {
        associations: wire.associations,
        qos: wire.qos,
        wall_s: wire.wall_s,
        tres_s: tres_s.with_gres(gres),
    }))
}
