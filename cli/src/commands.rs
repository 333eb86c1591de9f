//! `mesh <noun> <verb>`: one file for each verb.

mod alarms;
mod approvals;
mod audit;
mod auth;
mod backup;
mod clusters;
mod completions;
mod config;
mod context;
mod debug;
mod history;
mod leader;
mod members;
mod namespaces;
mod operations;
mod peers;
mod presence;
mod shards;
mod status;
mod support;
mod upgrade;
mod version;
mod watch;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Data-plane members: register, cordon, drain …
    #[command(subcommand, visible_alias = "peer")]
    Peers(peers::Verb),
    /// When peers were last heard, and what they said of themselves
    #[command(subcommand)]
    Presence(presence::Verb),
    /// Sets of keys that are split into shards: create, reshape, delete
    #[command(subcommand, visible_alias = "namespace")]
    Namespaces(namespaces::Verb),
    /// Who owns which part of a namespace's keys: locate, move, pause, diff, simulate
    #[command(subcommand, visible_alias = "shard")]
    Shards(shards::Verb),
    /// Long-running work: follow and cancel
    #[command(subcommand, visible_alias = "operation")]
    Operations(operations::Verb),
    /// Requests that wait for a second person: look, approve, reject
    #[command(subcommand, visible_alias = "approval")]
    Approvals(approvals::Verb),
    /// One Raft group in one region each, as the operators describe them
    #[command(subcommand, visible_alias = "cluster")]
    Clusters(clusters::Verb),
    /// Settings of the mesh: limits, retention, policies
    #[command(subcommand)]
    Config(config::Verb),
    /// How far back history and audit are kept
    #[command(subcommand)]
    History(history::Verb),
    /// Who did what, when and why
    #[command(subcommand)]
    Audit(audit::Verb),
    /// What happens to records, as it happens
    Watch(watch::Args),
    /// What is wrong with nodes: full disks, damaged states, clocks that are off
    #[command(subcommand, visible_alias = "alarm")]
    Alarms(alarms::Verb),
    /// The nodes of the cluster: invite, add, promote, remove
    #[command(subcommand, visible_alias = "member")]
    Members(members::Verb),
    /// Which node leads, and handing that over
    #[command(subcommand)]
    Leader(leader::Verb),
    /// How the mesh is: quorum, leader, lag, alarms
    Status,
    /// Finish an upgrade, once every node runs the newer program
    #[command(subcommand)]
    Upgrade(upgrade::Verb),
    /// The whole mesh as a file: save and check
    #[command(subcommand)]
    Backup(backup::Verb),
    /// What the caller may do; sessions of browsers
    #[command(subcommand)]
    Auth(auth::Verb),
    /// Look closer at a node: log levels
    #[command(subcommand)]
    Debug(debug::Verb),
    /// Collect what helps to find out what is wrong
    #[command(subcommand)]
    Support(support::Verb),
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
        Command::Presence(verb) => presence::run(app, verb).await,
        Command::Namespaces(verb) => namespaces::run(app, verb).await,
        Command::Shards(verb) => shards::run(app, verb).await,
        Command::Operations(verb) => operations::run(app, verb).await,
        Command::Approvals(verb) => approvals::run(app, verb).await,
        Command::Clusters(verb) => clusters::run(app, verb).await,
        Command::Config(verb) => config::run(app, verb).await,
        Command::History(verb) => history::run(app, verb).await,
        Command::Audit(verb) => audit::run(app, verb).await,
        Command::Watch(args) => watch::run(app, args).await,
        Command::Alarms(verb) => alarms::run(app, verb).await,
        Command::Members(verb) => members::run(app, verb).await,
        Command::Leader(verb) => leader::run(app, verb).await,
        Command::Status => status::run(app).await,
        Command::Upgrade(verb) => upgrade::run(app, verb).await,
        Command::Backup(verb) => backup::run(app, verb).await,
        Command::Auth(verb) => auth::run(app, verb).await,
        Command::Debug(verb) => debug::run(app, verb).await,
        Command::Support(verb) => support::run(app, verb).await,
        Command::Context(verb) => context::run(app, &verb),
        Command::Completions(args) => completions::run(app, &args),
        Command::Version(args) => version::run(app, &args),
    }
}
