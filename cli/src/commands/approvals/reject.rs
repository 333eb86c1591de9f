//! `mesh approvals reject`

use proto::v1::RejectApprovalRequest;

use crate::{
    app::App,
    failure::Failure,
    listing,
    mutation::MutationArgs,
    output::{Format, Show as _, clean},
    preview,
};

/// Which request. Saying no to somebody else's takes a --reason.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The request's id
    id: String,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = RejectApprovalRequest {
        id: args.id,
        ..RejectApprovalRequest::default()
    };
    args.mutation.apply(&mut request);
    let answer = client.reject_approval(request).await?;
    let approval = &answer.message;
    if args.mutation.dry_run && preview::document(app, approval, &answer.meta)? {
        return Ok(());
    }
    if app.format() != Format::Table {
        return listing::one(app, approval);
    }
    let would = if args.mutation.dry_run { "would be " } else { "" };
    let line = format!("{} {would}rejected: {}", approval.name(), approval.detail);
    app.line(&clean(&line))?;
    preview::checks(app, &answer.meta)
}
