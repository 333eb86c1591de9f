//! `mesh auth can-i`

use proto::v1::{CanIRequest, ListActionsRequest, ListActionsResponse};

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, style, table},
};

/// What the caller would like to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An action, such as peers.drain, or a scope, such as mesh.operate
    #[arg(required_unless_present = "list")]
    what: Option<String>,
    /// Everything that there is to do, and whether the caller may
    #[arg(long, conflicts_with = "what")]
    list: bool,
}

/// Answers yes or no, and fails with exit code 1 on no.
pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let Some(what) = args.what.filter(|_| !args.list) else {
        return list(app).await;
    };
    let request = CanIRequest { what: what.clone() };
    let answer = app.client()?.can_i(request).await?.message;
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
            clean(&what),
            clean(&answer.needed)
        ),
        "use a credential with that scope",
    ))
}

async fn list(app: &mut App<'_>) -> Result<(), Failure> {
    let answer = app.client()?.list_actions(ListActionsRequest {}).await?.message;
    let text = match app.format() {
        Format::Json => json::pretty(&answer)?,
        Format::Jsonl => json::line(&answer)?,
        Format::Yaml => json::yaml(&answer)?,
        Format::Name => {
            let allowed = answer.actions.iter().filter(|action| action.allowed);
            allowed.map(|action| format!("{}\n", clean(&action.action))).collect()
        }
        format @ (Format::Table | Format::Wide) => rows(app, &answer, format == Format::Wide),
    };
    Ok(app.text(&text)?)
}

fn rows(app: &App<'_>, answer: &ListActionsResponse, wide: bool) -> String {
    let mut header = vec!["action", "allowed", "needed"];
    if wide {
        header.extend(["mutation", "rest"]);
    }
    let word = |yes| if yes { "yes" } else { "no" };
    let rows = answer.actions.iter().map(|action| {
        let allowed = table::Text::from(word(action.allowed));
        let style = if action.allowed { style::GREEN } else { style::RED };
        let mut row = vec![
            table::Text::new(&action.action),
            allowed.styled(style),
            table::Text::new(&action.needed),
        ];
        if wide {
            row.extend([table::Text::from(word(action.mutation)), table::Text::new(&action.rest)]);
        }
        row
    });
    table::rows(&header, rows, app.streams.colour)
}
