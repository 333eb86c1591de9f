//! `mesh peers set`

use proto::v1::PatchPeerRequest;

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
};

/// Which peer, and what is said about it from now on. What is not given stays as it is.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct Args {
    /// The peer's id
    id: String,
    /// Its share of work, 1 to 10000; 100 is usual
    #[arg(long, value_name = "N", group = "what", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    weight: Option<u32>,
    /// Its region; '' for none
    #[arg(long, value_name = "REGION", group = "what")]
    region: Option<String>,
    /// Its zone; '' for none
    #[arg(long, value_name = "ZONE", group = "what")]
    zone: Option<String>,
    /// What it does; '' for nothing in particular
    #[arg(long, value_name = "ROLE", group = "what")]
    role: Option<String>,
    /// Where it listens, instead of what there was; may be given several times, in order of preference
    #[arg(long, value_name = "HOST:PORT", group = "what")]
    endpoint: Vec<String>,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let places_shards = args.weight.is_some() || args.region.is_some() || args.zone.is_some();
    let mut request = PatchPeerRequest {
        id: args.id.clone(),
        role: args.role,
        region: args.region,
        zone: args.zone,
        endpoints: args.endpoint,
        weight: args.weight,
        ..PatchPeerRequest::default()
    };
    args.mutation.apply(&mut request);
    let call = || client.patch_peer(request.clone());
    let answer = mutation::peer(app, &client, &args.id, &args.mutation, "changed", call).await?;
    if places_shards && !args.mutation.dry_run && !answer.meta.replayed {
        app.tell(
            "shards stay with their owners until their namespace is reshaped: `mesh shards simulate` shows what would \
             move, `mesh namespaces reshape NAME` moves it",
        );
    }
    Ok(())
}
