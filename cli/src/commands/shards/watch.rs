//! `mesh shards watch`

use api_client::{Client, watch::WatchShards};
use proto::v1::{GetNamespaceRequest, GetPeerRequest, WatchShardsRequest, shard::Status};

use super::which::{self, Id};
use crate::{
    app::App,
    failure::Failure,
    values,
    watching::{self, WatchArgs},
};

/// Which shards.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this shard, such as orders/12
    #[arg(value_name = "NAMESPACE/NUMBER", value_parser = which::id, conflicts_with = "namespace")]
    shard: Option<Id>,
    /// Only shards of this namespace
    #[arg(long, value_name = "ID", value_parser = values::id)]
    namespace: Option<String>,
    /// Only shards that this peer owns
    #[arg(long, value_name = "PEER", value_parser = values::id)]
    owner: Option<String>,
    /// Only shards of this status: active, moving, paused or disabled
    #[arg(long, value_name = "STATUS", value_parser = super::list::status)]
    status: Option<Status>,
    /// Only shards that this peer owns, holds a replica of, or is about to own: what a peer watches of its own
    #[arg(long, value_name = "PEER", value_parser = values::id)]
    peer: Option<String>,
    /// Begin with what there is
    #[arg(long, conflicts_with = "token")]
    snapshot: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let (namespace, shard) = match args.shard {
        Some(Id { namespace, shard }) => (namespace, Some(shard)),
        None => (args.namespace.unwrap_or_default(), None),
    };
    let request = WatchShardsRequest {
        snapshot: args.snapshot,
        namespace,
        shard,
        owner: args.owner.unwrap_or_default(),
        status: args.status.unwrap_or_default().into(),
        peer: args.peer.unwrap_or_default(),
        ..WatchShardsRequest::default()
    };
    absent(app, &request).await?;
    watching::follow::<WatchShards>(app, request, &args.watch).await
}

/// Says what a watch names and the mesh does not have: it may wait for it to come, or be misspelt.
pub(super) async fn absent(app: &mut App<'_>, request: &WatchShardsRequest) -> Result<(), Failure> {
    if app.format().is_machine() {
        return Ok(());
    }
    let client = app.client()?;
    let mut missing = Vec::new();
    if !request.namespace.is_empty() {
        missing.extend(missing_shard(&client, &request.namespace, request.shard).await);
    }
    for id in [&request.owner, &request.peer] {
        let get = GetPeerRequest { id: id.clone() };
        if !id.is_empty()
            && client
                .get_peer(get)
                .await
                .is_err_and(|error| error.code() == "not_found")
        {
            missing.push(format!("peer `{id}`"));
        }
    }
    for what in missing {
        app.remark(&format!("note: there is no {what}; it is watched for"));
    }
    Ok(())
}

/// The namespace or the shard in it, where it is certain that there is none.
async fn missing_shard(client: &Client, namespace: &str, shard: Option<u32>) -> Option<String> {
    let get = GetNamespaceRequest {
        id: namespace.to_owned(),
    };
    match client.get_namespace(get).await {
        Err(error) if error.code() == "not_found" => Some(format!("namespace `{namespace}`")),
        Err(_) => None,
        Ok(answer) => match (shard, answer.message.shards) {
            (Some(shard), shards) if shard >= shards => Some(format!(
                "shard `{namespace}/{shard}` (the namespace has {shards}, numbered from 0)"
            )),
            (Some(_) | None, _) => None,
        },
    }
}
