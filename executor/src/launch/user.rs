//! What the node's own user database says of a submitter: groups, home, shell.
//!
//! Looked up once a minute for each user, because it may be a network away. The uid comes from the scheduler;
//! the database is this node's.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User};

use crate::sys;

const FRESH: Duration = Duration::from_secs(60);

/// A user of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Every group, the primary one included.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// When, and what.
type LookedUp = (Instant, Arc<Account>);

/// The look-ups of the last minute.
#[derive(Debug, Default)]
pub struct Accounts {
    known: Mutex<HashMap<(u32, u32), LookedUp>>,
}

impl Accounts {
    /// The account of `uid` with primary group `gid`. `hint` names it where the database does not know it.
    #[must_use]
    pub fn look_up(&self, uid: u32, gid: u32, hint: &str) -> Arc<Account> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, account)) = known.get(&(uid, gid))
            && at.elapsed() < FRESH
        {
            return Arc::clone(account);
        }
        let account = Arc::new(ask(uid, gid, hint));
        known.insert((uid, gid), (Instant::now(), Arc::clone(&account)));
        account
    }
}

fn ask(uid: u32, gid: u32, hint: &str) -> Account {
    let entry = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let (name, home, shell) = match entry {
        Some(user) => (user.name, user.dir.display().to_string(), user.shell.display().to_string()),
        None => (hint.to_owned(), "/".to_owned(), "/bin/sh".to_owned()),
    };
    let groups = CString::new(name.as_str()).ok().and_then(|name| sys::user_groups(&name, gid));
    Account { name, groups: groups.unwrap_or_else(|| vec![gid]), home, shell }
}
