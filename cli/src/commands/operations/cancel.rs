//! `mesh operations cancel`

use proto::v1::CancelOperationRequest;

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    wait::{self, WaitArgs},
};

/// Which operation, and whether to wait.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operation's id
    id: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = CancelOperationRequest {
        id: args.id.clone(),
        ..CancelOperationRequest::default()
    };
    args.mutation.apply(&mut request);
    let mut operation = client.cancel_operation(request).await?.message;
    if args.wait.wait && !args.mutation.dry_run {
        operation = wait::until_ended(app, &client, &args.id, args.wait.timeout, |_, _| Ok(())).await?;
    }
    mutation::show_operation(app, &operation, args.mutation.dry_run)
}
