//! Claims and instances against a driver that is played.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use model::id::{Hook, StepId};

use super::{Note, Owner, Place, Slices, Wanted};
use crate::gpu::{Driver, Fault, Instance, Observed, Profile, Vitals, code};
use crate::key::Key;
use crate::record::Record;

/// One GPU in memory.
#[derive(Default)]
struct Played {
    there: Mutex<Vec<Instance>>,
    made: Mutex<u32>,
    fails: Mutex<Vec<(&'static str, u32)>>,
}

impl Played {
    fn fail(&self, call: &'static str) -> Result<(), Fault> {
        let mut fails = self.fails.lock().unwrap();
        match fails.iter().position(|(name, _)| *name == call) {
            Some(at) => Err(Fault { call, code: fails.remove(at).1, text: "ordered".to_owned() }),
            None => Ok(()),
        }
    }

    fn uuids(&self) -> Vec<String> {
        self.there.lock().unwrap().iter().map(|there| there.uuid.clone()).collect()
    }
}

impl Driver for Played {
    fn version(&self) -> String {
        "played".to_owned()
    }
    fn observe(&self) -> Result<Vec<Observed>, Fault> {
        Ok(Vec::new())
    }
    fn instances(&self, _: usize) -> Result<Vec<Instance>, Fault> {
        Ok(self.there.lock().unwrap().clone())
    }
    fn create(&self, _: usize, profile: &Profile, start: u32) -> Result<Instance, Fault> {
        self.fail("create")?;
        let mut made = self.made.lock().unwrap();
        *made += 1;
        let (size, uuid) = (profile.memory_slices, format!("MIG-{made}"));
        let one = Instance { profile: profile.id, start, size, gi: start + 1, ci: Some(0), uuid };
        self.there.lock().unwrap().push(one.clone());
        Ok(one)
    }
    fn destroy(&self, _: usize, instance: &Instance) -> Result<(), Fault> {
        self.fail("destroy")?;
        self.there.lock().unwrap().retain(|there| there.uuid != instance.uuid);
        Ok(())
    }
    fn vitals(&self, _: usize) -> Result<Vitals, Fault> {
        Ok(Vitals::default())
    }
    fn instance_memory_used_mib(&self, _: usize, _: &Instance) -> Result<u64, Fault> {
        Ok(0)
    }
    fn errors(&self) -> Vec<(usize, u64)> {
        Vec::new()
    }
}

fn key(job_id: u32, step: StepId) -> Key {
    Key { job_id, step, run: 1 }
}

fn world() -> (Arc<Played>, Slices) {
    let driver = Arc::new(Played::default());
    let slices = again(&driver);
    (driver, slices)
}

fn again(driver: &Arc<Played>) -> Slices {
    let profile = |id, name: &str, memory_slices, starts: &[u32]| Profile {
        id,
        name: name.to_owned(),
        compute_slices: memory_slices,
        memory_slices,
        memory_mib: 1,
        most: 7,
        starts: starts.to_vec(),
    };
    let profiles = vec![profile(19, "1g.5gb", 1, &[0, 1, 2, 3, 4, 5, 6]), profile(9, "3g.20gb", 4, &[0, 4])];
    Slices::new(Arc::clone(driver) as Arc<dyn Driver>, std::iter::once((2, "GPU-2".to_owned(), profiles)))
}

fn want(profile: &str, start: u32) -> Vec<Wanted> {
    vec![Wanted { gpu: 2, profile: profile.to_owned(), start }]
}

fn place(start: u32) -> Place {
    Place { gpu: "GPU-2".to_owned(), start }
}

/// What a journal holds after these records.
fn journal(records: &[Record]) -> executor_claims::Book {
    let mut memory = crate::spool::Memory::default();
    records.iter().for_each(|record| memory.apply(record.clone()));
    memory.slices
}

#[test]
fn an_instance_lives_as_long_as_a_run_of_its_job_uses_it() {
    let (driver, slices) = world();
    let (batch, step) = (key(7, StepId::Batch), key(7, StepId::Number(0)));
    let owner = Owner::from(batch);
    assert_eq!(
        slices.claim(batch, &want("3g.20gb", 4)).unwrap(),
        [Record::Slice(place(4), Note::Claimed(owner, 9))]
    );
    assert!(driver.uuids().is_empty(), "a claim calls no driver");
    assert_eq!(slices.ensure(batch).unwrap().len(), 1);
    // Said again, and by a step of the same job: nothing more.
    assert_eq!(slices.claim(batch, &want("3g.20gb", 4)).unwrap(), []);
    assert_eq!(slices.claim(step, &want("3g.20gb", 4)).unwrap(), []);
    assert_eq!(slices.ensure(step).unwrap(), []);
    assert_eq!(driver.uuids(), ["MIG-1"]);
    assert_eq!(slices.instance(owner, 2, 4).unwrap().uuid, "MIG-1");
    assert_eq!(slices.instance(Owner { job_id: 8, run: 1 }, 2, 4), None, "another job has none");
    assert_eq!(slices.release(step), []);
    assert_eq!(driver.uuids(), ["MIG-1"]);
    assert_eq!(slices.release(batch), [Record::Slice(place(4), Note::Free)]);
    assert_eq!((driver.uuids().len(), slices.release(batch).len()), (0, 0));
}

#[test]
fn what_cannot_be_is_refused_before_the_driver_is_asked() {
    let (driver, slices) = world();
    slices.claim(key(1, StepId::Batch), &want("3g.20gb", 0)).unwrap();
    for (wanted, sentence) in [
        (want("1g.5gb", 3), "GPU 2: job 1 still holds memory slice 0"),
        (want("3g.20gb", 0), "GPU 2: job 1 still holds memory slice 0"),
        (want("3g.20gb", 2), "GPU 2: no 3g.20gb can begin at 2"),
        (want("9g.90gb", 0), "GPU 2 has no profile 9g.90gb"),
        (vec![Wanted { gpu: 0, profile: "1g.5gb".to_owned(), start: 0 }], "GPU 0 makes no instances"),
    ] {
        assert_eq!(slices.claim(key(2, StepId::Batch), &wanted), Err(sentence.to_owned()));
    }
    assert!(slices.claim(key(2, StepId::Batch), &want("3g.20gb", 4)).is_ok());
    assert!(driver.uuids().is_empty());
}

#[test]
fn a_failed_creation_leaves_nothing() {
    let (driver, slices) = world();
    let run = key(1, StepId::Batch);
    slices.claim(run, &want("3g.20gb", 0)).unwrap();
    driver.fails.lock().unwrap().push(("create", 999));
    assert_eq!(slices.ensure(run).unwrap_err(), "GPU 2: cannot make a 3g.20gb at 0: create: ordered");
    assert_eq!(slices.release(run), [Record::Slice(place(0), Note::Free)]);
    assert!(slices.claim(key(2, StepId::Batch), &want("3g.20gb", 0)).is_ok());
}

#[test]
fn what_cannot_be_destroyed_puts_its_gpu_at_fault_until_it_can() {
    let (driver, slices) = world();
    let run = key(1, StepId::Batch);
    slices.claim(run, &want("3g.20gb", 0)).unwrap();
    slices.ensure(run).unwrap();
    driver.fails.lock().unwrap().push(("destroy", 999));
    assert_eq!(slices.release(run), []);
    assert_eq!(slices.faults()[&2], "the instance at 0 cannot be destroyed: destroy: ordered");
    assert!(slices.claim(key(2, StepId::Batch), &want("1g.5gb", 0)).is_err(), "the place is not free");
    // One that is busy for a moment is waited for.
    driver.fails.lock().unwrap().push(("destroy", code::IN_USE));
    assert_eq!(slices.sweep(), [Record::Slice(place(0), Note::Free)]);
    assert!(slices.faults().is_empty() && driver.uuids().is_empty());
}

#[test]
fn after_a_crash_ours_is_removed_and_nothing_else() {
    let foreign =
        Instance { profile: 19, start: 6, size: 1, gi: 7, ci: Some(0), uuid: "MIG-foreign".to_owned() };
    let (job, other) = (key(7, StepId::Batch), key(8, StepId::Batch));
    // Before the call, after the call, after it was noted: the run lives or it does not.
    for (made, noted, lives) in [
        (false, false, false),
        (true, false, false),
        (true, true, false),
        (true, false, true),
        (true, true, true),
    ] {
        let (driver, slices) = world();
        driver.there.lock().unwrap().push(foreign.clone());
        let mut records = slices.claim(job, &want("3g.20gb", 0)).unwrap();
        if made {
            let more = slices.ensure(job).unwrap();
            records.extend(more.into_iter().filter(|_| noted));
        }
        let slices = again(&driver);
        let live = if lives { vec![job, other] } else { vec![other] };
        let found = slices.reconcile(journal(&records), &live, true);
        assert_eq!(found.lost, [], "{made} {noted} {lives}");
        let expected = if lives { vec!["MIG-foreign", "MIG-1"] } else { vec!["MIG-foreign"] };
        assert_eq!(driver.uuids(), expected, "{made} {noted} {lives}");
        assert_eq!(found.records.is_empty(), lives, "{made} {noted} {lives}");
        assert_eq!(slices.is_user(job), lives);
        records.extend(slices.records());
        assert_eq!(journal(&slices.records()).len(), usize::from(lives), "what a checkpoint keeps");
    }
}

#[test]
fn an_owner_without_its_instance_is_named() {
    let (driver, slices) = world();
    let run = key(7, StepId::Batch);
    let mut records = slices.claim(run, &want("3g.20gb", 0)).unwrap();
    records.extend(slices.ensure(run).unwrap());
    let shown = |uuids: Vec<String>| BTreeMap::from([("GPU-2".to_owned(), uuids)]);
    assert_eq!(slices.missing(&shown(driver.uuids())), []);
    // Somebody removes it and makes another one at the same place.
    driver.there.lock().unwrap()[0].uuid = "MIG-other".to_owned();
    assert_eq!(slices.missing(&shown(driver.uuids())), [(run, "its MIG instance MIG-1 is gone".to_owned())]);
    let slices = again(&driver);
    let found = slices.reconcile(journal(&records), &[run], true);
    assert_eq!(found.lost, [(run, "its MIG instance at 0 of GPU 2 is gone".to_owned())]);
    slices.release(run);
    assert_eq!(driver.uuids(), ["MIG-other"], "it is not ours");
}

#[test]
fn a_program_of_the_site_keeps_no_instance() {
    let (driver, slices) = world();
    let run = key(7, StepId::Batch);
    let mut records = slices.claim(run, &want("3g.20gb", 0)).unwrap();
    records.extend(slices.ensure(run).unwrap());
    let epilog = key(7, StepId::Hook(Hook::Epilog));
    // It cannot be destroyed: the GPU is at fault although the job's epilog lives.
    driver.fails.lock().unwrap().push(("destroy", 999));
    let slices = again(&driver);
    let found = slices.reconcile(journal(&records), &[epilog], true);
    assert_eq!((found.records, found.lost), (Vec::new(), Vec::new()));
    assert_eq!(slices.faults().keys().collect::<Vec<_>>(), [&2]);
    assert!(!slices.is_user(epilog));
    assert_eq!(slices.sweep(), [Record::Slice(place(0), Note::Free)]);
    assert!(slices.faults().is_empty() && driver.uuids().is_empty());
}

#[test]
fn after_a_boot_nothing_is_ours() {
    let (driver, slices) = world();
    let run = key(7, StepId::Batch);
    let records = slices.claim(run, &want("3g.20gb", 0)).unwrap();
    slices.ensure(run).unwrap();
    let slices = again(&driver);
    let found = slices.reconcile(journal(&records), &[], false);
    assert_eq!(found.records, [Record::Slice(place(0), Note::Free)]);
    assert_eq!(driver.uuids(), ["MIG-1"], "made by somebody since then");
}
