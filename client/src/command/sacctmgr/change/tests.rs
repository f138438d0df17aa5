//! What is said of changes, as the goldens have it.

use proto::v1::{AccountRow, ClusterRow, UserRow};

use super::super::tree::tests::reference;
use super::super::words::read;
use super::*;

fn rows() -> ListAccountsReply {
    let mut rows = reference();
    rows.clusters = vec![ClusterRow { name: "conf".into(), ..ClusterRow::default() }];
    rows.accounts = ["root", "physics", "chem", "biolab"]
        .map(|name| AccountRow { name: name.into(), ..AccountRow::default() })
        .to_vec();
    rows.users = ["alice", "bob"].map(|name| UserRow { name: name.into(), ..UserRow::default() }).to_vec();
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
fn a_cluster_that_was_never_added_takes_accounts() {
    let rows = ListAccountsReply { clusters: Vec::new(), ..rows() };
    assert_eq!(all_clusters(&rows), ["conf"]);
    let plan = add_account(&rows, &read(&["new".to_owned()])).ok().unwrap();
    assert!(plan.said.contains("C = conf       A = new"), "{}", plan.said);
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
    assert_eq!(said(modify_user, &["alice", "set", "defaultaccount=chem"]), " Modified users...\n  alice");
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
