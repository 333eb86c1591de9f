//! `mesh shards get`

use api_client::Client;
use proto::v1::{GetShardRequest, ListShardHistoryRequest, Shard, shard::Status};

use super::which::{self, Id};
use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, clean, shards, time},
};

/// How far back it is looked for who told a shard to stay.
const CHANGES: u32 = 20;

/// Which shard, and as of when.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shard, such as orders/12
    #[arg(value_name = "NAMESPACE/NUMBER", value_parser = which::id)]
    shard: Id,
    /// As it was at this revision
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    at_revision: Option<u64>,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = GetShardRequest {
        at_revision: args.at_revision.unwrap_or_default(),
        ..args.shard.get()
    };
    let client = app.client()?;
    let shard = client.get_shard(request).await?.message;
    listing::one(app, &shard)?;
    if args.at_revision.is_none() && matches!(app.format(), Format::Table | Format::Wide) {
        held(app, &client, &shard).await?;
    }
    Ok(())
}

/// Says who paused or disabled it, and why: that is in its history, not in itself.
async fn held(app: &mut App<'_>, client: &Client, shard: &Shard) -> Result<(), Failure> {
    let (action, done) = match shard.status() {
        Status::Paused => ("shards.pause", "paused"),
        Status::Disabled => ("shards.disable", "disabled"),
        Status::Active | Status::Moving | Status::Unspecified => return Ok(()),
    };
    let request = ListShardHistoryRequest {
        namespace: shard.namespace.clone(),
        shard: shard.shard,
        limit: CHANGES,
        ..ListShardHistoryRequest::default()
    };
    let history = client
        .list_shard_history(request)
        .await
        .map(|answer| answer.message.items);
    let entry = history
        .unwrap_or_default()
        .into_iter()
        .find(|entry| entry.action == action);
    let more = format!("`mesh shards history {}`", shards::id(shard));
    let line = match entry {
        None => format!("who {done} it, and why: {more}"),
        Some(entry) => {
            let why = match entry.reason.as_str() {
                "" => "without a reason".to_owned(),
                reason => format!("because: {reason}"),
            };
            let ago = time::relative(entry.at.as_ref(), app.streams.now);
            format!("{done} by {} {ago}, {why} ({more})", entry.actor)
        }
    };
    Ok(app.line(&format!("\n{}", clean(&line)))?)
}
