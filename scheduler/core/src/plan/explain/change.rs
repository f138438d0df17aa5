//! The smallest single change of a request that would start the job now, found by trying.
//!
//! Amounts (time, memory, CPUs, tasks, nodes, devices) are searched by halving: less of one of them never
//! keeps a job from starting, all else equal. What is all or nothing (features, node lists, exclusive
//! nodes, …) is left out. A change is small where little of the amount is given up; leaving something out
//! counts as all of it, and another partition as half.

use std::sync::Arc;

use model::gres::GresRequest;
use model::id::PartitionIdx;
use model::quantity::MemoryMib;
use model::request::{JobRequest, MemoryRequest, Rare, Sharing};
use model::time::{Span, limit};

use super::Binding;
use super::trial::Trials;
use crate::job::start::limit_of_run;
use crate::state::job::{ArrayRole, Hold, Job, Limit, Phase};
use crate::state::partition::PartitionState;

/// Partitions that are tried.
const PARTITIONS_MAX: usize = 16;
/// Shortest limit that is tried for a job without one: a year.
const YEAR_MINUTES: i64 = 365 * 24 * 60;

/// A single change of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The option: `--time`.
    pub option: &'static str,
    /// What it is, in the option's own notation; empty: not given.
    pub from: Box<str>,
    /// What it would be; empty: left out.
    pub to: Box<str>,
    /// What `scontrol update` would be told, where it can.
    pub update: Option<Box<str>>,
    /// Where the job would start.
    pub nodes: Box<str>,
    /// In which partition.
    pub partition: PartitionIdx,
    /// How much is given up, in thousandths.
    pub loss: u32,
}

/// Takes away what of its own holds a job back.
pub(super) fn lift(job: &mut Job) {
    job.hold = Hold::None;
    if let Phase::Pending(pending) = &mut job.phase {
        pending.kept_reason = None;
        pending.not_before = None;
        pending.dependency = model::depend::Dependency::default();
        pending.dependency_failed = false;
    }
}

/// Every single change that would start the job now, smallest first.
pub(super) fn search(trials: &mut Trials<'_>, job: &Job, binding: &Binding) -> Vec<Change> {
    let mut found = Vec::new();
    match binding {
        Binding::Held(_) | Binding::BeginTime(_) | Binding::Dependency { .. } => {
            found.extend(without_own(trials, job, binding));
        }
        Binding::Nothing => {}
        Binding::Throttle { most, .. } => found.extend(throttle(trials, job, *most)),
        Binding::Partition | Binding::Licenses | Binding::Nodes | Binding::Order | Binding::Other => {
            found.extend(left_out(trials, job));
            found.extend(amounts(trials, job));
            found.extend(other_partitions(trials, job));
        }
    }
    found.sort_by_key(|change| (change.loss, change.option));
    found
}

fn with(job: &Job, change: impl FnOnce(&mut JobRequest)) -> Job {
    let mut job = job.clone();
    change(Arc::make_mut(&mut job.request));
    job
}

fn found(
    option: &'static str,
    (from, to): (String, String),
    update: Option<String>,
    place: (Box<str>, PartitionIdx),
    loss: u32,
) -> Change {
    Change {
        option,
        from: from.into(),
        to: to.into(),
        update: update.map(Into::into),
        nodes: place.0,
        partition: place.1,
        loss,
    }
}

/// Not held, begin now, or no dependency.
fn without_own(trials: &mut Trials<'_>, job: &Job, binding: &Binding) -> Option<Change> {
    let mut free = job.clone();
    lift(&mut free);
    let (option, from, update) = match binding {
        Binding::Held(_) => ("--hold", "yes".to_owned(), None),
        Binding::BeginTime(_) => ("--begin", "later".to_owned(), Some("StartTime=now".to_owned())),
        _ => {
            let text = job.pending().map(|pending| pending.dependency.to_string()).unwrap_or_default();
            ("--dependency", text, Some("Dependency=".to_owned()))
        }
    };
    let place = trials.starts(&free)?;
    Some(found(option, (from, String::new()), update, place, 1000))
}

fn throttle(trials: &mut Trials<'_>, job: &Job, most: u32) -> Option<Change> {
    let mut wider = job.clone();
    if let ArrayRole::Waiting(waiting) = &mut wider.array {
        waiting.throttle = Some(most.saturating_add(1));
    }
    let place = trials.starts(&wider)?;
    let update = Some(format!("ArrayTaskThrottle={}", most + 1));
    Some(found("--array=…%", (most.to_string(), (most + 1).to_string()), update, place, 100))
}

/// The largest amount below `from` with which the job starts now, and where.
fn largest(
    trials: &mut Trials<'_>,
    from: u64,
    make: impl Fn(u64) -> Job,
) -> Option<(u64, (Box<str>, PartitionIdx))> {
    if from <= 1 {
        return None;
    }
    let mut place = trials.starts(&make(1))?;
    let (mut good, mut bad) = (1, from);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match trials.starts(&make(middle)) {
            Some(found) => (good, place) = (middle, found),
            None => bad = middle,
        }
    }
    Some((good, place))
}

/// Thousandths of `from` that `to` gives up.
fn loss(from: u64, to: u64) -> u32 {
    let part = u128::from(from.saturating_sub(to)) * 1000 / u128::from(from.max(1));
    u32::try_from(part).unwrap_or(1000)
}

fn amounts(trials: &mut Trials<'_>, job: &Job) -> Vec<Change> {
    let mut all = Vec::new();
    all.extend(shorter(trials, job));
    all.extend(less_memory(trials, job));
    let request = &job.request;
    if let Some(cpus) = request.cpus_per_task {
        let make = |n| with(job, |request| request.cpus_per_task = Some(narrow(n)));
        if let Some((to, place)) = largest(trials, cpus.into(), make) {
            let update = Some(format!("CPUs/Task={to}"));
            let texts = (cpus.to_string(), to.to_string());
            all.push(found("--cpus-per-task", texts, update, place, loss(cpus.into(), to)));
        }
    }
    if let Some(tasks) = request.ntasks {
        let make = |n| with(job, |request| fewer_tasks(request, narrow(n)));
        if let Some((to, place)) = largest(trials, tasks.into(), make) {
            let update = Some(format!("NumTasks={to}"));
            let texts = (tasks.to_string(), to.to_string());
            all.push(found("--ntasks", texts, update, place, loss(tasks.into(), to)));
        }
    }
    if let Some(per_node) = request.ntasks_per_node {
        let make = |n| with(job, |request| request.ntasks_per_node = Some(narrow(n)));
        if let Some((to, place)) = largest(trials, per_node.into(), make) {
            let texts = (per_node.to_string(), to.to_string());
            all.push(found("--ntasks-per-node", texts, None, place, loss(per_node.into(), to)));
        }
    }
    all.extend(fewer_nodes(trials, job));
    all.extend(fewer_devices(trials, job));
    all
}

/// Fewer tasks want no more nodes than tasks.
fn fewer_tasks(request: &mut JobRequest, tasks: u32) {
    request.ntasks = Some(tasks);
    if let Some((least, most)) = request.nodes {
        request.nodes = Some((least.min(tasks), most.map(|most| most.min(tasks))));
    }
}

fn narrow(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

/// A shorter time limit: the job fits before what is promised to others.
fn shorter(trials: &mut Trials<'_>, job: &Job) -> Option<Change> {
    let limits = job.partitions.iter().filter_map(|&idx| trials.state().partition(idx));
    let longest = limits.map(|partition| limit_of_run(job, partition)).max_by_key(|limit| {
        // No limit is the longest.
        limit.map_or(i64::MAX, Span::as_millis)
    })?;
    // What it lets itself in for was tried already.
    let least = job.request.rare().time_min.is_some();
    let minutes = longest.map_or(YEAR_MINUTES, Span::as_mins_ceil).min(YEAR_MINUTES);
    let make = |minutes: u64| {
        let span = Span::from_mins(i64::try_from(minutes).unwrap_or(YEAR_MINUTES));
        let mut shorter = with(job, |request| {
            request.time_limit = Some(Some(span));
            if least {
                request.rare_mut().time_min = None;
            }
        });
        shorter.limit = Limit::After(span);
        shorter
    };
    let from = u64::try_from(minutes).unwrap_or(0);
    let (to, place) = largest(trials, from, make)?;
    let text = |span| limit::long(Some(span));
    let to_text = text(Span::from_mins(i64::try_from(to).unwrap_or(YEAR_MINUTES)));
    let from_text = longest.map_or_else(|| "UNLIMITED".to_owned(), text);
    let update = Some(format!("{}TimeLimit={to_text}", if least { "TimeMin=0 " } else { "" }));
    Some(found("--time", (from_text, to_text), update, place, loss(from, to)))
}

fn less_memory(trials: &mut Trials<'_>, job: &Job) -> Option<Change> {
    if !trials.settings().track_memory {
        return None;
    }
    let nodes = &trials.state().nodes;
    let largest_node = nodes.iter().map(|node| node.definition.memory.0).max().unwrap_or(0);
    type Per = fn(MemoryMib) -> MemoryRequest;
    let (option, key, from, per): (_, _, u64, Per) = match job.memory {
        None => ("--mem", Some("MinMemoryNode"), 0, MemoryRequest::PerNode),
        Some(MemoryRequest::PerNode(mib)) => ("--mem", Some("MinMemoryNode"), mib.0, MemoryRequest::PerNode),
        Some(MemoryRequest::PerCpu(mib)) => {
            ("--mem-per-cpu", Some("MinMemoryCPU"), mib.0, MemoryRequest::PerCpu)
        }
        Some(MemoryRequest::PerGpu(mib)) => ("--mem-per-gpu", None, mib.0, MemoryRequest::PerGpu),
    };
    let whole = from == 0;
    let most = if whole { largest_node } else { from };
    let make = |mib| {
        let memory = Some(per(MemoryMib(mib)));
        let mut less = with(job, |request| request.memory = memory);
        less.memory = memory;
        less
    };
    let (to, place) = largest(trials, most, make)?;
    let from_text = if whole { "all of the node".to_owned() } else { format!("{from}M") };
    let update = key.map(|key| format!("{key}={to}"));
    Some(found(option, (from_text, format!("{to}M")), update, place, loss(most, to)))
}

fn fewer_nodes(trials: &mut Trials<'_>, job: &Job) -> Option<Change> {
    let (least, most) = job.request.nodes?;
    let text = |least: u32, most: Option<u32>| match most {
        Some(most) if most != least => format!("{least}-{most}"),
        Some(_) | None => least.to_string(),
    };
    let make = |n| with(job, |request| request.nodes = Some((narrow(n), most.map(|_| narrow(n)))));
    let (to, place) = match largest(trials, least.into(), make) {
        Some(found) => found,
        // With the tasks given, one node may be too few and some between enough.
        None if job.request.ntasks.is_some() && least > 2 => {
            (2..u64::from(least)).rev().take(16).find_map(|n| Some((n, trials.starts(&make(n))?)))?
        }
        None => return None,
    };
    let to_text = to.to_string();
    let update = Some(format!("NumNodes={to_text}"));
    Some(found("--nodes", (text(least, most), to_text), update, place, loss(least.into(), to)))
}

type Devices = fn(&mut JobRequest) -> &mut Vec<GresRequest>;

/// The lists of devices of a request, with their options.
const DEVICES: [(&str, Devices); 5] = [
    ("--gres", |request| &mut request.gres_per_node),
    ("--gpus", |request| &mut request.gpus_per_job),
    ("--gpus-per-node", |request| &mut request.gpus_per_node),
    ("--gpus-per-task", |request| &mut request.gpus_per_task),
    ("--gpus-per-socket", |request| &mut request.gpus_per_socket),
];

fn device_text(list: &[GresRequest]) -> String {
    let one = |gres: &GresRequest| match &gres.kind {
        Some(kind) => format!("{}:{kind}:{}", gres.name, gres.count),
        None => format!("{}:{}", gres.name, gres.count),
    };
    list.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Fewer devices, or of any type.
fn fewer_devices(trials: &mut Trials<'_>, job: &Job) -> Vec<Change> {
    let mut all = Vec::new();
    for (option, list) in DEVICES {
        let mut request = (*job.request).clone();
        let devices = list(&mut request).clone();
        let update = |to: &str| (option == "--gres").then(|| format!("Gres={to}"));
        for place in 0..devices.len() {
            let from = devices[place].count;
            let make = |count| with(job, |request| list(request)[place].count = count);
            let text = |change: &dyn Fn(&mut GresRequest)| {
                let mut changed = devices.clone();
                change(&mut changed[place]);
                device_text(&changed)
            };
            if let Some((to, place)) = largest(trials, from, make) {
                let to_text = text(&|gres| gres.count = to);
                let texts = (device_text(&devices), to_text.clone());
                all.push(found(option, texts, update(&to_text), place, loss(from, to)));
            }
            if devices[place].kind.is_some() {
                let any = with(job, |request| list(request)[place].kind = None);
                if let Some(place) = trials.starts(&any) {
                    let to_text = text(&|gres| gres.kind = None);
                    let texts = (device_text(&devices), to_text.clone());
                    all.push(found(option, texts, update(&to_text), place, 400));
                }
            }
        }
        if !devices.is_empty() {
            let none = with(job, |request| list(request).clear());
            if let Some(place) = trials.starts(&none) {
                let texts = (device_text(&devices), String::new());
                all.push(found(option, texts, update(""), place, 1000));
            }
        }
    }
    all
}

/// What is all or nothing, left out.
fn left_out(trials: &mut Trials<'_>, job: &Job) -> Vec<Change> {
    let mut all = Vec::new();
    let request = &*job.request;
    let rare = request.rare();
    let mut attempt = |option, from: String, to: String, update: Option<String>, loss, changed: Job| {
        if let Some(place) = trials.starts(&changed) {
            all.push(found(option, (from, to), update, place, loss));
        }
    };
    if let Some(text) = request.constraint.as_deref().filter(|text| !text.is_empty()) {
        for part in parts_of(text) {
            let changed = with(job, |request| request.constraint = Some(part.as_str().into()));
            let update = Some(format!("Features={part}"));
            attempt("--constraint", text.to_owned(), part.clone(), update, 500, changed);
        }
        let changed = with(job, |request| request.constraint = None);
        let update = Some("Features=".to_owned());
        attempt("--constraint", text.to_owned(), String::new(), update, 1000, changed);
    }
    if request.sharing != Sharing::Default && request.sharing != Sharing::Oversubscribe {
        let word = match request.sharing {
            Sharing::User => "user",
            Sharing::Mcs => "mcs",
            Sharing::Topo => "topo",
            Sharing::Exclusive | Sharing::Default | Sharing::Oversubscribe => "yes",
        };
        let changed = with(job, |request| request.sharing = Sharing::Default);
        attempt(
            "--exclusive",
            word.to_owned(),
            String::new(),
            Some("OverSubscribe=yes".into()),
            1000,
            changed,
        );
    }
    type Field = fn(&mut Rare) -> &mut Option<Box<str>>;
    let texts: [(&'static str, &str, Option<&str>, Field); 4] = [
        ("--nodelist", "ReqNodeList=", rare.nodelist.as_deref(), |rare| &mut rare.nodelist),
        ("--exclude", "ExcNodeList=", rare.exclude.as_deref(), |rare| &mut rare.exclude),
        ("--licenses", "Licenses=", rare.licenses.as_deref(), |rare| &mut rare.licenses),
        ("--hint", "", rare.hint.as_deref(), |rare| &mut rare.hint),
    ];
    for (option, update, text, field) in texts {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            let changed = with(job, |request| *field(request.rare_mut()) = None);
            let update = (!update.is_empty()).then(|| update.to_owned());
            attempt(option, text.to_owned(), String::new(), update, 1000, changed);
        }
    }
    if rare.contiguous {
        let changed = with(job, |request| request.rare_mut().contiguous = false);
        attempt("--contiguous", "yes".into(), String::new(), Some("Contiguous=no".into()), 1000, changed);
    }
    if let Some(tmp) = rare.tmp_mib {
        let changed = with(job, |request| request.rare_mut().tmp_mib = None);
        attempt("--tmp", format!("{}M", tmp.0), String::new(), None, 1000, changed);
    }
    if let Some(cpus) = rare.min_cpus_per_node {
        let changed = with(job, |request| request.rare_mut().min_cpus_per_node = None);
        attempt("--mincpus", cpus.to_string(), String::new(), None, 1000, changed);
    }
    all
}

/// A plain conjunction without one of its names, for each of them; none where it is anything else.
fn parts_of(constraint: &str) -> Vec<String> {
    let names: Vec<&str> = constraint.split('&').collect();
    let plain = |name: &&str| !name.is_empty() && !name.contains(['|', '[', ']', '(', ')', '*', ',']);
    if names.len() < 2 || !names.iter().all(plain) {
        return Vec::new();
    }
    let without = |left: usize| {
        let rest = names.iter().enumerate().filter(|(place, _)| *place != left).map(|(_, name)| *name);
        rest.collect::<Vec<_>>().join("&")
    };
    (0..names.len()).map(without).collect()
}

/// Another partition that anybody may use.
fn other_partitions(trials: &mut Trials<'_>, job: &Job) -> Vec<Change> {
    let open: Vec<(PartitionIdx, Box<str>)> = (0..)
        .map(PartitionIdx)
        .zip(&trials.state().partitions)
        .filter_map(|(idx, partition)| Some((idx, &partition.as_ref()?.definition)))
        .filter(|(idx, definition)| {
            !job.partitions.contains(idx)
                && definition.state == PartitionState::Up
                && !definition.hidden
                && !definition.root_only
                && definition.allow_groups.is_empty()
        })
        .map(|(idx, definition)| (idx, definition.name.clone()))
        .take(PARTITIONS_MAX)
        .collect();
    let named = |idx: &PartitionIdx| Some(&*trials.state().partition(*idx)?.definition.name);
    let from = job.partitions.iter().filter_map(named).collect::<Vec<_>>().join(",");
    let mut all = Vec::new();
    for (idx, name) in open {
        let mut moved = with(job, |request| request.partition = Some(name.clone()));
        moved.partitions = Arc::from([idx]);
        if let Some(place) = trials.starts(&moved) {
            let update = Some(format!("Partition={name}"));
            all.push(found("--partition", (from.clone(), name.to_string()), update, place, 500));
        }
    }
    all
}
