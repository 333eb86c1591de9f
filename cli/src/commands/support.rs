//! `mesh support …`

mod bundle;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of support.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Collect what helps to find out what is wrong, from every node, into one file
    Bundle(bundle::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Bundle(args) => bundle::run(app, args).await,
    }
}
