//! `mesh members add`

use api_client::methods::AddMember;
use proto::v1::AddMemberRequest;

use crate::{app::App, change::ChangeArgs, failure::Failure};

/// Which node, and where it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's number, as its configuration has it
    #[arg(value_name = "NODE", value_parser = super::number())]
    node: u64,
    /// Where its API is
    #[arg(long, value_name = "HOST:PORT")]
    api: String,
    /// Where other nodes reach it
    #[arg(long, value_name = "HOST:PORT")]
    raft: String,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = AddMemberRequest {
        id: args.node,
        api: args.api,
        raft: args.raft,
        reason: args.change.reason.clone(),
        ticket: args.change.ticket.clone(),
    };
    let answer = app.client()?.call::<AddMember>(request, args.change.options()).await?;
    let words = ("added, as a learner", "would be added, as a learner");
    super::changed(app, &answer, args.node, &args.change, words)
}
