//! `mesh leader transfer`

use api_client::methods::TransferLeadership;
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
        reason: args.change.reason.clone(),
        ticket: args.change.ticket.clone(),
    };
    let options = args.change.options();
    let answer = app.client()?.call::<TransferLeadership>(request, options).await?;
    let status = &answer.message;
    match (&status.leader, app.format(), args.change.dry_run) {
        (_, Format::Table, true) => {
            let to = args.to.map_or_else(
                || "the voter that is the least behind".to_owned(),
                |to| format!("node/{to}"),
            );
            Ok(app.line(&format!("{to} would lead (dry run, nothing was changed)"))?)
        }
        (Some(leader), Format::Table, false) => {
            let done = format!("leads, term {}", status.term);
            Ok(app.line(&format!("node/{} {}", leader.id, args.change.said(&answer, &done, "")))?)
        }
        _ => super::show(app, status),
    }
}
