//! `mesh peers get`

use proto::v1::GetPeerRequest;

use crate::{app::App, failure::Failure, listing};

/// Which peer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The peer's id
    id: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let peer = app.client()?.get_peer(GetPeerRequest { id: args.id }).await?.message;
    listing::one(app, &peer)
}
