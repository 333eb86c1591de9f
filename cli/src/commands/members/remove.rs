//! `mesh members remove`

use proto::v1::RemoveMemberRequest;

use crate::{app::App, change::ChangeArgs, failure::Failure, prompt};

/// Which node.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's number
    #[arg(value_name = "NODE", value_parser = super::number())]
    node: u64,
    /// Also where too few of the other voters answer: nothing is written then until enough of them do
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let question = format!(
        "Remove node {} for good? It ends, and its number cannot be used again.",
        args.node
    );
    prompt::confirm(app, args.change.yes, &question, prompt::Preview::None).await?;
    let request = RemoveMemberRequest {
        id: args.node,
        force: args.force,
        reason: args.change.reason,
        ticket: args.change.ticket,
    };
    let answer = app.client()?.remove_member(request).await?.message;
    super::changed(app, &answer, args.node, "removed for good")
}
