//! `mesh audit list`

use proto::v1::ListAuditRecordsRequest;

use super::which::Which;
use crate::{app::App, failure::Failure, listing, values::moment};

/// Records shown where no limit is given: the trail only grows.
const LIMIT: u32 = 100;

/// Which records.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Only what was done at or after this time: 2026-01-31T12:00:00Z, or 2h for two hours ago
    #[arg(long, alias = "since", value_name = "TIME", value_parser = moment)]
    from: Option<prost_types::Timestamp>,
    /// Only what was done before this time
    #[arg(long, alias = "until", value_name = "TIME", value_parser = moment)]
    to: Option<prost_types::Timestamp>,
    /// Only revisions above this
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    after_revision: u64,
    /// In order of revision instead of newest first
    #[arg(long)]
    oldest_first: bool,
    /// At most this many records
    #[arg(long, value_name = "N", default_value_t = LIMIT, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Continue behind an earlier page: its nextCursor
    #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
    cursor: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let which = &args.which;
    let request = |limit, cursor| ListAuditRecordsRequest {
        limit,
        cursor,
        actor: which.actor.clone(),
        target: which.target.clone(),
        action: which.action.clone(),
        outcome: which.outcome.unwrap_or_default().into(),
        ticket: which.ticket.clone(),
        after_revision: args.after_revision,
        descending: !args.oldest_first,
        include_canonical: false,
        from: args.from,
        to: args.to,
    };
    let page = listing::Page {
        limit: Some(args.limit),
        cursor: args.cursor.clone(),
    };
    listing::list(app, &page, |limit, cursor| {
        client.list_audit_records(request(limit, cursor))
    })
    .await
}
