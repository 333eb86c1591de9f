//! `mesh peers register`

use proto::v1::RegisterPeerRequest;

use crate::{
    app::App,
    failure::Failure,
    labels,
    mutation::{self, MutationArgs},
};

/// The peer to add.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The peer's id: [a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?
    id: String,
    /// Where it listens; may be given several times, in order of preference
    #[arg(long, value_name = "HOST:PORT", required = true)]
    endpoint: Vec<String>,
    /// The cluster that it belongs to [default: the cluster that answers]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    cluster: String,
    /// What it does: gateway, worker …
    #[arg(long, value_name = "ROLE", default_value = "", hide_default_value = true)]
    role: String,
    /// Its region
    #[arg(long, value_name = "REGION", default_value = "", hide_default_value = true)]
    region: String,
    /// Its zone, which `mesh shards` goes by. Selectors see labels only: give it `--label zone=ZONE` too to select by it
    #[arg(long, value_name = "ZONE", default_value = "", hide_default_value = true)]
    zone: String,
    /// Its share of work, 1 to 10000 [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    weight: Option<u32>,
    /// A label that selectors see; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = labels::pair)]
    label: Vec<(String, String)>,
    /// A free attribute; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = labels::pair)]
    metadata: Vec<(String, String)>,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = RegisterPeerRequest {
        id: args.id.clone(),
        cluster: args.cluster,
        role: args.role,
        region: args.region,
        zone: args.zone,
        endpoints: args.endpoint,
        labels: labels::map(args.label, "label")?,
        metadata: labels::map(args.metadata, "metadata")?,
        weight: args.weight.unwrap_or(0),
        ..RegisterPeerRequest::default()
    };
    args.mutation.apply(&mut request);
    let call = || client.register_peer(request.clone());
    mutation::peer(app, &client, &args.id, &args.mutation, "registered", call).await?;
    Ok(())
}
