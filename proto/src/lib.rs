//! Schemas of everything that is sent or stored, and the conversions of the model's words.
//!
//! Conversions are fallible inwards (a message is outside input) and total outwards. Nothing here
//! decides; a message that breaks a limit or a grammar is a [`convert::Error`] that names the field.

pub mod convert;
pub mod limits;
pub mod wire;

/// Generated code finds the types of imported packages along the package's own path, so it stands there.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
mod sluice {
    /// The messages and services of version 1.
    pub mod v1 {
        tonic::include_proto!("sluice.v1");
    }

    pub mod journal {
        /// The records of the journal, version 1.
        pub mod v1 {
            tonic::include_proto!("sluice.journal.v1");
        }
    }
}

pub use sluice::journal::v1 as journal_v1;
pub use sluice::v1;
