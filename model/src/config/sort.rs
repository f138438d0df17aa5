//! Lines of slurm.conf sorted by what they describe, with the keys of the file itself checked.

use super::lex::{Line, Place};
use super::settings::Scope;
use super::terms::ControllerHost;
use super::{Error, Notice, keys};
use std::cell::RefCell;
use std::rc::Rc;

/// Lines of these keys describe an entity.
const ENTITIES: [&str; 6] =
    ["NodeName", "PartitionName", "NodeSet", "DownNodes", "FrontendName", "PowerAction"];

/// What the file holds, sorted by kind of line.
#[derive(Default)]
pub(super) struct Sorted {
    pub(super) settings: Scope,
    pub(super) hosts: Vec<ControllerHost>,
    pub(super) nodes: Vec<Line>,
    pub(super) partitions: Vec<Line>,
    pub(super) node_sets: Vec<Line>,
    pub(super) down: Vec<Line>,
    pub(super) notices: Vec<Notice>,
}

/// Sorts lines by kind, checks keys and values against the table.
pub(super) fn sort(lines: Vec<Line>, errors: &Rc<RefCell<Vec<Error>>>) -> Sorted {
    let mut sorted = Sorted { settings: Scope::new(errors), ..Sorted::default() };
    for line in lines {
        let first = line.pairs.first().map(|(key, _)| key.clone()).unwrap_or_default();
        match ENTITIES.iter().position(|entity| entity.eq_ignore_ascii_case(&first)) {
            Some(0) => sorted.nodes.push(line),
            Some(1) => sorted.partitions.push(line),
            Some(2) => sorted.node_sets.push(line),
            Some(3) => sorted.down.push(line),
            Some(5) => sorted.notices.push(Notice {
                message: format!(
                    "{first} is not supported; it would have named a program that switches nodes on or off"
                ),
                place: line.place,
            }),
            Some(_) => sorted.notices.push(Notice {
                message: format!(
                    "{first} is not supported; it would have named a front end that runs batch scripts"
                ),
                place: line.place,
            }),
            None => line
                .pairs
                .iter()
                .for_each(|(key, value)| global(key, value, &line.place, &mut sorted, errors)),
        }
    }
    sorted
}

fn global(key: &str, value: &str, place: &Place, sorted: &mut Sorted, errors: &Rc<RefCell<Vec<Error>>>) {
    let Some(known) = keys::find(key) else {
        let meant = similar(key, keys::KEYS.iter().map(|known| known.name));
        let meant = meant.map_or_else(String::new, |name| format!("; is {name} meant?"));
        errors.borrow_mut().push(place.error(format!("unrecognized key: {key}{meant}")));
        return;
    };
    if let Err(wanted) = keys::check(known, value) {
        errors
            .borrow_mut()
            .push(place.error(format!("invalid value \"{value}\" for {}: it takes {wanted}", known.name)));
        return;
    }
    if let keys::Class::Unsupported(effect, harmless) = known.class
        && !harmless.iter().any(|word| word.eq_ignore_ascii_case(value))
        && !value.eq_ignore_ascii_case(known.default)
        && !value.is_empty()
    {
        let message = format!("{}={value} is not supported; it would have given {effect}", known.name);
        sorted.notices.push(Notice { place: place.clone(), message });
    }
    if known.name == "SelectType" && value.eq_ignore_ascii_case("select/cons_res") {
        let message =
            "SelectType=select/cons_res is read as select/cons_tres, which took its place".to_owned();
        sorted.notices.push(Notice { place: place.clone(), message });
    }
    if known.name == "PrologFlags" {
        let words = value.split(',').map(|word| word.trim().to_ascii_lowercase());
        for word in words {
            let lost = match word.as_str() {
                "forcerequeueonfail" => {
                    "jobs that were submitted with --no-requeue, requeued when their prolog fails"
                }
                "runinjob" => "prologs that run in the job's own cgroup",
                "x11" => "srun --x11",
                _ => continue,
            };
            let message = format!("PrologFlags={word} is not supported; it would have given {lost}");
            sorted.notices.push(Notice { place: place.clone(), message });
        }
    }
    if known.name == "AccountingStoreFlags"
        && value.split(',').any(|word| word.trim().eq_ignore_ascii_case("no_stdio"))
    {
        let message = "AccountingStoreFlags=no_stdio is not supported; it would have left the paths of standard input, \
                       output and error out of accounting";
        sorted.notices.push(Notice { place: place.clone(), message: message.to_owned() });
    }
    if known.name == "SchedulerParameters" {
        let (wrong, notices) = super::scheduler::check(value, place);
        errors.borrow_mut().extend(wrong);
        sorted.notices.extend(notices);
    }
    if known.name == "SlurmctldHost" {
        sorted.hosts.push(controller_host(value));
    } else if sorted.settings.set(known.name, value, place) {
        let message = format!("{} is given more than once; this value is used", known.name);
        sorted.notices.push(Notice { place: place.clone(), message });
    }
    if known.name == "SlurmctldHost" && sorted.settings.text("SlurmctldHost").is_none() {
        sorted.settings.set(known.name, value, place);
    }
}

/// `ctl` or `ctl(10.0.0.1)`.
fn controller_host(value: &str) -> ControllerHost {
    let (name, addr) = value.split_once('(').unwrap_or((value, value));
    ControllerHost { name: name.into(), addr: addr.trim_end_matches(')').into() }
}

/// The known word that differs from a mistyped one by one letter, or by two that changed places; of two such words neither.
fn similar<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().into_bytes();
    let near = |name: &&str| {
        let name = name.to_ascii_lowercase().into_bytes();
        let same = word.iter().zip(&name).take_while(|(left, right)| left == right).count();
        let (left, right) = (&word[same..], &name[same..]);
        let swapped = left.len() == right.len()
            && left.len() >= 2
            && (left[0], left[1]) == (right[1], right[0])
            && left[2..] == right[2..];
        swapped
            || left.get(1..).is_some_and(|left| Some(left) == right.get(1..) || left == right)
            || right.get(1..) == Some(left)
    };
    let mut found = known.filter(near);
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_are_seen() {
        let of = |word| similar(word, keys::KEYS.iter().map(|known| known.name));
        for slip in ["KillWiat", "killwat", "KillWaiit", "KellWait", "KillWaits", "illWait"] {
            assert_eq!(of(slip), Some("KillWait"), "{slip}");
        }
        for other in ["Foo", "KillWa", "WaitKill", "", "K"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
