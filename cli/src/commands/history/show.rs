//! `mesh history show`

use proto::v1::GetHistoryRequest;

use crate::{app::App, failure::Failure, listing};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(app: &mut App<'_>, _: &Args) -> Result<(), Failure> {
    let history = app.client()?.get_history(GetHistoryRequest {}).await?.message;
    listing::one(app, &history)
}
