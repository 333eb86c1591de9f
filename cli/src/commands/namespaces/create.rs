//! `mesh namespaces create`

use api_client::Client;
use proto::v1::{
    CreateNamespaceRequest, GetNamespaceRequest, ListPeersRequest,
    namespace::{Policy, Strategy},
    peer::Status,
};

use super::PolicyArgs;
use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    values,
    wait::WaitArgs,
};

/// The namespace to make.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The namespace's id: [a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?
    #[arg(value_parser = values::id)]
    id: String,
    /// Into how many shards its keys are split, 1 to 65536. This cannot be changed later
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    shards: u32,
    /// How many peers hold each shard beside its owner, 0 to 6
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=6))]
    replicas: u32,
    /// By which preference shards are given to peers: ring, rendezvous or locality [default: rendezvous]
    #[arg(long, value_name = "NAME", value_parser = super::strategy)]
    strategy: Option<Strategy>,
    /// With --strategy locality: the region that owners are preferred in
    #[arg(long, value_name = "REGION", default_value = "", hide_default_value = true)]
    region: String,
    /// Only peers whose labels match hold its shards: zone=a,tier!=test,gpu,!legacy,region in (eu,us)
    #[arg(
        short = 'l',
        long,
        value_name = "SELECTOR",
        default_value = "",
        hide_default_value = true
    )]
    selector: String,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = CreateNamespaceRequest {
        id: args.id.clone(),
        strategy: args.strategy.unwrap_or_default().into(),
        region: args.region,
        selector: args.selector,
        shards: args.shards,
        replicas: args.replicas,
        policy: args.policy.over(Policy::default()),
        ..CreateNamespaceRequest::default()
    };
    args.mutation.apply(&mut request);
    if args.wait.wait && !args.mutation.dry_run {
        let selector = request.selector.clone();
        let made = client.create_namespace(request).await?.message;
        super::settled(app, &client, &made, &args.wait).await?;
        bare(app, &client, &selector).await;
        return Ok(());
    }
    let now = || client.get_namespace(GetNamespaceRequest { id: args.id.clone() });
    let call = || client.create_namespace(request.clone());
    let answer = mutation::record(app, &args.mutation, "created", now, call).await?;
    super::tell_operation(app, &answer);
    bare(app, &client, &request.selector).await;
    Ok(())
}

/// Warns where nobody is there to own its shards. That is allowed: peers may come. Where the mesh does not answer it says
/// nothing, for the namespace is made.
async fn bare(app: &mut App<'_>, client: &Client, selector: &str) {
    if app.format().is_machine() {
        return;
    }
    let request = ListPeersRequest {
        limit: 1,
        status: Status::Active.into(),
        selector: selector.to_owned(),
        ..ListPeersRequest::default()
    };
    let Ok(answer) = client.list_peers(request).await else {
        return;
    };
    // A page may be empty and not be the last.
    if answer.message.items.is_empty() && answer.message.next_cursor.is_empty() {
        let (whom, see) = match selector {
            "" => (String::new(), "`mesh peers list`".to_owned()),
            selector => (
                format!(" that `{selector}` selects"),
                format!("`mesh peers list -l '{selector}'`"),
            ),
        };
        app.remark(&format!(
            "warning: there is no active peer{whom}: its shards have no owner until there is one ({see})"
        ));
    }
}
