//! `mesh shards locate`

use proto::v1::LocateShardRequest;

use crate::{app::App, failure::Failure, listing, values};

/// Which key, of which namespace.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The namespace's id
    #[arg(value_parser = values::id)]
    namespace: String,
    /// The key, as text
    #[arg(value_name = "KEY")]
    text: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = LocateShardRequest {
        namespace: args.namespace,
        key: args.text,
    };
    let shard = app.client()?.locate_shard(request).await?.message;
    listing::one(app, &shard)
}
