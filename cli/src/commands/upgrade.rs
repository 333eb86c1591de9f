//! `mesh upgrade …`

mod finalize;
mod status;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of upgrades.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What each node runs, and whether the upgrade can be finalized
    Status(status::Args),
    /// Raise the feature level for good: no older program can run afterwards (asks)
    Finalize(finalize::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Status(args) => status::run(app, &args).await,
        Verb::Finalize(args) => finalize::run(app, args).await,
    }
}
