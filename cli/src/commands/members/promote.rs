//! `mesh members promote`

use proto::v1::PromoteMemberRequest;

use crate::{app::App, change::ChangeArgs, failure::Failure};

/// Which node.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's number
    #[arg(value_name = "NODE", value_parser = super::number())]
    node: u64,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = PromoteMemberRequest {
        id: args.node,
        reason: args.change.reason,
        ticket: args.change.ticket,
    };
    let answer = app.client()?.promote_member(request).await?.message;
    super::changed(app, &answer, args.node, "votes")
}
