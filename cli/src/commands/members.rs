//! `mesh members …`

mod add;
mod invite;
mod list;
mod promote;
mod remove;

use api_client::Answer;
use clap::Subcommand;
use proto::v1::ListMembersResponse;

use crate::{
    app::App,
    change::ChangeArgs,
    failure::Failure,
    output::{Format, json, members},
};

/// The verbs of members.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the nodes of the cluster: who votes, who lags
    List,
    /// Give leave for one new node to join; prints the token that it needs
    Invite(invite::Args),
    /// Add a node that runs already and waits for its cluster
    Add(add::Args),
    /// Let a node vote that has caught up
    Promote(promote::Args),
    /// Take a node out for good (asks)
    Remove(remove::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List => list::run(app).await,
        Verb::Invite(args) => invite::run(app, args).await,
        Verb::Add(args) => add::run(app, args).await,
        Verb::Promote(args) => promote::run(app, args).await,
        Verb::Remove(args) => remove::run(app, args).await,
    }
}

/// Shows all members.
fn show(app: &mut App<'_>, answer: &ListMembersResponse) -> Result<(), Failure> {
    let look = app.look();
    let text = match app.format() {
        Format::Json => json::pretty(answer)?,
        Format::Yaml => json::yaml(answer)?,
        Format::Jsonl => {
            let lines: Result<Vec<String>, Failure> = answer.items.iter().map(json::line).collect();
            lines?.concat()
        }
        Format::Name => answer.items.iter().map(|node| format!("node/{}\n", node.id)).collect(),
        Format::Table | Format::Wide => members::screen(answer, look),
    };
    Ok(app.text(&text)?)
}

/// Shows what a change came to: one line for people, else the members as they are now.
fn changed(
    app: &mut App<'_>,
    answer: &Answer<ListMembersResponse>,
    node: u64,
    change: &ChangeArgs,
    (done, would): (&str, &str),
) -> Result<(), Failure> {
    let members = &answer.message;
    match app.format() {
        Format::Table => {
            let voters = members.items.iter().filter(|node| node.voter).count();
            let said = change.said(answer, done, would);
            let line = format!("node/{node} {said}; {} members, {voters} vote", members.items.len());
            Ok(app.line(&line)?)
        }
        Format::Wide | Format::Json | Format::Yaml | Format::Jsonl | Format::Name => show(app, members),
    }
}

/// A node's number on the command line.
fn number() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}
