//! `mesh auth …`

mod can_i;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of authorisation.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Whether the caller may do something; exit 1 where not
    #[command(name = "can-i")]
    CanI(can_i::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::CanI(args) => can_i::run(app, args).await,
    }
}
