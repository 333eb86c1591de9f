//! `mesh auth revoke-sessions`

use proto::v1::RevokeSessionsRequest;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, json},
};

/// Whose, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose sessions: the caller's own where nobody is named; anybody else's take mesh.admin
    #[arg(default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    principal: String,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    reason: String,
    /// Change ticket, for the audit trail
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    ticket: String,
}

/// Ends them on all nodes.
pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let Args {
        principal,
        reason,
        ticket,
    } = args;
    let request = RevokeSessionsRequest {
        principal,
        reason,
        ticket,
    };
    let answer = app.client()?.revoke_sessions(request).await?.message;
    let text = match app.format() {
        Format::Json => json::pretty(&answer)?,
        Format::Jsonl => json::line(&answer)?,
        Format::Yaml => json::yaml(&answer)?,
        Format::Name | Format::Table | Format::Wide => match answer.ended {
            1 => "1 session ended\n".to_owned(),
            ended => format!("{ended} sessions ended\n"),
        },
    };
    Ok(app.text(&text)?)
}
