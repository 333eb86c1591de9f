//! `mesh members invite`

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use api_client::methods::InviteMember;
use proto::v1::{Invitation, InviteMemberRequest};

use crate::{
    app::App,
    change::ChangeArgs,
    failure::Failure,
    output::{Format, clean, json, time},
};

/// Which node, and for how long.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The number that the new node shall have [default: the lowest that was never used]
    #[arg(value_name = "NODE", value_parser = super::number())]
    node: Option<u64>,
    /// How long the token is good
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = crate::values::duration, allow_hyphen_values = true)]
    ttl: Duration,
    /// Write the token to this new file, readable only by you, instead of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    // Before anybody is invited: a token that could not be written would be lost.
    let path = args.out.as_deref().filter(|_| !args.change.dry_run);
    let file = path.map(make).transpose()?;
    let request = InviteMemberRequest {
        id: args.node.unwrap_or(0),
        ttl_ms: u64::try_from(args.ttl.as_millis()).unwrap_or(u64::MAX),
        reason: args.change.reason.clone(),
        ticket: args.change.ticket.clone(),
    };
    let options = args.change.options();
    let invited = match app.client()?.call::<InviteMember>(request, options).await {
        Ok(answer) => answer.message,
        Err(error) => {
            if let Some(path) = path {
                // It is empty, and of no use to anybody.
                drop(std::fs::remove_file(path));
            }
            return Err(error.into());
        }
    };
    if args.change.dry_run && matches!(app.format(), Format::Table | Format::Wide) {
        let line = format!("node/{} would be invited (dry run, nothing was changed)", invited.node);
        return Ok(app.line(&line)?);
    }
    let Some((mut file, path)) = file.zip(path) else {
        return show(app, &invited);
    };
    let written = writeln!(file, "{}", invited.token).and_then(|()| file.sync_all());
    written.map_err(|error| unwritable(path, &error))?;
    match app.format() {
        Format::Table | Format::Wide => {
            let until = time::rfc3339(invited.expires_at.as_ref());
            let line = format!(
                "node/{} invited until {until}; its token is in {}",
                invited.node,
                clean(&path.display().to_string())
            );
            Ok(app.line(&line)?)
        }
        // The token is in the file, and nowhere else.
        Format::Json | Format::Yaml | Format::Jsonl | Format::Name => {
            let shown = Invitation {
                token: String::new(),
                ..invited
            };
            show(app, &shown)
        }
    }
}

/// The token itself for people, so that it can be piped; the whole answer for programs.
fn show(app: &mut App<'_>, invited: &Invitation) -> Result<(), Failure> {
    let text = match app.format() {
        Format::Json => json::pretty(invited)?,
        Format::Jsonl => json::line(invited)?,
        Format::Yaml => json::yaml(invited)?,
        Format::Name => format!("node/{}\n", invited.node),
        Format::Table | Format::Wide => {
            let until = time::rfc3339(invited.expires_at.as_ref());
            app.tell(&format!(
                "node {} is invited until {until}; this token is shown only once",
                invited.node
            ));
            format!("{}\n", clean(&invited.token))
        }
    };
    Ok(app.text(&text)?)
}

fn make(path: &Path) -> Result<std::fs::File, Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::found(
            "already_exists",
            format!("{shown} is there already"),
            "name another file, or remove it: whoever was invited with it needs it",
        ),
        _ => Failure::usage(
            format!("{shown} cannot be written: {error}"),
            "name a file in a directory that you may write to",
        ),
    }
}
