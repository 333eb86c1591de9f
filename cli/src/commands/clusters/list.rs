//! `mesh clusters list`

use proto::v1::{ListClustersRequest, cluster::State};

use crate::{app::App, failure::Failure, listing};

/// Which clusters.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only clusters in this state: active, passive, draining or maintenance
    #[arg(long, value_name = "STATE", value_parser = super::apply::state)]
    state: Option<State>,
    #[command(flatten)]
    page: listing::Page,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let state = args.state.unwrap_or_default().into();
    listing::list(app, &args.page, |limit, cursor| {
        client.list_clusters(ListClustersRequest { limit, cursor, state })
    })
    .await
}
