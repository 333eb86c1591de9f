//! `mesh shards move`

use std::time::Duration;

use api_client::{
    Client,
    watch::{Event, WatchShards},
};
use proto::v1::{
    MoveShardRequest, Shard, WatchMessage, WatchShardsRequest,
    audit_record::{self, record::Record},
    shard,
    watch_message::Message,
};
use tokio::time::Instant;

use super::which::{self, Id};
use crate::{
    app::App,
    failure::Failure,
    listing,
    mutation::{self, MutationArgs},
    output::{Format, shards, word},
    values,
    wait::WaitArgs,
};

/// Which shard, and where to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shard, such as orders/12
    #[arg(value_name = "NAMESPACE/NUMBER", value_parser = which::id)]
    shard: Id,
    /// The peer that is to own it
    #[arg(long, value_name = "PEER", value_parser = values::id)]
    to: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = MoveShardRequest {
        namespace: args.shard.namespace.clone(),
        shard: args.shard.shard,
        to: args.to.clone(),
        ..MoveShardRequest::default()
    };
    args.mutation.apply(&mut request);
    if !args.wait.wait || args.mutation.dry_run {
        let now = || client.get_shard(args.shard.get());
        let call = || client.move_shard(request.clone());
        if args.mutation.dry_run {
            let done = format!("moved to {}", args.to);
            return mutation::record(app, &args.mutation, &done, now, call).await.map(drop);
        }
        let answer = call().await?;
        let moving = answer.message.moving.is_some();
        // A peer that takes no part is not waited for.
        let done = if moving { "moving to" } else { "moved to" };
        mutation::show(app, &answer, &format!("{done} {}", args.to))?;
        if moving {
            app.tell(&format!("follow it with `mesh shards watch {} --snapshot`", args.shard));
        }
        return Ok(());
    }
    let begun = client.move_shard(request).await?.message;
    let ended = match &begun.moving {
        None => begun,
        Some(moving) => until_ended(app, &client, &args.shard, moving.begun, args.wait.timeout).await?,
    };
    if ended.owner != args.to {
        return Err(Failure::found(
            "operation_failed",
            format!(
                "the move of shard {} to {} was given up: its owner is {}",
                args.shard, args.to, ended.owner
            ),
            format!("`mesh shards history {}` shows by whom, and why", args.shard),
        ));
    }
    match app.format() {
        Format::Table => {
            let line = format!(
                "shard/{} owned by {} (token {}, revision {})",
                args.shard,
                ended.owner,
                shards::token(ended.token.as_ref()),
                ended.changed_revision
            );
            Ok(app.line(&line)?)
        }
        _ => listing::one(app, &ended),
    }
}

/// Follows the move that began at a revision until it has switched or was given up. Answers the shard as it is then.
async fn until_ended(
    app: &mut App<'_>,
    client: &Client,
    id: &Id,
    begun: u64,
    limit: Duration,
) -> Result<Shard, Failure> {
    app.on_interrupt(
        "detached; the move goes on",
        format!("`mesh shards get {id}` shows how far it is"),
    );
    let mut watch = client.watch::<WatchShards>(WatchShardsRequest {
        snapshot: true,
        namespace: id.namespace.clone(),
        shard: Some(id.shard),
        ..WatchShardsRequest::default()
    });
    let deadline = Instant::now() + limit;
    let mut waits_for = String::new();
    loop {
        let event = match tokio::time::timeout_at(deadline, watch.next()).await {
            Ok(event) => event?,
            Err(_) => return Err(timed_out(id, limit, &waits_for)),
        };
        let Event::Message { message, .. } = event else {
            continue;
        };
        let Some(shard) = shard_of(message) else { continue };
        match &shard.moving {
            Some(moving) if moving.begun == begun => {
                let (step, peer) = match moving.step() {
                    shard::r#move::Step::Stopping => ("stopping", &shard.owner),
                    other => (other.as_str_name(), &moving.to),
                };
                let now = format!("{}, waits for {peer}", word(step));
                if now != waits_for {
                    app.remark(&format!("shard {id}: {now}"));
                }
                waits_for = now;
            }
            Some(_) | None => return Ok(shard),
        }
    }
}

/// The shard as a message has it.
fn shard_of(message: WatchMessage) -> Option<Shard> {
    let records: Vec<audit_record::Record> = match message.message? {
        Message::Snapshot(snapshot) => snapshot.items,
        Message::Unit(unit) => unit.changes.into_iter().filter_map(|change| change.after).collect(),
        Message::Begun(_) | Message::Progress(_) => Vec::new(),
    };
    records.into_iter().rev().find_map(|record| match record.record? {
        Record::Shard(shard) => Some(shard),
        Record::Peer(_)
        | Record::Operation(_)
        | Record::Cluster(_)
        | Record::Config(_)
        | Record::Approval(_)
        | Record::Namespace(_) => None,
    })
}

fn timed_out(id: &Id, limit: Duration, waits_for: &str) -> Failure {
    let waited = api_client::duration::format(limit);
    Failure::found(
        "deadline_exceeded",
        format!("shard {id} is still moving after {waited}: {waits_for}"),
        format!("it goes on; `mesh shards get {id}` shows how far it is, `mesh shards cancel-move {id}` gives it up"),
    )
}
