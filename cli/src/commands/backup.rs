//! `mesh backup …`

mod save;
mod verify;

use std::path::Path;

use api_client::backup::{End, Header};
use clap::Subcommand;
use serde::Serialize;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, style, table},
};

/// The verbs of backups.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write the whole mesh to a file, as it is at one revision, while it goes on
    Save(save::Args),
    /// Check a backup: every byte, its digest and the audit chain in it. Needs no mesh
    Verify(verify::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Save(args) => save::run(app, args).await,
        Verb::Verify(args) => verify::run(app, args).await,
    }
}

/// What a backup is, as scripts read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    file: String,
    mesh: String,
    cluster: String,
    revision: u64,
    timeline: String,
    epoch: u64,
    feature_level: u32,
    floor: u64,
    created_at: String,
    digest: String,
    chain: String,
    rows: u64,
    bytes: u64,
    sha256: String,
    #[serde(flatten)]
    verified: Option<Verified>,
}

/// What is known of one that was verified.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    verified: bool,
    peers: u64,
    operations: u64,
    clusters: u64,
    first_revision: u64,
    audit_records: u64,
    anchored: bool,
    checkpoints: u64,
}

impl Document {
    fn new(file: &Path, header: &Header, end: End) -> Self {
        let created = i64::try_from(header.created_wall_ms).unwrap_or(i64::MAX);
        Self {
            file: file.display().to_string(),
            mesh: header.mesh.to_string(),
            cluster: header.cluster.to_string(),
            revision: header.position.revision.0,
            timeline: header.position.timeline.to_string(),
            epoch: header.epoch.0,
            feature_level: header.feature_level,
            floor: header.floor.0,
            created_at: jiff::Timestamp::from_millisecond(created)
                .map_or_else(|_| "-".to_owned(), |time| time.to_string()),
            digest: header.digest.to_string(),
            chain: header.chain.to_string(),
            rows: end.rows,
            bytes: end.bytes,
            sha256: end.sha256.to_string(),
            verified: None,
        }
    }

    fn lines(&self) -> Vec<(&'static str, table::Text)> {
        let mut lines: Vec<(&str, table::Text)> = vec![
            ("file", clean(&self.file).into()),
            ("mesh", clean(&self.mesh).into()),
            ("cluster", clean(&self.cluster).into()),
            ("revision", self.revision.to_string().into()),
            ("timeline", self.timeline.as_str().into()),
            ("epoch", self.epoch.to_string().into()),
            ("feature level", self.feature_level.to_string().into()),
            ("history from", self.floor.to_string().into()),
            ("created", self.created_at.as_str().into()),
            ("rows", self.rows.to_string().into()),
            ("bytes", self.bytes.to_string().into()),
            ("digest", self.digest.as_str().into()),
            ("sha256", self.sha256.as_str().into()),
        ];
        if let Some(verified) = &self.verified {
            let begins = if verified.anchored {
                ""
            } else {
                ", where older records were pruned"
            };
            lines.extend([
                ("peers", verified.peers.to_string().into()),
                ("operations", verified.operations.to_string().into()),
                ("clusters", verified.clusters.to_string().into()),
                (
                    "audit",
                    format!(
                        "{} records, revisions {} to {}{begins}",
                        verified.audit_records, verified.first_revision, self.revision
                    )
                    .into(),
                ),
                (
                    "checkpoints",
                    format!(
                        "{} match the chain; their signatures are checked by `mesh audit verify`",
                        verified.checkpoints
                    )
                    .into(),
                ),
            ]);
        }
        lines
    }
}

/// Shows a backup under a headline.
fn show(app: &mut App<'_>, headline: &str, document: &Document) -> Result<(), Failure> {
    let text = match app.format() {
        Format::Json => json::document(document)?,
        Format::Jsonl => json::document_line(document)?,
        Format::Yaml => json::document_yaml(document)?,
        Format::Name => format!("backup/{}\n", document.revision),
        Format::Table | Format::Wide => {
            let colour = app.streams.colour;
            format!(
                "{}\n{}",
                style::paint(colour, style::GREEN, headline),
                table::details(&document.lines(), colour)
            )
        }
    };
    Ok(app.text(&text)?)
}

/// `12.3 MiB`, for people who wait.
fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1024 * 1024);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
