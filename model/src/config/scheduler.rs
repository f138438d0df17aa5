//! Every parameter of SchedulerParameters that a release from 22.05 to 26.05 knows, and what is made of it.
//!
//! One table: notices at the start and the guide `docs/guides/scheduler-parameters.md` come from it. A
//! parameter that only bounds how long Slurm's scheduler works, or how often, has nothing to bound here.

use super::lex::Place;
use super::{Error, Notice};

/// What Sluice makes of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does this here.
    Done(&'static str),
    /// Nothing is lost by leaving it out, for this reason.
    NoMeaning(&'static str),
    /// It is not honoured; it would have given this.
    Lost(&'static str),
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None, or anything.
    Word,
    /// A whole number.
    Number,
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// As the manual writes it.
    pub name: &'static str,
    /// Its value.
    pub takes: Takes,
    /// What is made of it.
    pub fate: Fate,
}

const fn done(name: &'static str, takes: Takes, what: &'static str) -> Parameter {
    Parameter { name, takes, fate: Fate::Done(what) }
}

const fn none(name: &'static str, takes: Takes, why: &'static str) -> Parameter {
    Parameter { name, takes, fate: Fate::NoMeaning(why) }
}

const fn lost(name: &'static str, takes: Takes, effect: &'static str) -> Parameter {
    Parameter { name, takes, fate: Fate::Lost(effect) }
}

use Takes::{Number, Word};

const INCREMENTAL: &str = "a pass examines what changed, not the whole queue again, and delays no submission";
const NO_HORIZON: &str = "the plan has no grid and no horizon: starts are exact however far ahead";
const ONE_PASS: &str = "there is one pass for the main schedule and backfill, run when something changed";
const NO_LOCKS: &str = "planning holds no lock that a request could wait for";
const PREEMPTION: &str = "fine points of preemption";
const HET: &str = "heterogeneous jobs";

/// The table, in alphabetical order.
#[rustfmt::skip]
pub const PARAMETERS: &[Parameter] = &[
    lost("allow_zero_lic", Word, "jobs that ask for licenses of which the site has none"),
    lost("assoc_limit_stop", Word, "a job over its association's limits holds back those behind it"),
    none("batch_sched_delay", Number, ONE_PASS),
    lost("bb_array_stage_cnt", Number, "staging of burst buffers"),
    lost("bf_allow_magnetic_slot", Word, "plans within magnetic reservations"),
    lost("bf_busy_nodes", Word, "backfilled jobs prefer nodes that are in use"),
    none("bf_continue", Word, NO_LOCKS),
    lost("bf_hetjob_immediate", Word, HET),
    lost("bf_hetjob_prio", Word, HET),
    none("bf_ignore_newly_avail_nodes", Word, "a pass sees one state of the cluster from its start to its end"),
    none("bf_interval", Number, ONE_PASS),
    lost("bf_job_part_count_reserve", Number, "planned starts for the first jobs of each partition only"),
    none("bf_licenses", Word, "licenses are looked at whenever a job is tested"),
    lost("bf_max_job_array_resv", Number, "another number than 20 of elements of one array with a planned start"),
    none("bf_max_job_assoc", Number, INCREMENTAL),
    none("bf_max_job_part", Number, INCREMENTAL),
    none("bf_max_job_start", Number, INCREMENTAL),
    done("bf_max_job_test", Number, "so many jobs, in the order of the queue, have a planned start that nothing behind them delays (default 1000); the others are tested for starting now"),
    none("bf_max_job_user", Number, INCREMENTAL),
    none("bf_max_job_user_part", Number, INCREMENTAL),
    none("bf_max_time", Number, INCREMENTAL),
    lost("bf_min_age_reserve", Number, "planned starts only for jobs that have waited so long"),
    lost("bf_min_prio_reserve", Number, "planned starts only for jobs of such a priority"),
    none("bf_node_space_size", Number, "profiles grow as they must"),
    lost("bf_one_resv_per_job", Word, "at most one planned start for a job that names several partitions (here always)"),
    none("bf_resolution", Number, NO_HORIZON),
    lost("bf_running_job_reserve", Word, "slots of running jobs kept for jobs of their kind"),
    none("bf_topopt_enable", Word, "the site's own topology optimiser is a plugin of Slurm"),
    none("bf_topopt_iterations", Number, "the site's own topology optimiser is a plugin of Slurm"),
    none("bf_when_last_cycle", Number, "shown by sdiag as it is"),
    none("bf_window", Number, NO_HORIZON),
    none("bf_window_linear", Number, NO_HORIZON),
    none("bf_yield_interval", Number, NO_LOCKS),
    none("bf_yield_rpc_cnt", Number, NO_LOCKS),
    none("bf_yield_sleep", Number, NO_LOCKS),
    none("build_queue_timeout", Number, INCREMENTAL),
    lost("correspond_after_task_cnt", Number, "another limit than none on arrays that wait with aftercorr"),
    lost("default_gbytes", Word, "sizes without a unit in gigabytes"),
    none("default_queue_depth", Number, INCREMENTAL),
    none("defer", Word, "a submission is answered before anything is planned"),
    none("defer_batch", Word, "a submission is answered before anything is planned"),
    lost("delay_boot", Number, "nodes that are started on demand"),
    lost("disable_hetjob_steps", Word, HET),
    lost("disable_job_shrink", Word, "scontrol update that gives nodes back"),
    lost("enable_hetjob_steps", Word, HET),
    none("enable_job_state_cache", Word, "queries are answered from a copy beside the scheduler"),
    lost("enable_user_top", Word, "scontrol top, by which users order their own jobs"),
    lost("extra_constraints", Word, "conditions on the Extra field of nodes"),
    none("ff_wait", Number, "slurmctld's wait at its failover"),
    lost("ignore_constraint_validation", Word, "constraints are accepted that no node satisfies"),
    lost("ignore_numa", Word, "NUMA nodes are no sockets"),
    lost("ignore_prefer_validation", Word, "preferences are accepted that no node satisfies"),
    done("kill_invalid_depend", Word, "jobs whose dependency can never be met are cancelled"),
    done("max_array_tasks", Number, "an array has at most so many elements"),
    none("max_depend_depth", Number, "circular dependencies are found at any depth"),
    none("max_rpc_cnt", Number, NO_LOCKS),
    none("max_sched_time", Number, INCREMENTAL),
    none("max_script_size", Number, "the limit of scripts is a constant (4 MiB)"),
    lost("max_submit_line_size", Number, "another limit on the submitted command line"),
    done("max_switch_wait", Number, "jobs wait for their --switches at most so many seconds (default 300)"),
    none("no_backup_scheduling", Word, "there is no backup controller"),
    lost("no_env_cache", Word, "jobs fail where --get-user-env has no answer"),
    done("nohold_on_prolog_fail", Word, "jobs whose prolog failed are requeued and not held"),
    lost("pack_serial_at_end", Word, "one-CPU jobs fill nodes from the end of the list"),
    none("partition_job_depth", Number, INCREMENTAL),
    lost("preempt_reorder_count", Number, PREEMPTION),
    lost("preempt_send_user_signal", Word, PREEMPTION),
    lost("preempt_strict_order", Word, PREEMPTION),
    lost("preempt_youngest_first", Word, PREEMPTION),
    lost("reduce_completing_frag", Word, "no job starts on the nodes around one that is ending"),
    none("requeue_on_resume_failure", Word, "nodes that are started on demand"),
    lost("requeue_setup_env_fail", Word, "jobs are requeued where --get-user-env has no answer"),
    lost("salloc_wait_nodes", Word, "salloc waits until all nodes are ready"),
    lost("sbatch_wait_nodes", Word, "the script waits until all nodes are ready"),
    none("sched_interval", Number, ONE_PASS),
    none("sched_max_job_start", Number, INCREMENTAL),
    none("sched_min_interval", Number, ONE_PASS),
    lost("spec_cores_first", Word, "cores for the system come from the first sockets"),
    none("step_retry_count", Number, "a waiting step starts when its resources are free, without retries"),
    none("step_retry_time", Number, "a waiting step starts when its resources are free, without retries"),
    lost("time_min_as_soft_limit", Word, "--time-min as a limit that may be exceeded where nobody waits"),
    lost("user_resv_delete", Word, "reservations that their users may delete"),
    lost("whole_hetjob", Word, HET),
    lost("whole_pack", Word, HET),
];

/// The parameter of that name, without regard to case.
#[must_use]
pub fn find(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name.eq_ignore_ascii_case(name))
}

/// Checks the text of SchedulerParameters: what is wrong, and what the administrator should know.
pub(super) fn check(text: &str, place: &Place) -> (Vec<Error>, Vec<Notice>) {
    let (mut errors, mut notices) = (Vec::new(), Vec::new());
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let message = match find(name) {
            None => format!("SchedulerParameters: no release knows {name}; it has no effect"),
            Some(known) if known.takes == Number && value.parse::<u64>().is_err() => {
                errors.push(
                    place.error(format!("SchedulerParameters: {name} takes a whole number, not \"{value}\"")),
                );
                continue;
            }
            Some(known) => match known.fate {
                Fate::Done(_) => continue,
                Fate::NoMeaning(why) => format!("SchedulerParameters: {name} has no meaning here: {why}"),
                Fate::Lost(effect) => {
                    format!("SchedulerParameters: {name} is not supported; it would have given {effect}")
                }
            },
        };
        notices.push(Notice { place: place.clone(), message });
    }
    (errors, notices)
}

/// The guide: the table as a page.
#[must_use]
pub fn guide() -> String {
    let mut page = "# SchedulerParameters\n\nWhat is made of each parameter that a release of Slurm from 22.05 to 26.05 \
                    knows. Generated from\n`model/src/config/scheduler.rs`; one that does nothing here is reported when the \
                    configuration is read, with file and\nline, and `scontrol show config` shows the text as it was given.\n\
                    What only Sluice knows, `PredictRunTimes` for one, is said in [sluice.conf](../reference/sluice-conf.md).\n\n\
                    | parameter | here | |\n|---|---|---|\n"
        .to_owned();
    for parameter in PARAMETERS {
        let (word, text) = match parameter.fate {
            Fate::Done(what) => ("done", what),
            Fate::NoMeaning(why) => ("no meaning", why),
            Fate::Lost(effect) => ("not supported", effect),
        };
        let value = if parameter.takes == Number { "=N" } else { "" };
        page += &format!("| `{}{value}` | {word} | {text} |\n", parameter.name);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        let unsorted = PARAMETERS.windows(2).find(|pair| pair[0].name >= pair[1].name);
        assert_eq!(unsorted.map(|pair| pair[1].name), None);
    }

    #[test]
    fn parameters_are_checked() {
        let place = Place { file: std::sync::Arc::from(std::path::Path::new("s")), line: 3 };
        let texts = |text: &str| {
            let (errors, notices) = check(text, &place);
            let notices = notices.iter().map(|one| one.message.clone());
            errors.iter().map(ToString::to_string).chain(notices).collect::<Vec<_>>()
        };
        assert!(texts("bf_max_job_test=50,kill_invalid_depend").is_empty());
        assert_eq!(
            texts("bf_max_job_test=x"),
            ["s:3: SchedulerParameters: bf_max_job_test takes a whole number, not \"x\""]
        );
        assert!(texts("BF_Window=60")[0].contains("has no meaning here: the plan has no grid"));
        assert!(texts("assoc_limit_stop")[0].contains("is not supported; it would have given"));
        assert!(texts("bf_nosuch")[0].contains("no release knows bf_nosuch"));
    }
}
