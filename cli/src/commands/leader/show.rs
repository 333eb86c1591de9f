//! `mesh leader show`

use proto::v1::GetStatusRequest;

use crate::{app::App, failure::Failure};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(app: &mut App<'_>, _: &Args) -> Result<(), Failure> {
    let status = app.client()?.get_status(GetStatusRequest {}).await?.message;
    super::show(app, &status)
}
