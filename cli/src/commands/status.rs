//! `mesh status`

use proto::v1::GetStatusRequest;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, status},
};

/// Nothing to choose.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Shows the status, and fails with exit code 1 where there is no quorum or no leader.
pub async fn run(app: &mut App<'_>, _: &Args) -> Result<(), Failure> {
    let answer = app.client()?.get_status(GetStatusRequest {}).await?.message;
    let look = app.look();
    let text = match app.format() {
        Format::Json => json::pretty(&answer)?,
        Format::Jsonl => json::line(&answer)?,
        Format::Yaml => json::yaml(&answer)?,
        Format::Name => format!("mesh/{}\n", clean(&answer.mesh)),
        Format::Table | Format::Wide => status::screen(&answer, look),
    };
    app.text(&text)?;
    match status::unhealthy(&answer) {
        None => Ok(()),
        Some(why) => Err(Failure::found(
            "unhealthy",
            format!("the mesh is unhealthy: {why}"),
            "start the missing nodes; ask another node with --endpoints to see whether this one is cut off",
        )),
    }
}
