//! `mesh operations cancel`

use proto::v1::CancelOperationRequest;

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    preview,
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
    let answer = client.cancel_operation(request).await?;
    if args.mutation.dry_run {
        if preview::document(app, &answer.message, &answer.meta)? {
            return Ok(());
        }
        mutation::show_operation(app, &answer.message, true)?;
        return mutation::after_preview(app, &answer.meta);
    }
    let mut operation = answer.message;
    if args.wait.wait {
        operation = wait::until_ended(app, &client, &args.id, args.wait.timeout, |_, _| Ok(())).await?;
    }
    mutation::show_operation(app, &operation, false)
}
