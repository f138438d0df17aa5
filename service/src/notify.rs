//! Words to the service manager that started this process (`sd_notify`): ready, stopping, alive.
//!
//! The protocol is a datagram to the Unix socket that `NOTIFY_SOCKET` names; a leading `@` means the abstract namespace.
//! Without the variable nothing is sent. Source: systemd's manual, sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager of this process, where there is one.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    socket: Option<String>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// What the environment says: `NOTIFY_SOCKET`, and `WATCHDOG_USEC` where it is meant for this process.
    #[must_use]
    pub fn of_environment() -> Self {
        Self::read(&|name| std::env::var(name).ok(), std::process::id())
    }

    fn read(look_up: &dyn Fn(&str) -> Option<String>, pid: u32) -> Self {
        let for_us = look_up("WATCHDOG_PID").is_none_or(|text| text == pid.to_string());
        let usec = look_up("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|usec| *usec > 0);
        Self {
            socket: look_up("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()),
            watchdog: usec.filter(|_| for_us).map(Duration::from_micros),
        }
    }

    /// The daemon takes work; what it says stands in `systemctl status`.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The daemon has begun to stop.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// The daemon is alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// How often [`alive`](Self::alive) has to be said: half of what the service manager waits; `None`: never.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// A service manager that is gone needs no word.
    fn say(&self, words: &str) {
        let Some(socket) = &self.socket else { return };
        let address = match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(socket),
        };
        let sent = address
            .and_then(|address| UnixDatagram::unbound()?.send_to_addr(words.as_bytes(), &address).map(drop));
        if let Err(error) = sent {
            tracing::warn!(socket, %error, "the service manager cannot be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_arrives_at_a_path_and_at_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("sluice-notify-{}", std::process::id()));
        let name = format!("sluice-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, ear) in [
            (path.display().to_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ] {
            let manager = Manager::read(&|variable| (variable == "NOTIFY_SOCKET").then(|| socket.clone()), 7);
            manager.ready("taking work");
            let mut bytes = [0; 64];
            let length = ear.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1\nSTATUS=taking work");
        }
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let set = |name: &str| match name {
            "WATCHDOG_PID" => Some("7".to_owned()),
            "WATCHDOG_USEC" => Some("30000000".to_owned()),
            _ => None,
        };
        assert_eq!(Manager::read(&set, 7).alive_every(), Some(Duration::from_secs(15)));
        assert_eq!(Manager::read(&set, 8).alive_every(), None);
        // Nobody to tell: nothing happens.
        Manager::read(&set, 7).alive();
    }
}
