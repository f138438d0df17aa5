//! The tree of associations as it is shown: accounts by name, of each its users first, then those below.

use proto::v1::{AssociationRow, ListAccountsReply};

/// An association with its depth below the root.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub row: &'a AssociationRow,
    pub depth: usize,
}

/// All associations, each account followed by what is below it.
pub(crate) fn walk(rows: &ListAccountsReply) -> Vec<Place<'_>> {
    let mut out = Vec::new();
    let mut roots: Vec<&AssociationRow> = rows
        .associations
        .iter()
        .filter(|row| row.user.is_empty() && !rows.associations.iter().any(|other| is_parent(other, row)))
        .collect();
    roots.sort_by(|a, b| (&a.cluster, &a.account).cmp(&(&b.cluster, &b.account)));
    for root in roots {
        below(rows, root, 0, &mut out);
    }
    out
}

fn is_parent(parent: &AssociationRow, row: &AssociationRow) -> bool {
    parent.user.is_empty()
        && parent.cluster == row.cluster
        && !row.parent.is_empty()
        && parent.account == row.parent
}

fn below<'a>(
    rows: &'a ListAccountsReply,
    account: &'a AssociationRow,
    depth: usize,
    out: &mut Vec<Place<'a>>,
) {
    // An account tree is shallow; a loop in it would end here.
    if depth > 64 {
        return;
    }
    out.push(Place { row: account, depth });
    let mut users: Vec<&AssociationRow> = rows
        .associations
        .iter()
        .filter(|row| {
            !row.user.is_empty() && row.cluster == account.cluster && row.account == account.account
        })
        .collect();
    users.sort_by(|a, b| (&a.user, &a.partition).cmp(&(&b.user, &b.partition)));
    out.extend(users.into_iter().map(|row| Place { row, depth: depth + 1 }));
    let mut children: Vec<&AssociationRow> =
        rows.associations.iter().filter(|row| row.user.is_empty() && is_parent(account, row)).collect();
    children.sort_by(|a, b| a.account.cmp(&b.account));
    for child in children {
        below(rows, child, depth + 1, out);
    }
}

/// An attribute of a row; empty where it is not set.
pub(crate) fn own<'a>(row: &'a AssociationRow, name: &str) -> &'a str {
    row.attributes.iter().find(|pair| pair.key == name).map_or("", |pair| pair.value.as_str())
}

/// An attribute, or that of the nearest account above.
pub(crate) fn inherited<'a>(rows: &'a ListAccountsReply, row: &'a AssociationRow, name: &str) -> &'a str {
    let mut at = row;
    for _ in 0..64 {
        let value = own(at, name);
        if !value.is_empty() {
            return value;
        }
        let above = if at.user.is_empty() { &at.parent } else { &at.account };
        let next = rows.associations.iter().find(|other| {
            other.user.is_empty()
                && other.cluster == at.cluster
                && other.account == *above
                && !above.is_empty()
        });
        match next {
            Some(next) => at = next,
            None => return "",
        }
    }
    ""
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proto::v1::KeyValue;

    /// The associations of the conformance cluster.
    pub(crate) fn reference() -> ListAccountsReply {
        let row = |account: &str, user: &str, parent: &str, attributes: &[(&str, &str)]| AssociationRow {
            cluster: "conf".into(),
            account: account.into(),
            user: user.into(),
            parent: parent.into(),
            attributes: attributes
                .iter()
                .map(|(key, value)| KeyValue { key: (*key).into(), value: (*value).into() })
                .collect(),
            ..AssociationRow::default()
        };
        let associations = vec![
            row("root", "", "", &[("qos", "normal")]),
            row("physics", "", "root", &[("fairshare", "10")]),
            row("chem", "", "root", &[("fairshare", "20")]),
            row("biolab", "", "chem", &[("fairshare", "5")]),
            row("root", "root", "", &[]),
            row("physics", "alice", "", &[("fairshare", "5")]),
            row("chem", "alice", "", &[("fairshare", "3")]),
            row("physics", "bob", "", &[("fairshare", "7"), ("qos", "lowq,normal")]),
            row("chem", "dave", "", &[]),
        ];
        ListAccountsReply { associations, ..ListAccountsReply::default() }
    }

    #[test]
    fn users_stand_before_accounts_below() {
        let rows = reference();
        let lines: Vec<String> = walk(&rows)
            .iter()
            .map(|place| format!("{}{}|{}", " ".repeat(place.depth), place.row.account, place.row.user))
            .collect();
        let expected = [
            "root|",
            " root|root",
            " chem|",
            "  chem|alice",
            "  chem|dave",
            "  biolab|",
            " physics|",
            "  physics|alice",
            "  physics|bob",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn values_come_from_above() {
        let rows = reference();
        let of = |account: &str, user: &str| {
            let row =
                rows.associations.iter().find(|row| row.account == account && row.user == user).unwrap();
            inherited(&rows, row, "qos").to_owned()
        };
        assert_eq!((of("chem", "dave"), of("physics", "bob")), ("normal".into(), "lowq,normal".into()));
    }
}
