//! `mesh shards list`

use api_client::{Answer, Client, watch::WatchShards};
use proto::v1::{ListShardsRequest, ListShardsResponse, WatchShardsRequest, list_shards_request::Sort, shard::Status};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, distribution},
    peers::Peers,
    values,
    watching::{self, ListWatch},
};

/// Which shards, and in which order.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only shards of this namespace
    #[arg(long, value_name = "ID", value_parser = values::id)]
    namespace: Option<String>,
    /// Only shards that this peer owns
    #[arg(long, value_name = "PEER", value_parser = values::id)]
    owner: Option<String>,
    /// Only shards of this status: active, moving, paused or disabled
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<Status>,
    /// Only shards whose owner is in this zone: the peer's own field, not a label
    #[arg(long, value_name = "ZONE", default_value = "", hide_default_value = true)]
    zone: String,
    /// Only shards whose owner's labels match: zone=a,tier!=test,gpu,!legacy,region in (eu,us)
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    /// In order of: id, owner, or changed (the newest first) [default: id]
    #[arg(long, value_name = "ORDER", value_parser = sort)]
    sort: Option<Sort>,
    /// Count them by owner instead, with a bar for each
    #[arg(long, conflicts_with_all = ["sort", "limit", "cursor", "watch"])]
    summary: bool,
    #[command(flatten)]
    page: listing::Page,
    #[command(flatten)]
    watch: ListWatch,
}

/// A shard's status by its word.
pub(super) fn status(text: &str) -> Result<Status, String> {
    match Status::from_str_name(&text.to_ascii_uppercase()) {
        Some(status) if status != Status::Unspecified => Ok(status),
        _ => Err("write active, moving, paused or disabled".to_owned()),
    }
}

fn sort(text: &str) -> Result<Sort, String> {
    match Sort::from_str_name(&text.to_ascii_uppercase()) {
        Some(sort) if sort != Sort::Unspecified => Ok(sort),
        _ => Err("write id, owner or changed".to_owned()),
    }
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if args.watch.watch {
        return watch(app, args).await;
    }
    let client = app.client()?;
    let request = ListShardsRequest {
        namespace: args.namespace.unwrap_or_default(),
        owner: args.owner.unwrap_or_default(),
        status: args.status.unwrap_or_default().into(),
        zone: args.zone,
        selector: args.selector,
        sort: args.sort.unwrap_or_default().into(),
        ..ListShardsRequest::default()
    };
    let list = |limit, cursor| {
        client.list_shards(ListShardsRequest {
            limit,
            cursor,
            ..request.clone()
        })
    };
    match args.summary {
        true => summary(app, &client, list).await,
        false => listing::list(app, &args.page, list).await,
    }
}

async fn watch(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    args.page.unwatched()?;
    if !args.zone.is_empty() || !args.selector.is_empty() || args.sort.is_some() {
        return Err(Failure::usage(
            "--zone, --selector and --sort have no meaning with --watch: a watch sees shards, not their owners",
            "leave them out, or select with --namespace, --owner or --status",
        ));
    }
    let request = WatchShardsRequest {
        snapshot: true,
        namespace: args.namespace.unwrap_or_default(),
        owner: args.owner.unwrap_or_default(),
        status: args.status.unwrap_or_default().into(),
        ..WatchShardsRequest::default()
    };
    super::watch::absent(app, &request).await?;
    watching::follow::<WatchShards>(app, request, &args.watch.args()).await
}

async fn summary<F>(app: &mut App<'_>, client: &Client, list: impl Fn(u32, String) -> F) -> Result<(), Failure>
where
    F: Future<Output = api_client::Result<Answer<ListShardsResponse>>>,
{
    if !matches!(app.format(), Format::Table | Format::Wide) {
        return Err(Failure::usage(
            "--summary is no answer of the mesh but a count of it, so it has no form for programs",
            "count what `-o jsonl` lists, or ask `mesh shards diff -o json` of one revision for its `loads`",
        ));
    }
    let mut counted = distribution::Counted::default();
    listing::pages(list, |page: ListShardsResponse| {
        page.items.iter().for_each(|shard| counted.add(shard));
    })
    .await?;
    let peers = Peers::of(client).await;
    Ok(app.text(&counted.render(&peers, app.look()))?)
}
