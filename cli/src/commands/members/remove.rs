//! `mesh members remove`

use api_client::methods::RemoveMember;
use proto::v1::RemoveMemberRequest;

use crate::{app::App, change::ChangeArgs, failure::Failure, nodes, prompt};

/// Which node.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's number
    #[arg(value_name = "NODE", value_parser = super::number())]
    node: u64,
    /// Also where each voter that stays and answers would be needed from then on, because another does not answer
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let sure = args.change.yes || args.change.dry_run;
    if !sure && app.streams.can_ask {
        // Nobody is asked about a node that is not there.
        nodes::member(&client, args.node).await?;
    }
    let question = format!(
        "Remove node {} for good? It ends, and its number cannot be used again.",
        args.node
    );
    prompt::confirm(app, sure, &question).await?;
    let request = RemoveMemberRequest {
        id: args.node,
        force: args.force,
        reason: args.change.reason.clone(),
        ticket: args.change.ticket.clone(),
    };
    let answer = client.call::<RemoveMember>(request, args.change.options()).await?;
    let words = ("removed for good", "would be removed for good");
    super::changed(app, &answer, args.node, &args.change, words)
}
