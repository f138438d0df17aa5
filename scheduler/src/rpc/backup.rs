//! A backup of the running scheduler, as a stream of pieces. For administrators only: it holds scripts and environments.

use proto::v1;
use scheduler_core::effect::Asker;
use tokio::sync::mpsc;
use tonic::Status;

use super::Api;
use crate::store::{Error, backup};
use crate::wire;

/// Pieces that wait for the caller.
const PIECES_MAX: usize = 4;

/// The stream of a backup's pieces.
pub type Pieces = mpsc::Receiver<Result<v1::BackupPiece, Status>>;

/// Begins a backup. The state is as it is now: everything acknowledged so far is in it. Nothing waits for it.
pub fn start(api: &Api, asker: &Asker) -> Pieces {
    let (sender, pieces) = mpsc::channel(PIECES_MAX);
    if let Some(refused) = api.refuse_unless_administrator(asker) {
        let piece = v1::BackupPiece { refused: Some(wire::refused(&refused)), ..v1::BackupPiece::default() };
        // There is room for one.
        let _ = sender.try_send(Ok(piece));
        return pieces;
    }
    let (images, bodies) = (api.shelf.images(), api.shelf.bodies());
    tokio::task::spawn_blocking(move || {
        let mut sink = |bytes: Vec<u8>| {
            let piece = v1::BackupPiece { bytes: bytes.into(), ..v1::BackupPiece::default() };
            // A caller that has gone wants nothing more.
            sender.blocking_send(Ok(piece)).map_err(|_| Error::Stopped)
        };
        match backup::write(&images, &bodies, &mut sink) {
            Ok(done) => {
                tracing::info!(
                    frame = done.sequence,
                    entries = done.entries,
                    bytes = done.bytes,
                    "a backup was taken"
                );
                let summary =
                    v1::BackupSummary { frame: done.sequence, entries: done.entries, bytes: done.bytes };
                let piece = v1::BackupPiece { summary: Some(summary), ..v1::BackupPiece::default() };
                let _ = sender.blocking_send(Ok(piece));
            }
            Err(error) => {
                tracing::warn!("a backup was not finished: {error}");
                let _ = sender.blocking_send(Err(Status::internal(error.to_string())));
            }
        }
    });
    pieces
}
