//! `mesh leader …`

mod show;
mod transfer;

use clap::Subcommand;
use proto::v1::Status;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, table},
};

/// The verbs of leadership.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show which node leads
    Show(show::Args),
    /// Hand leadership to another voter
    Transfer(transfer::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Show(args) => show::run(app, &args).await,
        Verb::Transfer(args) => transfer::run(app, args).await,
    }
}

/// Shows who leads; exit 1 where nobody does.
fn show(app: &mut App<'_>, status: &Status) -> Result<(), Failure> {
    let Some(leader) = &status.leader else {
        return Err(Failure::found(
            "unhealthy",
            format!("no leader, as node {} sees it", status.answered_by),
            "`mesh status` shows the nodes and how they are",
        ));
    };
    let look = app.look();
    let text = match app.format() {
        Format::Json => json::pretty(status)?,
        Format::Jsonl => json::line(status)?,
        Format::Yaml => json::yaml(status)?,
        Format::Name => format!("node/{}\n", leader.id),
        Format::Table | Format::Wide => table::details(
            &[
                ("leader", format!("node {}", leader.id).into()),
                ("api", table::Text::new(&clean(&leader.api))),
                ("term", status.term.into()),
                ("answered by", format!("node {}", status.answered_by).into()),
            ],
            look.colour,
        ),
    };
    Ok(app.text(&text)?)
}
