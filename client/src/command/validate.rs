//! `sluice validate [--stress DURATION]`: a job on each GPU or slice, which must see that device and no other.
//!
//! Submits through sbatch as anybody would, looks at what the jobs wrote and at what the driver says of the cards
//! meanwhile, and judges: exit status 0 only if every device was visited once at a time by a job that completed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use proto::v1::{Gpu, GpuMode, JobFilter, ListJobsRequest, Node};

use super::{Call, block_on, job};
use crate::getopt::Spec;
use crate::getopt::Takes::{Nothing, Value};
use crate::say;

#[derive(Clone, Copy, PartialEq, Eq)]
enum O {
    Command,
    Help,
    Partition,
    Stress,
}

const OPTIONS: &[Spec<O>] = &[
    Spec::long(O::Command, "command", Value),
    Spec::new(O::Help, b'h', "help", Nothing),
    Spec::new(O::Partition, b'p', "partition", Value),
    Spec::long(O::Stress, "stress", Value),
];

const HELP: &str = "\
Usage: sluice validate [--stress DURATION] [--command COMMAND] [-p PARTITION] [NODE…]

Runs a job on each GPU or slice of the nodes and checks that it sees exactly that device.
  --stress DURATION   keep the jobs running for so long (90s, 30m, 24h); default: 15s
  --command COMMAND   what they run meanwhile, again and again (a burn-in program)
Temperature, utilisation and throttling are reported as the driver gives them.
Exits 0 if all is as it should be, 1 if not.
";

/// How long the jobs last without `--stress`: long enough to be there together.
const SHORT: Duration = Duration::from_secs(15);
/// How long jobs may wait and end beyond their time.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A device that a job is to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    node: String,
    gpu: u32,
    /// As `--gres` has it.
    gres: String,
    /// The UUID that the job should be told; none where it is made for it.
    uuid: Option<String>,
}

/// What the driver said of a card while jobs ran: the highest of each.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    utilisation: Option<u32>,
    temperature: Option<u32>,
    throttle: u64,
}

/// Runs the verb.
pub(crate) fn run(call: &Call) -> u8 {
    let Ok(words) = call.split(OPTIONS) else { return 2 };
    let (mut lasting, mut command, mut partition) = (SHORT, String::new(), None);
    for given in &words.options {
        let value =
            given.value.as_deref().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
        match given.id {
            O::Help => {
                say::out(HELP);
                return 0;
            }
            O::Command => command = value,
            O::Partition => partition = Some(value),
            O::Stress => match duration(&value) {
                Some(found) => lasting = found,
                None => {
                    say::error(&call.program, format!("\"{value}\" is no length of time"));
                    return 2;
                }
            },
        }
    }
    let names: Vec<String> = words.operands.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match validate(&names, lasting, &command, partition.as_deref()) {
        Ok(0) => 0,
        Ok(wrong) => {
            say::out(format!("{wrong} differences\n"));
            1
        }
        Err(sentence) => {
            say::error(&call.program, sentence);
            1
        }
    }
}

/// `90s`, `30m`, `24h`, `2d`; a bare number is seconds.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn nodes() -> Result<Vec<Node>, String> {
    block_on(async { super::connect_to_ask().await?.list_nodes(Vec::new()).await }).map_err(|error| {
        say::explain("sluice", &error);
        say::reason(&error)
    })
}

/// The devices of a node that work.
fn targets(node: &Node) -> Vec<Target> {
    let target = |gpu: &Gpu, gres: String, uuid: Option<String>| Target {
        node: node.name.clone(),
        gpu: gpu.index,
        gres,
        uuid,
    };
    let typed = |gpu: &Gpu| node.gres.contains(&format!("gpu:{}:", gpu.kind));
    let healthy = node.gpus.iter().filter(|gpu| gpu.fault.is_empty());
    let of = |gpu: &Gpu| match gpu.mode() {
        GpuMode::GpuWhole if typed(gpu) => {
            vec![target(gpu, format!("gpu:{}:1", gpu.kind), Some(gpu.uuid.clone()))]
        }
        GpuMode::GpuWhole => vec![target(gpu, "gpu:1".to_owned(), Some(gpu.uuid.clone()))],
        GpuMode::GpuFixed => gpu
            .instances
            .iter()
            .map(|there| target(gpu, format!("gpu:{}:1", there.profile), Some(there.uuid.clone())))
            .collect(),
        GpuMode::GpuDynamic => {
            let largest = gpu.profiles.iter().max_by_key(|profile| profile.memory_slices);
            largest.map(|profile| target(gpu, format!("gpu:{}:1", profile.name), None)).into_iter().collect()
        }
    };
    healthy.flat_map(of).collect()
}

/// How many things are not as they should be.
fn validate(
    names: &[String],
    lasting: Duration,
    command: &str,
    partition: Option<&str>,
) -> Result<u32, String> {
    let all = nodes()?;
    if let Some(name) = names.iter().find(|name| !all.iter().any(|node| node.name == **name)) {
        return Err(format!("node {name} is not known"));
    }
    let chosen: Vec<&Node> =
        all.iter().filter(|node| names.is_empty() || names.contains(&node.name)).collect();
    let mut wrong = 0;
    for node in &chosen {
        for lack in node.lacks.iter().filter(|lack| lack.contains("pretended")) {
            say::out(format!("! {}: {lack}\n", node.name));
        }
        for gpu in node.gpus.iter().filter(|gpu| !gpu.fault.is_empty()) {
            say::out(format!("{} GPU {}: out of service: {}\n", node.name, gpu.index, gpu.fault));
            wrong += 1;
        }
    }
    let targets: Vec<Target> = chosen.iter().flat_map(|node| targets(node)).collect();
    if targets.is_empty() {
        return Err("no node shows a GPU that works".to_owned());
    }
    let folder = std::env::current_dir().map_err(|error| format!("where am I: {error}"))?;
    let folder = folder.join(format!("sluice-validate-{}", std::process::id()));
    fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut jobs = Vec::new();
    for target in &targets {
        jobs.push((target, submit(target, &folder, lasting, command, partition)?));
    }
    say::out(format!("{} jobs, one for each device, for {} s\n", jobs.len(), lasting.as_secs()));
    let peaks = watch(&jobs.iter().map(|(_, id)| *id).collect::<Vec<_>>(), lasting)?;
    wrong += judge(&jobs, &folder);
    for ((node, gpu), peak) in &peaks {
        let text =
            |value: Option<u32>, unit: &str| value.map_or("not told".to_owned(), |v| format!("{v}{unit}"));
        say::out(format!(
            "{node} GPU {gpu}: at most {} busy, {}, throttling {}\n",
            text(peak.utilisation, "%"),
            text(peak.temperature, " C"),
            throttling(peak.throttle)
        ));
    }
    if wrong == 0 {
        // Nothing in it is news.
        let _ = fs::remove_dir_all(&folder);
        say::out("every device was given to a job that saw it alone\n");
    } else {
        say::out(format!("what the jobs wrote is in {}\n", folder.display()));
    }
    Ok(wrong)
}

fn submit(
    target: &Target,
    folder: &Path,
    lasting: Duration,
    command: &str,
    partition: Option<&str>,
) -> Result<u32, String> {
    let seconds = lasting.as_secs();
    let work = if command.is_empty() { "sleep 1" } else { command };
    let script = format!(
        "echo \"uuid $NVIDIA_VISIBLE_DEVICES\"\necho \"cuda $CUDA_VISIBLE_DEVICES\"\n\
         echo \"count $SLURM_GPUS_ON_NODE\"\n\
         for node in /dev/nvidia[0-9]*; do (: < \"$node\") 2>/dev/null && echo \"opens $node\"; done\n\
         end=$(( $(date +%s) + {seconds} ))\n\
         while [ \"$(date +%s)\" -lt \"$end\" ]; do {work} || exit 1; done\n\
         echo complete\n"
    );
    let minutes = (seconds + 60).div_ceil(60) + 1;
    let output = folder.join("%j.out");
    let program = std::env::current_exe().map_err(|error| format!("who am I: {error}"))?;
    let mut sbatch = Command::new(program);
    sbatch.args(["sbatch", "--parsable", "-J", "validate", "-n", "1", "-c", "1"]);
    sbatch.args(["-w", &target.node, "--gres", &target.gres, "-t", &minutes.to_string()]);
    sbatch.args(partition.into_iter().flat_map(|name| ["-p", name]));
    let told = sbatch.arg("-o").arg(output).args(["--wrap", &script]).output();
    let told = told.map_err(|error| format!("sbatch: {error}"))?;
    let words = String::from_utf8_lossy(&told.stdout).into_owned();
    let id = words.trim().split(';').next().and_then(|id| id.parse().ok());
    id.filter(|_| told.status.success()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&told.stderr);
        format!("{} on {}: {}", target.gres, target.node, said.trim())
    })
}

/// Waits for the jobs' ends; the highest of what the driver said meanwhile.
fn watch(jobs: &[u32], lasting: Duration) -> Result<BTreeMap<(String, u32), Peak>, String> {
    let begin = Instant::now();
    let mut peaks: BTreeMap<(String, u32), Peak> = BTreeMap::new();
    loop {
        for node in nodes()? {
            for now in &node.gpu_vitals {
                let peak = peaks.entry((node.name.clone(), now.index)).or_default();
                peak.utilisation = peak.utilisation.max(now.utilisation);
                peak.temperature = peak.temperature.max(now.temperature);
                peak.throttle |= now.throttle.unwrap_or(0);
            }
        }
        let live = block_on(async {
            let request = ListJobsRequest {
                filter: Some(JobFilter::default()),
                include_ended: false,
                with_steps: false,
                all: true,
            };
            super::connect_to_ask().await?.list_jobs(request).await
        });
        let live = live.map_err(|error| say::reason(&error))?.0;
        let left =
            live.iter().filter(|one| jobs.contains(&one.job_id) && !job::state(one).is_terminal()).count();
        if left == 0 {
            return Ok(peaks);
        }
        if begin.elapsed() > lasting + PATIENCE {
            return Err(format!("{left} of {} jobs have not ended in time", jobs.len()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What a job wrote of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    uuid: String,
    count: String,
    opened: usize,
    complete: bool,
}

fn seen(text: &str) -> Seen {
    let field =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    Seen {
        uuid: field("uuid "),
        count: field("count "),
        opened: text.lines().filter(|line| line.starts_with("opens ")).count(),
        complete: text.lines().any(|line| line == "complete"),
    }
}

/// Says what each job saw; how many things are wrong.
fn judge(jobs: &[(&Target, u32)], folder: &Path) -> u32 {
    let mut wrong = 0;
    let mut by_uuid: BTreeMap<String, u32> = BTreeMap::new();
    for (target, id) in jobs {
        let text = fs::read_to_string(folder.join(format!("{id}.out"))).unwrap_or_default();
        let seen = seen(&text);
        let mut complaints = complaints(target, &seen);
        if let Some(other) = by_uuid.insert(seen.uuid.clone(), *id).filter(|_| !seen.uuid.is_empty()) {
            complaints.push(format!("job {other} was told of the same device"));
        }
        let verdict =
            if complaints.is_empty() { "as it should be".to_owned() } else { complaints.join("; ") };
        say::out(format!("job {id} on {} ({}): {}: {verdict}\n", target.node, target.gres, seen.uuid));
        wrong += u32::from(!complaints.is_empty());
    }
    // Jobs of one kind may have changed places: together they must have seen all of them.
    for (target, _) in jobs {
        if let Some(uuid) = target.uuid.as_ref().filter(|uuid| !by_uuid.contains_key(*uuid)) {
            say::out(format!("{} GPU {}: no job was told of {uuid}\n", target.node, target.gpu));
            wrong += 1;
        }
    }
    wrong
}

fn complaints(target: &Target, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    if !seen.complete {
        found.push("it did not complete".to_owned());
    }
    if seen.uuid.is_empty() || seen.uuid.contains(',') || seen.count != "1" {
        found.push(format!("it was told of {} devices: \"{}\"", seen.count, seen.uuid));
    }
    let slice = target.uuid.as_ref().is_none_or(|uuid| uuid.starts_with("MIG-"));
    if !seen.uuid.is_empty() && slice != seen.uuid.starts_with("MIG-") {
        found.push(format!("{} is not what {} means", seen.uuid, target.gres));
    }
    if seen.opened > 1 {
        found.push(format!("it can open {} GPUs", seen.opened));
    }
    found
}

/// NVML's reasons that slow a card down against its will, in words.
fn throttling(bits: u64) -> String {
    let names = [
        (0x4, "power cap"),
        (0x8, "slowdown"),
        (0x20, "heat (software)"),
        (0x40, "heat"),
        (0x80, "power brake"),
    ];
    let found: Vec<&str> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::v1::{MigInstance, MigProfile};

    #[test]
    fn each_device_is_a_target() {
        let gpu = |index, mode: GpuMode| Gpu {
            index,
            uuid: format!("GPU-{index}"),
            kind: "a100".into(),
            mode: mode.into(),
            ..Gpu::default()
        };
        let instance = |profile: &str, uuid: &str| MigInstance {
            profile: profile.into(),
            uuid: uuid.into(),
            ..MigInstance::default()
        };
        let profile = |name: &str, memory_slices| MigProfile {
            name: name.into(),
            memory_slices,
            ..MigProfile::default()
        };
        let cut = Gpu {
            instances: vec![instance("3g.20gb", "MIG-1"), instance("1g.5gb", "MIG-2")],
            ..gpu(1, GpuMode::GpuFixed)
        };
        let dynamic = Gpu {
            profiles: vec![profile("1g.5gb", 1), profile("7g.40gb", 8)],
            ..gpu(2, GpuMode::GpuDynamic)
        };
        let ill = Gpu { fault: "lost".into(), ..gpu(3, GpuMode::GpuWhole) };
        let gpus = vec![gpu(0, GpuMode::GpuWhole), cut, dynamic, ill];
        let node = Node { name: "n1".into(), gres: "gpu:a100:3".into(), gpus, ..Node::default() };
        let found: Vec<_> = targets(&node).into_iter().map(|target| (target.gres, target.uuid)).collect();
        let known = |gres: &str, uuid: &str| (gres.to_owned(), Some(uuid.to_owned()));
        let expected = [
            known("gpu:a100:1", "GPU-0"),
            known("gpu:3g.20gb:1", "MIG-1"),
            known("gpu:1g.5gb:1", "MIG-2"),
            ("gpu:7g.40gb:1".to_owned(), None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_job_saw_is_judged() {
        let target = Target { node: "n1".into(), gpu: 0, gres: "gpu:1".into(), uuid: Some("GPU-0".into()) };
        let good = seen("uuid GPU-0\ncuda 0\ncount 1\nopens /dev/nvidia3\ncomplete\n");
        assert_eq!(complaints(&target, &good), Vec::<String>::new());
        let two = seen("uuid GPU-0,GPU-1\ncuda 0,1\ncount 2\nopens /dev/nvidia0\nopens /dev/nvidia1\n");
        assert_eq!(complaints(&target, &two).len(), 3, "{:?}", complaints(&target, &two));
        assert_eq!(complaints(&target, &seen("uuid MIG-1\ncount 1\ncomplete\n")).len(), 1);
    }

    #[test]
    fn lengths_of_time() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("2m", 120), ("24h", 86_400), ("1d", 86_400)] {
            assert_eq!(duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "0s", "5x", "-1s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(throttling(0x44), "power cap, heat");
    }
}
