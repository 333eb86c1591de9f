//! `mesh operations get`

use proto::v1::GetOperationRequest;

use crate::{app::App, failure::Failure, listing};

/// Which operation.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operation's id
    id: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = GetOperationRequest {
        id: args.id,
        ..GetOperationRequest::default()
    };
    let operation = app.client()?.get_operation(request).await?.message;
    listing::one(app, &operation)
}
