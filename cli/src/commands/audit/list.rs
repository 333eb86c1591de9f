//! `mesh audit list`

use proto::v1::{ListAuditRecordsRequest, audit_record::Outcome};

use crate::{app::App, failure::Failure, listing};

/// Records shown where no limit is given: the trail only grows.
const LIMIT: u32 = 100;

/// Which records.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only what this subject did
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    actor: String,
    /// Only what was done to this record: peer/p1
    #[arg(long, value_name = "KIND/ID", default_value = "", hide_default_value = true)]
    target: String,
    /// Only this action: peers.drain
    #[arg(long, value_name = "ACTION", default_value = "", hide_default_value = true)]
    action: String,
    /// Only this outcome: applied, rejected or replayed
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    outcome: Option<Outcome>,
    /// Only what was done under this ticket
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    ticket: String,
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

fn outcome(text: &str) -> Result<Outcome, String> {
    match Outcome::from_str_name(&text.to_ascii_uppercase()) {
        Some(outcome) if outcome != Outcome::Unspecified => Ok(outcome),
        _ => Err("write applied, rejected or replayed".to_owned()),
    }
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let request = |limit, cursor| ListAuditRecordsRequest {
        limit,
        cursor,
        actor: args.actor.clone(),
        target: args.target.clone(),
        action: args.action.clone(),
        outcome: args.outcome.unwrap_or_default().into(),
        ticket: args.ticket.clone(),
        after_revision: args.after_revision,
        descending: !args.oldest_first,
        include_canonical: false,
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
