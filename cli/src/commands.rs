//! `mesh <noun> <verb>`: one file for each verb.

mod audit;
mod auth;
mod completions;
mod context;
mod operations;
mod peers;
mod status;
mod version;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Data-plane members: register, cordon, drain …
    #[command(subcommand, visible_alias = "peer")]
    Peers(peers::Verb),
    /// Long-running work: follow and cancel
    #[command(subcommand, visible_alias = "operation")]
    Operations(operations::Verb),
    /// Who did what, when and why
    #[command(subcommand)]
    Audit(audit::Verb),
    /// How the mesh is: quorum, leader, lag, alarms
    Status(status::Args),
    /// What the caller may do
    #[command(subcommand)]
    Auth(auth::Verb),
    /// Where the command line connects, and as whom
    #[command(subcommand)]
    Context(context::Verb),
    /// Completions for a shell
    Completions(completions::Args),
    /// The version of this program
    Version(version::Args),
}

/// Runs one command.
pub async fn run(app: &mut App<'_>, command: Command) -> Result<(), Failure> {
    match command {
        Command::Peers(verb) => peers::run(app, verb).await,
        Command::Operations(verb) => operations::run(app, verb).await,
        Command::Audit(verb) => audit::run(app, verb).await,
        Command::Status(args) => status::run(app, &args).await,
        Command::Auth(verb) => auth::run(app, verb).await,
        Command::Context(verb) => context::run(app, &verb),
        Command::Completions(args) => completions::run(app, &args),
        Command::Version(args) => version::run(app, &args),
    }
}
