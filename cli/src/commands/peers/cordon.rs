//! `mesh peers cordon`

use proto::v1::CordonPeerRequest;

use super::which::{self, Meant, Which};
use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
};

/// Which peers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = CordonPeerRequest::default();
    args.mutation.apply(&mut request);
    let call = |id| client.cordon_peer(CordonPeerRequest { id, ..request.clone() });
    match args.which.meant() {
        Meant::Several(selector) => which::each(app, &client, &selector, &args.mutation, "cordoned", call).await,
        Meant::One(id) => {
            mutation::peer(app, &client, &id, &args.mutation, "cordoned", || call(id.clone())).await?;
            Ok(())
        }
    }
}
