//! `mesh auth can-i`

use proto::v1::CanIRequest;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, style, table},
};

/// What the caller would like to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An action, such as peers.drain, or a scope, such as mesh.operate
    what: String,
}

/// Answers yes or no, and fails with exit code 1 on no.
pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let answer = app
        .client()?
        .can_i(CanIRequest {
            what: args.what.clone(),
        })
        .await?
        .message;
    let colour = app.streams.colour;
    let word = match answer.allowed {
        true => style::paint(colour, style::GREEN, "yes"),
        false => style::paint(colour, style::RED, "no"),
    };
    let text = match app.format() {
        Format::Json => json::pretty(&answer)?,
        Format::Jsonl => json::line(&answer)?,
        Format::Yaml => json::yaml(&answer)?,
        Format::Name | Format::Table => format!("{word}\n"),
        Format::Wide => {
            let lines = [
                ("principal", table::Text::new(&answer.principal)),
                ("method", table::Text::new(&answer.method)),
                ("scopes", table::Text::new(&answer.scopes.join(", "))),
                ("needed", table::Text::new(&answer.needed)),
            ];
            format!("{word}\n{}", table::details(&lines, colour))
        }
    };
    app.text(&text)?;
    if answer.allowed {
        return Ok(());
    }
    let held = if answer.scopes.is_empty() {
        "no scope".to_owned()
    } else {
        answer.scopes.join(", ")
    };
    Err(Failure::found(
        "denied",
        format!(
            "{} may not {}: it needs {}, held is {held}",
            clean(&answer.principal),
            clean(&args.what),
            clean(&answer.needed)
        ),
        "use a credential with that scope",
    ))
}
