//! `mesh peers drain`

use proto::v1::{DrainPeerRequest, peer::Status};

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    output::{clean, word},
    prompt,
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
    let question = format!(
        "Drain peer {}? Everything that it holds is moved to other peers.",
        clean(&args.id)
    );
    prompt::confirm(
        app,
        args.mutation.yes || args.mutation.dry_run,
        &question,
        prompt::Preview::DryRun,
    )
    .await?;
    let mut request = DrainPeerRequest {
        id: args.id.clone(),
        ..DrainPeerRequest::default()
    };
    args.mutation.apply(&mut request);
    if !args.wait.wait || args.mutation.dry_run {
        let call = || client.drain_peer(request.clone());
        let answer = mutation::peer(app, &client, &args.id, &args.mutation, "draining", call).await?;
        let operation = answer.message.operation;
        if !operation.is_empty() && !args.mutation.dry_run {
            app.tell(&format!("follow it with `mesh operations watch {}`", clean(&operation)));
        }
        return Ok(());
    }
    let peer = client.drain_peer(request).await?.message;
    if !peer.operation.is_empty() && peer.status() != Status::Drained {
        app.tell(&format!(
            "{} is {}, operation {}",
            clean(&args.id),
            word(peer.status().as_str_name()),
            clean(&peer.operation)
        ));
        let ended = wait::until_ended(app, &client, &peer.operation, args.wait.timeout, |_, _| Ok(())).await?;
        wait::goal(&ended)?;
    }
    mutation::show_now(app, &client, &args.id).await
}
