//! `--cpu-bind`: which processors each task of a step is bound to, and what it says about that. Pure.
//!
//! A task's binding is an affinity within the step's cpuset: the kernel leaves out what the step was not given and
//! refuses a binding of which nothing is left, which the task then says ("FAILED").

use std::fmt::Write;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Each task says what it is bound to.
    pub verbose: bool,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// No binding.
    Nothing,
    /// A task for a processor, by rank.
    Rank,
    /// A processor for each task, again from the start where there are more tasks.
    Map(Vec<u32>),
    /// Processors for each task.
    Mask(Vec<Vec<u32>>),
    /// As many of the step's as the task was given: `threads` and `cores`.
    Given,
    /// The step's part of each part of the machine in which the task was given any.
    Around(Part),
    /// The step's part of a NUMA domain, by rank.
    DomainRank,
    /// The step's part of a NUMA domain for each task.
    DomainMap(Vec<u32>),
    /// The step's part of NUMA domains for each task.
    DomainMask(Vec<Vec<u32>>),
}

/// Parts of a machine that a task can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A processor package.
    Socket,
    /// What is near to one memory (NUMA).
    Domain,
    /// All of it: machines have one board.
    Board,
}

/// The bound processors, and the front of the task's line: process id, mask and outcome are the task's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The kernel's numbers; empty: not bound.
    pub cpus: Vec<u32>,
    /// Empty: says nothing.
    pub announce: Vec<u8>,
}

impl Binding {
    /// Reads the option's text; `None` where it is none that this program knows.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut binding = Self { verbose: false, kind: Kind::Given };
        let mut words = text.split(',');
        while let Some(word) = words.next() {
            let (name, first) = match word.split_once([':', '=']) {
                Some((name, first)) => (name, Some(first)),
                None => (word, None),
            };
            // A list goes on to the end of the option.
            let list = || first.into_iter().chain(words.clone()).map(str::to_owned).collect::<Vec<_>>();
            match name.to_ascii_lowercase().as_str() {
                "q" | "quiet" => binding.verbose = false,
                "v" | "verbose" => binding.verbose = true,
                "no" | "none" => binding.kind = Kind::Nothing,
                "rank" => binding.kind = Kind::Rank,
                "threads" | "cores" | "yes" => binding.kind = Kind::Given,
                "sockets" => binding.kind = Kind::Around(Part::Socket),
                "ldoms" => binding.kind = Kind::Around(Part::Domain),
                "boards" => binding.kind = Kind::Around(Part::Board),
                "rank_ldom" | "rankldom" => binding.kind = Kind::DomainRank,
                "map_ldom" | "mapldom" => {
                    let domains =
                        list().iter().flat_map(|item| repeated(item, number)).collect::<Option<_>>()?;
                    binding.kind = Kind::DomainMap(domains);
                    break;
                }
                "mask_ldom" | "maskldom" => {
                    let masks = list().iter().flat_map(|item| repeated(item, mask)).collect::<Option<_>>()?;
                    binding.kind = Kind::DomainMask(masks);
                    break;
                }
                "map_cpu" | "mapcpu" => {
                    let cpus =
                        list().iter().flat_map(|item| repeated(item, number)).collect::<Option<_>>()?;
                    binding.kind = Kind::Map(cpus);
                    break;
                }
                "mask_cpu" | "maskcpu" => {
                    let masks = list().iter().flat_map(|item| repeated(item, mask)).collect::<Option<_>>()?;
                    binding.kind = Kind::Mask(masks);
                    break;
                }
                _ => return None,
            }
        }
        match &binding.kind {
            Kind::Map(list) | Kind::DomainMap(list) if list.is_empty() => None,
            Kind::Mask(masks) | Kind::DomainMask(masks) if masks.is_empty() => None,
            _ => Some(binding),
        }
    }

    /// Of the task of this local rank, of `tasks` on this node, in a step that has these processors; `part_of` numbers the
    /// part of the machine that a processor is in.
    #[must_use]
    pub fn bound(
        &self,
        node: &str,
        rank: u32,
        local: usize,
        tasks: usize,
        step: &[u32],
        part_of: &dyn Fn(Part, u32) -> u32,
    ) -> Bound {
        let given = || {
            let each = (step.len() / tasks.max(1)).max(1);
            let own = step.chunks(each).nth(local % step.len().div_ceil(each).max(1));
            own.unwrap_or_default().to_vec()
        };
        let within = |part: Part, wanted: &[u32]| -> Vec<u32> {
            step.iter().copied().filter(|cpu| wanted.contains(&part_of(part, *cpu))).collect()
        };
        let (word, cpus) = match &self.kind {
            Kind::Nothing => ("NONE", Vec::new()),
            Kind::Rank => ("RANK", step.get(local % step.len().max(1)).copied().into_iter().collect()),
            Kind::Map(cpus) => ("MAP ", vec![cpus[local % cpus.len()]]),
            Kind::Mask(masks) => ("MASK", masks[local % masks.len()].clone()),
            Kind::Given => ("MASK", given()),
            Kind::Around(part) => {
                let parts: Vec<u32> = given().iter().map(|cpu| part_of(*part, *cpu)).collect();
                ("MASK", within(*part, &parts))
            }
            Kind::DomainRank => {
                let mut domains: Vec<u32> = step.iter().map(|cpu| part_of(Part::Domain, *cpu)).collect();
                domains.sort_unstable();
                domains.dedup();
                let own = domains.get(local % domains.len().max(1)).copied();
                ("LDRANK", own.map_or_else(Vec::new, |own| within(Part::Domain, &[own])))
            }
            Kind::DomainMap(list) => ("LDMAP ", within(Part::Domain, &[list[local % list.len()]])),
            Kind::DomainMask(masks) => ("LDMASK", within(Part::Domain, &masks[local % masks.len()])),
        };
        let announce = match self.verbose {
            true => format!("cpu-bind={word} - {node}, task {rank:2} {local:2} [").into_bytes(),
            false => Vec::new(),
        };
        Bound { cpus, announce }
    }

    /// `SLURM_CPU_BIND…` for a step's tasks.
    #[must_use]
    pub fn variables(&self) -> [(&'static str, String); 4] {
        let (kind, list) = match &self.kind {
            Kind::Nothing => ("none", String::new()),
            Kind::Rank => ("rank", String::new()),
            Kind::Map(cpus) => ("map_cpu:", numbers(cpus)),
            Kind::Mask(masks) => ("mask_cpu:", hexadecimals(masks)),
            Kind::Given => ("cores", String::new()),
            Kind::Around(Part::Socket) => ("sockets", String::new()),
            Kind::Around(Part::Domain) => ("ldoms", String::new()),
            Kind::Around(Part::Board) => ("boards", String::new()),
            Kind::DomainRank => ("rank_ldom", String::new()),
            Kind::DomainMap(domains) => ("map_ldom:", numbers(domains)),
            Kind::DomainMask(masks) => ("mask_ldom:", hexadecimals(masks)),
        };
        let verbose = if self.verbose { "verbose" } else { "quiet" };
        [
            ("SLURM_CPU_BIND", format!("{verbose},{kind}{list}")),
            ("SLURM_CPU_BIND_LIST", list),
            ("SLURM_CPU_BIND_TYPE", kind.to_owned()),
            ("SLURM_CPU_BIND_VERBOSE", verbose.to_owned()),
        ]
    }
}

/// An item of a list, as often as `*N` behind it says. Slurm's own limit keeps it short.
fn repeated<T: Clone>(item: &str, read: fn(&str) -> Option<T>) -> Vec<Option<T>> {
    let (item, times) = match item.split_once('*') {
        Some((item, times)) => (item, times.parse().ok().filter(|times| (1..=4096).contains(times))),
        None => (item, Some(1)),
    };
    times.map_or_else(|| vec![None], |times| vec![read(item); times])
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// The bits of a hexadecimal mask.
fn mask(text: &str) -> Option<Vec<u32>> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut cpus = Vec::new();
    for (at, digit) in (0_u32..).zip(digits.chars().rev()) {
        let bits = digit.to_digit(16)?;
        cpus.extend((0..4).filter(|bit| bits & (1 << bit) != 0).map(|bit| at * 4 + bit));
    }
    (!cpus.is_empty()).then_some(cpus)
}

fn numbers(list: &[u32]) -> String {
    list.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn hexadecimals(masks: &[Vec<u32>]) -> String {
    masks.iter().map(|cpus| hexadecimal(cpus)).collect::<Vec<_>>().join(",")
}

/// `0x5` of sorted numbers.
fn hexadecimal(cpus: &[u32]) -> String {
    let digits = cpus.iter().max().map_or(1, |most| most / 4 + 1);
    let mut text = "0x".to_owned();
    for at in (0..digits).rev() {
        let digit =
            cpus.iter().filter(|cpu| **cpu / 4 == at).fold(0, |digit, cpu| digit | 1_u32 << (cpu % 4));
        // Writing to a string cannot fail.
        let _ = write!(text, "{digit:x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Binding, Bound, Part};

    fn cpus(text: &str, tasks: usize, step: &[u32]) -> Vec<Vec<u32>> {
        let binding = Binding::parse(text).unwrap();
        (0..tasks).map(|local| binding.bound("c1", 0, local, tasks, step, &part_of).cpus).collect()
    }

    /// Two sockets of four processors, each of two domains.
    fn part_of(part: Part, cpu: u32) -> u32 {
        match part {
            Part::Socket => cpu / 4,
            Part::Domain => cpu / 2,
            Part::Board => 0,
        }
    }

    #[test]
    fn parts_of_the_machine_hold_a_task() {
        let step = [1, 2, 3, 4, 5, 6];
        assert_eq!(cpus("sockets", 3, &step), [vec![1, 2, 3], vec![1, 2, 3, 4, 5, 6], vec![4, 5, 6]]);
        assert_eq!(cpus("ldoms", 3, &step), [vec![1, 2, 3], vec![2, 3, 4, 5], vec![4, 5, 6]]);
        assert_eq!(cpus("boards", 2, &step), [step.to_vec(), step.to_vec()]);
        assert_eq!(cpus("rank_ldom", 5, &step), [vec![1], vec![2, 3], vec![4, 5], vec![6], vec![1]]);
        assert_eq!(cpus("map_ldom:3,0", 2, &step), [[6], [1]]);
        assert_eq!(cpus("mask_ldom:0x3,8", 2, &step), [vec![1, 2, 3], vec![6]]);
        let [bind, ..] = Binding::parse("v,mask_ldom:0x3,8").unwrap().variables();
        assert_eq!(bind.1, "verbose,mask_ldom:0x3,0x8");
        assert_eq!(Binding::parse("sockets").unwrap().variables()[2].1, "sockets");
    }

    #[test]
    fn each_kind_has_its_processors() {
        assert_eq!(cpus("none", 2, &[4, 5]), [[0_u32; 0]; 2]);
        assert_eq!(cpus("rank", 3, &[4, 5]), [[4], [5], [4]]);
        assert_eq!(cpus("map_cpu:0,0x3", 3, &[]), [[0], [3], [0]]);
        assert_eq!(cpus("quiet,map_cpu:1*2,0", 3, &[]), [[1], [1], [0]]);
        assert_eq!(cpus("mask_cpu:0x5,a", 2, &[]), [vec![0, 2], vec![1, 3]]);
        assert_eq!(cpus("cores", 2, &[4, 5, 6, 7]), [[4, 5], [6, 7]]);
        assert_eq!(cpus("verbose", 2, &[9]), [[9], [9]]);
        for wrong in
            ["map_cpu", "map_cpu:x", "mask_cpu:0x0", "frob", "map_cpu:1*0", "map_ldom", "mask_ldom:x"]
        {
            assert_eq!(Binding::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_verbose_task_says_it_as_slurm_does() {
        let bound = Binding::parse("v,mask_cpu:0x2").unwrap().bound("c1", 3, 1, 4, &[], &part_of);
        let announce = b"cpu-bind=MASK - c1, task  3  1 [".to_vec();
        assert_eq!(bound, Bound { cpus: vec![1], announce });
    }

    #[test]
    fn variables_tell_the_binding() {
        let [bind, list, kind, verbose] = Binding::parse("verbose,mask_cpu:0x11,0x2").unwrap().variables();
        assert_eq!(bind.1, "verbose,mask_cpu:0x11,0x2");
        assert_eq!(
            (list.1.as_str(), kind.1.as_str(), verbose.1.as_str()),
            ("0x11,0x2", "mask_cpu:", "verbose")
        );
    }
}
