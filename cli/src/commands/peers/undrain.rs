//! `mesh peers undrain`

use proto::v1::UndrainPeerRequest;

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    wait::{self, WaitArgs},
};

/// Which peer, and whether to wait.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The peer's id
    id: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = UndrainPeerRequest {
        id: args.id.clone(),
        ..UndrainPeerRequest::default()
    };
    args.mutation.apply(&mut request);
    if !args.wait.wait || args.mutation.dry_run {
        let call = || client.undrain_peer(request.clone());
        mutation::peer(app, &client, &args.id, &args.mutation, "undrained", call).await?;
        return Ok(());
    }
    let peer = client.undrain_peer(request).await?.message;
    if !peer.operation.is_empty() {
        wait::until_ended(app, &client, &peer.operation, args.wait.timeout, |_, _| Ok(())).await?;
    }
    mutation::show_now(app, &client, &args.id).await
}
