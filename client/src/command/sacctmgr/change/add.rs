//! `sacctmgr add`: clusters, QOS, accounts, users.

use proto::v1::account_change::Change;
use proto::v1::{AccountRow, AssociationRow, ClusterRow, KeyValue, ListAccountsReply, QosRow, UserRow};

use super::super::words::{ASSOCIATION, QOS, Words, is};
use super::{Plan, Planned, Stop, apply, clusters, find_association, lower, place, set_attribute, setting};

/// `add cluster`: with the root account, its association and the QOS that every cluster has.
pub(in crate::command::sacctmgr) fn add_cluster(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut names = words.names.clone();
    let mut attributes = Vec::new();
    for pair in &words.pairs {
        if is(&pair.key, "Names", 1) || is(&pair.key, "Cluster", 1) {
            names.extend(pair.list());
        } else {
            apply(&mut attributes, &ASSOCIATION, pair)?;
        }
    }
    let mut plan = Plan::default();
    let new: Vec<String> =
        lower(names).into_iter().filter(|name| !rows.clusters.iter().any(|row| row.name == *name)).collect();
    if new.is_empty() {
        return Err(Stop::Out(" This cluster already exists.  Not adding.\n".to_owned()));
    }
    plan.say(" Adding Cluster(s)");
    if !rows.qos.iter().any(|row| row.name == "normal") {
        let attributes = vec![KeyValue { key: "description".into(), value: "Normal QOS default".into() }];
        plan.push(Change::PutQos(QosRow { id: 0, name: "normal".into(), attributes }));
    }
    if !rows.accounts.iter().any(|row| row.name == "root") {
        plan.push(Change::PutAccount(AccountRow {
            name: "root".into(),
            description: "default root account".into(),
            organization: "root".into(),
            ..AccountRow::default()
        }));
    }
    for name in new {
        plan.say(format!("  {:<14} = {name}", "Name"));
        plan.push(Change::PutCluster(ClusterRow { name: name.clone(), attributes: Vec::new() }));
        if find_association(rows, &name, "root", "").is_none() {
            let mut attributes = attributes.clone();
            if !attributes.iter().any(|pair| pair.key == "qos") {
                set_attribute(&mut attributes, "qos", "normal".to_owned());
            }
            plan.push(Change::PutAssociation(AssociationRow {
                cluster: name,
                account: "root".into(),
                attributes,
                ..AssociationRow::default()
            }));
        }
    }
    Ok(plan)
}

/// `add qos`.
pub(in crate::command::sacctmgr) fn add_qos(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut names = words.names.clone();
    let (mut attributes, mut settings) = (Vec::new(), Vec::new());
    for pair in &words.pairs {
        if is(&pair.key, "Names", 1) {
            names.extend(pair.list());
        } else {
            let attribute = apply(&mut attributes, &QOS, pair)?;
            settings.push((attribute.label, attribute.name));
        }
    }
    settings.sort_unstable();
    let new: Vec<String> =
        lower(names).into_iter().filter(|name| !rows.qos.iter().any(|row| row.name == *name)).collect();
    if new.is_empty() {
        return Err(Stop::Out(" Nothing new added.\n".to_owned()));
    }
    let mut plan = Plan::default();
    plan.say(" Adding QOS(s)");
    new.iter().for_each(|name| plan.say(format!("  {name}")));
    plan.say(" Settings");
    let value_of =
        |name: &str| attributes.iter().find(|pair| pair.key == name).map(|pair| pair.value.as_str());
    plan.say(format!("  {:<14} = {}", "Description", value_of("description").unwrap_or(&new[0])));
    for (label, name) in settings.iter().filter(|(label, _)| *label != "Description") {
        let value = value_of(name).unwrap_or_default();
        // Minutes are kept, a length of time is shown.
        let value = match (label.ends_with("Wall"), value.parse()) {
            (true, Ok(minutes)) => model::time::limit::long(Some(model::time::Span::from_mins(minutes))),
            _ => value.to_owned(),
        };
        plan.say(format!("  {label:<24} = {value}"));
    }
    for name in new {
        plan.push(Change::PutQos(QosRow { id: 0, name, attributes: attributes.clone() }));
    }
    Ok(plan)
}

/// `add account`.
pub(in crate::command::sacctmgr) fn add_account(rows: &ListAccountsReply, words: &Words) -> Planned {
    let new = NewAccount::read(words)?;
    let above = new.parent.clone().unwrap_or_else(|| "root".to_owned());
    let mut places = Vec::new();
    let mut already = String::new();
    for cluster in &clusters(rows, &new.clusters) {
        if find_association(rows, cluster, &above, "").is_none() {
            return Err(Stop::Err(format!(" error: No parent account '{above}' on cluster '{cluster}'")));
        }
        for name in &new.names {
            if find_association(rows, cluster, name, "").is_some() {
                already.push_str(&format!(" Already existing account {name} on cluster {cluster}\n"));
                continue;
            }
            places.push(AssociationRow {
                cluster: cluster.clone(),
                account: name.clone(),
                parent: above.clone(),
                attributes: new.attributes.clone(),
                ..AssociationRow::default()
            });
        }
    }
    if places.is_empty() {
        return Err(Stop::Out(if already.is_empty() { " Nothing new added.\n".to_owned() } else { already }));
    }
    let known = |name: &String| rows.accounts.iter().any(|row| row.name == *name);
    let fresh: Vec<&String> = new.names.iter().filter(|name| !known(name)).collect();
    let mut plan = Plan { said: already, ..Plan::default() };
    new.tell(&mut plan, &fresh, &places, !words.pairs.is_empty());
    for name in fresh {
        let organization = if above == "root" { name.clone() } else { above.clone() };
        plan.push(Change::PutAccount(AccountRow {
            name: name.clone(),
            description: new.description.clone().unwrap_or_else(|| name.clone()),
            organization: new.organization.clone().unwrap_or(organization),
            ..AccountRow::default()
        }));
    }
    places.into_iter().for_each(|row| plan.push(Change::PutAssociation(row)));
    Ok(plan)
}

/// What `add account` was told.
#[derive(Default)]
struct NewAccount {
    names: Vec<String>,
    clusters: Vec<String>,
    description: Option<String>,
    organization: Option<String>,
    parent: Option<String>,
    attributes: Vec<KeyValue>,
    settings: Vec<String>,
}

impl NewAccount {
    fn read(words: &Words) -> Result<Self, Stop> {
        let mut new = Self { names: words.names.clone(), ..Self::default() };
        for pair in &words.pairs {
            let key = pair.key.as_str();
            if is(key, "Names", 1) || is(key, "Accounts", 1) || key.eq_ignore_ascii_case("acct") {
                new.names.extend(pair.list());
            } else if is(key, "Clusters", 1) {
                new.clusters.extend(pair.list());
            } else if is(key, "Description", 1) {
                new.description = Some(pair.value.clone());
            } else if is(key, "Organization", 1) {
                new.organization = Some(pair.value.clone());
            } else if is(key, "Parents", 1) {
                new.parent = Some(pair.value.to_lowercase());
            } else {
                let attribute = apply(&mut new.attributes, &ASSOCIATION, pair)?;
                new.settings.push(setting(attribute.label, &pair.value));
            }
        }
        new.names = lower(new.names);
        if new.names.is_empty() {
            return Err(Stop::Err(" Need name of account to add.".to_owned()));
        }
        Ok(new)
    }

    /// Says what will be there. The second list of settings stands wherever anything was set.
    fn tell(&self, plan: &mut Plan, fresh: &[&String], places: &[AssociationRow], was_set: bool) {
        if !fresh.is_empty() {
            plan.say(" Adding Account(s)");
            fresh.iter().for_each(|name| plan.say(format!("  {name}")));
            plan.say(" Settings");
            let description = self.description.as_deref().unwrap_or("Account Name");
            plan.say(format!("  {:<15} = {description}", "Description"));
            let organization = self.organization.as_deref().unwrap_or("Parent/Account Name");
            plan.say(format!("  {:<15} = {organization}", "Organization"));
        }
        plan.say(" Associations =");
        places.iter().for_each(|row| plan.say(place(row)));
        if was_set {
            plan.say(" Settings");
            if let Some(parent) = &self.parent {
                plan.say(setting("Parent", parent));
            }
            self.settings.iter().for_each(|line| plan.say(line));
        }
    }
}

/// `add user`.
pub(in crate::command::sacctmgr) fn add_user(rows: &ListAccountsReply, words: &Words) -> Planned {
    let new = NewUser::read(words)?;
    let places = new.places(rows)?;
    let known = |name: &String| rows.users.iter().any(|row| row.name == *name);
    let fresh: Vec<&String> = new.names.iter().filter(|name| !known(name)).collect();
    if places.is_empty() && fresh.is_empty() {
        return Err(Stop::Out(" Nothing new added.\n".to_owned()));
    }
    let mut plan = Plan::default();
    new.tell(&mut plan, &fresh, &places);
    for name in fresh {
        plan.push(Change::PutUser(UserRow {
            name: name.clone(),
            default_account: new
                .default
                .clone()
                .or_else(|| new.accounts.first().cloned())
                .unwrap_or_default(),
            admin_level: new.level.clone().unwrap_or_default(),
            ..UserRow::default()
        }));
    }
    places.into_iter().for_each(|row| plan.push(Change::PutAssociation(row)));
    Ok(plan)
}

/// What `add user` was told.
#[derive(Default)]
struct NewUser {
    names: Vec<String>,
    accounts: Vec<String>,
    clusters: Vec<String>,
    /// Empty text: all partitions.
    partitions: Vec<String>,
    default: Option<String>,
    level: Option<String>,
    attributes: Vec<KeyValue>,
    settings: Vec<String>,
}

impl NewUser {
    fn read(words: &Words) -> Result<Self, Stop> {
        let mut new = Self { names: words.names.clone(), ..Self::default() };
        for pair in &words.pairs {
            let key = pair.key.as_str();
            if is(key, "Names", 1) || is(key, "Users", 1) {
                new.names.extend(pair.list());
            } else if is(key, "Accounts", 2) || key.eq_ignore_ascii_case("acct") {
                new.accounts.extend(lower(pair.list()));
            } else if is(key, "AdminLevel", 2) {
                new.level = Some(pair.value.clone());
            } else if is(key, "Clusters", 1) {
                new.clusters.extend(pair.list());
            } else if is(key, "DefaultAccount", 8) || is(key, "DefAccount", 4) {
                new.default = Some(pair.value.to_lowercase());
            } else if is(key, "Partitions", 1) {
                new.partitions.extend(pair.list());
            } else {
                let attribute = apply(&mut new.attributes, &ASSOCIATION, pair)?;
                new.settings.push(setting(attribute.label, &pair.value));
            }
        }
        if new.accounts.is_empty() {
            new.accounts.extend(new.default.clone());
        }
        if new.partitions.is_empty() {
            new.partitions.push(String::new());
        }
        if new.names.is_empty() {
            return Err(Stop::Err(" Need name of user to add.".to_owned()));
        }
        if new.accounts.is_empty() && new.level.is_none() {
            return Err(Stop::Err(" Need name of account to add user to.".to_owned()));
        }
        Ok(new)
    }

    /// The associations that are not there yet.
    fn places(&self, rows: &ListAccountsReply) -> Result<Vec<AssociationRow>, Stop> {
        let mut places = Vec::new();
        for cluster in &clusters(rows, &self.clusters) {
            for account in &self.accounts {
                if find_association(rows, cluster, account, "").is_none() {
                    return Err(Stop::Err(format!(
                        " This account '{account}' doesn't exist on cluster {cluster}.\n        Contact your admin to add this account."
                    )));
                }
                let all =
                    self.names.iter().flat_map(|name| self.partitions.iter().map(move |one| (name, one)));
                for (name, partition) in all {
                    let known = find_association(rows, cluster, account, name);
                    if known.is_none_or(|known| known.partition != *partition) {
                        places.push(AssociationRow {
                            cluster: cluster.clone(),
                            account: account.clone(),
                            user: name.clone(),
                            partition: partition.clone(),
                            attributes: self.attributes.clone(),
                            ..AssociationRow::default()
                        });
                    }
                }
            }
        }
        Ok(places)
    }

    fn tell(&self, plan: &mut Plan, fresh: &[&String], places: &[AssociationRow]) {
        if !fresh.is_empty() {
            plan.say(" Adding User(s)");
            fresh.iter().for_each(|name| plan.say(format!("  {name}")));
            if self.default.is_some() || self.level.is_some() {
                plan.say(" Settings =");
            }
            if let Some(default) = &self.default {
                plan.say(format!("  Default Account = {default}"));
            }
            if let Some(level) = &self.level {
                plan.say(format!("  Admin Level     = {level}"));
            }
        }
        if !places.is_empty() {
            plan.say(" Associations =");
            places.iter().for_each(|row| plan.say(place(row)));
            if !self.settings.is_empty() {
                plan.say(" Non Default Settings");
                self.settings.iter().for_each(|line| plan.say(line));
            }
        }
    }
}
