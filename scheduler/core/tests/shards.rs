//! GPUs that jobs share in parts (`gres/shard`): who gets which GPU, who waits until when, and what is never both whole
//! and shared.
//!
//! Places are those that Slurm 26.05 gave for the same jobs. The world's checks after every input include that no GPU
//! has more shards held than it has, and none while a job has the whole of it.

mod world;

use std::collections::BTreeMap;

use model::gpu::{Gpu, GpuMode};
use model::gres::parse_list;
use model::id::JobId;
use model::job::JobState;
use model::refusal::Refusal;
use model::request::{JobRequest, Sharing};
use model::time::Span;
use scheduler_core::allocation::GresShare;
use scheduler_core::effect::Answer;
use scheduler_core::settings::Settings;
use scheduler_core::tally::Tally;
use world::gpus::{shares, wants, world_with};
use world::{ALICE, World, job};

/// Nodes of 32 CPUs that declare these devices, which no driver shows.
fn world(nodes: &[(&str, &str)]) -> World {
    let nodes: Vec<_> = nodes.iter().map(|(name, gres)| (*name, *gres, Vec::new())).collect();
    world_with(&nodes, |settings| settings)
}

/// `2 of 0` for shards, `whole 1` for a GPU; `wait` of a job that waits.
fn place(world: &World, id: JobId) -> String {
    if world.state_of(id) == JobState::Pending {
        return "wait".to_owned();
    }
    let mut words = Vec::new();
    for share in shares(world, id) {
        words.extend(share.indices.iter().map(|index| format!("whole {index}")));
        words.extend(share.slices.iter().map(|slice| format!("{} of {}", slice.size, slice.gpu)));
    }
    words.join(" ")
}

#[test]
fn a_gpu_is_whole_or_shared() {
    let mut world = world(&[("g1", "gpu:a100:4,shard:16")]);
    let mut run = |gres: &str| {
        let id = world.submit(wants(gres, 60));
        place(&world, id)
    };
    assert_eq!(run("shard:2"), "2 of 0");
    assert_eq!(run("shard:3"), "3 of 1", "all shards of a job are of one GPU");
    assert_eq!(run("gpu:1"), "whole 2", "the first that nobody shares");
    assert_eq!(run("shard:1"), "1 of 0", "GPUs that are shared already come first");
    assert_eq!(run("shard:4"), "4 of 3");
    assert_eq!(run("gpu:1"), "wait");
    assert_eq!(run("shard:2"), "wait", "one is left of each");
    assert_eq!(run("shard:1"), "1 of 0");
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

#[test]
fn a_whole_gpu_is_promised_and_shards_run_before_it() {
    let mut world = world(&[("g1", "gpu:2,shard:8")]);
    let long = world.submit(wants("shard:1", 60));
    let short = world.submit(wants("gpu:1", 10));
    let both = world.submit(wants("gpu:2", 30));
    assert_eq!((place(&world, long).as_str(), place(&world, short).as_str()), ("1 of 0", "whole 1"));
    let start = world.machine.state().promises.of(both).expect("it is first in the queue").start;
    assert_eq!(start.since(world.now), Span::from_mins(60));
    let (fits, late) = (world.submit(wants("shard:3", 50)), world.submit(wants("shard:1", 70)));
    assert_eq!(place(&world, fits), "3 of 0");
    assert_eq!(place(&world, late), "wait", "it would keep the GPU from the job that both are promised to");
    world.wait(Span::from_mins(10));
    world.exit(short, 0);
    let beside = world.submit(wants("shard:4", 45));
    assert_eq!(place(&world, beside), "4 of 1");
    world.exit(long, 0);
    assert_eq!(place(&world, both), "wait", "three shards are still held");
    world.exit(fits, 0);
    world.exit(beside, 0);
    assert_eq!(place(&world, both), "whole 0 whole 1");
    let tally = Tally::of_allocation(
        world.machine.state(),
        &world.machine.state().jobs[&both].active().unwrap().allocation,
    );
    assert_eq!((tally.amount("gres/gpu"), tally.amount("gres/shard")), (2, 0));
}

/// `MULTIPLE_SHARING_GRES_PJ`: as few GPUs as will do, those that are shared already first.
#[test]
fn with_multiple_sharing_a_job_has_shards_of_several_gpus() {
    let several = |settings| Settings { shards_of_several: true, ..settings };
    let mut world = world_with(&[("g1", "gpu:4,shard:16", Vec::new())], several);
    let mut run = |gres: &str| {
        let id = world.submit(wants(gres, 60));
        place(&world, id)
    };
    assert_eq!(run("shard:3"), "3 of 0");
    assert_eq!(run("shard:4"), "4 of 1", "one GPU has enough: it is taken alone");
    assert_eq!(run("shard:6"), "1 of 0 4 of 2 1 of 3");
    assert_eq!(run("gpu:1"), "wait", "somebody shares each of them");
    assert_eq!(run("shard:4"), "wait");
    assert_eq!(run("shard:3"), "3 of 3");
    match world.try_submit(ALICE, wants("shard:17", 1)) {
        Answer::Refused(refused) => assert_eq!(refused.refusal, Refusal::NodeConfigUnavailable),
        other => panic!("the node has sixteen: {other:?}"),
    }
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

/// `-n TASKS --tres-per-task=gres/shard:COUNT --gres-flags=FLAGS`.
fn per_task(tasks: u32, count: u32, flags: &str) -> JobRequest {
    let mut request = JobRequest { ntasks: Some(tasks), ..wants("", 60) };
    request.rare_mut().tres_per_task = Some(format!("gres/shard:{count}").into());
    request.rare_mut().gres_flags = (!flags.is_empty()).then(|| flags.into());
    request
}

#[test]
fn one_task_per_sharing_keeps_tasks_on_different_gpus() {
    let apart = "one-task-per-sharing";
    let mut world = world(&[("g1", "gpu:4,shard:16")]);
    let refused = |world: &mut World, request| match world.try_submit(ALICE, request) {
        Answer::Refused(refused) => assert_eq!(refused.refusal, Refusal::NodeConfigUnavailable),
        other => panic!("no node has that: {other:?}"),
    };
    let three = world.submit(per_task(3, 2, apart));
    assert_eq!(place(&world, three), "2 of 0 2 of 1 2 of 2");
    let whole = world.submit(wants("gpu:1", 60));
    assert_eq!(place(&world, whole), "whole 3");
    let two = world.submit(per_task(2, 2, apart));
    assert_eq!(place(&world, two), "2 of 0 2 of 1", "other jobs' tasks are no matter");
    let again = world.submit(per_task(2, 2, apart));
    assert_eq!(place(&world, again), "wait", "only GPU 2 has two shards left");
    let together = world.submit(per_task(2, 1, ""));
    assert_eq!(place(&world, together), "2 of 2", "without the flag both tasks are on one GPU");
    world.exit(whole, 0);
    assert_eq!(place(&world, again), "wait", "GPU 3 alone has two now");
    world.exit(together, 0);
    assert_eq!(place(&world, again), "2 of 2 2 of 3");
    refused(&mut world, per_task(5, 1, apart));
    refused(&mut world, per_task(2, 5, apart));
    refused(&mut world, per_task(3, 2, ""));
    let flagged = |text: &str| {
        let mut request = wants(text, 60);
        request.rare_mut().gres_flags = Some(apart.into());
        request
    };
    refused(&mut world, flagged("shard:5"));
    let first = world.submit(flagged("shard:2"));
    assert_eq!(place(&world, first), "2 of 3", "a node's shards are no task's");
    assert_eq!(world.replayed().digest(), world.machine.state().digest());
}

/// `ONE_TASK_PER_SHARING_GRES`, with and without `MULTIPLE_SHARING_GRES_PJ`; two nodes.
#[test]
fn tasks_are_kept_apart_where_the_site_says_so() {
    let run = |several: bool, request: JobRequest| {
        let site = |settings| Settings { one_task_per_sharing: true, shards_of_several: several, ..settings };
        let nodes = ["g1", "g2"].map(|name| (name, "gpu:4,shard:12", Vec::new()));
        let mut world = world_with(&nodes, site);
        match world.try_submit(ALICE, request) {
            Answer::Submitted { job, .. } => place(&world, job),
            Answer::Refused(_) => "refused".to_owned(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(run(false, per_task(2, 1, "")), "1 of 0 1 of 1");
    assert_eq!(run(false, per_task(2, 1, "multiple-tasks-per-sharing")), "2 of 0");
    assert_eq!(run(false, per_task(5, 3, "")), "3 of 0 3 of 1 3 of 2 3 of 3 3 of 0");
    assert_eq!(run(false, per_task(1, 4, "")), "refused");
    assert_eq!(run(true, per_task(2, 4, "")), "3 of 0 1 of 1 3 of 2 1 of 3");
    assert_eq!(run(true, per_task(4, 4, "")), "3 of 0 1 of 1 3 of 2 1 of 3 3 of 0 1 of 1 3 of 2 1 of 3");
    assert_eq!(run(true, per_task(5, 4, "")), "refused", "two tasks on each node");
}

/// GPUs that a driver shows: those that are cut into slices, or are out of service, are not shared.
#[test]
fn observed_gpus_are_shared_if_they_are_whole_and_work() {
    let gpu = |index: u32, mode: GpuMode, fault: &str| Gpu {
        index,
        kind: "a100".into(),
        mode,
        fault: fault.into(),
        ..Gpu::default()
    };
    // Whether the one that is cut works makes no difference to the others.
    for fault in ["", "XID 79"] {
        let gpus = vec![
            gpu(0, GpuMode::Whole, "XID 79"),
            gpu(1, GpuMode::Whole, ""),
            gpu(2, GpuMode::Dynamic, fault),
            gpu(3, GpuMode::Whole, ""),
        ];
        let mut world = world_with(&[("g1", "gpu:a100:4,shard:12", gpus)], |settings| settings);
        let mut run = |gres: &str| {
            let id = world.submit(wants(gres, 60));
            place(&world, id)
        };
        // Three whole ones share the twelve; the one that is out of service keeps its part.
        assert_eq!(run("shard:4"), "4 of 1");
        assert_eq!(run("shard:3"), "3 of 3");
        assert_eq!(run("shard:2"), "wait");
        assert_eq!(run("gpu:a100:1"), "wait");
        assert_eq!(world.replayed().digest(), world.machine.state().digest());
    }
}

#[test]
fn what_no_gpu_has_is_refused() {
    let refused = |world: &mut World, request: JobRequest| match world.try_submit(ALICE, request) {
        Answer::Refused(refused) => Some(refused.refusal),
        _ => None,
    };
    let mut one = world(&[("g1", "gpu:2,shard:8,mps:100")]);
    assert_eq!(refused(&mut one, wants("shard:5", 1)), Some(Refusal::NodeConfigUnavailable));
    assert_eq!(refused(&mut one, wants("gpu:1,shard:1", 1)), Some(Refusal::InvalidGres));
    assert_eq!(refused(&mut one, wants("mps:50", 1)), Some(Refusal::NotSupported));
    let mut per_task = JobRequest { ntasks: Some(2), ..job() };
    per_task.rare_mut().tres_per_task = Some("cpu=1,gres/shard=2".into());
    let id = one.submit(per_task);
    assert_eq!(place(&one, id), "4 of 0");
    let exclusive = one.submit(JobRequest { sharing: Sharing::Exclusive, ..wants("shard:1", 1) });
    assert_eq!(place(&one, exclusive), "wait");
    one.exit(id, 0);
    assert_eq!(place(&one, exclusive), "1 of 0");
    let beyond = world(&[("g1", "gpu:17,shard:34")]);
    assert!(beyond.machine.state().nodes[0].shards.is_none(), "there are lanes for sixteen");
}

#[test]
fn steps_share_the_shards_of_their_job() {
    use scheduler_core::input::{Command, StepRequest};
    let mut world = world(&[("g1", "gpu:2,shard:8")]);
    let id = world.submit(JobRequest { ntasks: Some(4), ..wants("shard:4", 10) });
    let mut step = |gres: &str| {
        let request = StepRequest {
            ntasks: Some(1),
            exact: true,
            gres_per_node: parse_list(gres).unwrap(),
            ..StepRequest::default()
        };
        match world.command(ALICE, Command::CreateStep { job: id, step: Box::new(request) }) {
            Answer::StepCreated { allocation, .. } => {
                let of = |gres: &GresShare| format!("{} of {}", gres.slices[0].size, gres.slices[0].gpu);
                allocation[0].gres.iter().map(of).collect::<Vec<_>>().join(" ")
            }
            Answer::StepMustWait => "wait".to_owned(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(step("shard:3"), "3 of 0");
    assert_eq!(step("shard:2"), "wait");
    assert_eq!(step("shard:1"), "1 of 0");
}

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

#[test]
fn the_first_of_the_queue_never_waits_for_what_is_free() {
    let small: [(&str, &[u8]); 3] =
        [("gpu:3,shard:11", &[4, 4, 3]), ("gpu:2,shard:8", &[4, 4]), ("gpu:2,shard:1", &[1, 1])];
    never_waits_for_what_is_free(&small, 80);
    // More GPUs than a word has bytes; the last ones have a shard less.
    let large: [(&str, &[u8]); 1] = [("gpu:11,shard:31", &[3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2])];
    never_waits_for_what_is_free(&large, 200);
}

/// Counts from the allocations alone what each GPU still has, and whether the first job of the queue would fit there.
/// `nodes`: what each declares, and the shards of each of its GPUs.
fn never_waits_for_what_is_free(nodes: &[(&str, &[u8])], rounds: u32) {
    let mut waited = 0;
    for seed in 1..4 {
        let mut numbers = Numbers(seed);
        let names: Vec<String> = (1..=nodes.len()).map(|number| format!("g{number}")).collect();
        let declared: Vec<(&str, &str)> =
            names.iter().zip(nodes).map(|(name, (gres, _))| (name.as_str(), *gres)).collect();
        let mut world = world(&declared);
        let sizes: Vec<Vec<u64>> =
            nodes.iter().map(|(_, gpus)| gpus.iter().copied().map(u64::from).collect()).collect();
        let most = sizes[0][0];
        let mut jobs: Vec<(JobId, bool, u64)> = Vec::new();
        for _ in 0..rounds {
            if numbers.below(3) > 0 {
                let whole = numbers.below(3) == 0;
                let count = 1 + numbers.below(if whole { 2 } else { most });
                let text = format!("{}:{count}", if whole { "gpu" } else { "shard" });
                let id = world.submit(wants(&text, 1 + numbers.below(90) as i64));
                jobs.push((id, whole, count));
            } else {
                let running = |one: &(JobId, bool, u64)| world.state_of(one.0) == JobState::Running;
                let list: Vec<JobId> = jobs.iter().filter(|one| running(one)).map(|one| one.0).collect();
                let Some(&ends) = list.get(numbers.below(list.len().max(1) as u64) as usize) else {
                    continue;
                };
                world.exit(ends, 0);
                jobs.retain(|one| one.0 != ends);
            }
            let mut free: BTreeMap<(u32, u32), u64> = BTreeMap::new();
            for (node, gpus) in (0..).zip(&sizes) {
                free.extend((0..).zip(gpus).map(|(gpu, size)| ((node, gpu), *size)));
            }
            let state = world.machine.state();
            for active in state.index.running.iter().filter_map(|id| state.jobs[id].active()) {
                for share in active.allocation.iter() {
                    for gres in &share.gres {
                        for gpu in gres.indices.iter() {
                            let taken = free.insert((share.node.0, gpu), 0);
                            assert_eq!(
                                taken,
                                Some(sizes[share.node.0 as usize][gpu as usize]),
                                "a whole GPU"
                            );
                        }
                        for slice in &gres.slices {
                            let left = free.get_mut(&(share.node.0, slice.gpu)).unwrap();
                            *left = left.checked_sub(u64::from(slice.size)).expect("shards that there are");
                        }
                    }
                }
            }
            let first = jobs.iter().find(|one| world.state_of(one.0) == JobState::Pending);
            let Some(&(id, whole, count)) = first else { continue };
            waited += 1;
            let fits = |node: u32| {
                let gpus = &sizes[node as usize];
                let left = |gpu: usize| free[&(node, gpu as u32)];
                if whole {
                    (0..gpus.len()).filter(|gpu| left(*gpu) == gpus[*gpu]).count() as u64 >= count
                } else {
                    let shares = |gpu: &usize| node < 2 || *gpu == 0;
                    (0..gpus.len()).filter(shares).any(|gpu| left(gpu) >= count)
                }
            };
            assert!(
                !(0..sizes.len() as u32).any(fits),
                "job {id} with seed {seed} waits for what is free: {free:?}"
            );
        }
        assert_eq!(world.replayed().digest(), world.machine.state().digest());
    }
    assert!(waited > 60, "jobs wait: {waited}");
}
