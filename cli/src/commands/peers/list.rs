//! `mesh peers list`

use api_client::watch::WatchPeers;
use proto::v1::{ListPeersRequest, WatchPeersRequest, peer::Status};

use crate::{
    app::App,
    failure::Failure,
    listing,
    watching::{self, ListWatch},
};

/// Which peers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only peers of this status: active, cordoned, draining or drained
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<Status>,
    /// Only peers of this cluster
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    cluster: String,
    /// Only peers whose labels match: zone=a,tier!=test,gpu,!legacy,region in (eu,us)
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    #[command(flatten)]
    page: listing::Page,
    #[command(flatten)]
    watch: ListWatch,
}

fn status(text: &str) -> Result<Status, String> {
    match Status::from_str_name(&text.to_ascii_uppercase()) {
        Some(status) if status != Status::Unspecified => Ok(status),
        _ => Err("write active, cordoned, draining or drained".to_owned()),
    }
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if args.watch.watch {
        args.page.unwatched()?;
        let request = WatchPeersRequest {
            snapshot: true,
            status: args.status.unwrap_or_default().into(),
            cluster: args.cluster,
            selector: args.selector,
            ..WatchPeersRequest::default()
        };
        return watching::follow::<WatchPeers>(app, request, &args.watch.args()).await;
    }
    let client = app.client()?;
    let request = |limit, cursor| ListPeersRequest {
        limit,
        cursor,
        status: args.status.unwrap_or_default().into(),
        cluster: args.cluster.clone(),
        selector: args.selector.clone(),
    };
    listing::list(app, &args.page, |limit, cursor| {
        client.list_peers(request(limit, cursor))
    })
    .await
}
