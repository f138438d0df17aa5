//! The dynamic GPUs of one simulated node: the cards, which outlive executors, and what an executor holds of them.
//!
//! Who holds which instance is decided by [`executor_claims`], as in the real executor; modelled are the driver (calls that
//! take time, one at a time for each GPU, and fail now and then), the executor's journal of claims, and the processes
//! that have an instance open. Instances are gone after a boot.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use executor_claims::{Book, Claims, Instance, Noted, Order, Owner, Place, Profile, Wanted, enter};
use model::gpu::{Gpu, GpuMode, MigInstance, MigProfile};
use model::gres::GresRequest;

use scheduler_core::effect::RunKey;
use scheduler_core::gpu::geometry;
use scheduler_core::gpu::model::Model;
use scheduler_core::planted::{self, Bug};
use scheduler_core::state::node::GresDefinition;

use super::Options;
use crate::random::SplitMix64;

/// Their type, as slurm.conf has it.
pub(super) const KIND: &str = "h100";
const MODEL: Model = Model::H100With80;
/// GPUs of a node that are cut as jobs need it; before them those that are given as a whole, as other nodes have them, and
/// after them one that is cut for good.
const DYNAMIC: std::ops::Range<u32> = 3..5;
const FIXED: u32 = 5;
/// What the last one is cut into: profile, and the first memory slice of each.
const FIXED_INTO: (&str, [u32; 2]) = ("3g.40gb", [0, 4]);

/// What jobs ask for there.
const REQUESTS: [&str; 10] = [
    "gpu:1g.10gb:1",
    "gpu:1g.10gb:2",
    "gpu:1g.20gb:2",
    "gpu:2g.20gb:1,gpu:1g.10gb:1",
    "gpu:3g.40gb:1",
    "gpu:3g.40gb:2",
    "gpu:h100_4g.40gb:1",
    "gpu:7g.80gb:1",
    "gpu:20gb+:1",
    "gpu:40gb+:1,gpu:1g.10gb:1",
];

/// Whether the nodes of odd numbers have such GPUs: a third of the histories with an administrator.
pub(super) fn offered(seed: u64, options: &Options) -> bool {
    options.administrator && seed % 3 == 1
}

/// Whether a node has them, where they are offered.
pub(super) fn has(place: usize) -> bool {
    place % 2 == 1
}

/// What such a node declares beside whole GPUs and shards of these.
pub(super) fn declared() -> [GresDefinition; 2] {
    let one =
        |kind: &str, count| GresDefinition { name: "gpu".into(), kind: kind.into(), count, indexed: true };
    [one(KIND, DYNAMIC.len() as u64), one(FIXED_INTO.0, FIXED_INTO.1.len() as u64)]
}

/// Something that a job asks for.
pub(super) fn request(random: &mut SplitMix64) -> Vec<GresRequest> {
    let text = random.pick(&REQUESTS).expect("some requests");
    model::gres::parse_list(text).expect("a request of the list")
}

fn profiles() -> Vec<Profile> {
    let profile = |(id, one): (u32, geometry::Profile)| Profile {
        id,
        name: MODEL.name(one),
        compute_slices: one.compute_slices(),
        memory_slices: one.memory_slices(),
        memory_mib: u64::from(MODEL.memory_gb(one)) * 1024,
        most: 7,
        starts: one.starts().iter().copied().map(u32::from).collect(),
    };
    (0..).zip(geometry::Profile::ALL).map(profile).collect()
}

fn uuid(gpu: u32) -> String {
    format!("GPU-{gpu}")
}

/// Which GPU a place is of.
pub(super) fn gpu_of(place: &Place) -> u32 {
    place.gpu.strip_prefix("GPU-").and_then(|number| number.parse().ok()).expect("places are of these GPUs")
}

pub(super) fn owner(run: RunKey) -> Owner {
    Owner { job_id: run.job.0, run: run.run.0 }
}

/// A driver call that is under way, or done and not yet noted.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Create {
        run: RunKey,
        order: Order,
    },
    NoteMade {
        run: RunKey,
        place: Place,
        made: Instance,
    },
    /// `next`: the run that gives it back; `None`: a sweep.
    Destroy {
        next: Option<RunKey>,
        place: Place,
        made: Instance,
    },
    NoteFreed {
        next: Option<RunKey>,
        place: Place,
    },
}

/// What came of a driver call.
pub(super) enum Came {
    /// It is done, and is to be noted.
    Noting,
    /// The run goes on.
    GoesOn(RunKey),
    /// The run's instance could not be made.
    Failed(RunKey),
    /// Nobody waits for it.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cards {
    pub(super) claims: Claims<RunKey>,
    /// The journal of claims, and the boot under which it was last written.
    book: Book,
    book_boot: u64,
    /// What lies on each GPU.
    there: BTreeMap<u32, Vec<Instance>>,
    /// How many were made so far: each has a UUID of its own.
    pub(super) made: u32,
    /// By GPU.
    pub(super) calls: BTreeMap<u32, Call>,
    /// What launches asked for, until their runs have ended.
    wanted: BTreeMap<RunKey, Vec<Wanted>>,
    /// The UUIDs that processes have open.
    open: BTreeMap<RunKey, Vec<String>>,
    /// Places that runs still have to give back.
    pub(super) leaving: BTreeMap<RunKey, VecDeque<Place>>,
    /// Runs that are ended because their instance is gone.
    pub(super) doomed: BTreeSet<RunKey>,
    /// What was told of faults when the executor registered last.
    told: BTreeMap<u32, String>,
}

impl Cards {
    pub(super) fn new() -> Self {
        Self {
            claims: fresh(),
            book: Book::new(),
            book_boot: 1,
            there: BTreeMap::new(),
            made: 0,
            calls: BTreeMap::new(),
            wanted: BTreeMap::new(),
            open: BTreeMap::new(),
            leaving: BTreeMap::new(),
            doomed: BTreeSet::new(),
            told: BTreeMap::new(),
        }
    }

    fn note(&mut self, notes: impl IntoIterator<Item = Noted>) {
        notes.into_iter().for_each(|noted| enter(&mut self.book, noted));
    }

    /// A launch: its slices are claimed with its intent.
    ///
    /// # Errors
    /// The place is held: the scheduler gave it away twice.
    pub(super) fn launch(&mut self, run: RunKey, wanted: Vec<Wanted>) -> Result<(), String> {
        let notes = self.claims.claim(owner(run), run, &wanted);
        self.note(notes.map_err(|why| format!("slices: {run:?} is launched where it cannot be: {why}"))?);
        self.wanted.insert(run, wanted);
        Ok(())
    }

    /// Whether a run has slices, or waits for some.
    pub(super) fn is_user(&self, run: RunKey) -> bool {
        self.wanted.contains_key(&run)
    }

    /// All that a run waits for is there.
    pub(super) fn is_ready(&self, run: RunKey) -> bool {
        let wanted = self.wanted.get(&run).into_iter().flatten();
        wanted.into_iter().all(|one| self.claims.instance(owner(run), one.gpu, one.start).is_some())
    }

    /// The run's processes open their instances.
    ///
    /// # Errors
    /// One of them is open for another job.
    pub(super) fn begin(&mut self, run: RunKey) -> Result<(), String> {
        let wanted = self.wanted.get(&run).into_iter().flatten();
        let made = wanted.filter_map(|one| self.claims.instance(owner(run), one.gpu, one.start));
        let uuids: Vec<String> = made.map(|made| made.uuid.clone()).collect();
        let others = self.open.iter().filter(|(other, _)| owner(**other) != owner(run));
        if let Some((other, _)) =
            others.into_iter().find(|(_, open)| open.iter().any(|one| uuids.contains(one)))
        {
            return Err(format!("slices: {run:?} begins on an instance of {other:?}"));
        }
        self.open.insert(run, uuids);
        Ok(())
    }

    /// The run's processes are gone.
    pub(super) fn process_ended(&mut self, run: RunKey) {
        self.open.remove(&run);
    }

    /// The run has given everything back.
    pub(super) fn forget(&mut self, run: RunKey) {
        self.wanted.remove(&run);
        self.leaving.remove(&run);
        self.doomed.remove(&run);
    }

    /// Whether something that the run had is being destroyed: what comes of that goes on with the run.
    pub(super) fn is_giving_back(&self, run: RunKey) -> bool {
        self.calls.values().any(|call| match call {
            Call::Destroy { next, .. } | Call::NoteFreed { next, .. } => *next == Some(run),
            Call::Create { .. } | Call::NoteMade { .. } => false,
        })
    }

    /// A driver call comes to its end, on that GPU.
    ///
    /// # Errors
    /// It touched an instance that a process has open.
    pub(super) fn done(&mut self, gpu: u32, random: &mut SplitMix64) -> Result<Came, String> {
        match self.calls.remove(&gpu) {
            None => Ok(Came::Nothing),
            Some(Call::Create { run, order }) => match self.create(&order, random) {
                Some(made) => {
                    let place = Place { gpu: uuid(gpu), start: order.start };
                    self.calls.insert(gpu, Call::NoteMade { run, place, made });
                    Ok(Came::Noting)
                }
                None => Ok(Came::Failed(run)),
            },
            Some(Call::NoteMade { run, place, made }) => {
                let noted = self.claims.made(&place, made);
                self.note(noted);
                Ok(Came::GoesOn(run))
            }
            Some(Call::Destroy { next, place, made }) => {
                if self.destroy(gpu, &made, random)? {
                    self.calls.insert(gpu, Call::NoteFreed { next, place });
                    return Ok(Came::Noting);
                }
                self.claims.keep(gpu, format!("the instance at {} cannot be destroyed", place.start));
                Ok(next.map_or(Came::Nothing, Came::GoesOn))
            }
            Some(Call::NoteFreed { next, place }) => {
                self.freed(&place);
                Ok(next.map_or(Came::Nothing, Came::GoesOn))
            }
        }
    }

    /// What lay at a place is destroyed.
    pub(super) fn freed(&mut self, place: &Place) {
        let noted = self.claims.freed(place);
        self.note([noted]);
    }

    /// The driver makes an instance; `None`: it refuses, since something lies there, or for a reason of its own.
    fn create(&mut self, order: &Order, random: &mut SplitMix64) -> Option<Instance> {
        let (start, size) = (order.start, order.profile.memory_slices);
        let there = self.there.entry(order.gpu).or_default();
        let taken = there.iter().any(|one| one.start < start + size && start < one.start + one.size);
        if taken || random.one_in(12) {
            return None;
        }
        self.made += 1;
        let uuid = format!("MIG-{}", self.made);
        let made = Instance { profile: order.profile.id, start, size, gi: start + 1, ci: Some(0), uuid };
        there.push(made.clone());
        Some(made)
    }

    /// The driver destroys an instance, or fails to; one that is not there is no failure.
    fn destroy(&mut self, gpu: u32, made: &Instance, random: &mut SplitMix64) -> Result<bool, String> {
        if let Some((run, _)) = self.open.iter().find(|(_, open)| open.contains(&made.uuid)) {
            return Err(format!("slices: {} is destroyed under {run:?}", made.uuid));
        }
        if random.one_in(10) {
            return Ok(false);
        }
        self.there.entry(gpu).or_default().retain(|one| one.uuid != made.uuid);
        Ok(true)
    }

    /// The executor dies: what it was doing may have been done by the driver, and was not noted.
    ///
    /// # Errors
    /// As [`Cards::done`].
    pub(super) fn crash(&mut self, random: &mut SplitMix64) -> Result<(), String> {
        for (gpu, call) in std::mem::take(&mut self.calls) {
            match call {
                Call::Create { order, .. } if random.one_in(2) => drop(self.create(&order, random)),
                Call::Destroy { made, .. } if random.one_in(2) => drop(self.destroy(gpu, &made, random)?),
                _ => {}
            }
        }
        self.leaving.clear();
        self.doomed.clear();
        Ok(())
    }

    /// The machine is started anew.
    pub(super) fn boot(&mut self) {
        self.calls.clear();
        self.leaving.clear();
        self.doomed.clear();
        self.there.clear();
        self.open.clear();
        self.wanted.clear();
    }

    /// The executor's folder is lost.
    pub(super) fn lose_book(&mut self) {
        self.book.clear();
        self.wanted.clear();
    }

    /// An executor starts under that boot, with these runs alive: it takes the claims over and destroys what is nobody's.
    /// Answers the runs whose instance is gone.
    ///
    /// # Errors
    /// As [`Cards::done`].
    pub(super) fn recover(
        &mut self,
        boot: u64,
        live: &BTreeSet<RunKey>,
        random: &mut SplitMix64,
    ) -> Result<Vec<RunKey>, String> {
        self.claims = fresh();
        self.wanted.retain(|run, _| live.contains(run));
        let same_boot = std::mem::replace(&mut self.book_boot, boot) == boot;
        let book = self.book.clone();
        if planted::is(Bug::ForgetClaims) {
            self.book.clear();
            return Ok(Vec::new());
        }
        let live: Vec<(Owner, RunKey)> = live.iter().map(|run| (owner(*run), *run)).collect();
        let there = &self.there;
        let shown = |gpu: u32| Some(there.get(&gpu).cloned().unwrap_or_default());
        let found = self.claims.reconcile(book, &live, same_boot, shown);
        self.note(found.notes);
        for place in self.claims.idle() {
            let Some(idle) = self.claims.to_free(&place) else { continue };
            let gone = match &idle.made {
                Some(made) => self.destroy(idle.gpu, made, random)?,
                None => true,
            };
            if gone {
                self.freed(&place);
            } else {
                self.claims.keep(idle.gpu, format!("the instance at {} cannot be destroyed", place.start));
            }
        }
        Ok(found.lost.into_iter().map(|(run, _)| run).collect())
    }

    /// Somebody removes an instance by hand.
    pub(super) fn remove_one(&mut self, random: &mut SplitMix64) {
        let busy: Vec<u32> = self.calls.keys().copied().collect();
        let idle = self.there.iter_mut().filter(|(gpu, there)| !there.is_empty() && !busy.contains(gpu));
        if let Some((_, there)) = idle.into_iter().next() {
            let at = usize::try_from(random.below(there.len() as u64)).expect("few lie on a GPU");
            there.remove(at);
        }
    }

    /// Live runs whose instance is not there any more.
    pub(super) fn missing(&self) -> Vec<RunKey> {
        let shown = DYNAMIC.map(|gpu| {
            let there = self.there.get(&gpu).into_iter().flatten();
            (uuid(gpu), there.map(|one| one.uuid.clone()).collect())
        });
        self.claims.missing(&shown.collect()).into_iter().map(|(run, _)| run).collect()
    }

    /// GPUs that are out of service: something of ours cannot be destroyed, or somebody else's lies there.
    fn faults(&self) -> BTreeMap<u32, String> {
        let mut faults = self.claims.faults().clone();
        for (gpu, there) in &self.there {
            // One that is being made, or destroyed, is ours.
            if there.iter().any(|one| !self.claims.is_claimed(&uuid(*gpu), one.start)) {
                faults.entry(*gpu).or_insert_with(|| "it has instances that nobody here made".to_owned());
            }
        }
        faults
    }

    /// Whether the scheduler was told of the GPUs as they are.
    pub(super) fn is_told(&self) -> bool {
        self.told == self.faults()
    }

    /// What the scheduler is told when the executor registers.
    pub(super) fn observed(&mut self) -> Vec<Gpu> {
        self.told = self.faults();
        let profiles: Vec<MigProfile> = profiles()
            .into_iter()
            .map(|one| MigProfile {
                id: one.id,
                name: one.name.into(),
                compute_slices: one.compute_slices,
                memory_slices: one.memory_slices,
                memory_mib: one.memory_mib,
                starts: one.starts,
            })
            .collect();
        let gpu = |index: u32, kind: &str, mode| Gpu { index, kind: kind.into(), mode, ..Gpu::default() };
        let fault = |index| self.told.get(&index).cloned().unwrap_or_default().into();
        let dynamic = DYNAMIC.map(|index| Gpu {
            profiles: profiles.clone(),
            fault: fault(index),
            ..gpu(index, KIND, GpuMode::Dynamic)
        });
        let (profile, starts) = FIXED_INTO;
        let part = |start| MigInstance { profile: profile.into(), start, size: 4, ..MigInstance::default() };
        let fixed = Gpu { instances: starts.map(part).to_vec(), ..gpu(FIXED, KIND, GpuMode::Fixed) };
        let whole = (0..).zip(["a", "a", "b"]).map(|(index, kind)| gpu(index, kind, GpuMode::Whole));
        whole.chain(dynamic).chain([fixed]).collect()
    }

    /// What lies there although no run lives and nobody is to be told of anything; `None`: nothing.
    pub(super) fn left_over(&self) -> Option<String> {
        let there: Vec<&String> = self.there.values().flatten().map(|one| &one.uuid).collect();
        let clean = there.is_empty() && self.book.is_empty() && self.calls.is_empty();
        (!clean).then(|| format!("{there:?} lie there, {:?} is claimed", self.book))
    }
}

fn fresh() -> Claims<RunKey> {
    Claims::new(DYNAMIC.map(|gpu| (gpu, uuid(gpu), profiles())))
}
