//! What `sbatch`, `salloc` and `srun` share: reading their words, sending the request, telling a refusal.

use model::refusal::Refusal;
use prost::bytes::Bytes;
use proto::convert;
use proto::v1::{self, SubmitRequest};

use super::{Call, clusters};
use crate::api::{Client, Error, Key};
use crate::option::{self, Component, Parsed, Program, Stop};
use crate::{local, say};

/// Reads the words; what ends the command early is printed, and its exit status given.
pub(super) fn read(program: Program, call: &Call) -> Result<Parsed, u8> {
    let parsed = option::parse(program, &call.argv, &option::real()).map_err(stop)?;
    parsed.warnings.iter().for_each(say::err);
    parsed.components.iter().for_each(|component| tell_options(program, component));
    Ok(parsed)
}

/// With `-v`: what was asked for, by whatever way, as Slurm lists it; values as they were given.
fn tell_options(program: Program, component: &Component) {
    if component.manner.verbose == 0 {
        return;
    }
    let rule = || "-------------------- --------------------".to_owned();
    let mut lines = vec!["defined options".to_owned(), rule()];
    for (long, value) in &component.values {
        let counted = component.manner.verbose.to_string();
        let value = match (*long, value.as_str()) {
            ("verbose", _) => &counted,
            (_, "") => "set",
            (_, value) => value,
        };
        lines.push(format!("{long:<20}: {value}"));
    }
    lines.extend([rule(), "end of defined options".to_owned()]);
    lines.iter().for_each(|line| say::err(format!("{}: {line}", program.name())));
}

fn stop(stop: Stop) -> u8 {
    say::out(stop.out);
    stop.err.iter().for_each(say::err);
    stop.code
}

/// The cluster that `-M` names, checked.
pub(super) fn cluster(call: &Call, parsed: &Parsed) -> Result<Option<String>, u8> {
    let wanted = parsed.first().manner.clusters.as_deref().map(clusters::names);
    clusters::check(call, wanted.as_deref())
}

/// Reads the words of a command that asks for an allocation, and sees that it is this cluster's.
pub(super) fn read_for_this_cluster(program: Program, call: &Call) -> Result<Parsed, u8> {
    let parsed = read(program, call)?;
    cluster(call, &parsed)?;
    Ok(parsed)
}

/// The message of a submission, with a fresh key.
pub(super) fn message(parsed: &Parsed) -> SubmitRequest {
    let mut requests =
        parsed.components.iter().map(|component| convert::request::outwards(&component.request));
    let request = requests.next();
    let script = parsed.script.as_ref().map(|script| script.body.clone()).unwrap_or_default();
    // An allocation of no session needs nobody to hold it (`salloc --no-shell`).
    let session = match parsed.first().manner.no_shell {
        true => 0,
        false => nix::unistd::getsid(None).map_or(0, nix::unistd::Pid::as_raw),
    };
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
    if let Error::Refused { number, lines } = error {
        lines.iter().for_each(|line| say::error(name, line));
        // Slurm's own client finds these, so that its words for the scheduler's answer are missing.
        if *number == Refusal::InvalidGres.number() {
            say::error(name, say::reason(error));
            return 1;
        }
    }
    say::error(name, format!("{}: {}", program.refusal_words(), say::reason(error)));
    say::explain(name, error);
    1
}

/// `--test-only`: where and when the job would start, on standard error. Nothing is stored; the id
/// is the one that the next job would get.
pub(super) async fn test_only(program: Program, parsed: &Parsed) -> u8 {
    let answer = match super::connect().await {
        Ok(client) => {
            let message = message(parsed);
            let asked = client.repeat(|mut inner| {
                let message = message.clone();
                async move { Ok(inner.test_submit(message).await?.into_inner()) }
            });
            match asked.await {
                Ok(reply) => Ok((reply, next_job_id(&client).await)),
                Err(error) => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    let (reply, id) = match answer {
        Ok(answer) => answer,
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
        "{}: Job {id} to start at {} a using {} processors on nodes {} in partition {}",
        program.name(),
        local::date(reply.start_ms),
        reply.cpus,
        reply.nodes,
        reply.partition
    ));
    0
}

/// The id that the next job would get; 0 where it is not told.
async fn next_job_id(client: &Client) -> u64 {
    let reply = client.raw().show_config(v1::ShowConfigRequest {}).await;
    let pairs = reply.map(|reply| reply.into_inner().pairs).unwrap_or_default();
    let found = pairs.iter().find(|pair| pair.key == "NEXT_JOB_ID");
    found.and_then(|pair| pair.value.parse().ok()).unwrap_or(0)
}
