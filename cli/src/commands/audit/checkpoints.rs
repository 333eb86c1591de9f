//! `mesh audit checkpoints`

use std::path::{Path, PathBuf};

use proto::v1::{ListAuditCheckpointsRequest, ListAuditCheckpointsResponse};

use crate::{app::App, failure::Failure, listing, output::json};

/// Which checkpoints, and where to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write all of them to a file, for `mesh audit verify --checkpoint FILE`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["limit", "cursor"])]
    out: Option<PathBuf>,
    #[command(flatten)]
    page: listing::Page,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let list = |limit, cursor| client.list_audit_checkpoints(ListAuditCheckpointsRequest { limit, cursor });
    let Some(path) = &args.out else {
        return listing::list(app, &args.page, list).await;
    };
    let mut all: Option<ListAuditCheckpointsResponse> = None;
    listing::pages(list, |page: ListAuditCheckpointsResponse| match &mut all {
        Some(all) => all.items.extend(page.items),
        None => all = Some(page),
    })
    .await?;
    let mut all = all.unwrap_or_default();
    all.next_cursor.clear();
    write(path, &all)?;
    app.line(&format!(
        "{} checkpoints written to {}",
        all.items.len(),
        path.display()
    ))?;
    Ok(())
}

fn write(path: &Path, all: &ListAuditCheckpointsResponse) -> Result<(), Failure> {
    std::fs::write(path, json::pretty(all)?).map_err(|error| {
        Failure::usage(
            format!("{} cannot be written: {error}", path.display()),
            "name another file",
        )
    })
}
