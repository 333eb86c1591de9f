//! `mesh peers label`

use proto::v1::PatchPeerRequest;

use crate::{
    app::App,
    failure::Failure,
    labels::{self, Change},
    mutation::{self, MutationArgs},
};

/// Which peer, and what to set and remove.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The peer's id
    id: String,
    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(value_name = "KEY=VALUE|KEY-", value_parser = labels::change, required_unless_present = "metadata")]
    labels: Vec<Change>,
    /// The same for metadata; may be given several times
    #[arg(long, value_name = "KEY=VALUE|KEY-", value_parser = labels::change)]
    metadata: Vec<Change>,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let (labels, remove_labels) = labels::split(args.labels, "label")?;
    let (metadata, remove_metadata) = labels::split(args.metadata, "metadata")?;
    let mut request = PatchPeerRequest {
        id: args.id.clone(),
        labels,
        metadata,
        remove_labels,
        remove_metadata,
        ..PatchPeerRequest::default()
    };
    args.mutation.apply(&mut request);
    let call = || client.patch_peer(request.clone());
    mutation::peer(app, &client, &args.id, &args.mutation, "labelled", call).await?;
    Ok(())
}
