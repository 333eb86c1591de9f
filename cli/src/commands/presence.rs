//! `mesh presence …`

mod list;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of presence.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List peers with when they were last heard, and what they said
    List(list::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
    }
}
