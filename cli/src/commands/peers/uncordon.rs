//! `mesh peers uncordon`

use proto::v1::UncordonPeerRequest;

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
    let mut request = UncordonPeerRequest::default();
    args.mutation.apply(&mut request);
    let call = |id| client.uncordon_peer(UncordonPeerRequest { id, ..request.clone() });
    match args.which.meant() {
        Meant::Several(selector) => which::each(app, &client, &selector, &args.mutation, "uncordoned", call).await,
        Meant::One(id) => {
            mutation::peer(app, &client, &id, &args.mutation, "uncordoned", || call(id.clone())).await?;
            Ok(())
        }
    }
}
