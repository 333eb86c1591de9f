//! `mesh peers drain`

use std::time::Duration;

use api_client::Client;
use proto::v1::{DrainPeerRequest, peer::Status};

use super::{
    drain_many,
    which::{Meant, Which},
};
use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    output::{clean, word},
    prompt,
    wait::{self, WaitArgs},
};

/// Which peers, on what terms, and whether to wait.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// With a selector: the most peers that are drained at the same time [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    at_once: Option<u32>,
    /// How long it may take, such as 20m. After that the operation fails, says what is left, and peers that are not
    /// drained are what they were before: cordon them first where they shall not be active again
    #[arg(long, value_name = "DURATION", value_parser = crate::values::duration)]
    deadline: Option<Duration>,
    /// Do not wait for what cannot be moved, nor keep a cluster's last active peers (scope mesh.admin, needs --confirm)
    #[arg(long)]
    force: bool,
    /// With --force: the peer's id, or the selector, once more
    #[arg(long, value_name = "ID|SELECTOR", default_value = "", hide_default_value = true)]
    confirm: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

/// On what terms.
pub struct Terms {
    pub at_once: u32,
    pub deadline: Option<prost_types::Duration>,
    pub force: bool,
    pub confirm: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let terms = Terms {
        at_once: args.at_once.unwrap_or(1),
        deadline: args.deadline.map(crate::values::proto_duration),
        force: args.force,
        confirm: args.confirm,
    };
    match args.which.meant() {
        Meant::One(_) if args.at_once.is_some() => Err(Failure::usage(
            "--at-once speaks of several peers, and one is named",
            "leave it out, or select them with -l",
        )),
        Meant::One(id) => one(app, &client, &id, terms, &args.wait, &args.mutation).await,
        Meant::Several(selector) => drain_many::run(app, &client, &selector, terms, &args.wait, &args.mutation).await,
    }
}

async fn one(
    app: &mut App<'_>,
    client: &Client,
    id: &str,
    terms: Terms,
    wait: &WaitArgs,
    args: &MutationArgs,
) -> Result<(), Failure> {
    let question = format!(
        "Drain peer {}? Everything that it holds is moved to other peers.",
        clean(id)
    );
    // Whoever forces it names the peer, which the mesh looks at; that is more than a yes.
    let sure = args.yes || args.dry_run || terms.force;
    prompt::confirm(app, sure, &question).await?;
    let mut request = DrainPeerRequest {
        id: id.to_owned(),
        deadline: terms.deadline,
        force: terms.force,
        confirm: terms.confirm,
        ..DrainPeerRequest::default()
    };
    args.apply(&mut request);
    if !wait.wait || args.dry_run {
        let call = || client.drain_peer(request.clone());
        let answer = mutation::peer(app, client, id, args, "draining", call).await?;
        let operation = answer.message.operation;
        if !operation.is_empty() && !args.dry_run {
            app.tell(&format!("follow it with `mesh operations watch {}`", clean(&operation)));
        }
        return Ok(());
    }
    let peer = client.drain_peer(request).await?.message;
    if !peer.operation.is_empty() && peer.status() != Status::Drained {
        app.tell(&format!(
            "{} is {}, operation {}",
            clean(id),
            word(peer.status().as_str_name()),
            clean(&peer.operation)
        ));
        let ended = wait::until_ended(app, client, &peer.operation, wait.timeout, |_, _| Ok(())).await?;
        wait::goal(&ended)?;
    }
    mutation::show_now(app, client, id).await
}
