//! `mesh audit export`

use std::path::PathBuf;

use api_client::audit::{Export, Range};
use serde::Serialize;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, clean, json, style, table},
    part::Part,
    progress,
    values::moment,
};

/// Which part of the trail, and where to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to write, as JSON lines. Until it is whole it is called FILE.part
    file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
    /// Only what was done at or after this time: 2026-01-31T12:00:00Z, or 2h for two hours ago
    #[arg(long, alias = "since", value_name = "TIME", value_parser = moment)]
    from: Option<prost_types::Timestamp>,
    /// Only what was done before this time
    #[arg(long, alias = "until", value_name = "TIME", value_parser = moment)]
    to: Option<prost_types::Timestamp>,
    /// Only revisions above this: the last of an earlier export
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    after_revision: u64,
}

/// What was written, as scripts read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    file: String,
    records: u64,
    first_revision: u64,
    last_revision: u64,
    bytes: u64,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut part = Part::create(&args.file, args.force)?;
    let bar = progress::line(app);
    let range = Range {
        from: args.from,
        to: args.to,
        after_revision: args.after_revision,
    };
    let mut export = Export::begin(&client, range).await?;
    let mut bytes = 0;
    while let Some(lines) = export.next().await? {
        part.write(lines.as_bytes())?;
        bytes += lines.len() as u64;
        let (revision, upto) = export.progress();
        bar.set_message(format!("revision {revision} of {upto}"));
    }
    part.finish()?;
    bar.finish_and_clear();
    let (first_revision, last_revision) = export.revisions();
    let document = Document {
        file: args.file.display().to_string(),
        records: export.records(),
        first_revision,
        last_revision,
        bytes,
    };
    show(app, &document)
}

fn show(app: &mut App<'_>, document: &Document) -> Result<(), Failure> {
    let text = match app.format() {
        Format::Json => json::document(document)?,
        Format::Jsonl => json::document_line(document)?,
        Format::Yaml => json::document_yaml(document)?,
        Format::Name => format!("audit/{}\n", document.last_revision),
        Format::Table | Format::Wide => {
            let colour = app.streams.colour;
            let records = format!(
                "{}, revisions {} to {}",
                document.records, document.first_revision, document.last_revision
            );
            let lines: Vec<(&str, table::Text)> = vec![
                ("file", clean(&document.file).into()),
                ("records", records.into()),
                ("bytes", document.bytes.to_string().into()),
            ];
            format!(
                "{}\n{}",
                style::paint(colour, style::GREEN, "the export is whole"),
                table::details(&lines, colour)
            )
        }
    };
    Ok(app.text(&text)?)
}
