//! `mesh members list`

use proto::v1::ListMembersRequest;

use crate::{app::App, failure::Failure};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(app: &mut App<'_>, _: &Args) -> Result<(), Failure> {
    let answer = app.client()?.list_members(ListMembersRequest {}).await?.message;
    super::show(app, &answer)
}
