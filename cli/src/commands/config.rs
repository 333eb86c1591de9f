//! `mesh config …`

mod get;
mod history;
mod list;
mod rollback;
mod set;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of settings.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List settings with their values and ranges
    List(list::Args),
    /// Show one setting
    Get(get::Args),
    /// Set settings, or return them to their defaults
    Set(set::Args),
    /// List versions: who changed what, when and why
    History(history::Args),
    /// Go back to the settings as they were at a revision
    Rollback(rollback::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Get(args) => get::run(app, args).await,
        Verb::Set(args) => set::run(app, args).await,
        Verb::History(args) => history::run(app, args).await,
        Verb::Rollback(args) => rollback::run(app, args).await,
    }
}
