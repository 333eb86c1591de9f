//! `mesh audit tail`

use api_client::watch::WatchAudit;
use proto::v1::WatchAuditRequest;

use super::which::Which;
use crate::{
    app::App,
    failure::Failure,
    watching::{self, WatchArgs},
};

/// Which records, and from when on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Begin with everything that is kept, instead of with what comes next
    #[arg(long, conflicts_with = "token")]
    all: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let Which {
        actor,
        target,
        action,
        outcome,
        ticket,
    } = args.which;
    let request = WatchAuditRequest {
        snapshot: args.all,
        actor,
        target,
        action,
        outcome: outcome.unwrap_or_default().into(),
        ticket,
        ..WatchAuditRequest::default()
    };
    watching::follow::<WatchAudit>(app, request, &args.watch).await
}
