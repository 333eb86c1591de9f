//! `mesh members promote`

use api_client::methods::PromoteMember;
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
        reason: args.change.reason.clone(),
        ticket: args.change.ticket.clone(),
    };
    let options = args.change.options();
    let answer = app.client()?.call::<PromoteMember>(request, options).await?;
    super::changed(app, &answer, args.node, &args.change, ("votes", "would vote"))
}
