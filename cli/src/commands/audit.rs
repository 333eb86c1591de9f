//! `mesh audit …`

mod checkpoints;
mod list;
mod verify;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of the audit trail.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List who did what, newest first
    List(list::Args),
    /// List the signed points of the trail, or keep them in a file outside of the mesh
    Checkpoints(checkpoints::Args),
    /// Check the trail's hash chain and signatures
    Verify(verify::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Checkpoints(args) => checkpoints::run(app, args).await,
        Verb::Verify(args) => verify::run(app, args).await,
    }
}
