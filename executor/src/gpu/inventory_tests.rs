//! The driver's GPUs against configurations.

use std::path::Path;

use model::config::gres::GresConf;
use model::config::own::OwnConf;
use model::config::{NodeConf, SlurmConf};
use model::gpu::GpuMode;

use super::{Inventory, Processors, is_slice, type_name};
use crate::gpu::{Fault, Gpu, Instance, Observed, Profile, code};

fn node(gres: &str) -> NodeConf {
    let text = format!(
        "ClusterName=c\nSlurmctldHost=h\nGresTypes=gpu\nNodeName=g1 Gres={gres}\nPartitionName=p Nodes=g1\n"
    );
    let mut none = |_: &Path| Err("no includes".to_owned());
    SlurmConf::parse(&text, Path::new("slurm.conf"), &mut none).unwrap().nodes.remove(0)
}

fn lines(text: &str) -> GresConf {
    let mut none = |_: &Path| Err("no includes".to_owned());
    GresConf::parse(text, Path::new("gres.conf"), &mut none).unwrap()
}

fn compare(node: Option<&NodeConf>, conf: Option<&GresConf>, observed: &[Observed]) -> Inventory {
    compare_with(node, (conf, &OwnConf::default()), observed)
}

fn compare_with(
    node: Option<&NodeConf>,
    conf: (Option<&GresConf>, &OwnConf),
    observed: &[Observed],
) -> Inventory {
    // Two threads of a core are not next to each other, as the kernel counts.
    let processors = Processors { numbers: (0..8).flat_map(|core| [core, core + 8]).collect(), threads: 2 };
    let judge = |gpu: &model::gpu::Gpu| (&*gpu.uuid == "GPU-9").then(|| "XID 79".to_owned());
    super::compare(node, conf, &processors, observed, &[], &judge)
}

fn gpu(number: u32, mig: bool) -> Gpu {
    let profile = |id, name: &str, slices, starts: &[u32]| Profile {
        id,
        name: name.to_owned(),
        compute_slices: slices,
        memory_slices: slices,
        memory_mib: 4864,
        most: 7,
        starts: starts.to_vec(),
    };
    Gpu {
        uuid: format!("GPU-{number}"),
        product: "NVIDIA A100-SXM4-40GB".to_owned(),
        memory_mib: 40_960,
        pci: format!("00000000:{number:02X}:00.0"),
        minor: 3 - number,
        cpus: vec![0, 1, 2, 3],
        mig,
        profiles: if mig {
            vec![profile(19, "1g.5gb", 1, &[6, 0]), profile(9, "3g.20gb", 4, &[0, 4])]
        } else {
            vec![]
        },
        links: Vec::new(),
        instances: Vec::new(),
    }
}

fn cut(gpu: Gpu) -> Observed {
    let instance =
        |profile, start, gi, ci| Instance { profile, start, size: 1, gi, ci, uuid: format!("MIG-{gi}") };
    Ok(Gpu {
        instances: vec![instance(9, 0, 1, Some(0)), instance(19, 4, 9, Some(0)), instance(19, 5, 10, None)],
        ..gpu
    })
}

#[test]
fn all_that_is_there_is_offered_without_a_configuration() {
    let found = compare(None, None, &[Ok(gpu(0, false)), cut(gpu(1, true))]);
    let gres: Vec<_> = found.gres.iter().map(|gres| (gres.r#type.as_str(), gres.count)).collect();
    let full = "nvidia_a100-sxm4-40gb";
    assert_eq!(gres, [(full, 1), (&*format!("{full}_1g.5gb"), 1), (&*format!("{full}_3g.20gb"), 1)]);
    assert_eq!(found.gpus[1].mode, GpuMode::Fixed);
    assert_eq!(found.gpus[0].cpu_ranges, [0, 3]);
    assert_eq!(
        found.gpus[0].core_ranges,
        [0, 3],
        "each has a second thread, which is far in the kernel's order"
    );
    assert_eq!(found.gpus[1].profiles[0].starts, [0, 6], "ascending");
    assert_eq!(found.lacks.len(), 1, "the instance without a compute instance: {:?}", found.lacks);
}

#[test]
fn types_are_parts_of_names_and_slices_are_profiles() {
    let observed = [Ok(gpu(0, false)), cut(gpu(1, true)), Ok(gpu(2, true))];
    // GPU 2 has minor 1.
    let conf = lines("AutoDetect=nvml\nName=gpu Type=a100 File=/dev/nvidia1\n");
    let mut none = |_: &Path| Err("no includes".to_owned());
    let own =
        OwnConf::parse("NodeName=g1 File=/dev/nvidia1 Mig=dynamic\n", Path::new("sluice.conf"), &mut none);
    let node = node("gpu:a100:2,gpu:3g.20gb:1,gpu:a100_1g.5gb:2");
    let found = compare_with(Some(&node), (Some(&conf), &own.unwrap()), &observed);
    let gres: Vec<_> = found.gres.iter().map(|gres| (gres.r#type.as_str(), gres.count)).collect();
    assert_eq!(gres, [("a100", 2), ("3g.20gb", 1), ("a100_1g.5gb", 1)]);
    let modes: Vec<_> = found.gpus.iter().map(|gpu| (gpu.kind.as_ref(), gpu.mode)).collect();
    assert_eq!(modes, [("a100", GpuMode::Whole), ("a100", GpuMode::Fixed), ("a100", GpuMode::Dynamic)]);
    assert!(
        found.lacks.contains(&"1 of 2 declared gpu:a100_1g.5gb are there".to_owned()),
        "{:?}",
        found.lacks
    );
}

#[test]
fn differences_are_said() {
    let conf = lines(
        "AutoDetect=nvml\nName=gpu Type=h100 File=/dev/nvidia3 Cores=4-7 Links=-1,2\nName=gpu File=/dev/nvidia7\nName=gpu File=/srv/x\n",
    );
    let found = compare(Some(&node("gpu:3")), Some(&conf), &[Ok(Gpu { links: vec![0, 4], ..gpu(0, false) })]);
    for sentence in [
        "gres.conf:2: /dev/nvidia3 is a nvidia_a100-sxm4-40gb, which is no h100",
        "gres.conf:2: cores 4-7 are named for /dev/nvidia3, but the driver shows 0-3 near it: gres.conf counts",
        "gres.conf:2: links -1,2 are named for /dev/nvidia3, but the driver shows -1,4: gres.conf counts",
        "gres.conf:3: the driver shows no GPU with the device file /dev/nvidia7",
        "gres.conf:4: /srv/x is no device file of the driver's GPUs",
        "1 of 3 declared gpu are there",
    ] {
        assert!(found.lacks.contains(&sentence.to_owned()), "{sentence}\n{:?}", found.lacks);
    }
    assert_eq!((found.gres[0].count, found.lacks.len()), (1, 6));
}

#[test]
fn a_gpu_that_fails_takes_only_itself_out() {
    let lost = Fault { call: "nvmlDeviceGetUUID", code: code::GPU_IS_LOST, text: "GPU is lost".to_owned() };
    let twin = Gpu { uuid: "GPU-0".to_owned(), ..gpu(2, false) };
    let ill = Gpu { uuid: "GPU-9".to_owned(), ..gpu(1, false) };
    let observed = [Ok(gpu(0, false)), Err(lost), Ok(twin), Ok(gpu(3, false)), Ok(ill)];
    let found = compare(Some(&node("gpu:a100:5")), None, &observed);
    let faults: Vec<_> = found.gpus.iter().map(|gpu| gpu.fault.as_ref()).collect();
    assert_eq!(faults[1], "nvmlDeviceGetUUID: GPU is lost");
    assert_eq!(
        (faults[0], faults[2], faults[3]),
        ("GPU 2 has the same UUID GPU-0", "GPU 0 has the same UUID GPU-0", "")
    );
    assert_eq!(faults[4], "XID 79");
    assert_eq!(found.gres[0].count, 5, "they are there: the node is not short of any");
    let indices: Vec<_> = found.gpus.iter().map(|gpu| gpu.index).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4], "numbers stay");
    // What it was when it answered is remembered.
    let lost = Fault { call: "nvmlDeviceGetUUID", code: code::GPU_IS_LOST, text: "GPU is lost".to_owned() };
    let before = compare(None, None, &[Ok(gpu(0, false)), cut(gpu(1, true))]);
    let own = OwnConf::default();
    let node = node("gpu:a100:1,gpu:3g.20gb:1");
    let observed = [Ok(gpu(0, false)), Err(lost)];
    let after =
        super::compare(Some(&node), (None, &own), &Processors::default(), &observed, &before.gpus, &|_| None);
    assert_eq!((after.gpus[1].mode, after.gpus[1].instances.len()), (GpuMode::Fixed, 2));
    assert!(!after.gpus[1].is_healthy());
    assert_eq!(
        after.gres.iter().map(|gres| gres.count).collect::<Vec<_>>(),
        [1, 1],
        "it is not short of any"
    );
}

#[test]
fn spellings_of_a_slice() {
    let product = type_name("NVIDIA A100-SXM4-40GB");
    for (wanted, expected) in [
        ("3g.20gb", true),
        ("a100_3g.20gb", true),
        ("nvidia_a100-sxm4-40gb_3g.20gb", true),
        ("h100_3g.20gb", false),
        ("2g.10gb", false),
        ("a100", false),
    ] {
        assert_eq!(is_slice(wanted, "a100", &product, "3g.20gb"), expected, "{wanted}");
    }
}

#[test]
fn the_seventeenth_dynamic_gpu_is_named() {
    let one = |number: u32| Gpu { uuid: format!("GPU-1{number}"), minor: number, ..gpu(0, true) };
    let observed: Vec<Observed> = (0..18).map(|number| Ok(one(number))).collect();
    let mut none = |_: &Path| Err("no includes".to_owned());
    let own = OwnConf::parse("Mig=dynamic\n", Path::new("sluice.conf"), &mut none).unwrap();
    let node = node("gpu:18");
    let found = compare_with(Some(&node), (None, &own), &observed);
    let dynamic = found.gpus.iter().filter(|gpu| gpu.mode == GpuMode::Dynamic).count();
    assert_eq!(dynamic, 16);
    let said: Vec<&String> = found.lacks.iter().filter(|lack| lack.contains("the first 16 GPUs")).collect();
    assert!(said.len() == 2 && said[0].starts_with("GPU 16 is dynamic in sluice.conf"), "{:?}", found.lacks);
}
