//! Lists: pages, limits, and every output format.

use std::{collections::BTreeSet, future::Future};

use api_client::Answer;
use clap::Args;
use prost::{Message, Name};
use proto::v1::{
    Approval, AuditCheckpoint, AuditRecord, Cluster, ConfigVersion, ListApprovalsResponse,
    ListAuditCheckpointsResponse, ListAuditRecordsResponse, ListClustersResponse, ListConfigVersionsResponse,
    ListNamespacesResponse, ListOperationsResponse, ListPeersResponse, ListPresenceResponse, ListShardHistoryResponse,
    ListShardsResponse, Namespace, Operation, Peer, Presence, Shard, list_shard_history_response,
};

use crate::{
    app::App,
    failure::Failure,
    output::{Format, Show, clean, json, table},
};

/// The largest page that the server gives.
pub const PAGE_MAX: u32 = 1_000;

/// Paging flags.
#[derive(Debug, Clone, Args)]
pub struct Page {
    /// At most this many items [default: all; with -o json and yaml one page of 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Continue behind an earlier page: its nextCursor
    #[arg(long, value_name = "CURSOR", default_value = "", hide_default_value = true)]
    pub cursor: String,
}

impl Page {
    /// Refuses flags of a page beside `--watch`, which shows all there is.
    pub fn unwatched(&self) -> Result<(), Failure> {
        if self.limit.is_none() && self.cursor.is_empty() {
            return Ok(());
        }
        Err(Failure::usage(
            "--limit and --cursor have no meaning with --watch",
            "leave them out: a watch begins with all there is; `--for` ends it",
        ))
    }
}

/// The response of a list RPC.
pub trait Listing: Message + Name {
    /// What is listed.
    type Item: Show;
    /// The items of this page.
    fn items(&self) -> &[Self::Item];
    /// Empty on the last page.
    fn next_cursor(&self) -> &str;
}

macro_rules! listing {
    ($($response:ty: $item:ty),*) => {
        $(impl Listing for $response {
            type Item = $item;
            fn items(&self) -> &[$item] {
                &self.items
            }
            fn next_cursor(&self) -> &str {
                &self.next_cursor
            }
        })*
    };
}

listing!(
    ListPeersResponse: Peer,
    ListOperationsResponse: Operation,
    ListApprovalsResponse: Approval,
    ListAuditRecordsResponse: AuditRecord,
    ListAuditCheckpointsResponse: AuditCheckpoint,
    ListClustersResponse: Cluster,
    ListConfigVersionsResponse: ConfigVersion,
    ListNamespacesResponse: Namespace,
    ListShardsResponse: Shard,
    ListShardHistoryResponse: list_shard_history_response::Entry,
    ListPresenceResponse: Presence
);

/// Cursors that were followed. A node that gives one of them again would be asked for ever.
#[derive(Debug, Default)]
struct Followed(BTreeSet<String>);

impl Followed {
    /// The cursor of the next page; none after the last.
    fn next<L: Listing>(&mut self, page: &L) -> Result<Option<String>, Failure> {
        let cursor = page.next_cursor();
        if cursor.is_empty() {
            return Ok(None);
        }
        if !self.0.insert(cursor.to_owned()) {
            return Err(Failure::found(
                "internal",
                "the listing does not go on: a page leads back to one before it",
                "ask another node with --endpoints",
            ));
        }
        Ok(Some(cursor.to_owned()))
    }
}

/// Every page of a list, from its beginning, with `fetch(limit, cursor)`.
pub async fn pages<L, F>(fetch: impl Fn(u32, String) -> F, mut each: impl FnMut(L)) -> Result<(), Failure>
where
    L: Listing,
    F: Future<Output = api_client::Result<Answer<L>>>,
{
    let mut followed = Followed::default();
    let mut cursor = Some(String::new());
    while let Some(at) = cursor {
        let page = fetch(PAGE_MAX, at).await?.message;
        cursor = followed.next(&page)?;
        each(page);
    }
    Ok(())
}

/// Lists with `fetch(limit, cursor)`. JSON and YAML show one response unchanged; the other formats follow the pages
/// up to the limit, and hold one page at a time.
pub async fn list<L, F>(app: &mut App<'_>, page: &Page, fetch: impl Fn(u32, String) -> F) -> Result<(), Failure>
where
    L: Listing,
    F: Future<Output = api_client::Result<Answer<L>>>,
{
    let format = app.format();
    if matches!(format, Format::Json | Format::Yaml) {
        let response = fetch(page.limit.unwrap_or(PAGE_MAX), page.cursor.clone())
            .await?
            .message;
        let text = if format == Format::Json {
            json::pretty(&response)?
        } else {
            json::yaml(&response)?
        };
        app.text(&text)?;
        if page.limit.is_none() && !response.next_cursor().is_empty() {
            let shown = response.items().len();
            app.streams.note(&format!(
                "note: {shown} items shown, there are more: continue with --cursor {}",
                clean(response.next_cursor())
            ));
        }
        return Ok(());
    }
    let mut left = page.limit.unwrap_or(u32::MAX);
    let mut cursor = page.cursor.clone();
    let mut columns = Columns::default();
    let mut followed = Followed(BTreeSet::from([cursor.clone()]));
    loop {
        let response = fetch(left.min(PAGE_MAX), cursor.clone()).await?.message;
        let items = response.items();
        // A page may be empty and still not be the last: the server looks at a bounded number of records for each.
        if response.next_cursor().is_empty() || !items.is_empty() {
            write_page(app, items, &mut columns)?;
        }
        left = left.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX));
        let Some(next) = followed.next(&response)? else {
            return Ok(());
        };
        cursor = next;
        if left == 0 {
            app.tell(&format!("there are more: continue with --cursor {cursor}"));
            return Ok(());
        }
        // What is there already can be read meanwhile, and a closed pipe ends the listing.
        app.streams.flush()?;
    }
}

/// What was written of a table so far.
#[derive(Debug, Default)]
struct Columns {
    /// How wide each is; empty before the first page.
    widths: Vec<usize>,
    begun: bool,
}

/// Writes items that are not a response of their own.
pub fn write<T: Show>(app: &mut App<'_>, items: &[T]) -> Result<(), Failure> {
    write_page(app, items, &mut Columns::default())
}

/// Writes the next items of a list. The header of the first page stands for all, and columns only ever get wider.
fn write_page<T: Show>(app: &mut App<'_>, items: &[T], columns: &mut Columns) -> Result<(), Failure> {
    let look = app.look();
    let first = !std::mem::replace(&mut columns.begun, true);
    match app.format() {
        Format::Name => {
            for item in items {
                app.line(&clean(&item.name()))?;
            }
        }
        Format::Jsonl => {
            for item in items {
                app.text(&json::line(item)?)?;
            }
        }
        Format::Table | Format::Wide | Format::Json | Format::Yaml => {
            if items.is_empty() {
                if first {
                    app.remark("nothing found");
                }
                return Ok(());
            }
            let rows = items.iter().map(|item| item.row(look));
            let text = table::page(&T::header(look.wide), rows, &mut columns.widths, look.colour);
            let text = if first {
                text.as_str()
            } else {
                text.split_once('\n').map_or("", |(_, rows)| rows)
            };
            app.text(text)?;
        }
    }
    Ok(())
}

/// Shows one record: its details, or the response unchanged.
pub fn one<T: Show>(app: &mut App<'_>, item: &T) -> Result<(), Failure> {
    let look = app.look();
    let text = match app.format() {
        Format::Json => json::pretty(item)?,
        Format::Jsonl => json::line(item)?,
        Format::Yaml => json::yaml(item)?,
        Format::Name => format!("{}\n", clean(&item.name())),
        Format::Table | Format::Wide => {
            let mut lines = item.details(look);
            if !look.wide {
                lines.retain(|(_, value)| !value.is_absent());
            }
            table::details(&lines, look.colour)
        }
    };
    Ok(app.text(&text)?)
}
