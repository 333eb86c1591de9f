//! `mesh shards history`

use proto::v1::ListShardHistoryRequest;

use super::which::{self, Id};
use crate::{app::App, failure::Failure, listing};

/// Which shard, and how much of it, as far back as history is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shard, such as orders/12
    #[arg(value_name = "NAMESPACE/NUMBER", value_parser = which::id)]
    shard: Id,
    #[command(flatten)]
    page: listing::Page,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let Id { namespace, shard } = args.shard;
    listing::list(app, &args.page, |limit, cursor| {
        client.list_shard_history(ListShardHistoryRequest {
            namespace: namespace.clone(),
            shard,
            limit,
            cursor,
        })
    })
    .await
}
