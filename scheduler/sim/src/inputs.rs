//! Inputs that a daemon recorded, through a machine of our own: the same decisions, or where they differ.
//!
//! The machine gets what the daemon's got, plans included, and must end in the same state. The planner is
//! asked beside it what it would have proposed where the daemon's proposed something.

use model::time::Timestamp;
use scheduler_codec::input::{FORMAT, Frame, decode_frame};
use scheduler_core::apply::apply;
use scheduler_core::input::Input;
use scheduler_core::machine::{Machine, Outbox};
use scheduler_core::plan::Planner;
use scheduler_core::state::State;

/// What a replay saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Owners of the journal, one after the other.
    pub owners: u64,
    /// Inputs in all.
    pub inputs: u64,
    /// Submissions.
    pub submits: u64,
    /// Plans.
    pub plans: u64,
    /// Starts in them.
    pub starts: u64,
    /// Plans that the planner proposes here too, start for start.
    pub same_plans: u64,
    /// Owners whose end is recorded and whose state has the recorded digest.
    pub same_states: u64,
    /// Owners without a recorded end: the daemon was killed, or still runs.
    pub open: u64,
    /// Digest of the last state, in hexadecimal.
    pub digest: String,
    /// The first difference.
    pub difference: Option<String>,
}

impl Replayed {
    /// Whether every state that can be compared is the same.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.difference.is_none()
    }

    /// A sentence for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { owners, inputs, submits, plans, starts, same_plans, open, digest, .. } = self;
        let mut text = format!(
            "{inputs} inputs of {owners} runs of the scheduler: {submits} submissions, {plans} plans with {starts} \
             starts\n{same_plans} of the {plans} plans are what the planner proposes here\n"
        );
        match &self.difference {
            Some(difference) => text.push_str(&format!("DIFFERENT: {difference}\n")),
            None if *open == *owners => {
                text.push_str(&format!("no end is recorded; the state is now {digest}\n"))
            }
            None => text.push_str(&format!("the same decisions: the state ends as {digest}\n")),
        }
        text
    }
}

struct Owner {
    machine: Machine,
    planner: Planner,
    out: Outbox,
    inputs: u64,
}

/// Replays a recording.
///
/// # Errors
/// What is no recording of this version.
pub fn replay(recording: &[u8]) -> Result<Replayed, String> {
    let mut rest = recording.strip_prefix(FORMAT).ok_or_else(|| not_ours(recording))?;
    let mut seen = Replayed::default();
    let mut state = State::default();
    let mut owner: Option<Owner> = None;
    loop {
        let at = recording.len() - rest.len();
        let frame = decode_frame(&mut rest).map_err(|error| format!("byte {at}: {error}"))?;
        match frame {
            None => break,
            Some(Frame::Begin) => {
                close(&mut seen, owner.take());
                seen.owners += 1;
                state = State::default();
            }
            Some(Frame::Record(record)) => apply(&mut state, &record),
            Some(Frame::Input(now, input)) => {
                let owner = owner.get_or_insert_with(|| Owner::new(std::mem::take(&mut state)));
                owner.take(now, input, &mut seen);
            }
            Some(Frame::End { digest, inputs }) => {
                let ended = owner.take().unwrap_or_else(|| Owner::new(std::mem::take(&mut state)));
                let ours = scheduler_codec::digest(ended.machine.state());
                seen.digest = hex(&ours);
                if ours == digest && ended.inputs == inputs {
                    seen.same_states += 1;
                } else {
                    let theirs = hex(&digest);
                    let ours = &seen.digest;
                    let difference = format!(
                        "after {} of {inputs} inputs the state is {ours}, not {theirs}",
                        ended.inputs
                    );
                    seen.difference.get_or_insert(difference);
                }
            }
        }
    }
    close(&mut seen, owner);
    if seen.owners == 0 {
        return Err("the recording is empty".to_owned());
    }
    Ok(seen)
}

/// An owner without an end.
fn close(seen: &mut Replayed, owner: Option<Owner>) {
    if let Some(owner) = owner {
        seen.open += 1;
        seen.digest = hex(&scheduler_codec::digest(owner.machine.state()));
    }
}

impl Owner {
    fn new(state: State) -> Self {
        Self {
            machine: Machine::new(state),
            planner: Planner::following(),
            out: Outbox::default(),
            inputs: 0,
        }
    }

    fn take(&mut self, now: Timestamp, input: Input, seen: &mut Replayed) {
        self.inputs += 1;
        seen.inputs += 1;
        match &input {
            Input::Submit(_) => seen.submits += 1,
            Input::Plan(plan) => {
                seen.plans += 1;
                seen.starts += plan.starts.len() as u64;
                if let Some(settings) = self.machine.configuration().cloned() {
                    let ours = self.planner.pass(self.machine.state(), &settings, now).plan;
                    seen.same_plans += u64::from(ours.starts == plan.starts);
                }
            }
            _ => {}
        }
        self.machine.handle(now, input, &mut self.out);
        for record in self.out.records.drain(..) {
            self.planner.observe(&record);
        }
        self.out.effects.clear();
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Why a file is no recording of this version.
fn not_ours(recording: &[u8]) -> String {
    // All formats are named alike, up to their number.
    let number = |bytes: &[u8]| {
        let name =
            bytes.get(..FORMAT.len())?.strip_prefix(&FORMAT[..FORMAT.len() - 2])?.strip_suffix(b"\n")?;
        let digit = std::str::from_utf8(name).ok()?.parse::<u8>().ok()?;
        Some(digit)
    };
    match (number(recording), number(FORMAT)) {
        (Some(theirs), Some(ours)) => format!(
            "a recording of inputs in format {theirs}; this version reads format {ours} only: record again, or replay \
             with the version that wrote it"
        ),
        _ => "no recording of inputs (sluice-scheduler --record-inputs FILE writes one)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::id::Epoch;
    use scheduler_codec::input::encode_frame;
    use scheduler_core::settings::Settings;

    use super::*;

    fn recording(digest: Option<[u8; 32]>) -> Vec<u8> {
        let mut bytes = FORMAT.to_vec();
        let mut put = |frame: Frame| encode_frame(&frame, &mut bytes);
        put(Frame::Begin);
        put(Frame::Input(Timestamp(5), Input::Owned(Epoch(3))));
        put(Frame::Input(Timestamp(6), Input::Configure(Arc::new(Settings::named("c")))));
        if let Some(digest) = digest {
            put(Frame::End { digest, inputs: 2 });
        }
        bytes
    }

    #[test]
    fn ends_in_the_same_state_or_says_where_not() {
        let mut machine = Machine::new(State::default());
        let mut out = Outbox::default();
        machine.handle(Timestamp(5), Input::Owned(Epoch(3)), &mut out);
        machine.handle(Timestamp(6), Input::Configure(Arc::new(Settings::named("c"))), &mut out);
        let digest = scheduler_codec::digest(machine.state());
        let same = replay(&recording(Some(digest))).unwrap();
        assert!(same.is_same() && same.same_states == 1 && same.inputs == 2, "{same:?}");
        assert!(!replay(&recording(Some([1; 32]))).unwrap().is_same());
        let open = replay(&recording(None)).unwrap();
        assert_eq!((open.open, open.is_same()), (1, true));
    }

    #[test]
    fn what_this_version_did_not_write_is_named() {
        let mut older = recording(None);
        older[FORMAT.len() - 2] = b'5';
        let message = replay(&older).unwrap_err();
        assert!(
            message.starts_with("a recording of inputs in format 5; this version reads format 6 only"),
            "{message}"
        );
        for other in [&b"x"[..], b"", b"sluice inputs x\n", b"sluice journal 2"] {
            assert!(replay(other).unwrap_err().starts_with("no recording of inputs ("), "{other:?}");
        }
    }
}
