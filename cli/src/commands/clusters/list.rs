//! `mesh clusters list`

use api_client::watch::WatchClusters;
use proto::v1::{ListClustersRequest, WatchClustersRequest, cluster::State};

use crate::{
    app::App,
    failure::Failure,
    listing,
    watching::{self, ListWatch},
};

/// Which clusters.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only clusters in this state: active, passive, draining or maintenance
    #[arg(long, value_name = "STATE", value_parser = super::apply::state)]
    state: Option<State>,
    #[command(flatten)]
    page: listing::Page,
    #[command(flatten)]
    watch: ListWatch,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if args.watch.watch {
        args.page.unwatched()?;
        let request = WatchClustersRequest {
            snapshot: true,
            state: args.state.unwrap_or_default().into(),
            ..WatchClustersRequest::default()
        };
        return watching::follow::<WatchClusters>(app, request, &args.watch.args()).await;
    }
    let client = app.client()?;
    let state = args.state.unwrap_or_default().into();
    listing::list(app, &args.page, |limit, cursor| {
        client.list_clusters(ListClustersRequest { limit, cursor, state })
    })
    .await
}
