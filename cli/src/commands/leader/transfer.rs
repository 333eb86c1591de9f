//! `mesh leader transfer`

use proto::v1::TransferLeadershipRequest;

use crate::{app::App, change::ChangeArgs, failure::Failure, output::Format};

/// To whom.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node that shall lead [default: the voter that is the least behind]
    #[arg(long, value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = TransferLeadershipRequest {
        to: args.to.unwrap_or(0),
        reason: args.change.reason,
        ticket: args.change.ticket,
    };
    let status = app.client()?.transfer_leadership(request).await?.message;
    match (&status.leader, app.format()) {
        (Some(leader), Format::Table) => Ok(app.line(&format!("node/{} leads, term {}", leader.id, status.term))?),
        _ => super::show(app, &status),
    }
}
