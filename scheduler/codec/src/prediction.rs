//! Which predictions are made, and what they are made of ⇄ the messages.

use model::id::Uid;
use proto::journal_v1 as w;
use scheduler_core::plan::policy::Prediction;
use scheduler_core::record::Record;
use scheduler_core::state::prediction::LastRuns;
use w::predicting::Prediction as Wire;

use crate::error::Error;

pub(crate) fn predicting_out(made: Prediction) -> w::Predicting {
    let made = match made {
        Prediction::None => Wire::None,
        Prediction::Avg2 => Wire::Avg2,
    };
    w::Predicting { made: made.into() }
}

pub(crate) fn predicting_in(wire: w::Predicting) -> Result<Record, Error> {
    match Wire::try_from(wire.made) {
        Ok(Wire::None) => Ok(Record::Predicting(Prediction::None)),
        Ok(Wire::Avg2) => Ok(Record::Predicting(Prediction::Avg2)),
        Ok(Wire::Newer) | Err(_) => Err(Error::Field { field: "predicting" }),
    }
}

pub(crate) fn runs_out(user: Uid, runs: LastRuns) -> w::LastRuns {
    w::LastRuns { uid: user.0, earlier_s: runs.earlier_s, last_s: runs.last_s }
}

pub(crate) fn runs_in(wire: w::LastRuns) -> Record {
    Record::LastRuns(Uid(wire.uid), LastRuns { earlier_s: wire.earlier_s, last_s: wire.last_s })
}
