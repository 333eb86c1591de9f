//! `mesh history …`

mod compact;
mod show;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of history.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// How far back history and audit are kept
    Show(show::Args),
    /// Let go of history and audit below a revision (asks)
    Compact(compact::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show(args) => show::run(app, &args).await,
        Verb::Compact(args) => compact::run(app, args).await,
    }
}
