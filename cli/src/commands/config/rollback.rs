//! `mesh config rollback`

use proto::v1::{GetConfigRequest, RollbackConfigRequest};

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
};

/// Which settings to go back to. What they are becomes a new version.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The settings as they were at this revision; `mesh config history` shows which there are
    #[arg(value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    to: u64,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = RollbackConfigRequest {
        to_revision: args.to,
        ..RollbackConfigRequest::default()
    };
    args.mutation.apply(&mut request);
    let now = || client.get_config(GetConfigRequest {});
    let call = || client.rollback_config(request.clone());
    mutation::record(app, &args.mutation, "rolled back", now, call).await?;
    Ok(())
}
