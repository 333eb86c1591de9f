//! `mesh peers deregister`

use proto::v1::DeregisterPeerRequest;

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    output::clean,
    prompt,
};

/// Which peer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The peer's id
    id: String,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let question = format!("Deregister peer {}? Its record is removed.", clean(&args.id));
    prompt::confirm(app, args.mutation.yes || args.mutation.dry_run, &question).await?;
    let mut request = DeregisterPeerRequest {
        id: args.id.clone(),
        ..DeregisterPeerRequest::default()
    };
    args.mutation.apply(&mut request);
    let call = || client.deregister_peer(request.clone());
    mutation::peer(app, &client, &args.id, &args.mutation, "deregistered", call).await?;
    Ok(())
}
