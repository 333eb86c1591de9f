//! `mesh audit verify`

use std::{io::Read as _, path::PathBuf, time::Duration};

use api_client::audit::{self, Report};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::v1::{AuditCheckpoint, ListAuditCheckpointsResponse};
use serde::Serialize;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, style, table},
};

/// A file of checkpoints is never larger: each is a few KiB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What to check against.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Check also against checkpoints kept outside of the mesh: a JSON file that --export wrote, or the response of
    /// GET /meshkit/audit/checkpoints; may be given several times
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
    /// Write the newest checkpoint that holds to a file, to check against later
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let ca = app.context()?.read_ca()?;
    let client = app.client()?;
    let mut exported = Vec::new();
    for path in &args.checkpoints {
        exported.extend(read(path)?);
    }
    let bar = progress(app);
    let result = audit::verify(&client, ca.as_deref(), &exported, |checked, last| {
        bar.set_message(format!("checked {checked} of {last}"));
    })
    .await;
    bar.finish_and_clear();
    let report = result?;
    if let Some(path) = &args.export {
        export(path, &report)?;
    }
    show(app, &report)
}

fn progress(app: &App<'_>) -> ProgressBar {
    if !app.streams.err_is_terminal {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// One checkpoint, or a page of them.
fn read(path: &PathBuf) -> Result<Vec<AuditCheckpoint>, Failure> {
    let shown = path.display();
    let cannot = |why: String| {
        Failure::usage(
            format!("checkpoint file {shown}: {why}"),
            "give a file that `mesh audit verify --export` wrote",
        )
    };
    let file = std::fs::File::open(path).map_err(|error| cannot(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cannot(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(cannot("larger than 16 MiB".to_owned()));
    }
    if let Ok(page) = proto::json::from_slice::<ListAuditCheckpointsResponse>(&bytes) {
        return Ok(page.items);
    }
    let one = proto::json::from_slice::<AuditCheckpoint>(&bytes).map_err(|error| cannot(error.to_string()))?;
    Ok(vec![one])
}

fn export(path: &PathBuf, report: &Report) -> Result<(), Failure> {
    let Some(checkpoint) = &report.newest_checkpoint else {
        return Err(Failure::found(
            "not_found",
            "the trail holds, but has no checkpoint to export yet",
            "try again later: the leader signs one every so often",
        ));
    };
    std::fs::write(path, json::pretty(checkpoint)?).map_err(|error| {
        Failure::usage(
            format!("{} cannot be written: {error}", path.display()),
            "name another file",
        )
    })
}

/// The report as scripts read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    verified: bool,
    mesh: &'a str,
    first_revision: u64,
    last_revision: u64,
    records: u64,
    head: &'a str,
    anchored: bool,
    checkpoints: u64,
    covered_through: Option<u64>,
    signatures_checked: bool,
    exported_matched: u64,
    exported_pruned: u64,
}

fn show(app: &mut App<'_>, report: &Report) -> Result<(), Failure> {
    let document = Document {
        verified: true,
        mesh: &report.mesh,
        first_revision: report.first_revision,
        last_revision: report.last_revision,
        records: report.records,
        head: &report.head,
        anchored: report.anchored,
        checkpoints: report.checkpoints,
        covered_through: report.covered_through,
        signatures_checked: report.signatures_checked,
        exported_matched: report.exported_matched,
        exported_pruned: report.exported_pruned,
    };
    let text = match app.format() {
        Format::Json => json::document(&document)?,
        Format::Jsonl => json::document_line(&document)?,
        Format::Yaml => json::document_yaml(&document)?,
        Format::Name => format!("audit/{}\n", report.last_revision),
        Format::Table | Format::Wide => people(app, report),
    };
    app.text(&text)?;
    if !report.signatures_checked {
        app.streams
            .note("warning: no CA is known, so no signature was checked; hashes only");
    }
    Ok(())
}

fn people(app: &App<'_>, report: &Report) -> String {
    let covered = match report.covered_through {
        Some(revision) => format!(
            "signed through revision {revision} by {} checkpoints",
            report.checkpoints + report.exported_matched
        ),
        None => "no signed checkpoint yet".to_owned(),
    };
    let begins = match (report.anchored, report.first_revision) {
        (true, 1) => "at the mesh's beginning",
        (true, _) => "behind a signed checkpoint",
        (false, _) => "where older records were pruned",
    };
    let mut lines: Vec<(&str, table::Text)> = vec![
        ("mesh", clean(&report.mesh).into()),
        (
            "records",
            format!(
                "{}, revisions {} to {}",
                report.records, report.first_revision, report.last_revision
            )
            .into(),
        ),
        ("begins", begins.into()),
        ("head", report.head.as_str().into()),
        ("signatures", covered.into()),
    ];
    if report.exported_matched + report.exported_pruned > 0 {
        let text = format!(
            "{} match, {} older than the trail",
            report.exported_matched, report.exported_pruned
        );
        lines.push(("exported", text.into()));
    }
    let colour = app.streams.colour;
    format!(
        "{}\n{}",
        style::paint(colour, style::GREEN, "the audit trail holds"),
        table::details(&lines, colour)
    )
}
