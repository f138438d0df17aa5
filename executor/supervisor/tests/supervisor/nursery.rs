//! A nursery gives runs to supervisors: to new ones, and to those that are done with a short script of the same user.

use std::fs::{self, File};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};

use executor_supervisor::frame;
use executor_supervisor::nursery::{ARGUMENT, Fate, MESSAGE_MAX, News, Order};
use executor_supervisor::outcome::Outcome;
use executor_supervisor::{OUTCOME_FILE, SOCKET_FILE, SPEC_FILE};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, sendmsg, socketpair,
};
use nix::unistd::Pid;

use crate::code;
use crate::support::{Place, bytes, children, eventually, wait_for_file};

/// Runs until `go` is there.
const WAITS: &str = ": > begun; until [ -e go ]; do sleep 0.02; done; exit 5";

struct Nursery {
    child: Child,
    socket: Option<OwnedFd>,
}

impl Nursery {
    fn start() -> Self {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sluice-supervisor"))
            .arg(ARGUMENT)
            .arg(" ".repeat(200))
            .stdin(theirs)
            .spawn()
            .unwrap();
        Self { child, socket: Some(ours) }
    }

    fn raw(&self) -> i32 {
        self.socket.as_ref().expect("it is open").as_raw_fd()
    }

    /// Hands over a script in this folder.
    fn hand(&self, serial: u64, place: &Place, text: &str, owner: Option<u32>) {
        let path = place.run().join(SPEC_FILE);
        fs::write(&path, place.batch(text).encode()).unwrap();
        // It goes on to the supervisor, which takes the lock through it.
        let lock = File::open(path).unwrap();
        let order = Order { serial, folder: bytes(&place.run()), owner }.encode();
        let files = [lock.as_raw_fd()];
        let beside = [ControlMessage::ScmRights(&files)];
        sendmsg::<()>(self.raw(), &[IoSlice::new(&order)], &beside, MsgFlags::empty(), None).unwrap();
    }

    fn knock(&self, serial: u64) {
        let order = Order::knock(serial).encode();
        sendmsg::<()>(self.raw(), &[IoSlice::new(&order)], &[], MsgFlags::empty(), None).unwrap();
    }

    fn hear(&self) -> Vec<News> {
        let mut buffer = [0; MESSAGE_MAX];
        let length = recv(self.raw(), &mut buffer, MsgFlags::empty()).unwrap();
        News::decode_all(&buffer[..length]).unwrap()
    }

    /// Its supervisors.
    fn children(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// The supervisor that has this run.
    fn of(&self, place: &Place) -> u32 {
        let shown = [b"sluice-supervisor\0", &bytes(&place.run())[..], b"\0"].concat();
        eventually("a supervisor with the run", || {
            let shows = |pid: &u32| {
                fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(&shown))
            };
            self.children().into_iter().find(shows)
        })
    }

    /// Hands over a script, sees it run, and lets it end: who had it, and how many files that one had open.
    fn pass(&self, serial: u64, place: &Place, owner: Option<u32>) -> (u32, usize) {
        self.hand(serial, place, WAITS, owner);
        wait_for_file(place, "begun");
        let pid = self.of(place);
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        fs::write(place.work("go"), "").unwrap();
        assert_eq!(self.hear(), [News { serial, fate: Fate::Exited(0) }]);
        assert_eq!(outcome(place).unwrap().exit, code(5));
        let lock = File::open(place.run().join(SPEC_FILE)).unwrap();
        assert!(
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_ok(),
            "nobody holds a run that is over"
        );
        (pid, open)
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        self.socket = None;
        let ended = self.child.wait();
        assert!(std::thread::panicking() || ended.unwrap().success());
    }
}

fn outcome(place: &Place) -> Option<Outcome> {
    let bytes = fs::read(place.run().join(OUTCOME_FILE)).ok()?;
    Outcome::decode(&bytes, "7.batch.1").ok()
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_nursery_makes_supervisors_that_outlive_it() {
    let (one, other) = (Place::new("nursery-1"), Place::new("nursery-2"));
    let nursery = Nursery::start();
    nursery.hand(3, &one, "exit 4", None);
    nursery.hand(8, &other, WAITS, None);
    assert_eq!(nursery.hear(), [News { serial: 3, fate: Fate::Exited(0) }]);
    assert_eq!(outcome(&one).unwrap().exit, code(4));
    wait_for_file(&other, "begun");
    // A script's socket may come later than it; one of nobody's runs is passed over.
    for serial in [99, 8] {
        nursery.knock(serial);
    }
    eventually("the script's socket", || frame::connect(&other.run().join(SOCKET_FILE)).ok());
    nursery.of(&other);
    drop(nursery);
    fs::write(other.work("go"), "").unwrap();
    let ended = eventually("the outcome of the run that outlived its nursery", || outcome(&other));
    assert_eq!(ended.exit, code(5));
}

#[test]
fn a_supervisor_has_one_short_run_of_a_user_after_the_other() {
    let places: Vec<Place> = (0..6).map(|number| Place::new(&format!("reuse-{number}"))).collect();
    let nursery = Nursery::start();
    // Within a second each, or it has its socket and is not plain any more: a run that took longer is tried again.
    let (first, _) = nursery.pass(1, &places[0], Some(1));
    let (second, files) = nursery.pass(2, &places[1], Some(1));
    let (third, files_again) = nursery.pass(3, &places[2], Some(1));
    let slow = places[..3].iter().any(|place| place.run().join(SOCKET_FILE).exists());
    assert!(slow || (first, first) == (second, third), "{first}, {second}, {third}");
    assert!(slow || files == files_again, "one more open file after each run");
    let (stranger, _) = nursery.pass(4, &places[3], Some(2));
    let (nobodys, _) = nursery.pass(5, &places[4], None);
    for other in [stranger, nobodys] {
        assert!(other != third, "of another user's run nothing is in its memory");
    }
    // Those that wait do not wait for ever.
    eventually("waiting supervisors to end", || nursery.children().is_empty().then_some(()));
    nursery.pass(6, &places[5], Some(1));
}

#[test]
fn what_left_something_behind_has_no_second_run() {
    let places: Vec<Place> = (0..2).map(|number| Place::new(&format!("reuse-not-{number}"))).collect();
    let nursery = Nursery::start();
    nursery.hand(1, &places[0], "sleep 60 & : > begun; until [ -e go ]; do sleep 0.02; done", Some(1));
    wait_for_file(&places[0], "begun");
    let first = nursery.of(&places[0]);
    fs::write(places[0].work("go"), "").unwrap();
    assert_eq!(nursery.hear(), [News { serial: 1, fate: Fate::Exited(0) }]);
    assert!(outcome(&places[0]).is_some());
    eventually("the supervisor that had to kill to end", || (!is_there(first)).then_some(()));
    nursery.pass(2, &places[1], Some(1));
}

#[test]
fn a_waiting_supervisor_that_is_killed_is_not_missed() {
    let places: Vec<Place> = (0..2).map(|number| Place::new(&format!("reuse-killed-{number}"))).collect();
    let nursery = Nursery::start();
    let (first, _) = nursery.pass(1, &places[0], Some(1));
    // It may have gone by itself.
    let _ = kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL);
    eventually("its end", || (!is_there(first)).then_some(()));
    let (second, _) = nursery.pass(2, &places[1], Some(1));
    assert_ne!(first, second);
}
