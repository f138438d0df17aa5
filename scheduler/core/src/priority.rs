//! The additive multifactor priority, for the factors that do not change with time.
//!
//! Owns the formula. Each factor lies between 0 and 1 and is multiplied by its weight; nice is taken
//! away. The age factor grows alike for all waiting jobs and is left to the ties of the queue's order
//! until PriorityMaxAge is reached. Source: `man slurm.conf` (PriorityWeight*), multifactor guide.

use crate::settings::Settings;
use crate::state::State;
use crate::state::job::Job;

/// Where a single job's numbers start where no formula is used: Slurm counts down from here.
const FIRST_BASIC: u32 = 4_294_901_759;

/// The contributions to a job's priority, each already multiplied by its weight.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Factors {
    /// Size of the job.
    pub job_size: f64,
    /// The partition's factor against the largest of all partitions.
    pub partition: f64,
    /// The QOS's priority against the largest of all.
    pub qos: f64,
    /// Taken away.
    pub nice: i32,
}

impl Factors {
    /// The number: at least 1, since 0 means held.
    #[must_use]
    pub fn total(&self) -> u32 {
        let sum = self.job_size + self.partition + self.qos - f64::from(self.nice);
        // In range after the clamp, so that the cast is exact but for the fraction.
        sum.clamp(1.0, f64::from(u32::MAX)) as u32
    }
}

/// The contributions to the priority of a job.
///
/// Cost: O(partitions + QOS).
#[must_use]
pub fn factors(state: &State, settings: &Settings, job: &Job) -> Factors {
    let weights = &settings.weights;
    let share = |part: u32, whole: u32| if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) };
    let all = state.partitions.iter().flatten().map(|partition| partition.definition.priority_job_factor);
    let largest_partition = all.max().unwrap_or(0);
    let own = job.partitions.iter().filter_map(|&idx| state.partition(idx));
    let own_partition = own.map(|partition| partition.definition.priority_job_factor).max().unwrap_or(0);
    let qos_priority = |name: &str| {
        let text = state.accounts.qos.get(name).and_then(|qos| qos.attributes.get("priority"));
        text.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0)
    };
    let largest_qos = state.accounts.qos.keys().map(|name| qos_priority(name)).max().unwrap_or(0);
    let cluster_cpus: u32 = match weights.job_size {
        0 => 0,
        _ => state.nodes.iter().map(|node| node.definition.cpus.0).fold(0, u32::saturating_add),
    };
    let request = &job.request;
    let tasks = request.ntasks.unwrap_or_else(|| request.nodes.map_or(1, |(min, _)| min.max(1)));
    let cpus = tasks.saturating_mul(request.cpus_per_task.unwrap_or(1)).min(cluster_cpus);
    Factors {
        job_size: f64::from(weights.job_size) * share(cpus, cluster_cpus),
        partition: f64::from(weights.partition) * share(own_partition, largest_partition),
        qos: f64::from(weights.qos) * share(qos_priority(&job.qos), largest_qos),
        nice: job.nice,
    }
}

/// The priority of a waiting job that nobody holds.
///
/// An explicit `--priority` counts as it is. Without the formula (PriorityType=priority/basic) jobs
/// count down in the order of their ids, less their nice. Cost: O(partitions + QOS).
#[must_use]
pub fn priority(state: &State, settings: &Settings, job: &Job) -> u32 {
    if let Some(given) = job.request.rare().priority {
        return given;
    }
    if !settings.multifactor {
        let before = job.id.0.saturating_sub(settings.first_job_id);
        let basic = i64::from(FIRST_BASIC) - i64::from(before) - i64::from(job.nice);
        return u32::try_from(basic.clamp(1, i64::from(u32::MAX))).expect("the number was clamped");
    }
    factors(state, settings, job).total()
}
