//! `mesh approvals approve`

use proto::v1::{Approval, ApproveApprovalRequest, GetApprovalRequest, approval::Status};

use crate::{
    app::App,
    failure::Failure,
    listing,
    mutation::MutationArgs,
    output::{Format, Show as _, clean},
    preview, prompt,
};

use super::get::effects;

/// Which request.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request's id
    id: String,
    #[command(flatten)]
    mutation: MutationArgs,
}

/// Shows what would be done before it asks, and agrees to no other version of the request than the one that was shown.
pub async fn run(app: &mut App<'_>, mut args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let asks = !args.mutation.yes && !args.mutation.dry_run;
    if asks && app.streams.can_ask {
        let request = GetApprovalRequest { id: args.id.clone() };
        let seen = client.get_approval(request).await?.message;
        let text = format!("{}\n{}", asked(&seen), effects(&seen, app.streams.err_colour));
        app.streams.note(text.trim_end());
        if args.mutation.if_match.is_empty() {
            args.mutation.if_match = seen.etag;
        }
    }
    let question = format!("Approve {}?", clean(&args.id));
    prompt::confirm(app, !asks, &question).await?;
    let mut request = ApproveApprovalRequest {
        id: args.id,
        ..ApproveApprovalRequest::default()
    };
    args.mutation.apply(&mut request);
    let answer = client.approve_approval(request).await?;
    if args.mutation.dry_run && preview::document(app, &answer.message, &answer.meta)? {
        return Ok(());
    }
    if app.format() != Format::Table {
        return listing::one(app, &answer.message);
    }
    let line = said(&answer.message, args.mutation.dry_run, answer.meta.replayed);
    app.line(&line)?;
    preview::checks(app, &answer.meta)
}

fn asked(approval: &Approval) -> String {
    let words = [("reason", &approval.reason), ("ticket", &approval.ticket)];
    let words = words.iter().filter(|(_, text)| !text.is_empty());
    let words: String = words.map(|(name, text)| format!(", {name}: {}", clean(text))).collect();
    format!(
        "{} asks for {} {}{words}",
        clean(&approval.requester),
        clean(&approval.action),
        clean(&approval.target)
    )
}

fn said(approval: &Approval, dry_run: bool, replayed: bool) -> String {
    let name = approval.name();
    let what = format!("{} {} for {}", approval.action, approval.target, approval.requester);
    let line = match (approval.status(), dry_run) {
        (Status::Approved, false) => format!(
            "{name} approved: {what} is carried out (revision {})",
            approval.changed_revision
        ),
        (Status::Approved, true) => {
            format!("{name} would be approved, and {what} carried out (dry run, nothing was changed)")
        }
        (_, false) => format!(
            "{name} approved by {} of {}: {}",
            approval.agreed, approval.needed, approval.hint
        ),
        (_, true) => format!(
            "{name} would be approved by {} of {} (dry run, nothing was changed)",
            approval.agreed, approval.needed
        ),
    };
    let earlier = if replayed {
        " (an earlier attempt with this key had done it)"
    } else {
        ""
    };
    clean(&format!("{line}{earlier}")).into_owned()
}
