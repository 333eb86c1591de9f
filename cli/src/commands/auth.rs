//! `mesh auth …`

mod can_i;
mod revoke_sessions;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of authorisation.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Whether the caller may do something; exit 1 where not. With --list, everything that there is to do
    #[command(name = "can-i")]
    CanI(can_i::Args),
    /// End all browser sessions of a principal, on all nodes
    #[command(name = "revoke-sessions")]
    RevokeSessions(revoke_sessions::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::CanI(args) => can_i::run(app, args).await,
        Verb::RevokeSessions(args) => revoke_sessions::run(app, args).await,
    }
}
