//! `mesh config history`

use proto::v1::ListConfigVersionsRequest;

use crate::{app::App, failure::Failure, listing};

/// How many versions, newest first, as far back as history is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    page: listing::Page,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    listing::list(app, &args.page, |limit, cursor| {
        client.list_config_versions(ListConfigVersionsRequest { limit, cursor })
    })
    .await
}
