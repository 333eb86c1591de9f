//! `mesh shards …`

mod cancel_move;
mod diff;
mod disable;
mod enable;
mod get;
mod history;
mod list;
mod locate;
mod move_to;
mod pause;
mod resume;
mod simulate;
mod watch;
mod which;

use clap::Subcommand;

use crate::{app::App, failure::Failure};

/// The verbs of shards.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List shards, or count them by owner
    List(list::Args),
    /// Show one shard, as it is or as it was
    Get(get::Args),
    /// Show the shard that a key belongs to
    Locate(locate::Args),
    /// Show what became of a shard, newest first
    History(history::Args),
    /// Show which shards differ between two revisions (exit 1 where any does)
    Diff(diff::Args),
    /// Show what a change of peers or of a namespace would move (exit 6 where it would be refused)
    Simulate(simulate::Args),
    /// Move a shard to another owner
    #[command(name = "move")]
    MoveTo(move_to::Args),
    /// Give up a move that has not switched yet
    CancelMove(which::Args),
    /// Keep a shard where it is; it is served
    Pause(which::Args),
    /// Let a paused shard be moved again
    Resume(which::Args),
    /// Have nobody serve a shard (asks)
    Disable(which::Args),
    /// Have a disabled shard served again, under a new token
    Enable(which::Args),
    /// Follow what happens to shards
    Watch(watch::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Get(args) => get::run(app, args).await,
        Verb::Locate(args) => locate::run(app, args).await,
        Verb::History(args) => history::run(app, args).await,
        Verb::Diff(args) => diff::run(app, args).await,
        Verb::Simulate(args) => simulate::run(app, args).await,
        Verb::MoveTo(args) => move_to::run(app, args).await,
        Verb::CancelMove(args) => cancel_move::run(app, args).await,
        Verb::Pause(args) => pause::run(app, args).await,
        Verb::Resume(args) => resume::run(app, args).await,
        Verb::Disable(args) => disable::run(app, args).await,
        Verb::Enable(args) => enable::run(app, args).await,
        Verb::Watch(args) => watch::run(app, args).await,
    }
}
