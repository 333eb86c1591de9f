//! `mesh upgrade status`

use proto::v1::GetUpgradeRequest;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, json, upgrade},
};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub async fn run(app: &mut App<'_>, _: &Args) -> Result<(), Failure> {
    let answer = app.client()?.get_upgrade(GetUpgradeRequest {}).await?.message;
    let text = match app.format() {
        Format::Json => json::pretty(&answer)?,
        Format::Jsonl => json::line(&answer)?,
        Format::Yaml => json::yaml(&answer)?,
        Format::Name => upgrade::name(answer.feature_level),
        Format::Table | Format::Wide => upgrade::screen(&answer, app.look()),
    };
    Ok(app.text(&text)?)
}
