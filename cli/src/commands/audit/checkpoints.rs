//! `mesh audit checkpoints`

use std::path::{Path, PathBuf};

use proto::v1::{ListAuditCheckpointsRequest, ListAuditCheckpointsResponse};

use crate::{app::App, failure::Failure, listing, output::json};

/// Checkpoints asked for at once.
const PAGE: u32 = 1_000;

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
    let mut all = list(PAGE, String::new()).await?.message;
    while !all.next_cursor.is_empty() {
        let page = list(PAGE, std::mem::take(&mut all.next_cursor)).await?.message;
        all.items.extend(page.items);
        all.next_cursor = page.next_cursor;
    }
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
