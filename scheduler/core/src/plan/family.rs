//! Which waiting requests could use what became free: classes of requests, grouped by what they need.
//!
//! Owns the entries that wait in each class, in the order in which candidates are tested, and the families:
//! classes that take as many nodes of one list, and the same CPUs and devices of each. Memory tells the
//! classes of a family apart, and limits that a partition forbids. What a family's least member cannot use, no member can: so that one look
//! at a family skips all of its classes, and one look at a class all of its entries.

use std::collections::BTreeMap;

use super::policy::OrderKey;
use super::profile::{Amount, KINDS};
use super::shape::{Class, push};
use super::waiting::Waiting;

/// Place of an entry among candidates: rank by the policy's order of candidates, then the queue's.
pub(super) type Candidate = (u64, OrderKey);

/// No family: such a class is looked at whenever anything became free.
const ALONE: u32 = u32::MAX;
/// Not among the active ones.
const NOWHERE: u32 = u32::MAX;

/// What the families know of one class.
#[derive(Debug)]
pub(super) struct Member {
    family: u32,
    /// Place among the active classes of the family.
    place: u32,
    /// Entries that wait, first candidate first.
    pub(super) waiting: Waiting,
    /// It is known that nothing that runs so long or longer can start, unless something became free.
    pub(super) tested: Option<i64>,
    /// It is among the candidates of the present tests.
    pub(super) hot: bool,
    /// All nodes are looked at for it, not only those on which something became free.
    pub(super) full: bool,
}

/// Classes with the same needs but for memory.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) list: u32,
    /// The least need of its members on a node of any kind.
    pub(super) least: Amount,
    /// Classes in which entries wait.
    pub(super) active: Vec<u32>,
    /// Entries wait in some of its classes.
    waits: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Families {
    /// By class.
    pub(super) members: Vec<Member>,
    pub(super) families: Vec<Family>,
    by_need: BTreeMap<(u32, u32, u32, [u32; KINDS]), u32>,
    /// Families in whose classes entries wait, by the CPUs that they need of a node: what needs more than there is
    /// anywhere is passed over in one step.
    pub(super) active: Vec<(u32, u32)>,
    /// Classes of no family in which entries wait.
    pub(super) alone: Vec<u32>,
}

impl Families {
    /// Takes the class of the next number in.
    pub(super) fn add(&mut self, class: &Class) {
        let family = match (&class.fixed, class.demand.required.is_empty()) {
            (Some(fixed), true) => {
                let least = fixed.least();
                let key = (class.list, fixed.count, least.cpus, least.gres);
                let next = u32::try_from(self.families.len()).expect("fewer families than classes");
                let family = *self.by_need.entry(key).or_insert(next);
                if family == next {
                    let active = Vec::new();
                    self.families.push(Family { list: class.list, least, active, waits: false });
                }
                let known = &mut self.families[family as usize].least;
                *known = known.least(least);
                family
            }
            _ => ALONE,
        };
        let member = Member {
            family,
            place: NOWHERE,
            waiting: Waiting::default(),
            tested: None,
            hot: false,
            full: false,
        };
        push(&mut self.members, member);
    }

    /// Frees up to so many of each of what they hold, where none of it is used any more; whether some is left.
    pub(super) fn lessen(&mut self, pieces: usize) -> bool {
        let (members, families) = (self.members.len(), self.families.len());
        self.members.truncate(members.saturating_sub(pieces));
        self.families.truncate(families.saturating_sub(pieces));
        let needs = (0..pieces).map_while(|_| self.by_need.pop_first()).count() == pieces;
        needs || members > pieces || families > pieces
    }

    /// An entry waits in a class, where its runs take `span`. Cost: that of [`Waiting::insert`].
    pub(super) fn join(&mut self, class: u32, span: i64, candidate: Candidate) {
        let member = &mut self.members[class as usize];
        member.waiting.insert(candidate, span);
        if member.place != NOWHERE {
            return;
        }
        if member.family == ALONE {
            member.place = enter(&mut self.alone, class);
            return;
        }
        let family = &mut self.families[member.family as usize];
        member.place = enter(&mut family.active, class);
        if !std::mem::replace(&mut family.waits, true) {
            let place = (family.least.cpus, member.family);
            let at = self.active.partition_point(|other| *other < place);
            self.active.insert(at, place);
        }
    }

    /// An entry of a class waits no more.
    pub(super) fn leave(&mut self, class: u32, candidate: &Candidate) {
        let member = &mut self.members[class as usize];
        member.waiting.remove(candidate);
        if !member.waiting.is_empty() || member.place == NOWHERE {
            return;
        }
        // Nobody keeps in mind what it could use.
        member.tested = None;
        let place = std::mem::replace(&mut member.place, NOWHERE) as usize;
        if member.family == ALONE {
            self.alone.swap_remove(place);
            if let Some(&moved) = self.alone.get(place) {
                self.members[moved as usize].place = place_of(place);
            }
            return;
        }
        let number = member.family;
        let family = &mut self.families[number as usize];
        family.active.swap_remove(place);
        if let Some(&moved) = family.active.get(place) {
            self.members[moved as usize].place = place_of(place);
        }
        let family = &mut self.families[number as usize];
        if family.active.is_empty() {
            family.waits = false;
            let place = (family.least.cpus, number);
            self.active.remove(self.active.binary_search(&place).expect("what waits is active"));
        }
    }
}

fn place_of(place: usize) -> u32 {
    u32::try_from(place).expect("classes are counted in 32 bits")
}

fn enter<T>(list: &mut Vec<T>, one: T) -> u32 {
    list.push(one);
    place_of(list.len() - 1)
}
