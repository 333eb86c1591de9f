//! `mesh backup verify`

use std::{fs::File, path::PathBuf};

use api_client::backup;

use super::{Document, Verified, mebibytes, show};
use crate::{app::App, failure::Failure, progress};

/// Which file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The backup
    file: PathBuf,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let file = File::open(&args.file).map_err(|error| {
        Failure::usage(
            format!("{} cannot be read: {error}", args.file.display()),
            "name a file that `mesh backup save` wrote",
        )
    })?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let bar = progress::line(app);
    let shown = bar.clone();
    // It blocks; an interrupt is to be heard meanwhile.
    let checked = tokio::task::spawn_blocking(move || {
        backup::verify(file, |bytes| {
            shown.set_message(format!("checked {} of {}", mebibytes(bytes), mebibytes(length)));
        })
    })
    .await;
    bar.finish_and_clear();
    let contents = checked.map_err(|error| Failure::Output(std::io::Error::other(error)))??;
    let mut document = Document::new(&args.file, &contents.header, contents.end);
    document.verified = Some(Verified {
        verified: true,
        peers: contents.peers,
        operations: contents.operations,
        clusters: contents.clusters,
        first_revision: contents.first_revision.0,
        audit_records: contents.revisions,
        anchored: contents.anchored,
        checkpoints: contents.checkpoints,
    });
    show(app, "the backup is whole and holds together", &document)
}
