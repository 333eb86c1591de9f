//! `mesh approvals list`

use api_client::watch::WatchApprovals;
use proto::v1::{ListApprovalsRequest, WatchApprovalsRequest, approval::Status};

use crate::{
    app::App,
    failure::Failure,
    listing,
    watching::{self, ListWatch},
};

/// Which requests.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only requests of this status: pending, approved, rejected, expired or stale
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<Status>,
    /// Only requests about this record: peer/p1
    #[arg(long, value_name = "KIND/ID", default_value = "", hide_default_value = true)]
    target: String,
    /// Only requests of this person
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    requester: String,
    /// Only requests for this: peers.drain
    #[arg(long, value_name = "ACTION", default_value = "", hide_default_value = true)]
    action: String,
    #[command(flatten)]
    page: listing::Page,
    #[command(flatten)]
    watch: ListWatch,
}

fn status(text: &str) -> Result<Status, String> {
    let word = text.to_ascii_uppercase();
    match word.as_str() {
        "PENDING" => Ok(Status::PendingApproval),
        _ => match Status::from_str_name(&word) {
            Some(status) if status != Status::Unspecified => Ok(status),
            _ => Err("write pending, approved, rejected, expired or stale".to_owned()),
        },
    }
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if args.watch.watch {
        args.page.unwatched()?;
        let request = WatchApprovalsRequest {
            snapshot: true,
            status: args.status.unwrap_or_default().into(),
            target: args.target,
            requester: args.requester,
            action: args.action,
            ..WatchApprovalsRequest::default()
        };
        return watching::follow::<WatchApprovals>(app, request, &args.watch.args()).await;
    }
    let client = app.client()?;
    let request = |limit, cursor| ListApprovalsRequest {
        limit,
        cursor,
        status: args.status.unwrap_or_default().into(),
        target: args.target.clone(),
        requester: args.requester.clone(),
        action: args.action.clone(),
    };
    listing::list(app, &args.page, |limit, cursor| {
        client.list_approvals(request(limit, cursor))
    })
    .await
}
