//! Which CPUs of a chosen node: ids instead of counts.
//!
//! Source: measured behaviour of select/cons_tres (recordings `beside-cores`, `sbatch-placement`). First the node is cut
//! to the cores that the job's tasks could use there: the lowest, or with devices as many of each socket as of the
//! others. Of these, as many as it needs are taken
//!
//! * in turn from one socket after the other (the default, block:cyclic), where a task of several CPUs is kept on one
//!   socket if it can be;
//! * or by sockets as they fit best, where `--distribution` or CR_CORE_DEFAULT_DIST_BLOCK says block, of planes, and
//!   where single CPUs are given (CR_CPU).
//!
//! How many are free decides alone whether there is an answer: the rest is preference.

use crate::allocation::CpuIds;
use crate::state::node::NodeDefinition;

use super::assign::Bits;
use super::demand::{Demand, Share};
use super::fit::cpu_unit;

/// Free units (cores, or CPUs where they are the unit) of each socket, ascending.
type Sockets = Vec<Vec<u32>>;

/// Ids of `count` free CPUs of the node; `None` if there are fewer whole free units.
///
/// Nodes whose CPUs are only counted answer the empty set. Cost: O(CPUs of the node).
pub(crate) fn cpu_ids(
    demand: &Demand,
    whole_cores: bool,
    node: &NodeDefinition,
    used: &Bits,
    count: u32,
) -> Option<CpuIds> {
    if !node.bind {
        return Some(CpuIds::new());
    }
    let unit = cpu_unit(whole_cores, node);
    let wanted = count.div_ceil(unit) as usize;
    let mut sockets = free_on_sockets(whole_cores, node, used);
    let tasks = Tasks::of(demand, node, unit);
    if demand.is_by_socket() && demand.share != Share::Whole {
        keep_to_sockets(demand, node, unit, &mut sockets);
    }
    if sockets.iter().map(Vec::len).sum::<usize>() < wanted {
        return None;
    }
    if demand.share != Share::Whole {
        let keep = tasks.usable(&sockets).max(wanted);
        if !demand.has_devices() {
            shorten(&mut sockets, keep);
        } else if demand.cpus_per_gpu > 0 {
            level(&mut sockets, wanted);
        } else if demand.tasks_given {
            level(&mut sockets, keep.min(tasks.units_of(demand.tasks)).max(wanted));
        } else {
            level(&mut sockets, keep);
        }
    }
    let block = demand.block || !whole_cores;
    let mut picked = if block { best_fit(&sockets, wanted) } else { tasks.in_turn(&sockets, wanted) };
    picked.sort_unstable();
    Some(CpuIds::from_ranges(picked.iter().map(|&core| (core * unit, core * unit + unit - 1)).collect()))
}

/// Free units of each socket. Where CPUs are the unit, a socket has as many of them as it has threads.
fn free_on_sockets(whole_cores: bool, node: &NodeDefinition, used: &Bits) -> Sockets {
    let unit = cpu_unit(whole_cores, node);
    let units = node.cpus.0 / unit;
    let is_free = |core: &u32| (0..unit).all(|thread| used.is_free(core * unit + thread));
    let per_socket = units.div_ceil(node.sockets.max(1)).max(1);
    let firsts = (0..units).step_by(per_socket as usize);
    firsts.map(|first| (first..units.min(first + per_socket)).filter(is_free).collect()).collect()
}

/// How many units of each socket are free; empty where CPUs are only counted.
pub(crate) fn free_units(whole_cores: bool, node: &NodeDefinition, used: &Bits) -> Vec<u32> {
    if !node.bind {
        return Vec::new();
    }
    let count = |units: &Vec<u32>| u32::try_from(units.len()).expect("a socket has few units");
    free_on_sockets(whole_cores, node, used).iter().map(count).collect()
}

/// Leaves of each socket what `--cores-per-socket` and `--ntasks-per-socket` allow to take.
fn keep_to_sockets(demand: &Demand, node: &NodeDefinition, unit: u32, sockets: &mut Sockets) {
    let threads = node.threads_per_core.max(1);
    let least = demand.shape[1].max(1).saturating_mul(threads).div_ceil(unit);
    let each = demand.cpus_per_task.saturating_mul(if demand.one_thread { threads } else { 1 });
    let most = demand.tasks_per_socket.saturating_mul(each).div_ceil(unit);
    for socket in sockets {
        if socket.len() < least as usize {
            socket.clear();
        }
        socket.truncate(most as usize);
    }
}

/// What of the tasks decides where their cores are. Amounts are CPUs that a task can use: of a core that
/// `--hint=nomultithread` gives to one thread, one.
struct Tasks {
    /// CPUs of a unit.
    of_unit: u32,
    /// CPUs of a task.
    each: u32,
    /// A task has its cores for itself.
    apart: bool,
    per_socket: u32,
    per_node: u32,
}

impl Tasks {
    fn of(demand: &Demand, node: &NodeDefinition, unit: u32) -> Self {
        let of_unit = if demand.one_thread { (unit / node.threads_per_core.max(1)).max(1) } else { unit };
        Self {
            of_unit,
            each: demand.cpus_per_task.max(1),
            apart: demand.tasks_per_core == 1 && demand.cpus_per_task > of_unit,
            per_socket: demand.tasks_per_socket,
            per_node: if demand.cpus_per_gpu == 0 { demand.tasks_per_node } else { u32::MAX },
        }
    }

    fn cpus(&self, units: &[u32]) -> u32 {
        u32::try_from(units.len()).unwrap_or(u32::MAX).saturating_mul(self.of_unit)
    }

    fn units_of(&self, tasks: u32) -> usize {
        tasks.saturating_mul(self.each).div_ceil(self.of_unit) as usize
    }

    /// Units that whole tasks of the job could use, if all of the node were theirs.
    fn usable(&self, sockets: &Sockets) -> usize {
        let free: u32 = sockets.iter().map(|units| self.cpus(units)).sum();
        let most: u32 = sockets.iter().map(|units| self.cpus(units).min(self.per_socket)).sum();
        let most = most.min(self.per_node);
        let usable = match self.each {
            1 => most,
            each if self.apart => {
                let of_task = each.div_ceil(self.of_unit).saturating_mul(self.of_unit);
                free / of_task * of_task
            }
            each => most.min(free / each).saturating_mul(each),
        };
        usable.div_ceil(self.of_unit) as usize
    }

    /// One unit of each socket after the other, behind whole tasks of several CPUs.
    fn in_turn(&self, sockets: &Sockets, wanted: usize) -> Vec<u32> {
        let mut rest: Vec<&[u32]> = sockets.iter().map(Vec::as_slice).collect();
        let mut picked = Vec::with_capacity(wanted);
        if self.per_socket < u32::MAX {
            self.avoid(&mut rest, wanted);
        } else if self.each > 1 {
            self.whole_tasks(&mut rest, wanted, &mut picked);
        }
        turn(&mut rest, wanted, &mut picked);
        if picked.len() < wanted {
            // Sockets that would better be left alone.
            let mut rest: Vec<&[u32]> = sockets.iter().map(Vec::as_slice).collect();
            picked.clear();
            turn(&mut rest, wanted, &mut picked);
        }
        picked
    }

    /// Of sockets that take so many tasks each, leaves the first ones aside that the others can do without.
    fn avoid(&self, rest: &mut [&[u32]], wanted: usize) {
        let needed = u32::try_from(wanted).unwrap_or(u32::MAX).saturating_mul(self.of_unit);
        let most = self.per_socket.saturating_mul(self.each);
        let mut room: Vec<u32> = rest.iter().map(|units| self.cpus(units)).collect();
        let mut all: u32 = room.iter().sum();
        for room in &mut room {
            if all > needed && *room > most {
                all -= *room - most;
                *room = most;
            }
        }
        for (units, room) in rest.iter_mut().zip(room) {
            if all > needed && room <= most && all - room >= needed {
                *units = &[];
                all -= room;
            }
        }
    }

    /// From the first socket on, as many tasks as are whole there.
    fn whole_tasks(&self, rest: &mut [&[u32]], wanted: usize, picked: &mut Vec<u32>) {
        let mut of_task = self.each;
        for units in rest {
            let free = self.cpus(units);
            let mut room = free - free % self.each;
            while room > 0
                && picked.len() < wanted
                && let Some((&first, behind)) = units.split_first()
            {
                let used = if self.apart { of_task.min(self.of_unit) } else { self.of_unit };
                of_task = if of_task > used { of_task - used } else { self.each };
                room = room.saturating_sub(used);
                picked.push(first);
                *units = behind;
            }
        }
    }
}

/// Leaves the lowest units of all.
fn shorten(sockets: &mut Sockets, keep: usize) {
    let mut left = keep;
    for units in sockets {
        units.truncate(left);
        left -= units.len();
    }
}

/// Gives up the highest units of the fullest sockets, of equal ones of the first, down to so many.
fn level(sockets: &mut Sockets, keep: usize) {
    let all: usize = sockets.iter().map(Vec::len).sum();
    for _ in keep..all {
        if let Some(fullest) = sockets.iter_mut().rev().max_by_key(|units| units.len()) {
            fullest.pop();
        }
    }
}

/// One of each in turn, until there are enough.
fn turn(rest: &mut [&[u32]], wanted: usize, picked: &mut Vec<u32>) {
    while picked.len() < wanted && rest.iter().any(|units| !units.is_empty()) {
        for units in &mut *rest {
            if picked.len() < wanted
                && let Some((&first, behind)) = units.split_first()
            {
                picked.push(first);
                *units = behind;
            }
        }
    }
}

/// The smallest socket that holds all of them, else the largest, again and again; of equal ones the first.
fn best_fit(sockets: &Sockets, wanted: usize) -> Vec<u32> {
    let mut rest: Vec<&[u32]> = sockets.iter().map(Vec::as_slice).collect();
    let mut picked = Vec::with_capacity(wanted);
    while picked.len() < wanted {
        let order = |units: &&mut &[u32]| match units.len() {
            0 => (2, 0),
            free if free >= wanted => (0, free),
            free => (1, usize::MAX - free),
        };
        let Some(units) = rest.iter_mut().min_by_key(order).filter(|units| !units.is_empty()) else { break };
        let (first, behind) = units.split_at(units.len().min(wanted - picked.len()));
        picked.extend_from_slice(first);
        *units = behind;
    }
    picked
}
