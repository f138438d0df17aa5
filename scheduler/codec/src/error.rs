//! Why bytes are no record of ours.

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no message.
    #[error("not a message of the journal's schema")]
    Malformed(#[from] prost::DecodeError),
    /// The bytes of a row, which is looked at without being built, are no message.
    #[error("a row that is not a message of the journal's schema")]
    MalformedRow(#[from] proto::wire::Malformed),
    /// An entry of no kind that this version knows.
    #[error("an entry of a kind that this version does not know")]
    UnknownKind,
    /// The writer says that this version cannot read what follows.
    #[error(
        "written by {software} (records version {version}, readable from version {oldest_reader} on); this version reads up to {ours}"
    )]
    Newer {
        /// The writer's name and version.
        software: String,
        /// Version of its records.
        version: u32,
        /// The oldest reader that understands them.
        oldest_reader: u32,
        /// The version of this reader.
        ours: u32,
    },
    /// A field is missing or holds what this version does not know.
    #[error("field {field} is missing or holds an unknown value")]
    Field {
        /// The field, as the schema names it.
        field: &'static str,
    },
    /// A request that is none.
    #[error("a job request that is none: {0}")]
    Request(proto::convert::Error),
}

/// The field's value, or the error that names it.
pub(crate) fn need<T>(field: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or(Error::Field { field })
}
