//! `mesh operations …`

mod cancel;
mod get;
mod list;
mod watch;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of operations.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List operations, newest first
    List(list::Args),
    /// Show one operation with its steps
    Get(get::Args),
    /// Follow an operation to its end; Ctrl-C only detaches
    Watch(watch::Args),
    /// Cancel a running operation and unwind what it did
    Cancel(cancel::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Get(args) => get::run(app, args).await,
        Verb::Watch(args) => watch::run(app, args).await,
        Verb::Cancel(args) => cancel::run(app, args).await,
    }
}
