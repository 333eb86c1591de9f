//! `mesh namespaces list`

use api_client::watch::WatchNamespaces;
use proto::v1::{ListNamespacesRequest, WatchNamespacesRequest, namespace::Phase};

use crate::{
    app::App,
    failure::Failure,
    listing,
    watching::{self, ListWatch},
};

/// Which namespaces.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only namespaces in this phase: creating, active, reshaping or deleting
    #[arg(long, value_name = "PHASE", value_parser = phase)]
    phase: Option<Phase>,
    #[command(flatten)]
    page: listing::Page,
    #[command(flatten)]
    watch: ListWatch,
}

fn phase(text: &str) -> Result<Phase, String> {
    match Phase::from_str_name(&text.to_ascii_uppercase()) {
        Some(phase) if phase != Phase::Unspecified => Ok(phase),
        _ => Err("write creating, active, reshaping or deleting".to_owned()),
    }
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let phase = args.phase.unwrap_or_default().into();
    if args.watch.watch {
        args.page.unwatched()?;
        let request = WatchNamespacesRequest {
            snapshot: true,
            phase,
            ..WatchNamespacesRequest::default()
        };
        return watching::follow::<WatchNamespaces>(app, request, &args.watch.args()).await;
    }
    let client = app.client()?;
    listing::list(app, &args.page, |limit, cursor| {
        client.list_namespaces(ListNamespacesRequest { limit, cursor, phase })
    })
    .await
}
