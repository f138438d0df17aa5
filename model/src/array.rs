//! Sets of array task ids: the grammar of `--array`, a compact set, and the texts that Slurm prints.
//!
//! A `TaskSet` holds disjoint, ascending arithmetic runs, so its size depends on the number of runs and
//! never on the number of tasks. It never materialises a big array except while a text is parsed.

use std::collections::BTreeMap;

/// The largest task id that any `MaxArraySize` allows (Slurm's own bound).
pub const MAX_TASK_ID: u32 = 4_000_000;

/// Tasks in a run of the set: `first, first+step, …, last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Run {
    last: u32,
    /// At least 1; 1 where the run has a single task.
    step: u32,
}

/// A set of task ids as disjoint runs in ascending order.
///
/// Invariant: the intervals `first..=last` of two runs never overlap.
/// Cost: look-ups and removals O(log runs); memory about 16 bytes a run.
#[derive(Clone, Default)]
pub struct TaskSet {
    runs: BTreeMap<u32, Run>,
    len: u32,
}

/// Why a text is no array specification. Slurm has one sentence for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error;

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Invalid job array specification")
    }
}

impl std::error::Error for Error {}

/// What `--array` asked for: never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArraySpec {
    /// The tasks.
    pub tasks: TaskSet,
    /// `%N`: how many may run at once; 0 is no limit.
    pub throttle: u32,
    /// The first `:STEP` of the text, 1 without one (SLURM_ARRAY_TASK_STEP).
    pub step: u32,
}

/// The text: a digest over debug output must not see how a set is cut into runs.
impl std::fmt::Debug for TaskSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text(None))
    }
}

/// Two sets are equal where they hold the same tasks, however these are cut into runs.
impl PartialEq for TaskSet {
    fn eq(&self, other: &TaskSet) -> bool {
        self.runs == other.runs || (self.len == other.len && self.iter().eq(other.iter()))
    }
}

impl Eq for TaskSet {}

impl ArraySpec {
    /// Reads `--array`: `0-31%4`, `1,3-7:2`, `[1-2]`. Ids above `max_id` are refused.
    ///
    /// An empty text is an error here: to Slurm it is no array at all, which the caller decides.
    /// Cost: O(text + ids); ids are at most [`MAX_TASK_ID`].
    pub fn parse(text: &str, max_id: u32) -> Result<ArraySpec, Error> {
        let max_id = max_id.min(MAX_TASK_ID);
        let (list, throttle) = match text.split_once('%') {
            Some((list, limit)) => (list, number(limit.trim_end_matches(']'))?),
            None => (text, 0),
        };
        let list = list.strip_prefix('[').unwrap_or(list);
        let list = list.strip_suffix(']').unwrap_or(list);
        let mut pieces = Vec::new();
        let mut first_step = None;
        for piece in list.split(',').filter(|piece| !piece.is_empty()) {
            let (first, last, step) = range(piece)?;
            if last > max_id {
                return Err(Error);
            }
            if piece.contains(':') {
                first_step.get_or_insert(step);
            }
            pieces.push((first, last, step));
        }
        let tasks = TaskSet::from_pieces(&pieces);
        if tasks.is_empty() {
            return Err(Error);
        }
        Ok(ArraySpec { tasks, throttle, step: first_step.unwrap_or(1) })
    }

    /// A text of one piece a run, which reads back as the same value: for wires and disks.
    ///
    /// Its length depends on the number of runs, not of tasks, as [`ArraySpec::text`]'s may.
    #[must_use]
    pub fn compact(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        let stepped = self.tasks.ranges().map(|(_, _, step)| step).find(|&step| step > 1);
        if stepped.unwrap_or(1) != self.step {
            // The first `:STEP` of a text is the array's: a piece of one task says it.
            let first = self.tasks.first().unwrap_or_default();
            let _ = write!(out, "{first}-{first}:{}", self.step);
        }
        for (first, last, step) in self.tasks.ranges() {
            let comma = if out.is_empty() { "" } else { "," };
            let _ = match (first == last, step) {
                (true, _) => write!(out, "{comma}{first}"),
                (false, 1) => write!(out, "{comma}{first}-{last}"),
                (false, step) => write!(out, "{comma}{first}-{last}:{step}"),
            };
        }
        if self.throttle > 0 {
            let _ = write!(out, "%{}", self.throttle);
        }
        out
    }

    /// The whole text as it would be given again: `1-3,7%2`.
    #[must_use]
    pub fn text(&self) -> String {
        self.tasks.text_with_throttle(self.throttle, None)
    }
}

/// A number with nothing before or after it.
fn number(text: &str) -> Result<u32, Error> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error);
    }
    text.parse().map_err(|_| Error)
}

/// `7`, `1-5` or `1-9:2` as first, last, step.
fn range(piece: &str) -> Result<(u32, u32, u32), Error> {
    let (bounds, step) = match piece.split_once(':') {
        Some((bounds, step)) => (bounds, number(step)?),
        None => (piece, 1),
    };
    let (first, last) = match bounds.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None if piece.contains(':') => return Err(Error),
        None => {
            let id = number(bounds)?;
            (id, id)
        }
    };
    if step == 0 || first > last {
        return Err(Error);
    }
    Ok((first, last - (last - first) % step, step))
}

impl TaskSet {
    /// The set of no task.
    #[must_use]
    pub fn new() -> TaskSet {
        TaskSet::default()
    }

    /// One task.
    #[must_use]
    pub fn single(id: u32) -> TaskSet {
        TaskSet::from_range(id, id, 1)
    }

    /// `first, first+step, …` up to `last`; empty where `first > last`. A step of 0 counts as 1.
    #[must_use]
    pub fn from_range(first: u32, last: u32, step: u32) -> TaskSet {
        let mut set = TaskSet::new();
        if first <= last {
            set.push_run(first, last, step.max(1));
        }
        set
    }

    /// Any ids, in any order, repeats allowed. Cost: O(n log n).
    #[must_use]
    pub fn from_ids(ids: impl IntoIterator<Item = u32>) -> TaskSet {
        let mut ids: Vec<u32> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        TaskSet::from_sorted(&ids)
    }

    /// The union of (first, last, step) ranges; ranges that stay apart are kept as they are.
    fn from_pieces(pieces: &[(u32, u32, u32)]) -> TaskSet {
        let mut sorted = pieces.to_vec();
        sorted.sort_unstable();
        if sorted.windows(2).all(|pair| pair[0].1 < pair[1].0) {
            let mut set = TaskSet::new();
            for &(first, last, step) in &sorted {
                set.push_run(first, last, step);
            }
            return set;
        }
        // Overlapping ranges are rare: spell them out in a bit map, which an id bounds.
        let size = sorted.iter().map(|piece| piece.1 as usize + 1).max().unwrap_or(0);
        let mut present = vec![false; size];
        for &(first, last, step) in &sorted {
            (first..=last).step_by(step as usize).for_each(|id| present[id as usize] = true);
        }
        let ids: Vec<u32> = (0..size as u32).filter(|&id| present[id as usize]).collect();
        TaskSet::from_sorted(&ids)
    }

    /// Ascending ids without repeats, folded greedily into runs.
    fn from_sorted(ids: &[u32]) -> TaskSet {
        let mut set = TaskSet::new();
        let mut at = 0;
        while at < ids.len() {
            let first = ids[at];
            let mut end = at;
            let mut step = 1;
            if at + 1 < ids.len() {
                step = ids[at + 1] - first;
                while end + 1 < ids.len() && ids[end + 1] - ids[end] == step {
                    end += 1;
                }
                // A pair with a gap saves nothing as a run and would take the start of the next one.
                if end == at + 1 && step > 1 {
                    end = at;
                }
            }
            set.push_run(first, ids[end], step);
            at = end + 1;
        }
        set
    }

    /// Adds a run that lies apart from every other, joining it to its left neighbour where it continues it.
    fn push_run(&mut self, first: u32, last: u32, step: u32) {
        let last = last - (last - first) % step;
        let step = if first == last { 1 } else { step };
        self.len += (last - first) / step + 1;
        if step == 1
            && let Some((_, left)) = self.runs.range_mut(..first).next_back()
            && left.step == 1
            && left.last + 1 == first
        {
            left.last = last;
            return;
        }
        self.runs.insert(first, Run { last, step });
    }

    /// How many tasks. Cost: O(1).
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True without a task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The lowest id.
    #[must_use]
    pub fn first(&self) -> Option<u32> {
        self.runs.keys().next().copied()
    }

    /// The highest id.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.runs.values().next_back().map(|run| run.last)
    }

    /// How many runs hold the set: what its memory depends on.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Every run as (first, last, step), ascending: the form in which the set is stored.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32, u32)> + '_ {
        self.runs.iter().map(|(&first, run)| (first, run.last, run.step))
    }

    /// The set of stored runs, cut as they were; `None` where they overlap or are out of order (a damaged record).
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u32, u32, u32)>) -> Option<TaskSet> {
        let mut set = TaskSet::new();
        for (first, last, step) in ranges {
            if step == 0 || first > last || set.last().is_some_and(|before| before >= first) {
                return None;
            }
            let last = last - (last - first) % step;
            set.len = set.len.checked_add((last - first) / step + 1)?;
            set.runs.insert(first, Run { last, step: if first == last { 1 } else { step } });
        }
        Some(set)
    }

    /// The run that covers `id`, if `id` is a task of it.
    fn run_of(&self, id: u32) -> Option<(u32, Run)> {
        let (&first, &run) = self.runs.range(..=id).next_back()?;
        (id <= run.last && (id - first).is_multiple_of(run.step)).then_some((first, run))
    }

    /// True if `id` is in the set. Cost: O(log runs).
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.run_of(id).is_some()
    }

    /// The last id of the run of neighbours that holds `id`; `None` if it is not there. Cost: O(log runs).
    #[must_use]
    pub fn run_end(&self, id: u32) -> Option<u32> {
        let (_, run) = self.run_of(id)?;
        Some(if run.step == 1 { run.last } else { id })
    }

    /// Takes `id` out; false if it was not there. Cost: O(log runs).
    pub fn remove(&mut self, id: u32) -> bool {
        let Some((first, run)) = self.run_of(id) else { return false };
        self.runs.remove(&first);
        self.len -= (run.last - first) / run.step + 1;
        if first < id {
            self.push_run(first, id - run.step, run.step);
        }
        if id < run.last {
            self.push_run(id + run.step, run.last, run.step);
        }
        true
    }

    /// Takes out and returns the lowest id. Cost: O(log runs).
    pub fn pop_first(&mut self) -> Option<u32> {
        let id = self.first()?;
        self.remove(id);
        Some(id)
    }

    /// Puts `id` in; false if it was there. Cost: O(log runs).
    pub fn insert(&mut self, id: u32) -> bool {
        if self.contains(id) {
            return false;
        }
        // An id in the gap of a stepped run splits the run, so that runs stay apart.
        if let Some((&first, &run)) = self.runs.range(..id).next_back()
            && id < run.last
        {
            self.runs.remove(&first);
            self.len -= (run.last - first) / run.step + 1;
            let before = id - (id - first) % run.step;
            self.push_run(first, before, run.step);
            self.push_run(before + run.step, run.last, run.step);
        }
        let right = id.checked_add(1).and_then(|next| self.runs.get(&next).copied().map(|run| (next, run)));
        match right {
            Some((next, run)) if run.step == 1 => {
                self.runs.remove(&next);
                self.len -= run.last - next + 1;
                self.push_run(id, run.last, 1);
            }
            _ => self.push_run(id, id, 1),
        }
        true
    }

    /// Every id, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.ranges().flat_map(|(first, last, step)| (first..=last).step_by(step as usize))
    }

    /// The one step that explains the whole set, where Slurm prints it as `first-last:step`.
    fn long_step(&self) -> Option<u32> {
        let (first, last) = (self.first()?, self.last()?);
        if last - first <= 10 || self.contains(first + 1) {
            return None;
        }
        if let [(_, run)] = self.runs.iter().take(2).collect::<Vec<_>>()[..] {
            return Some(run.step);
        }
        let mut ids = self.iter();
        let mut before = ids.next()?;
        let mut step = None;
        for id in ids {
            if *step.get_or_insert(id - before) != id - before {
                return None;
            }
            before = id;
        }
        step
    }

    /// The set as squeue and scontrol print it: `1-3,7,10,15`, or `1-21:2` for one long step.
    ///
    /// A text longer than `max_len` (SLURM_BITSTR_LEN) is cut and ends in `...`.
    #[must_use]
    pub fn text(&self, max_len: Option<usize>) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        if let (Some(step), Some(first), Some(last)) = (self.long_step(), self.first(), self.last()) {
            let _ = write!(out, "{first}-{last}:{step}");
            return out;
        }
        let limit = max_len.unwrap_or(usize::MAX);
        let mut pending: Option<(u32, u32)> = None;
        for (first, last, step) in self.ranges() {
            let pieces = if step == 1 { 1 } else { (last - first) / step + 1 };
            for piece in 0..pieces {
                let (low, high) =
                    if step == 1 { (first, last) } else { (first + piece * step, first + piece * step) };
                match &mut pending {
                    Some(range) if range.1 + 1 == low => range.1 = high,
                    _ => {
                        pending.take().into_iter().for_each(|range| push_range(&mut out, range));
                        pending = Some((low, high));
                    }
                }
                if out.len() > limit {
                    out.truncate(limit.saturating_sub(4));
                    out.push_str("...");
                    return out;
                }
            }
        }
        pending.into_iter().for_each(|range| push_range(&mut out, range));
        if out.len() >= limit {
            out.truncate(limit.saturating_sub(4));
            out.push_str("...");
        }
        out
    }

    /// [`TaskSet::text`] with `%THROTTLE` behind it where there is one.
    #[must_use]
    pub fn text_with_throttle(&self, throttle: u32, max_len: Option<usize>) -> String {
        let mut out = self.text(max_len);
        if throttle > 0 {
            out.push_str(&format!("%{throttle}"));
        }
        out
    }
}

fn push_range(out: &mut String, (low, high): (u32, u32)) {
    use std::fmt::Write;
    if !out.is_empty() {
        out.push(',');
    }
    let _ = if low == high { write!(out, "{low}") } else { write!(out, "{low}-{high}") };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = match ArraySpec::parse(text, 1000) {
            Ok(spec) => {
                assert_eq!(ArraySpec::parse(&spec.compact(), 1000).as_ref(), Ok(&spec), "{text}");
                format!("{} n={} step={}", spec.text(), spec.tasks.len(), spec.step)
            }
            Err(Error) => "refused".to_owned(),
        };
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn texts() {
        let table = "
            1-3              | 1-3 n=3 step=1
            1,1,2            | 1-2 n=2 step=1
            1,,2             | 1-2 n=2 step=1
            [1-2]            | 1-2 n=2 step=1
            [1-4%2]          | 1-4%2 n=4 step=1
            1-3%0            | 1-3 n=3 step=1
            0-31%4           | 0-31%4 n=32 step=1
            1-3,7,10-20:5    | 1-3,7,10,15,20 n=7 step=5
            2-6:2%2          | 2,4,6%2 n=3 step=2
            1-12:2           | 1,3,5,7,9,11 n=6 step=2
            1-21:2           | 1-21:2 n=11 step=2
            1,3,5,7,9,11,13,15,17,19,21 | 1-21:2 n=11 step=1
            1-9:2,2-10:2     | 1-10 n=10 step=2
            5,1,3            | 1,3,5 n=3 step=1
            1000             | 1000 n=1 step=1
            1001             | refused
            1-5000           | refused
            x                | refused
            1-x              | refused
            5-1              | refused
            1-3:0            | refused
            -1               | refused
            1:2              | refused
            1%x              | refused
            ,                | refused
        ";
        for line in table.lines().filter(|line| line.contains('|')) {
            let (text, expected) = line.split_once('|').unwrap();
            check(text.trim(), expected.trim());
        }
        check("", "refused");
    }

    #[test]
    fn long_lists_are_cut() {
        let set = TaskSet::from_ids((0..100).map(|n| n * n));
        let text = set.text(Some(64));
        assert!(text.len() <= 64 && text.ends_with("..."), "{text}");
    }

    #[test]
    fn a_million_tasks_stay_small() {
        let spec = ArraySpec::parse("0-999999", MAX_TASK_ID).unwrap();
        assert_eq!((spec.tasks.len(), spec.tasks.runs()), (1_000_000, 1));
        let sparse: Vec<String> = (0..1000).map(|n| format!("{}-{}:3", n * 1000, n * 1000 + 900)).collect();
        let spec = ArraySpec::parse(&sparse.join(","), MAX_TASK_ID).unwrap();
        assert_eq!(spec.tasks.runs(), 1000);
        assert!(spec.compact().len() < 32 * 1024);
    }

    #[test]
    fn behaves_as_a_plain_set() {
        let mut seed = 7_u32;
        let mut next = move |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for _ in 0..50 {
            let (first, step) = (next(20), next(4) + 1);
            let mut set = TaskSet::from_range(first, first + 60, step);
            let mut plain: BTreeSet<u32> = set.iter().collect();
            for _ in 0..200 {
                let id = next(100);
                if next(2) == 0 {
                    assert_eq!(set.remove(id), plain.remove(&id));
                } else {
                    assert_eq!(set.insert(id), plain.insert(id));
                }
                assert_eq!(set.len() as usize, plain.len());
                assert_eq!(set.first(), plain.first().copied());
                assert_eq!(set.last(), plain.last().copied());
                assert!(set.iter().eq(plain.iter().copied()));
                assert!((0..100).all(|id| set.contains(id) == plain.contains(&id)));
            }
            assert_eq!(TaskSet::from_ranges(set.ranges()).unwrap().runs, set.runs);
            let again = TaskSet::from_ids(plain.iter().copied());
            assert_eq!(again, set);
        }
    }
}
