//! `mesh context …`

mod show;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of the context.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show where this program connects and as whom; asks no server
    Show(show::Args),
}

/// Runs one verb.
pub fn run(app: &mut App<'_>, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show(args) => show::run(app, args),
    }
}
