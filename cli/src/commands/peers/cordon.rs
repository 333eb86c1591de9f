//! `mesh peers cordon`

use proto::v1::CordonPeerRequest;

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
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
    let mut request = CordonPeerRequest {
        id: args.id.clone(),
        ..CordonPeerRequest::default()
    };
    args.mutation.apply(&mut request);
    let call = || client.cordon_peer(request.clone());
    mutation::peer(app, &client, &args.id, &args.mutation, "cordoned", call).await?;
    Ok(())
}
