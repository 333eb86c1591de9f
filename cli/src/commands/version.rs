//! `mesh version`

use serde_json::json;

use crate::{app::App, failure::Failure, output::Format};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The version of this program; asks no server. The nodes' versions are in `mesh status -o wide`.
pub fn run(app: &mut App<'_>, _: &Args) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let text = match app.format() {
        Format::Json | Format::Jsonl => json!({ "version": version }).to_string(),
        Format::Yaml => format!("version: {version}"),
        Format::Name | Format::Table | Format::Wide => format!("mesh {version}"),
    };
    Ok(app.line(&text)?)
}
