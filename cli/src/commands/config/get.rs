//! `mesh config get`

use proto::v1::GetConfigRequest;

use crate::{app::App, failure::Failure, listing, output::clean};

/// Which setting.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The setting's name, such as limits.peers
    name: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let config = app.client()?.get_config(GetConfigRequest {}).await?.message;
    let found = config.items.iter().find(|setting| setting.name == args.name);
    let setting = found.ok_or_else(|| {
        Failure::found(
            "not_found",
            format!("there is no setting `{}`", clean(&args.name)),
            "`mesh config list` shows which there are",
        )
    })?;
    listing::one(app, setting)
}
