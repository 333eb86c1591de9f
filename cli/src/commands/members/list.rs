//! `mesh members list`

use api_client::{CallOptions, methods::ListMembers};
use proto::v1::ListMembersRequest;

use crate::{app::App, failure::Failure};

/// As the cluster has agreed, or as the answering node knows it, where there is no quorum.
pub async fn run(app: &mut App<'_>) -> Result<(), Failure> {
    let options = CallOptions {
        consistency: Some(app.freshness().into()),
        ..CallOptions::default()
    };
    let answer = app
        .client()?
        .call::<ListMembers>(ListMembersRequest {}, options)
        .await?;
    let answer = answer.message;
    super::show(app, &answer)
}
