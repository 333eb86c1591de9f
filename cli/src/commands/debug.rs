//! `mesh debug …`

mod log_level;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of debugging.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Change how much a node logs, for a while
    LogLevel(log_level::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::LogLevel(args) => log_level::run(app, args).await,
    }
}
