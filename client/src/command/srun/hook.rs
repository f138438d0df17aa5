//! SrunProlog and SrunEpilog: programs that srun itself runs before its step is served and after it.
//!
//! They run here, as the user, with the step's command line as their arguments (srun(1), `--prolog`). Their exit status
//! changes nothing, as in Slurm; one that cannot be run is told.

use proto::v1::CreateStepReply;

use super::{PROGRAM, request::Plan};
use crate::option::Parsed;
use crate::{connect, say};

/// Runs the program that the option or, without one, the configuration's key names. `none` means no program.
pub(super) async fn run(when: When, parsed: &Parsed, plan: &Plan, job_id: u32, reply: &CreateStepReply) {
    let manner = &parsed.first().manner;
    let (option, key, context) = match when {
        When::Before => (&manner.prolog, "SrunProlog", "prolog_srun"),
        When::After => (&manner.epilog, "SrunEpilog", "epilog_srun"),
    };
    let named = option.clone().or_else(|| connect::conf_value(key));
    let Some(path) = named.filter(|path| !path.eq_ignore_ascii_case("none")) else { return };
    let mut command = tokio::process::Command::new(&path);
    command.args(plan.words()).env("SLURM_SCRIPT_CONTEXT", context);
    for name in ["SLURM_JOB_ID", "SLURM_JOBID"] {
        command.env(name, job_id.to_string());
    }
    for name in ["SLURM_STEP_ID", "SLURM_STEPID"] {
        command.env(name, &reply.step_id);
    }
    if let Err(error) = command.status().await {
        let text = super::super::os_text(&error);
        say::error(PROGRAM.name(), format!("{key} {path} could not be run: {text}"));
    }
}

/// On which side of the step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before its tasks are served.
    Before,
    /// After they have ended.
    After,
}
