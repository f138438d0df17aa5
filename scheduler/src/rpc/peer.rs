//! Who is at the other end of a connection: the kernel's word, never the message's.

use std::sync::Arc;

use scheduler_core::effect::Asker;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use crate::directory::Directory;

/// User and group of the peer.
///
/// # Errors
/// The connection has no credentials: it is not one of ours.
pub fn credentials<T>(request: &Request<T>) -> Result<(u32, u32), Status> {
    let info = request.extensions().get::<UdsConnectInfo>();
    let credentials = info.and_then(|info| info.peer_cred.as_ref());
    let credentials = credentials.ok_or_else(|| Status::unauthenticated("no credentials of the peer"))?;
    Ok((credentials.uid(), credentials.gid()))
}

/// The asker with names.
///
/// # Errors
/// As [`credentials`].
pub async fn asker<T>(directory: &Arc<Directory>, request: &Request<T>) -> Result<Asker, Status> {
    let (uid, gid) = credentials(request)?;
    Ok(directory.asker_async(uid, gid).await)
}
