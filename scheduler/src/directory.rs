//! Names of users and groups, looked up in the system's databases and remembered for a minute.
//!
//! Owns the caches. Look-ups may block (LDAP): callers on the runtime's threads that may miss the cache
//! use [`Directory::asker_async`].

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::id::{Gid, Uid};
use nix::unistd::{Group, User};
use scheduler_core::effect::Asker;

/// How long a name is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Most names in a cache; then it is emptied.
const ENTRIES_MAX: usize = 65_536;

type Cache<K, V> = Mutex<HashMap<K, (Instant, V)>>;

/// The caches. Shared by all threads.
#[derive(Default)]
pub struct Directory {
    users: Cache<u32, Arc<str>>,
    groups: Cache<u32, Arc<str>>,
    askers: Cache<(u32, u32), Asker>,
}

impl Directory {
    /// Login name of a user; the number where there is none.
    #[must_use]
    pub fn user(&self, uid: Uid) -> Arc<str> {
        cached(&self.users, uid.0, || match User::from_uid(nix::unistd::Uid::from_raw(uid.0)) {
            Ok(Some(user)) => user.name.into(),
            Ok(None) | Err(_) => uid.to_string().into(),
        })
    }

    /// Name of a group; the number where there is none.
    #[must_use]
    pub fn group(&self, gid: Gid) -> Arc<str> {
        cached(&self.groups, gid.0, || match Group::from_gid(nix::unistd::Gid::from_raw(gid.0)) {
            Ok(Some(group)) => group.name.into(),
            Ok(None) | Err(_) => gid.to_string().into(),
        })
    }

    /// Who is behind a connection, if it is remembered.
    #[must_use]
    pub fn known_asker(&self, uid: u32, gid: u32) -> Option<Asker> {
        look_up(&self.askers, &(uid, gid))
    }

    /// Who is behind a connection with these credentials of the kernel.
    #[must_use]
    pub fn asker(&self, uid: u32, gid: u32) -> Asker {
        cached(&self.askers, (uid, gid), || {
            let name = self.user(Uid(uid));
            let groups = self.groups_of(&name, gid);
            Asker { uid: Uid(uid), gid: Gid(gid), name, groups }
        })
    }

    /// The same without blocking a thread of the runtime.
    pub async fn asker_async(self: &Arc<Self>, uid: u32, gid: u32) -> Asker {
        if let Some(asker) = self.known_asker(uid, gid) {
            return asker;
        }
        let directory = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || directory.asker(uid, gid)).await;
        found.unwrap_or_else(|_| Asker {
            uid: Uid(uid),
            gid: Gid(gid),
            name: uid.to_string().into(),
            groups: Arc::from([]),
        })
    }

    fn groups_of(&self, name: &str, gid: u32) -> Arc<[Box<str>]> {
        let Ok(login) = CString::new(name) else { return Arc::from([]) };
        let groups = nix::unistd::getgrouplist(&login, nix::unistd::Gid::from_raw(gid)).unwrap_or_default();
        groups.into_iter().map(|group| Box::from(&*self.group(Gid(group.as_raw())))).collect()
    }
}

fn look_up<K: std::hash::Hash + Eq, V: Clone>(cache: &Cache<K, V>, key: &K) -> Option<V> {
    let cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    cache.get(key).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, value)| value.clone())
}

fn cached<K: std::hash::Hash + Eq, V: Clone>(cache: &Cache<K, V>, key: K, find: impl FnOnce() -> V) -> V {
    if let Some(value) = look_up(cache, &key) {
        return value;
    }
    // Found outside the lock: a slow directory delays only who asks for this name.
    let value = find();
    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= ENTRIES_MAX {
        cache.clear();
    }
    cache.insert(key, (Instant::now(), value.clone()));
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_root_and_the_nameless() {
        let directory = Directory::default();
        assert_eq!(&*directory.user(Uid(0)), "root");
        assert_eq!(&*directory.user(Uid(3_999_999_999)), "3999999999");
        assert!(directory.known_asker(0, 0).is_none());
        let asker = directory.asker(0, 0);
        assert_eq!((asker.uid, &*asker.name), (Uid(0), "root"));
        assert!(asker.groups.iter().any(|group| &**group == "root"));
        assert_eq!(directory.known_asker(0, 0), Some(asker));
    }
}
