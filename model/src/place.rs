//! Where a cluster's daemons listen and keep their state: the one rule for daemons, executors and clients.
//!
//! Pure: what the environment and the configuration say arrives as arguments; nothing is looked up here.

/// The cluster's name where no configuration names one.
pub const DEFAULT_CLUSTER: &str = "sluice";
/// The configuration that is read where none is named.
pub const DEFAULT_CONF: &str = "/etc/slurm/slurm.conf";
/// Name of the scheduler's socket in its folder.
pub const SOCKET_NAME: &str = "scheduler.sock";

/// What decides where the scheduler's socket is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    /// `SLUICE_SOCKET`, where it is set and not empty: it alone counts.
    pub socket: Option<&'a str>,
    /// `ClusterName` of the configuration in force, where there is one.
    pub cluster: Option<&'a str>,
    /// The caller's effective user id.
    pub uid: u32,
    /// `XDG_RUNTIME_DIR`, where it is set and not empty.
    pub runtime_dir: Option<&'a str>,
}

impl Place<'_> {
    /// Where a daemon of this user listens.
    #[must_use]
    pub fn listen(&self) -> String {
        if let Some(socket) = self.socket {
            return socket.to_owned();
        }
        format!("{}/{}/{SOCKET_NAME}", self.runtime_folder(), self.cluster.unwrap_or(DEFAULT_CLUSTER))
    }

    /// The sockets that a client or an executor tries, in order: its user's own, then root's.
    #[must_use]
    pub fn candidates(&self) -> Vec<String> {
        let own = self.listen();
        if self.socket.is_some() || self.uid == 0 {
            return vec![own];
        }
        vec![own, Place { uid: 0, ..*self }.listen()]
    }

    fn runtime_folder(&self) -> String {
        match self.runtime_dir {
            _ if self.uid == 0 => "/run/sluice".to_owned(),
            Some(folder) => format!("{folder}/sluice"),
            None => format!("/run/user/{}/sluice", self.uid),
        }
    }
}

/// Value of `ClusterName` in the text of a `slurm.conf`, as typed; the last one counts.
///
/// Reads nothing but this key, so that a client need not understand the rest. Cost: one pass.
#[must_use]
pub fn cluster_name(conf: &str) -> Option<&str> {
    value_of(conf, "ClusterName")
}

/// The seconds of `MessageTimeout` in a `slurm.conf`, `None` where there are none: how long a client tries to reach
/// the scheduler. Cost: one pass.
#[must_use]
pub fn message_timeout(conf: &str) -> Option<u64> {
    value_of(conf, "MessageTimeout")?.parse().ok()
}

/// The value of a key that clients must know in a `slurm.conf`, as written; `None` where it is not set. Cost: one pass.
#[must_use]
pub fn value_of<'a>(conf: &'a str, wanted: &str) -> Option<&'a str> {
    conf.lines().rev().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let (key, value) = line.trim_start().split_once('=')?;
        let value = value.split_whitespace().next()?.trim_matches('"');
        (key.trim_end().eq_ignore_ascii_case(wanted) && !value.is_empty()).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sockets_in_order() {
        let root = Place { cluster: Some("conf"), ..Place::default() };
        assert_eq!(root.candidates(), ["/run/sluice/conf/scheduler.sock"]);
        let user = Place { uid: 2001, runtime_dir: Some("/run/user/2001"), ..Place::default() };
        let expected = ["/run/user/2001/sluice/sluice/scheduler.sock", "/run/sluice/sluice/scheduler.sock"];
        assert_eq!(user.candidates(), expected);
        assert_eq!(Place { runtime_dir: None, ..user }.listen(), expected[0]);
        assert_eq!(Place { socket: Some("/x"), ..user }.candidates(), ["/x"]);
    }

    #[test]
    fn reads_the_cluster_name() {
        assert_eq!(cluster_name("# ClusterName=no\nclustername = a # c\nX=1\n"), Some("a"));
        assert_eq!(cluster_name("X=1\nClusterNames=2"), None);
        assert_eq!(message_timeout("ClusterName=a\nmessagetimeout = 25 # s\n"), Some(25));
        assert_eq!(message_timeout("MessageTimeout=soon"), None);
    }
}
