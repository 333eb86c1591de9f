//! `mesh backup save`

use std::path::PathBuf;

use api_client::{Error, backup::Receiver};
use proto::v1::SaveBackupRequest;

use super::{Document, mebibytes, show};
use crate::{app::App, failure::Failure, part::Part, progress, values::Freshness};

/// Where to, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write. Until it is whole it is called FILE.part
    file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    reason: String,
    /// Change ticket, for the audit trail
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    ticket: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    // A place to write to before anything is asked for: taking a backup is recorded.
    let mut part = Part::create(&args.file, args.force)?;
    let bar = progress::line(app);
    let request = SaveBackupRequest {
        reason: args.reason,
        ticket: args.ticket,
    };
    let freshness = app.freshness();
    let begun = client.save_backup(request, Some(freshness.into())).await;
    let mut stream = begun.map_err(|error| without_quorum(error, freshness))?;
    let mut receiver = Receiver::new();
    let mut bytes = 0;
    while let Some(chunk) = stream.next().await.map_err(broke_off)? {
        receiver.take(&chunk.data)?;
        part.write(&chunk.data)?;
        bytes += chunk.data.len() as u64;
        let revision = receiver.header().map_or(0, |header| header.position.revision.0);
        bar.set_message(format!("revision {revision}: {}", mebibytes(bytes)));
    }
    let (header, end) = receiver.finish()?;
    part.finish()?;
    bar.finish_and_clear();
    show(app, "the backup is whole", &Document::new(&args.file, &header, end))
}

/// Where nobody leads, a node's own state is still to be had.
fn without_quorum(error: Error, asked: Freshness) -> Failure {
    let nobody = matches!(error.code(), "unavailable" | "not_leader" | "deadline_exceeded");
    if !nobody || asked == Freshness::Local {
        return error.into();
    }
    let more = "; where there is no quorum, --consistency local takes what one node has";
    Failure::Problem(error.with_detail(more))
}

/// A download does not go on where it broke off: every backup is of a revision of its own.
fn broke_off(error: Error) -> Failure {
    let error = error.with_detail("; nothing is kept of what had arrived");
    Failure::Problem(error.or_hint("run the command again, at another node if need be"))
}
