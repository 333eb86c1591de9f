//! `mesh watch`

use api_client::watch::WatchMesh;
use proto::v1::WatchRequest;

use crate::{
    app::App,
    failure::Failure,
    watching::{self, WatchArgs},
};

/// What to watch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only records of these kinds: peer, operation, cluster, config, approval, namespace,
    /// shard
    #[arg(long = "kind", value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<String>,
    /// Only what belongs to this cluster: its peers, and its descriptor
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
    /// Only records of this id
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    id: String,
    /// Begin with what there is
    #[arg(long, conflicts_with = "token")]
    snapshot: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = WatchRequest {
        snapshot: args.snapshot,
        kinds: args.kinds,
        cluster: args.cluster,
        selector: args.selector,
        id: args.id,
        ..WatchRequest::default()
    };
    watching::follow::<WatchMesh>(app, request, &args.watch).await
}
