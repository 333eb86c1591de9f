//! `mesh operations watch`

use std::time::Duration;

use proto::v1::Operation;

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, clean, json, operations},
    wait,
};

/// Which operation, and for how long.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The operation's id
    id: String,
    /// How long to follow it at most
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = crate::values::duration, allow_hyphen_values = true)]
    timeout: Duration,
}

/// Tables get a line for every version, `jsonl` a document; the other formats show the operation once it has ended.
pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let ended = wait::until_ended(app, &client, &args.id, args.timeout, version).await?;
    match app.format() {
        Format::Table | Format::Wide | Format::Jsonl => {}
        Format::Json | Format::Yaml | Format::Name => listing::one(app, &ended)?,
    }
    wait::goal(&ended)
}

fn version(app: &mut App<'_>, operation: &Operation) -> Result<(), Failure> {
    let text = match app.format() {
        Format::Jsonl => json::line(operation)?,
        Format::Table | Format::Wide => {
            let state = operations::state(operation.state()).paint(app.streams.colour);
            let mut line = format!("{} {state}", clean(&operation.target));
            for part in [
                operations::step(operation),
                operations::progress(operation),
                operation.detail.clone(),
            ] {
                if !part.is_empty() && part != "-" {
                    line.push_str(&format!(", {}", clean(&part)));
                }
            }
            line.push('\n');
            line
        }
        Format::Json | Format::Yaml | Format::Name => return Ok(()),
    };
    app.text(&text)?;
    Ok(app.streams.flush()?)
}
