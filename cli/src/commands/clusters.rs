//! `mesh clusters …`

mod apply;
mod demote;
mod get;
mod list;
mod promote;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of clusters.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List clusters
    List(list::Args),
    /// Show one cluster
    Get(get::Args),
    /// Write a cluster's descriptor, whole, from flags or a file
    Apply(apply::Args),
    /// Make a passive cluster the active one (asks for its name)
    Promote(promote::Args),
    /// Make the active cluster a passive one (asks for its name)
    Demote(demote::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Get(args) => get::run(app, args).await,
        Verb::Apply(args) => apply::run(app, args).await,
        Verb::Promote(args) => promote::run(app, args).await,
        Verb::Demote(args) => demote::run(app, args).await,
    }
}
