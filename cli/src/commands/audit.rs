//! `mesh audit …`

mod checkpoints;
mod export;
mod list;
mod tail;
mod verify;
mod which;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of the audit trail.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List who did what, newest first
    List(list::Args),
    /// Follow who does what, as it happens
    Tail(tail::Args),
    /// Write the trail, or a time of it, to a file that can be checked without the mesh
    Export(export::Args),
    /// List the signed points of the trail, or keep them in a file outside of the mesh
    Checkpoints(checkpoints::Args),
    /// Check the hash chain and signatures of the trail, or of an export of it
    Verify(verify::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Tail(args) => tail::run(app, args).await,
        Verb::Export(args) => export::run(app, args).await,
        Verb::Checkpoints(args) => checkpoints::run(app, args).await,
        Verb::Verify(args) => verify::run(app, args).await,
    }
}
