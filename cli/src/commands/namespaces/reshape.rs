//! `mesh namespaces reshape`

use api_client::Client;
use proto::v1::{GetNamespaceRequest, ReshapeNamespaceRequest, SimulateShardsRequest, namespace::Strategy};

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    output::{clean, count, percent},
    prompt, values,
    wait::WaitArgs,
};

/// Which namespace, and what it shall be like. What is not said stays as it is; with nothing said its shards are balanced
/// over the peers that there are now.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The namespace's id
    #[arg(value_parser = values::id)]
    id: String,
    /// By which preference shards are given to peers: ring, rendezvous or locality
    #[arg(long, value_name = "NAME", value_parser = super::strategy)]
    strategy: Option<Strategy>,
    /// The region that owners are preferred in; '' for none
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Only peers whose labels match hold its shards; '' for all peers
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// How many peers hold each shard beside its owner, 0 to 6
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=6))]
    replicas: Option<u32>,
    /// It cannot be changed: which key is in which shard would change with it
    #[arg(long, value_name = "N", hide = true)]
    shards: Option<u32>,
    /// The largest share of its shards that may move for it beyond what has to [default: the namespace's policy]
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    max_moved: Option<u32>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = ReshapeNamespaceRequest {
        id: args.id.clone(),
        strategy: args.strategy.unwrap_or_default().into(),
        region: args.region,
        selector: args.selector,
        replicas: args.replicas,
        shards: args.shards,
        moved_permille_max: args.max_moved,
        ..ReshapeNamespaceRequest::default()
    };
    let sure = args.mutation.yes || args.mutation.dry_run;
    let question = match !sure && app.streams.can_ask {
        true => question(&client, &request).await?,
        false => format!(
            "Reshape namespace {}? Its shards are moved to where it wants them then.",
            clean(&args.id)
        ),
    };
    prompt::confirm(app, sure, &question).await?;
    args.mutation.apply(&mut request);
    if args.wait.wait && !args.mutation.dry_run {
        let changed = client.reshape_namespace(request).await?.message;
        return super::settled(app, &client, &changed, &args.wait).await;
    }
    let now = || client.get_namespace(GetNamespaceRequest { id: args.id.clone() });
    let call = || client.reshape_namespace(request.clone());
    let answer = mutation::record(app, &args.mutation, "reshaping", now, call).await?;
    super::tell_operation(app, &answer);
    if args.mutation.dry_run && !app.format().is_machine() {
        let said = would_move(&client, &request).await?;
        app.remark(&said);
    }
    Ok(())
}

async fn question(client: &Client, request: &ReshapeNamespaceRequest) -> Result<String, Failure> {
    let said = would_move(client, request).await?;
    Ok(format!("Reshape namespace {}? {said}.", clean(&request.id)))
}

/// Says how much would move.
async fn would_move(client: &Client, request: &ReshapeNamespaceRequest) -> Result<String, Failure> {
    let simulate = SimulateShardsRequest {
        namespace: request.id.clone(),
        strategy: request.strategy,
        replicas: request.replicas,
        region: request.region.clone(),
        selector: request.selector.clone(),
        moved_permille_max: request.moved_permille_max,
        ..SimulateShardsRequest::default()
    };
    let seen = client.simulate_shards(simulate).await?.message;
    let bare = match seen.unowned {
        0 => String::new(),
        unowned => format!("; {} would have no owner", count(unowned.into(), "shard")),
    };
    Ok(format!(
        "{} of {} would move ({}){bare}",
        seen.moved,
        count(seen.shards.into(), "shard"),
        percent(seen.moved_permille)
    ))
}
