//! `sacctmgr add`, `modify` and `delete`: words → the rows that are to be put or deleted, and what is said.
//!
//! Nothing is sent here. A change is worked out against all rows, as the database daemon would do it.

use proto::v1::account_change::Change;
use proto::v1::{
    AccountChange, AccountRow, AssociationRow, ClusterRow, KeyValue, ListAccountsReply, QosRow, UserRow,
};

use super::words::{ASSOCIATION, Attribute, How, Pair, QOS, Words, changed, find, is};

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
    if named.is_empty() { rows.clusters.iter().map(|row| row.name.clone()).collect() } else { named.to_vec() }
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

/// `add cluster`: with the root account, its association and the QOS that every cluster has.
pub(super) fn add_cluster(rows: &ListAccountsReply, words: &Words) -> Planned {
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
pub(super) fn add_qos(rows: &ListAccountsReply, words: &Words) -> Planned {
    let mut names = words.names.clone();
    let (mut attributes, mut settings) = (Vec::new(), Vec::new());
    for pair in &words.pairs {
        if is(&pair.key, "Names", 1) {
            names.extend(pair.list());
        } else {
            let attribute = apply(&mut attributes, &QOS, pair)?;
            settings.push(setting(attribute.label, &pair.value));
        }
    }
    let new: Vec<String> =
        lower(names).into_iter().filter(|name| !rows.qos.iter().any(|row| row.name == *name)).collect();
    if new.is_empty() {
        return Err(Stop::Out(" Nothing new added.\n".to_owned()));
    }
    let mut plan = Plan::default();
    plan.say(" Adding QOS(s)");
    new.iter().for_each(|name| plan.say(format!("  {name}")));
    plan.say(" Settings");
    let description = attributes.iter().find(|pair| pair.key == "description").map(|pair| pair.value.clone());
    plan.say(format!("  {:<14} : {}", "Description", description.unwrap_or_else(|| new[0].clone())));
    settings.iter().filter(|line| !line.contains("Description")).for_each(|line| plan.say(line));
    for name in new {
        plan.push(Change::PutQos(QosRow { id: 0, name, attributes: attributes.clone() }));
    }
    Ok(plan)
}

/// `add account`.
pub(super) fn add_account(rows: &ListAccountsReply, words: &Words) -> Planned {
    let (mut names, mut wanted) = (words.names.clone(), Vec::new());
    let (mut description, mut organization, mut parent) = (None, None, None);
    let (mut attributes, mut settings) = (Vec::new(), Vec::new());
    for pair in &words.pairs {
        let key = pair.key.as_str();
        if is(key, "Names", 1) || is(key, "Accounts", 1) || key.eq_ignore_ascii_case("acct") {
            names.extend(pair.list());
        } else if is(key, "Clusters", 1) {
            wanted.extend(pair.list());
        } else if is(key, "Description", 1) {
            description = Some(pair.value.clone());
        } else if is(key, "Organization", 1) {
            organization = Some(pair.value.clone());
        } else if is(key, "Parents", 1) {
            parent = Some(pair.value.to_lowercase());
        } else {
            let attribute = apply(&mut attributes, &ASSOCIATION, pair)?;
            settings.push(setting(attribute.label, &pair.value));
        }
    }
    let (names, clusters) = (lower(names), clusters(rows, &wanted));
    if names.is_empty() {
        return Err(Stop::Err(" Need name of account to add.".to_owned()));
    }
    let above = parent.clone().unwrap_or_else(|| "root".to_owned());
    let mut plan = Plan::default();
    let mut places = Vec::new();
    let mut already = String::new();
    for cluster in &clusters {
        if find_association(rows, cluster, &above, "").is_none() {
            return Err(Stop::Err(format!(" error: No parent account '{above}' on cluster '{cluster}'")));
        }
        for name in &names {
            if find_association(rows, cluster, name, "").is_some() {
                already.push_str(&format!(" Already existing account {name} on cluster {cluster}\n"));
                continue;
            }
            places.push(AssociationRow {
                cluster: cluster.clone(),
                account: name.clone(),
                parent: above.clone(),
                attributes: attributes.clone(),
                ..AssociationRow::default()
            });
        }
    }
    if places.is_empty() {
        return Err(Stop::Out(if already.is_empty() { " Nothing new added.\n".to_owned() } else { already }));
    }
    plan.said.push_str(&already);
    let fresh: Vec<&String> =
        names.iter().filter(|name| !rows.accounts.iter().any(|row| row.name == **name)).collect();
    if !fresh.is_empty() {
        plan.say(" Adding Account(s)");
        fresh.iter().for_each(|name| plan.say(format!("  {name}")));
        plan.say(" Settings");
        plan.say(format!("  {:<15} = {}", "Description", description.as_deref().unwrap_or("Account Name")));
        plan.say(format!(
            "  {:<15} = {}",
            "Organization",
            organization.as_deref().unwrap_or("Parent/Account Name")
        ));
    }
    plan.say(" Associations =");
    places.iter().for_each(|row| plan.say(place(row)));
    if !words.pairs.is_empty() {
        plan.say(" Settings");
        if let Some(parent) = &parent {
            plan.say(setting("Parent", parent));
        }
        settings.iter().for_each(|line| plan.say(line));
    }
    for name in fresh {
        plan.push(Change::PutAccount(AccountRow {
            name: name.clone(),
            description: description.clone().unwrap_or_else(|| name.clone()),
            organization: organization
                .clone()
                .unwrap_or_else(|| if above == "root" { name.clone() } else { above.clone() }),
            ..AccountRow::default()
        }));
    }
    places.into_iter().for_each(|row| plan.push(Change::PutAssociation(row)));
    Ok(plan)
}

/// `add user`.
pub(super) fn add_user(rows: &ListAccountsReply, words: &Words) -> Planned {
    let (mut names, mut wanted, mut accounts) = (words.names.clone(), Vec::new(), Vec::new());
    let (mut default, mut level, mut partitions) = (None, None, Vec::new());
    let (mut attributes, mut settings) = (Vec::new(), Vec::new());
    for pair in &words.pairs {
        let key = pair.key.as_str();
        if is(key, "Names", 1) || is(key, "Users", 1) {
            names.extend(pair.list());
        } else if is(key, "Accounts", 2) || key.eq_ignore_ascii_case("acct") {
            accounts.extend(pair.list());
        } else if is(key, "AdminLevel", 2) {
            level = Some(pair.value.clone());
        } else if is(key, "Clusters", 1) {
            wanted.extend(pair.list());
        } else if is(key, "DefaultAccount", 8) || is(key, "DefAccount", 4) {
            default = Some(pair.value.to_lowercase());
        } else if is(key, "Partitions", 1) {
            partitions.extend(pair.list());
        } else {
            let attribute = apply(&mut attributes, &ASSOCIATION, pair)?;
            settings.push(setting(attribute.label, &pair.value));
        }
    }
    let accounts = lower(accounts);
    let accounts = if accounts.is_empty() { default.clone().into_iter().collect() } else { accounts };
    if names.is_empty() {
        return Err(Stop::Err(" Need name of user to add.".to_owned()));
    }
    if accounts.is_empty() && level.is_none() {
        return Err(Stop::Err(" Need name of account to add user to.".to_owned()));
    }
    if partitions.is_empty() {
        partitions.push(String::new());
    }
    let clusters = clusters(rows, &wanted);
    let mut places = Vec::new();
    for cluster in &clusters {
        for account in &accounts {
            if find_association(rows, cluster, account, "").is_none() {
                return Err(Stop::Err(format!(
                    " This account '{account}' doesn't exist on cluster {cluster}.\n        Contact your admin to add this account."
                )));
            }
            for (name, partition) in
                names.iter().flat_map(|name| partitions.iter().map(move |partition| (name, partition)))
            {
                let known = find_association(rows, cluster, account, name);
                if known.is_none_or(|known| known.partition != *partition) {
                    places.push(AssociationRow {
                        cluster: cluster.clone(),
                        account: account.clone(),
                        user: name.clone(),
                        partition: partition.clone(),
                        attributes: attributes.clone(),
                        ..AssociationRow::default()
                    });
                }
            }
        }
    }
    let fresh: Vec<&String> =
        names.iter().filter(|name| !rows.users.iter().any(|row| row.name == **name)).collect();
    if places.is_empty() && fresh.is_empty() {
        return Err(Stop::Out(" Nothing new added.\n".to_owned()));
    }
    let mut plan = Plan::default();
    if !fresh.is_empty() {
        plan.say(" Adding User(s)");
        fresh.iter().for_each(|name| plan.say(format!("  {name}")));
        if default.is_some() || level.is_some() {
            plan.say(" Settings =");
            if let Some(default) = &default {
                plan.say(format!("  Default Account = {default}"));
            }
            if let Some(level) = &level {
                plan.say(format!("  Admin Level     = {level}"));
            }
        }
    }
    if !places.is_empty() {
        plan.say(" Associations =");
        places.iter().for_each(|row| plan.say(place(row)));
        if !settings.is_empty() {
            plan.say(" Non Default Settings");
            settings.iter().for_each(|line| plan.say(line));
        }
    }
    for name in fresh {
        plan.push(Change::PutUser(UserRow {
            name: name.clone(),
            default_account: default.clone().or_else(|| accounts.first().cloned()).unwrap_or_default(),
            admin_level: level.clone().unwrap_or_default(),
            ..UserRow::default()
        }));
    }
    places.into_iter().for_each(|row| plan.push(Change::PutAssociation(row)));
    Ok(plan)
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

fn nothing_modified(what: &str) -> Stop {
    Stop::Out(format!(" Modified {what}...\n  Nothing modified\n"))
}

/// What is said where the scheduler does not let the asker do it.
pub(super) fn denied(said: &str) -> String {
    match said.lines().find(|line| line.starts_with(" Modified")) {
        Some(line) => format!("{line}\n  Nothing modified\n"),
        None => String::new(),
    }
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
pub(super) fn modify_user(rows: &ListAccountsReply, words: &Words) -> Planned {
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
                    && super::tree::own(&row, attribute.name).is_empty()
                {
                    let held = super::tree::inherited(rows, &row, attribute.name).to_owned();
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
pub(super) fn modify_account(rows: &ListAccountsReply, words: &Words) -> Planned {
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
pub(super) fn modify_cluster(rows: &ListAccountsReply, words: &Words) -> Planned {
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
pub(super) fn modify_qos(rows: &ListAccountsReply, words: &Words) -> Planned {
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

fn nothing_deleted() -> Stop {
    Stop::Out(" Nothing deleted\n".to_owned())
}

/// `delete account`: with the associations of it; accounts below it go to the root.
pub(super) fn delete_account(rows: &ListAccountsReply, words: &Words) -> Planned {
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
pub(super) fn delete_user(rows: &ListAccountsReply, words: &Words) -> Planned {
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
        places.iter().for_each(|row| plan.say(place(row)));
    }
    places.into_iter().for_each(|row| plan.push(Change::DeleteAssociation(row.clone())));
    if whole {
        users.iter().for_each(|row| plan.push(Change::DeleteUser(row.name.clone())));
    }
    Ok(plan)
}

/// `delete qos`.
pub(super) fn delete_qos(rows: &ListAccountsReply, words: &Words) -> Planned {
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
pub(super) fn delete_cluster(rows: &ListAccountsReply, words: &Words) -> Planned {
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

#[cfg(test)]
mod tests {
    use super::super::tree::tests::reference;
    use super::super::words::read;
    use super::*;

    fn rows() -> ListAccountsReply {
        let mut rows = reference();
        rows.clusters = vec![ClusterRow { name: "conf".into(), ..ClusterRow::default() }];
        rows.accounts = ["root", "physics", "chem", "biolab"]
            .map(|name| AccountRow { name: name.into(), ..AccountRow::default() })
            .to_vec();
        rows.users =
            ["alice", "bob"].map(|name| UserRow { name: name.into(), ..UserRow::default() }).to_vec();
        rows
    }

    type Change = fn(&ListAccountsReply, &Words) -> Planned;

    fn said(plan: Change, words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let text = match plan(&rows(), &read(&words)) {
            Ok(plan) => plan.said,
            Err(Stop::Out(text)) => text,
            Err(Stop::Err(text)) => format!("! {text}"),
        };
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn adding_accounts() {
        assert_eq!(
            said(add_account, &["tacc", "Description=desc", "Organization=org"]),
            " Adding Account(s)\n  tacc\n Settings\n  Description     = desc\n  Organization    = org\n Associations =\n  C = conf       A = tacc\n Settings"
        );
        assert_eq!(
            said(add_account, &["sub1", "parent=biolab"]),
            " Adding Account(s)\n  sub1\n Settings\n  Description     = Account Name\n  Organization    = Parent/Account Name\n Associations =\n  C = conf       A = sub1\n Settings\n  Parent        = biolab"
        );
        assert_eq!(said(add_account, &["chem"]), " Already existing account chem on cluster conf");
        assert_eq!(
            said(add_account, &["x", "parent=nope"]),
            "!  error: No parent account 'nope' on cluster 'conf'"
        );
    }

    #[test]
    fn modifying_users() {
        assert_eq!(
            said(modify_user, &["where", "name=bob", "account=physics", "set", "MaxJobs=2", "MaxWall=30"]),
            " Modified user associations...\n  C = conf       A = physics              U = bob"
        );
        assert_eq!(
            said(modify_user, &["where", "name=nosuch", "set", "fairshare=3"]),
            " Modified user associations...\n  Nothing modified"
        );
        assert_eq!(
            said(modify_user, &["where", "name=bob", "set", "nosuch=3"]),
            "!  Unknown option: nosuch=3\n Use keyword 'where' to modify condition"
        );
        assert_eq!(
            said(modify_user, &["alice", "set", "defaultaccount=chem"]),
            " Modified users...\n  alice"
        );
    }

    #[test]
    fn deleting() {
        assert_eq!(said(delete_account, &["biolab"]), " Deleting accounts...\n  biolab");
        assert_eq!(said(delete_account, &["nosuch"]), " Nothing deleted");
        assert_eq!(said(delete_user, &["bob"]), " Deleting users...\n  bob");
    }

    #[test]
    fn coordinators() {
        assert_eq!(
            said(|rows, words| coordinator(rows, words, true), &["account=physics", "names=bob"]),
            " Adding Coordinator User(s)\n  bob\n To Account(s) and all sub-accounts\n  physics"
        );
    }
}
