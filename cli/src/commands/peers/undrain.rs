//! `mesh peers undrain`

use api_client::Client;
use proto::v1::{ListNamespacesRequest, ListShardsRequest, Peer, UndrainPeerRequest, namespace::Phase, peer::Status};

use super::which::{self, Meant, Which};
use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    wait::{self, WaitArgs},
};

/// Which peers, and whether to wait.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = UndrainPeerRequest::default();
    args.mutation.apply(&mut request);
    let call = |id| client.undrain_peer(UndrainPeerRequest { id, ..request.clone() });
    let id = match args.which.meant() {
        // Each is undone by the time that it is answered: there is nothing to wait for.
        Meant::Several(selector) => {
            which::each(app, &client, &selector, &args.mutation, "undrained", call).await?;
            if !args.mutation.dry_run && !app.format().is_machine() {
                none_comes_back(app, &client, "shards stay with the peers that took them").await;
            }
            return Ok(());
        }
        Meant::One(id) => id,
    };
    if !args.wait.wait || args.mutation.dry_run {
        let answer = mutation::peer(app, &client, &id, &args.mutation, "undrained", || call(id.clone())).await?;
        if !args.mutation.dry_run {
            owns_nothing(app, &client, &answer.message).await;
        }
        return Ok(());
    }
    let peer = call(id.clone()).await?.message;
    if !peer.operation.is_empty() {
        wait::until_ended(app, &client, &peer.operation, args.wait.timeout, |_, _| Ok(())).await?;
    }
    mutation::show_now(app, &client, &id).await?;
    owns_nothing(app, &client, &peer).await;
    Ok(())
}

/// Says of a peer that is active again and owns nothing that no shard comes back by itself, and what brings some. It is
/// nothing that the command was asked for, so where the mesh does not answer it says nothing.
async fn owns_nothing(app: &mut App<'_>, client: &Client, peer: &Peer) {
    if app.format().is_machine() || peer.status() != Status::Active {
        return;
    }
    let request = ListShardsRequest {
        limit: 1,
        owner: peer.id.clone(),
        ..ListShardsRequest::default()
    };
    let Ok(owned) = client.list_shards(request).await else {
        return;
    };
    // A page may be empty and not be the last.
    if owned.message.items.is_empty() && owned.message.next_cursor.is_empty() {
        none_comes_back(app, client, &format!("{} owns no shard", peer.id)).await;
    }
}

/// Says that shards do not come back by themselves, where there are any.
async fn none_comes_back(app: &mut App<'_>, client: &Client, what: &str) {
    let request = ListNamespacesRequest {
        limit: 2,
        phase: Phase::Active.into(),
        ..ListNamespacesRequest::default()
    };
    let Ok(namespaces) = client.list_namespaces(request).await else {
        return;
    };
    let namespace = match namespaces.message.items.as_slice() {
        [] => return,
        [one] => one.id.as_str(),
        _ => "NAMESPACE",
    };
    app.remark(&format!(
        "{what}, and none comes back by itself: `mesh shards simulate --namespace {namespace}` shows what share would move, \
         and `mesh namespaces reshape {namespace} --max-moved SHARE` moves it"
    ));
}
