//! `mesh peers …`

mod cordon;
mod deregister;
mod drain;
mod drain_many;
mod get;
mod label;
mod list;
mod register;
mod set;
mod uncordon;
mod undrain;
mod which;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of peers.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List peers
    List(list::Args),
    /// Show one peer
    Get(get::Args),
    /// Add a peer
    Register(register::Args),
    /// Stop new work from reaching a peer, or several
    Cordon(cordon::Args),
    /// Let new work reach a peer again, or several
    Uncordon(uncordon::Args),
    /// Move everything off a peer, or several a few at a time (asks)
    Drain(drain::Args),
    /// Cancel a drain, or bring a drained peer back, or several
    Undrain(undrain::Args),
    /// Set and remove labels and metadata
    Label(label::Args),
    /// Change a peer's weight, region, zone, role or endpoints
    Set(set::Args),
    /// Remove a peer that holds nothing (asks)
    Deregister(deregister::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Get(args) => get::run(app, args).await,
        Verb::Register(args) => register::run(app, args).await,
        Verb::Cordon(args) => cordon::run(app, args).await,
        Verb::Uncordon(args) => uncordon::run(app, args).await,
        Verb::Drain(args) => drain::run(app, args).await,
        Verb::Undrain(args) => undrain::run(app, args).await,
        Verb::Label(args) => label::run(app, args).await,
        Verb::Set(args) => set::run(app, args).await,
        Verb::Deregister(args) => deregister::run(app, args).await,
    }
}
