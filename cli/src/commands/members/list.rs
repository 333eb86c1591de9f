//! `mesh members list`

use api_client::{CallOptions, methods::ListMembers};
use proto::v1::ListMembersRequest;

use crate::{app::App, failure::Failure, values::Freshness};

/// Whose word.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As the cluster has agreed, or as the answering node knows it, where there is no quorum
    #[arg(long, value_name = "HOW", default_value = "linearizable")]
    consistency: Freshness,
}

pub async fn run(app: &mut App<'_>, args: &Args) -> Result<(), Failure> {
    let options = CallOptions {
        consistency: Some(args.consistency.into()),
        ..CallOptions::default()
    };
    let answer = app
        .client()?
        .call::<ListMembers>(ListMembersRequest {}, options)
        .await?;
    let answer = answer.message;
    super::show(app, &answer)
}
