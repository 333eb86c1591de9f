//! `mesh audit verify`

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use api_client::audit::{self, Report};
use proto::v1::{AuditCheckpoint, ListAuditCheckpointsResponse};
use serde::Serialize;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, style, table},
    part::Part,
    progress,
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
    /// Check this export instead of the mesh, which is not asked for anything; signatures by the CA of --ca or of the
    /// context
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if let Some(path) = &args.export {
        replaceable(path)?;
    }
    let mut exported = Vec::new();
    for path in &args.checkpoints {
        exported.extend(read(path)?);
    }
    let ca = match (&args.file, app.context()) {
        (_, Ok(context)) => context.read_ca()?,
        // Without a context there is no CA, which is said below.
        (Some(_), Err(_)) => None,
        (None, Err(failure)) => return Err(failure),
    };
    let bar = progress::line(app);
    let show_progress = |checked, last| bar.set_message(format!("checked {checked} of {last}"));
    let result = match &args.file {
        None => audit::verify(&app.client()?, ca.as_deref(), &exported, show_progress).await,
        Some(file) => {
            let open = || File::open(file).map(BufReader::new);
            audit::verify_export(open, ca.as_deref(), &exported, show_progress).map_err(of_a_file)
        }
    };
    bar.finish_and_clear();
    let report = result?;
    if let Some(path) = &args.export {
        export(path, &report)?;
    }
    show(app, &report)
}

/// What to do about a file that does not hold is not what to do about a mesh.
fn of_a_file(error: api_client::Error) -> api_client::Error {
    match error.code() {
        "audit_broken" => api_client::Error::local(
            "audit_broken",
            tonic::Code::DataLoss,
            error.detail(),
            "keep the file; check the mesh itself (`mesh audit verify`), and export the same time once more to compare",
        ),
        _ => error,
    }
}

/// One checkpoint, or a page of them.
fn read(path: &Path) -> Result<Vec<AuditCheckpoint>, Failure> {
    let shown = path.display();
    let cannot = |why: String| {
        Failure::usage(
            format!("checkpoint file {shown}: {why}"),
            "give a file that `mesh audit verify --export` wrote",
        )
    };
    let file = File::open(path).map_err(|error| cannot(error.to_string()))?;
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

fn export(path: &Path, report: &Report) -> Result<(), Failure> {
    let Some(checkpoint) = &report.newest_checkpoint else {
        return Err(Failure::found(
            "not_found",
            "the trail holds, but has no checkpoint to export yet",
            "try again later: the leader signs one every so often",
        ));
    };
    let mut file = Part::create(path, true)?;
    file.write(json::pretty(checkpoint)?.as_bytes())?;
    file.finish()
}

/// An earlier checkpoint is replaced, as whoever keeps the newest one wants; nothing else is.
fn replaceable(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() || read(path).is_ok() {
        return Ok(());
    }
    Err(Failure::found(
        "already_exists",
        format!("{} is there already, and is no checkpoint", path.display()),
        "name another file",
    ))
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
        Some(revision) => match report.checkpoints + report.exported_matched {
            1 => format!("signed through revision {revision} by 1 checkpoint"),
            checkpoints => format!("signed through revision {revision} by {checkpoints} checkpoints"),
        },
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
