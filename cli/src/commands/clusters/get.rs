//! `mesh clusters get`

use proto::v1::GetClusterRequest;

use crate::{app::App, failure::Failure, listing};

/// Which cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's id
    id: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = GetClusterRequest { id: args.id };
    let cluster = app.client()?.get_cluster(request).await?.message;
    listing::one(app, &cluster)
}
