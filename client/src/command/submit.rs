//! What `sbatch`, `salloc` and `srun` share: reading their words, sending the request, telling a refusal.

use prost::bytes::Bytes;
use proto::convert;
use proto::v1::{self, SubmitRequest};

use super::{Call, clusters};
use crate::api::{Error, Key};
use crate::option::{self, Parsed, Program, Stop};
use crate::{local, say};

/// Reads the words; what ends the command early is printed, and its exit status given.
pub(super) fn read(program: Program, call: &Call) -> Result<Parsed, u8> {
    let parsed = option::parse(program, &call.argv, &option::real()).map_err(stop)?;
    parsed.warnings.iter().for_each(say::err);
    Ok(parsed)
}

fn stop(stop: Stop) -> u8 {
    say::out(stop.out);
    stop.err.iter().for_each(say::err);
    stop.code
}

/// The cluster that `-M` names, checked.
pub(super) fn cluster(call: &Call, parsed: &Parsed) -> Result<Option<String>, u8> {
    let wanted = parsed.first().manner.clusters.as_deref().map(super::job::list);
    clusters::check(call, wanted.as_deref())
}

/// The message of a submission, with a fresh key.
pub(super) fn message(parsed: &Parsed) -> SubmitRequest {
    let mut requests =
        parsed.components.iter().map(|component| convert::request::outwards(&component.request));
    let request = requests.next();
    let script = parsed.script.as_ref().map(|script| script.body.clone()).unwrap_or_default();
    let session = nix::unistd::getsid(None).map_or(0, nix::unistd::Pid::as_raw);
    SubmitRequest {
        key: Key::random().bytes(),
        request,
        script: Bytes::from(script),
        environment: Bytes::from(option::block(&parsed.environment)),
        alloc_sid: u32::try_from(session).unwrap_or(0),
        components: requests.collect(),
    }
}

/// Tells why there is no job: the scheduler's lines, then Slurm's sentence.
pub(super) fn refused(program: Program, error: &Error) -> u8 {
    let name = program.name();
    if let Error::Refused { lines, .. } = error {
        lines.iter().for_each(|line| say::error(name, line));
    }
    say::error(name, format!("{}: {}", program.refusal_words(), say::reason(error)));
    say::explain(name, error);
    1
}

/// `--test-only`: where and when the job would start, on standard error. Nothing is stored, so no id is given
/// out; the number that Slurm prints there is 0.
pub(super) async fn test_only(program: Program, parsed: &Parsed) -> u8 {
    let answer = match super::connect().await {
        Ok(client) => client.raw().test_submit(message(parsed)).await.map_err(Error::Failed),
        Err(error) => Err(error),
    };
    let reply = match answer {
        Ok(reply) => reply.into_inner(),
        Err(error) => {
            say::err(format!("allocation failure: {}", say::reason(&error)));
            say::explain(program.name(), &error);
            return 1;
        }
    };
    if let Some(refused) = reply.refused {
        refused.lines.iter().for_each(|line| say::error(program.name(), line));
        say::err(format!(
            "allocation failure: {}",
            Error::from(v1::Refused { lines: Vec::new(), ..refused })
        ));
        return 1;
    }
    say::err(format!(
        "{}: Job 0 to start at {} a using {} processors on nodes {} in partition {}",
        program.name(),
        local::date(reply.start_ms),
        reply.cpus,
        reply.nodes,
        reply.partition
    ));
    0
}
