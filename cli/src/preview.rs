//! What a dry run shows beside the record: every check, and what it takes to commit.

use api_client::{Error, Meta};
use prost::{Message, Name};
use proto::{
    json::{Json, dynamic},
    v1::{Preview, preview::check::Verdict},
};
use serde::Serialize;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, style},
};

/// The RPC's response with the member `preview`, as REST answers a dry run.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    record: Option<Json<'a>>,
    preview: Json<'a>,
}

/// Writes the answer of a dry run for programs to read: the response with its preview. False where the format is one for
/// people, or the server sent no preview.
pub fn document<M: Message + Name>(app: &mut App<'_>, message: &M, meta: &Meta) -> Result<bool, Failure> {
    let Some(preview) = &meta.preview else {
        return Ok(false);
    };
    let message = dynamic(message).map_err(unshowable)?;
    write(app, Some(Json(&message)), preview)
}

fn write(app: &mut App<'_>, record: Option<Json<'_>>, preview: &Preview) -> Result<bool, Failure> {
    let preview = dynamic(preview).map_err(unshowable)?;
    let preview = Json(&preview);
    let document = Document { record, preview };
    let text = match app.format() {
        Format::Json => json::document(&document)?,
        Format::Jsonl => json::document_line(&document)?,
        Format::Yaml => json::document_yaml(&document)?,
        Format::Name | Format::Table | Format::Wide => return Ok(false),
    };
    app.text(&text)?;
    Ok(true)
}

fn unshowable(error: impl std::fmt::Display) -> Failure {
    Failure::found("internal", format!("the preview cannot be shown: {error}"), "")
}

/// Shows the checks of a dry run that would take effect, where the format is one for people.
pub fn checks(app: &mut App<'_>, meta: &Meta) -> Result<(), Failure> {
    match &meta.preview {
        Some(preview) if matches!(app.format(), Format::Table | Format::Wide) => {
            let text = table(preview, app.streams.colour);
            Ok(app.text(&text)?)
        }
        Some(_) | None => Ok(()),
    }
}

/// Shows the checks of a dry run that was refused, before the refusal itself is said.
pub fn refused(app: &mut App<'_>, error: &Error) -> Result<(), Failure> {
    let Some(preview) = &error.problem().preview else {
        return Ok(());
    };
    if matches!(app.format(), Format::Table | Format::Wide) {
        app.line("it would be refused (dry run, nothing was changed)")?;
        let text = table(preview, app.streams.colour);
        return Ok(app.text(&text)?);
    }
    write(app, None, preview).map(drop)
}

/// One line for each check, then what else it takes.
fn table(preview: &Preview, colour: bool) -> String {
    let mut text = String::new();
    if !preview.checks.is_empty() {
        text.push_str("checks:\n");
    }
    for check in &preview.checks {
        let (word, paint) = match check.verdict() {
            Verdict::Passed => ("passed", style::GREEN),
            Verdict::Failed => ("FAILED", style::RED),
            Verdict::NotMade | Verdict::Unspecified => ("not made", style::YELLOW),
        };
        let word = style::paint(colour, paint, &format!("{word:<8}"));
        let values = match (check.measured.as_str(), check.limit.as_str(), check.detail.as_str()) {
            ("", "", "") => String::new(),
            ("", "", why) => format!(": {}", clean(why)),
            (measured, limit, _) => format!(": {}, limit {}", clean(measured), clean(limit)),
        };
        text.push_str(&format!("  {word} {}{values}\n", clean(&check.rule)));
    }
    for (at, step) in preview.steps.iter().enumerate() {
        if at == 0 {
            text.push_str("steps:\n");
        }
        text.push_str(&format!("  {} {}\n", at + 1, clean(&step.name)));
    }
    if !preview.confirm.is_empty() {
        text.push_str(&format!(
            "it has to be confirmed: --confirm {}\n",
            clean(&preview.confirm)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use proto::v1::preview::Check;

    use super::*;

    #[test]
    fn every_check_is_one_line_whatever_is_in_it() {
        let check = |verdict: Verdict, measured: &str, detail: &str| Check {
            rule: "the peer\nexists".into(),
            code: "not_found".into(),
            verdict: verdict.into(),
            measured: measured.into(),
            limit: if measured.is_empty() { "" } else { "1" }.into(),
            detail: detail.into(),
        };
        let preview = Preview {
            checks: vec![
                check(Verdict::Passed, "1", ""),
                check(Verdict::Failed, "0\u{1b}[2J", ""),
                check(Verdict::NotMade, "", "a check before it failed"),
                check(Verdict::Passed, "", ""),
            ],
            confirm: "edge-1".into(),
            ..Preview::default()
        };
        assert_eq!(
            table(&preview, false),
            "checks:\n  passed   the peer\\nexists: 1, limit 1\n  FAILED   the peer\\nexists: 0\\u{1b}[2J, limit 1\n  \
             not made the peer\\nexists: a check before it failed\n  passed   the peer\\nexists\nit has to be confirmed: \
             --confirm edge-1\n"
        );
    }
}
