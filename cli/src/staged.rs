//! A change that waits for a second person: it was taken, so the command went well, and nothing has been changed yet.

use api_client::Error;

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, Show as _, clean, time::rfc3339},
};

/// Shows what the change waits as, and who can approve it.
pub fn show(app: &mut App<'_>, error: &Error) -> Result<(), Failure> {
    let Some(approval) = error.approval() else {
        return Ok(());
    };
    if app.format() != Format::Table {
        return listing::one(app, approval);
    }
    let earlier = if error.replayed() {
        " (asked by an earlier attempt with this key)"
    } else {
        ""
    };
    let line = format!(
        "{} {} waits for approval as {}, until {}; nothing has been changed{earlier}",
        approval.action,
        approval.target,
        approval.name(),
        rfc3339(approval.expires_at.as_ref())
    );
    app.line(&clean(&line))?;
    if approval.hint.is_empty() {
        return Ok(());
    }
    Ok(app.line(&clean(&approval.hint))?)
}
