//! `mesh approvals get`

use proto::v1::{Approval, GetApprovalRequest, approval::Status};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, approvals, clean, diff},
};

/// Which request.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request's id
    id: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let approval = app
        .client()?
        .get_approval(GetApprovalRequest { id: args.id })
        .await?
        .message;
    listing::one(app, &approval)?;
    match app.format() {
        Format::Table | Format::Wide => {
            let text = effects(&approval, app.streams.colour);
            Ok(app.text(&text)?)
        }
        Format::Json | Format::Yaml | Format::Jsonl | Format::Name => Ok(()),
    }
}

/// What a request would change, or why it cannot be approved any more; nothing where it does not wait.
pub(super) fn effects(approval: &Approval, colour: bool) -> String {
    if approval.status() != Status::PendingApproval {
        return String::new();
    }
    if !approval.stale_because.is_empty() {
        return format!("it cannot be approved any more: {}\n", clean(&approval.stale_because));
    }
    let mut text = "it would change:\n".to_owned();
    for effect in &approval.effects {
        text.push_str(&format!("{}\n", clean(&effect.record)));
        text.push_str(&diff::render(&approvals::differences(effect), colour));
    }
    text
}
