//! `mesh alarms …`

mod disarm;
mod list;

use clap::Subcommand;
use proto::v1::ListAlarmsResponse;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, alarms, json},
};

/// The verbs of alarms.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List what is wrong with which node
    List(list::Args),
    /// Take an alarm down; it goes up again where its cause is still there
    Disarm(disarm::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, &args).await,
        Verb::Disarm(args) => disarm::run(app, args).await,
    }
}

/// Shows the alarms that are up.
fn show(app: &mut App<'_>, answer: &ListAlarmsResponse) -> Result<(), Failure> {
    let look = app.look();
    let text = match app.format() {
        Format::Json => json::pretty(answer)?,
        Format::Yaml => json::yaml(answer)?,
        Format::Jsonl => answer.items.iter().map(json::line).collect::<Result<_, _>>()?,
        Format::Name => answer.items.iter().map(|alarm| alarms::name(alarm) + "\n").collect(),
        Format::Table | Format::Wide if answer.items.is_empty() => {
            app.remark("no alarms");
            return Ok(());
        }
        Format::Table | Format::Wide => alarms::table(&answer.items, look),
    };
    Ok(app.text(&text)?)
}
