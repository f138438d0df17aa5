//! `sacctmgr show`: tables of accounting data.

use model::time::Span;
use model::time::limit;
use proto::v1::{AccountRow, AssociationRow, KeyValue, ListAccountsReply, QosRow, TresRow, UserRow};

use super::change;
use super::tree::{self, Place};
use super::words::{Words, is};
use crate::table::print::{Column, Form};

/// A column that can be asked for: its words, its header, its width.
struct Field<R> {
    word: &'static str,
    least: usize,
    header: &'static str,
    width: i32,
    value: fn(&ListAccountsReply, &R) -> String,
}

const fn field<R>(
    word: &'static str,
    least: usize,
    header: &'static str,
    width: i32,
    value: fn(&ListAccountsReply, &R) -> String,
) -> Field<R> {
    Field { word, least, header, width, value }
}

/// A line: what of it is known.
#[derive(Clone, Default)]
struct Line<'a> {
    account: Option<&'a AccountRow>,
    user: Option<&'a UserRow>,
    association: Option<&'a AssociationRow>,
    /// Blanks before the account's name.
    indent: usize,
}

fn attribute(pairs: &[KeyValue], name: &str) -> String {
    pairs.iter().find(|pair| pair.key == name).map_or_else(String::new, |pair| pair.value.clone())
}

fn of(line: &Line<'_>, name: &str) -> String {
    line.association.map_or_else(String::new, |row| tree::own(row, name).to_owned())
}

fn wall(minutes: &str) -> String {
    minutes.parse().map_or_else(|_| minutes.to_owned(), |minutes| limit::long(Some(Span::from_mins(minutes))))
}

fn account_name(line: &Line<'_>) -> String {
    let name = line.account.map(|row| &row.name).or(line.association.map(|row| &row.account));
    " ".repeat(line.indent) + name.map_or("", String::as_str)
}

fn user_name(line: &Line<'_>) -> String {
    let name = line.user.map(|row| &row.name).or(line.association.map(|row| &row.user));
    name.cloned().unwrap_or_default()
}

fn share(line: &Line<'_>) -> String {
    match line.association {
        Some(row) if tree::own(row, "fairshare").is_empty() => "1".to_owned(),
        Some(row) => tree::own(row, "fairshare").to_owned(),
        None => String::new(),
    }
}

/// The names in their order, as every list of QOS is shown.
fn sorted(list: &str) -> String {
    let mut names = super::super::job::list(list);
    names.sort();
    names.join(",")
}

fn qos_list(rows: &ListAccountsReply, line: &Line<'_>) -> String {
    line.association.map_or_else(String::new, |row| sorted(tree::inherited(rows, row, "qos")))
}

fn coordinators(rows: &ListAccountsReply, line: &Line<'_>) -> String {
    let name = account_name(line).trim().to_owned();
    let users = rows.users.iter().filter(|user| user.coordinates.contains(&name));
    users.map(|user| user.name.clone()).collect::<Vec<_>>().join(",")
}

fn level(user: Option<&UserRow>) -> String {
    match user.map(|user| user.admin_level.as_str()) {
        None => String::new(),
        Some("") => "None".to_owned(),
        Some(level) => level.to_owned(),
    }
}

/// Columns of accounts, users and associations.
static FIELDS: [Field<Line<'static>>; 33] = [
    field("Account", 3, "Account", 10, |_, line| account_name(line)),
    field("Acct", 4, "Account", 10, |_, line| account_name(line)),
    field("AdminLevel", 2, "Admin", 9, |_, line| level(line.user)),
    field("Cluster", 2, "Cluster", 10, |_, line| {
        line.association.map_or_else(String::new, |row| row.cluster.clone())
    }),
    field("Coordinators", 2, "Coord Accounts", 20, |rows, line| match line.user {
        Some(user) if line.account.is_none() => user.coordinates.join(","),
        _ => coordinators(rows, line),
    }),
    field("DefaultAccount", 8, "Def Acct", 10, |_, line| {
        line.user.map_or_else(String::new, |user| user.default_account.clone())
    }),
    field("DefaultQOS", 8, "Def QOS", 9, |_, line| of(line, "defaultqos")),
    field("DefQOS", 4, "Def QOS", 9, |_, line| of(line, "defaultqos")),
    field("DefAcct", 4, "Def Acct", 10, |_, line| {
        line.user.map_or_else(String::new, |user| user.default_account.clone())
    }),
    field("Description", 3, "Descr", 20, |_, line| {
        line.account.map_or_else(String::new, |row| row.description.clone())
    }),
    field("Fairshare", 2, "Share", 9, |_, line| share(line)),
    field("GrpJobs", 4, "GrpJobs", 7, |_, line| of(line, "grpjobs")),
    field("GrpSubmitJobs", 4, "GrpSubmit", 9, |_, line| of(line, "grpsubmitjobs")),
    field("GrpTRES", 7, "GrpTRES", 13, |_, line| of(line, "grptres")),
    field("GrpTRESMins", 8, "GrpTRESMins", 13, |_, line| of(line, "grptresmins")),
    field("GrpTRESRunMins", 8, "GrpTRESRunMin", 13, |_, line| of(line, "grptresrunmins")),
    field("GrpWall", 4, "GrpWall", 11, |_, line| wall(&of(line, "grpwall"))),
    field("ID", 2, "ID", 6, |_, line| line.association.map_or_else(String::new, |row| row.id.to_string())),
    field("MaxJobs", 4, "MaxJobs", 7, |_, line| of(line, "maxjobs")),
    field("MaxSubmitJobs", 4, "MaxSubmit", 9, |_, line| of(line, "maxsubmitjobs")),
    field("MaxTRES", 7, "MaxTRES", 13, |_, line| of(line, "maxtresperjob")),
    field("MaxTRESPerNode", 11, "MaxTRESPerNode", 14, |_, line| of(line, "maxtrespernode")),
    field("MaxTRESMins", 8, "MaxTRESMins", 13, |_, line| of(line, "maxtresmins")),
    field("MaxWall", 4, "MaxWall", 11, |_, line| wall(&of(line, "maxwall"))),
    field("Name", 1, "Name", 10, |_, line| match line.user {
        Some(user) => user.name.clone(),
        None => account_name(line),
    }),
    field("Organization", 1, "Org", 20, |_, line| {
        line.account.map_or_else(String::new, |row| row.organization.clone())
    }),
    field("ParentName", 3, "Par Name", 10, |_, line| match line.association {
        Some(row) if row.user.is_empty() => row.parent.clone(),
        _ => String::new(),
    }),
    field("Partition", 3, "Partition", 10, |_, line| {
        line.association.map_or_else(String::new, |row| row.partition.clone())
    }),
    field("Priority", 3, "Priority", 10, |_, line| of(line, "priority")),
    field("QOS", 1, "QOS", 20, qos_list),
    field("Share", 1, "Share", 9, |_, line| share(line)),
    field("User", 1, "User", 10, |_, line| user_name(line)),
    field("UserID", 5, "UID", 6, |_, line| {
        crate::local::user_id(&user_name(line)).map_or_else(String::new, |id| id.to_string())
    }),
];

fn grace(row: &QosRow) -> String {
    let seconds = attribute(&row.attributes, "gracetime").parse().unwrap_or(0);
    limit::long(Some(Span::from_secs(seconds)))
}

fn number_or(row: &QosRow, name: &str, none: &str) -> String {
    let value = attribute(&row.attributes, name);
    if value.is_empty() { none.to_owned() } else { value }
}

fn usage_factor(row: &QosRow) -> String {
    format!("{:.6}", attribute(&row.attributes, "usagefactor").parse::<f64>().unwrap_or(1.0))
}

macro_rules! plain {
    ($name:literal) => {
        |_, row| attribute(&row.attributes, $name)
    };
}

/// Columns of QOS, the default ones first and in their order.
static QOS_FIELDS: [Field<QosRow>; 37] = [
    field("Name", 1, "Name", 10, |_, row| row.name.clone()),
    field("Priority", 3, "Priority", 10, |_, row| number_or(row, "priority", "0")),
    field("GraceTime", 3, "GraceTime", 10, |_, row| grace(row)),
    field("Preempt", 7, "Preempt", 10, plain!("preempt")),
    field("PreemptExemptTime", 8, "PreemptExemptTime", 19, plain!("preemptexempttime")),
    field("PreemptMode", 8, "PreemptMode", 11, |_, row| number_or(row, "preemptmode", "cluster")),
    field("Flags", 2, "Flags", 40, plain!("flags")),
    field("UsageThreshold", 6, "UsageThres", 10, plain!("usagethreshold")),
    field("UsageFactor", 6, "UsageFactor", 11, |_, row| usage_factor(row)),
    field("GrpTRES", 7, "GrpTRES", 13, plain!("grptres")),
    field("GrpTRESMins", 8, "GrpTRESMins", 13, plain!("grptresmins")),
    field("GrpTRESRunMins", 8, "GrpTRESRunMin", 13, plain!("grptresrunmins")),
    field("GrpJobs", 4, "GrpJobs", 7, plain!("grpjobs")),
    field("GrpSubmitJobs", 4, "GrpSubmit", 9, plain!("grpsubmitjobs")),
    field("GrpWall", 4, "GrpWall", 11, |_, row| wall(&attribute(&row.attributes, "grpwall"))),
    field("MaxTRESPerJob", 13, "MaxTRES", 13, plain!("maxtresperjob")),
    field("MaxTRESPerNode", 11, "MaxTRESPerNode", 14, plain!("maxtrespernode")),
    field("MaxTRESMins", 8, "MaxTRESMins", 13, plain!("maxtresmins")),
    field("MaxWall", 4, "MaxWall", 11, |_, row| wall(&attribute(&row.attributes, "maxwall"))),
    field("MaxTRESPerUser", 11, "MaxTRESPU", 13, plain!("maxtresperuser")),
    field("MaxJobsPerUser", 11, "MaxJobsPU", 9, plain!("maxjobsperuser")),
    field("MaxSubmitJobsPerUser", 17, "MaxSubmitPU", 11, plain!("maxsubmitjobsperuser")),
    field("MaxTRESPerAccount", 11, "MaxTRESPA", 13, plain!("maxtresperaccount")),
    field("MaxTRESRunMinsPerAccount", 18, "MaxTRESRunMinsPA", 22, plain!("maxtresrunminsperaccount")),
    field("MaxTRESRunMinsPerUser", 18, "MaxTRESRunMinsPU", 22, plain!("maxtresrunminsperuser")),
    field("MaxJobsPerAccount", 11, "MaxJobsPA", 9, plain!("maxjobsperaccount")),
    field("MaxSubmitJobsPerAccount", 17, "MaxSubmitPA", 11, plain!("maxsubmitjobsperaccount")),
    field("MinTRES", 7, "MinTRES", 13, plain!("mintresperjob")),
    field("MaxTRESPU", 9, "MaxTRESPU", 13, plain!("maxtresperuser")),
    field("MaxJobsPU", 4, "MaxJobsPU", 9, plain!("maxjobsperuser")),
    field("MaxSubmitJobsPU", 4, "MaxSubmitPU", 11, plain!("maxsubmitjobsperuser")),
    field("MaxSubmitPU", 11, "MaxSubmitPU", 11, plain!("maxsubmitjobsperuser")),
    field("MaxTRESPA", 9, "MaxTRESPA", 13, plain!("maxtresperaccount")),
    field("MaxJobsPA", 9, "MaxJobsPA", 9, plain!("maxjobsperaccount")),
    field("MaxTRES", 7, "MaxTRES", 13, plain!("maxtresperjob")),
    field("Description", 3, "Descr", 20, plain!("description")),
    field("ID", 2, "ID", 6, |_, row| row.id.to_string()),
];
/// Width of the default table of QOS.
const QOS_DEFAULT: usize = 28;

static TRES_FIELDS: [Field<TresRow>; 3] = [
    field("Type", 1, "Type", 8, |_, row| row.r#type.clone()),
    field("Name", 1, "Name", 15, |_, row| row.name.clone()),
    field("ID", 2, "ID", 6, |_, row| row.id.to_string()),
];

/// A cluster with the association of its root.
struct ClusterLine<'a> {
    name: &'a str,
    root: Option<&'a AssociationRow>,
}

fn root(line: &ClusterLine<'_>, name: &str) -> String {
    line.root.map_or_else(String::new, |row| tree::own(row, name).to_owned())
}

static CLUSTER_FIELDS: [Field<ClusterLine<'static>>; 14] = [
    field("Cluster", 2, "Cluster", 10, |_, line| line.name.to_owned()),
    field("ControlHost", 8, "ControlHost", 15, |_, _| crate::local::host()),
    field("ControlPort", 8, "ControlPort", 12, |_, _| "0".to_owned()),
    field("RPC", 1, "RPC", 5, |_, _| "0".to_owned()),
    field("Share", 1, "Share", 9, |_, line| {
        let share = root(line, "fairshare");
        if share.is_empty() { "1".to_owned() } else { share }
    }),
    field("GrpJobs", 4, "GrpJobs", 7, |_, line| root(line, "grpjobs")),
    field("GrpTRES", 4, "GrpTRES", 13, |_, line| root(line, "grptres")),
    field("GrpSubmit", 4, "GrpSubmit", 9, |_, line| root(line, "grpsubmitjobs")),
    field("MaxJobs", 4, "MaxJobs", 7, |_, line| root(line, "maxjobs")),
    field("MaxTRES", 4, "MaxTRES", 13, |_, line| root(line, "maxtresperjob")),
    field("MaxSubmit", 4, "MaxSubmit", 9, |_, line| root(line, "maxsubmitjobs")),
    field("MaxWall", 4, "MaxWall", 11, |_, line| wall(&root(line, "maxwall"))),
    field("QOS", 1, "QOS", 20, |_, line| sorted(&root(line, "qos"))),
    field("DefaultQOS", 3, "Def QOS", 9, |_, line| root(line, "defaultqos")),
];

/// What is wrong with a question.
pub(super) enum Error {
    /// An unknown column.
    Field(String),
    /// An unknown condition.
    Condition(String),
}

/// What is asked, read from the words behind the entity.
#[derive(Default)]
struct Asked {
    format: Option<Vec<String>>,
    accounts: Vec<String>,
    users: Vec<String>,
    clusters: Vec<String>,
    names: Vec<String>,
    parents: Vec<String>,
    qos: Vec<String>,
    types: Vec<String>,
    tree: bool,
    with_associations: bool,
    with_coordinators: bool,
}

fn asked(words: &Words) -> Result<Asked, Error> {
    let mut asked = Asked::default();
    for name in &words.names {
        match name.to_ascii_lowercase().as_str() {
            "tree" => asked.tree = true,
            "withassoc" | "withassocs" => asked.with_associations = true,
            "withcoordinators" | "withcoord" | "withc" => asked.with_coordinators = true,
            "withdeleted" | "withrawqoslevel" | "withsubaccounts" | "wopinfo" | "wopi" | "wolimits"
            | "wopl" | "onlydefaults" | "withclusters" => {}
            _ => asked.names.push(name.clone()),
        }
    }
    for pair in &words.pairs {
        let (key, list) = (pair.key.as_str(), pair.list());
        if is(key, "Format", 2) {
            asked.format.get_or_insert_with(Vec::new).extend(list);
        } else if is(key, "Accounts", 2) || key.eq_ignore_ascii_case("acct") {
            asked.accounts.extend(list);
        } else if is(key, "Users", 1) {
            asked.users.extend(list);
        } else if is(key, "Clusters", 1) {
            asked.clusters.extend(list);
        } else if is(key, "Names", 1) {
            asked.names.extend(list);
        } else if is(key, "ParentName", 4) {
            asked.parents.extend(list);
        } else if is(key, "QosLevel", 1) {
            asked.qos.extend(list);
        } else if is(key, "Type", 1) {
            asked.types.extend(list);
        } else if ["start", "end", "actor", "action", "info", "id", "ids", "description", "organization"]
            .contains(&key.to_ascii_lowercase().as_str())
        {
        } else {
            return Err(Error::Condition(pair.typed()));
        }
    }
    Ok(asked)
}

fn any(wanted: &[String], value: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|one| one.eq_ignore_ascii_case(value))
}

/// The columns of a format, or the default ones.
fn columns<R>(
    fields: &'static [Field<R>],
    format: Option<&[String]>,
    default: &[&str],
) -> Result<Vec<(&'static Field<R>, Column)>, Error> {
    let default: Vec<String> = default.iter().map(|word| (*word).to_owned()).collect();
    let mut columns = Vec::new();
    for item in format.unwrap_or(&default) {
        let (name, width) = match item.split_once('%') {
            Some((name, width)) => (name, width.parse::<i32>().ok()),
            None => (item.as_str(), None),
        };
        let exact = fields.iter().find(|field| field.word.eq_ignore_ascii_case(name));
        let found = exact.or_else(|| fields.iter().find(|field| is(name, field.word, field.least)));
        let Some(field) = found else { return Err(Error::Field(name.to_owned())) };
        let width = width.unwrap_or(field.width);
        columns.push((field, Column { name: field.header.to_owned(), width }));
    }
    Ok(columns)
}

fn print<R>(
    rows: &ListAccountsReply,
    form: &Form,
    header: bool,
    columns: Vec<(&'static Field<R>, Column)>,
    lines: &[R],
) -> String {
    let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let mut out = if header { form.header(&columns) } else { String::new() };
    for line in lines {
        let values: Vec<String> = fields.iter().map(|field| (field.value)(rows, line)).collect();
        out.push_str(&form.line(&columns, &values));
    }
    out
}

/// How tables are printed.
pub(super) struct Style {
    pub form: Form,
    pub header: bool,
}

const ASSOCIATION_LIMITS: [&str; 8] =
    ["share", "priority", "grpjobs", "grptres", "grpsubmit", "grpwall", "grptresmins", "maxjobs"];

/// `show account`.
pub(super) fn accounts(
    rows: &'static ListAccountsReply,
    words: &Words,
    style: &Style,
) -> Result<String, Error> {
    let mut asked = asked(words)?;
    asked.accounts.append(&mut asked.names);
    let mut default = vec!["account", "description", "organization"];
    if asked.with_associations {
        default.extend(["cluster", "parentname", "user"]);
        default.extend(ASSOCIATION_LIMITS);
    }
    if asked.with_coordinators {
        default.push("coordinators");
    }
    let mut lines = Vec::new();
    for account in rows.accounts.iter().filter(|account| any(&asked.accounts, &account.name)) {
        if !asked.with_associations {
            lines.push(Line { account: Some(account), ..Line::default() });
            continue;
        }
        let own = tree::walk(rows).into_iter().filter(|place| place.row.account == account.name);
        lines.extend(own.map(|place| Line {
            account: Some(account),
            association: Some(place.row),
            ..Line::default()
        }));
    }
    Ok(print(rows, &style.form, style.header, columns(&FIELDS, asked.format.as_deref(), &default)?, &lines))
}

/// `show user`.
pub(super) fn users(rows: &'static ListAccountsReply, words: &Words, style: &Style) -> Result<String, Error> {
    let mut asked = asked(words)?;
    asked.users.append(&mut asked.names);
    let mut default = vec!["user", "defaultaccount", "adminlevel"];
    if asked.with_associations {
        default.extend([
            "cluster",
            "account",
            "partition",
            "share",
            "priority",
            "maxjobs",
            "maxsubmit",
            "maxtres",
        ]);
        default.extend(["maxwall", "maxtresmins", "qos", "defaultqos"]);
    }
    if asked.with_coordinators {
        default.push("coordinators");
    }
    let mut lines = Vec::new();
    for user in rows.users.iter().filter(|user| any(&asked.users, &user.name)) {
        let own: Vec<Place<'_>> =
            tree::walk(rows).into_iter().filter(|place| place.row.user == user.name).collect();
        if !own.iter().any(|place| any(&asked.accounts, &place.row.account)) && !asked.accounts.is_empty() {
            continue;
        }
        if asked.with_associations {
            let line = |place: &Place<'static>| Line {
                user: Some(user),
                association: Some(place.row),
                ..Line::default()
            };
            lines.extend(own.iter().filter(|place| any(&asked.accounts, &place.row.account)).map(line));
        } else {
            lines.push(Line { user: Some(user), ..Line::default() });
        }
    }
    Ok(print(rows, &style.form, style.header, columns(&FIELDS, asked.format.as_deref(), &default)?, &lines))
}

/// `show associations`.
pub(super) fn associations(
    rows: &'static ListAccountsReply,
    words: &Words,
    style: &Style,
) -> Result<String, Error> {
    let asked = asked(words)?;
    let mut default = vec!["cluster", "account", "user", "partition"];
    default.extend(ASSOCIATION_LIMITS);
    default.extend(["maxtres", "maxtrespernode", "maxsubmit", "maxwall", "maxtresmins", "qos", "defaultqos"]);
    default.push("grptresrunmins");
    let user_of = |row: &AssociationRow| rows.users.iter().find(|user| user.name == row.user);
    let lines: Vec<Line<'static>> = tree::walk(rows)
        .into_iter()
        .filter(|place| {
            any(&asked.accounts, &place.row.account)
                && any(&asked.users, &place.row.user)
                && any(&asked.clusters, &place.row.cluster)
                && any(&asked.parents, &place.row.parent)
        })
        .map(|place| Line {
            association: Some(place.row),
            user: user_of(place.row),
            indent: if asked.tree { place.depth } else { 0 },
            ..Line::default()
        })
        .collect();
    Ok(print(rows, &style.form, style.header, columns(&FIELDS, asked.format.as_deref(), &default)?, &lines))
}

/// `show qos`.
pub(super) fn qos(rows: &'static ListAccountsReply, words: &Words, style: &Style) -> Result<String, Error> {
    let asked = asked(words)?;
    let lines: Vec<QosRow> = rows.qos.iter().filter(|row| any(&asked.names, &row.name)).cloned().collect();
    let default: Vec<&str> = QOS_FIELDS[..QOS_DEFAULT].iter().map(|field| field.word).collect();
    Ok(print(
        rows,
        &style.form,
        style.header,
        columns(&QOS_FIELDS, asked.format.as_deref(), &default)?,
        &lines,
    ))
}

/// `show tres`.
pub(super) fn tres(rows: &'static ListAccountsReply, words: &Words, style: &Style) -> Result<String, Error> {
    let asked = asked(words)?;
    let lines: Vec<TresRow> = rows
        .tres
        .iter()
        .filter(|row| any(&asked.types, &row.r#type) && any(&asked.names, &row.name))
        .cloned()
        .collect();
    let default = ["type", "name", "id"];
    Ok(print(
        rows,
        &style.form,
        style.header,
        columns(&TRES_FIELDS, asked.format.as_deref(), &default)?,
        &lines,
    ))
}

/// `show cluster`.
pub(super) fn clusters(
    rows: &'static ListAccountsReply,
    words: &Words,
    style: &Style,
) -> Result<String, Error> {
    let mut asked = asked(words)?;
    asked.clusters.append(&mut asked.names);
    // They live as long as the command, as the rows do.
    let names: &'static [String] = change::all_clusters(rows).leak();
    let lines: Vec<ClusterLine<'static>> = names
        .iter()
        .filter(|name| any(&asked.clusters, name))
        .map(|name| ClusterLine {
            name,
            root: rows
                .associations
                .iter()
                .find(|one| one.cluster == *name && one.account == "root" && one.user.is_empty()),
        })
        .collect();
    let default: Vec<&str> = CLUSTER_FIELDS.iter().map(|field| field.word).collect();
    Ok(print(
        rows,
        &style.form,
        style.header,
        columns(&CLUSTER_FIELDS, asked.format.as_deref(), &default)?,
        &lines,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tree::tests::reference;
    use super::super::words::read;
    use super::*;

    fn rows() -> &'static ListAccountsReply {
        let account = |name: &str, description: &str, organization: &str| AccountRow {
            name: name.into(),
            description: description.into(),
            organization: organization.into(),
            ..AccountRow::default()
        };
        let mut rows = reference();
        rows.accounts = vec![account("chem", "chemistry dept", "science")];
        rows.users = vec![
            UserRow { name: "alice".into(), default_account: "physics".into(), ..UserRow::default() },
            UserRow { name: "bob".into(), coordinates: vec!["chem".into()], ..UserRow::default() },
        ];
        let short = [("maxwall", "2"), ("flags", "DenyOnLimit")];
        let pair = |(key, value): &(&str, &str)| KeyValue { key: (*key).into(), value: (*value).into() };
        rows.qos = vec![QosRow { id: 1, name: "short".into(), attributes: short.iter().map(pair).collect() }];
        Box::leak(Box::new(rows))
    }

    type Show = fn(&'static ListAccountsReply, &Words, &Style) -> Result<String, Error>;

    fn check(show: Show, line: &str, parsable: bool, expected: &str) {
        let words = read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let form =
            if parsable { Form::Parsable { delimiter: "|".into(), ends: false } } else { Form::Columns };
        let Ok(text) = show(rows(), &words, &Style { form, header: !parsable }) else { panic!("{line}") };
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines.join("\n"), expected, "{line}");
    }

    #[test]
    fn tables_as_sacctmgr_prints_them() {
        check(accounts, "format=account,descr,org", true, "chem|chemistry dept|science");
        check(accounts, "chem withcoord format=account,coord", true, "chem|bob");
        check(users, "alice format=user,defaultaccount,adminlevel", true, "alice|physics|None");
        check(users, "nosuch", false, "      User   Def Acct     Admin\n---------- ---------- ---------");
        check(users, "bob withassoc format=user,account,qos", true, "bob|physics|lowq,normal");
        check(
            associations,
            "user=alice format=cluster,account,user,share,defaultqos,qos",
            true,
            "conf|chem|alice|3||normal\nconf|physics|alice|5||normal",
        );
        check(associations, "where account=chem format=account,user", true, "chem|\nchem|alice\nchem|dave");
        check(
            qos,
            "format=name,priority,maxwall,maxjobspu,maxsubmitjobspu,maxtrespu,flags",
            true,
            "short|0|00:02:00||||DenyOnLimit",
        );
    }

    #[test]
    fn the_tree_is_indented() {
        check(
            associations,
            "tree format=account,user,fairshare",
            true,
            "root||1\n root|root|1\n chem||20\n  chem|alice|3\n  chem|dave|1\n  biolab||5\n physics||10\n  physics|alice|5\n  physics|bob|7",
        );
    }
}
