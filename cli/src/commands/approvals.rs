//! `mesh approvals …`

mod approve;
mod get;
mod list;
mod reject;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of requests for approval.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List requests for approval, newest first
    List(list::Args),
    /// Show one request, and what it would change
    Get(get::Args),
    /// Agree to somebody else's request; the last who has to agree carries it out (asks)
    Approve(approve::Args),
    /// Say no to a request, or take back your own
    Reject(reject::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Get(args) => get::run(app, args).await,
        Verb::Approve(args) => approve::run(app, args).await,
        Verb::Reject(args) => reject::run(app, args).await,
    }
}
