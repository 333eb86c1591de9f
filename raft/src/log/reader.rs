//! Reads of the log: its end from memory, the rest from disk.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use openraft::entry::RaftEntry;
use openraft::storage::RaftLogReader;
use parking_lot::Mutex;

use crate::blocking::Threads;
use crate::engine::{Engine, EngineError, Row, Table};
use crate::fatal::FatalLatch;
use crate::log::key;
use crate::log::row::LogEntry;
use crate::log::tail::Tail;
use crate::types::{TypeConfig, Vote};

/// Rows taken from the engine in one call.
const SCAN_ROWS: usize = 1024;

/// Reads the log. Cloning shares it.
#[derive(Clone)]
pub struct LogReader {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) tail: Arc<Mutex<Tail>>,
    pub(crate) threads: Threads,
    pub(crate) fatal: FatalLatch,
    pub(crate) read_bytes: usize,
}

impl LogReader {
    /// Entries of `from..to`, the first of at most `bytes_max` (but at least one) if that is
    /// given.
    async fn read(&self, from: u64, to: u64, bytes_max: Option<usize>) -> io::Result<Vec<LogEntry>> {
        let (first, memory_from, mut memory) = {
            let tail = self.tail.lock();
            let first = tail.first_index().max(from);
            let (memory_from, memory) = tail.read(first, to);
            (first, memory_from, memory)
        };
        let mut entries = Vec::new();
        if first < memory_from {
            let reader = self.clone();
            let budget = bytes_max.unwrap_or(usize::MAX);
            entries = self
                .threads
                .run(move || reader.read_disk(first, memory_from, budget))
                .await?
                .map_err(|e| {
                    self.fatal.engine(&e);
                    io::Error::from(e)
                })?;
        }
        let joined = entries
            .last()
            .map_or(first >= memory_from, |last| last.index() + 1 == memory_from);
        if joined || self.tail.lock().first_index() >= memory_from {
            entries.append(&mut memory);
        }
        if let Some(bytes_max) = bytes_max {
            let mut bytes = 0;
            let fits = entries.iter().take_while(|entry| {
                bytes += entry.size();
                bytes <= bytes_max
            });
            let keep = fits.count().max(1);
            entries.truncate(keep);
        }
        Ok(entries)
    }

    /// Rows `from..to`, until `bytes_max` is passed. Entries that were purged since are left out.
    fn read_disk(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>, EngineError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        while next < to && bytes < bytes_max {
            let rows = self.engine.scan(Table::Log, &key(next), &key(to), SCAN_ROWS)?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let entry = decode(row)?;
                let index = entry.index();
                if index != next && !self.purged_meanwhile(index) {
                    return Err(missing(next, index));
                }
                bytes += entry.size();
                entries.push(entry);
                next = index + 1;
                if bytes >= bytes_max {
                    break;
                }
            }
        }
        let complete = next >= to || bytes >= bytes_max;
        if !complete && !self.purged_meanwhile(to) && !self.truncated_meanwhile(to) {
            return Err(missing(next, to));
        }
        Ok(entries)
    }

    fn purged_meanwhile(&self, index: u64) -> bool {
        self.tail.lock().first_index() >= index
    }

    fn truncated_meanwhile(&self, to: u64) -> bool {
        self.tail.lock().end_index() < to
    }
}

fn missing(from: u64, to: u64) -> EngineError {
    EngineError::corrupt(
        "table log",
        format!("entries {from} to {} are missing", to.saturating_sub(1)),
    )
}

/// Decodes a row of the log, naming its index when it is damaged.
pub(crate) fn decode((row_key, row): Row) -> Result<LogEntry, EngineError> {
    let Some(index) = index_of(&row_key) else {
        return Err(EngineError::corrupt(
            "table log",
            format!("a key of {} bytes", row_key.len()),
        ));
    };
    let place = || format!("table log, entry {index}");
    let entry = LogEntry::decode(row).map_err(|detail| EngineError::corrupt(place(), detail))?;
    if entry.index() != index {
        return Err(EngineError::corrupt(
            place(),
            format!("the row is that of entry {}", entry.index()),
        ));
    }
    Ok(entry)
}

fn index_of(key: &Bytes) -> Option<u64> {
    key.as_ref().try_into().ok().map(u64::from_be_bytes)
}

/// `range` as `from..to`.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<LogEntry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(&range);
        self.read(from, to, None).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.tail.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<LogEntry>, io::Error> {
        self.read(start, end, Some(self.read_bytes)).await
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<LogEntry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = bounds(&range);
        let reader = self.clone();
        let chunks = futures::stream::try_unfold((reader, from), move |(reader, from)| async move {
            if from >= to {
                return Ok::<_, io::Error>(None);
            }
            let entries = reader.read(from, to, Some(reader.read_bytes)).await?;
            let Some(last) = entries.last().map(RaftEntry::index) else {
                return Ok(None);
            };
            let entries = futures::stream::iter(entries.into_iter().map(Ok));
            Ok(Some((entries, (reader, last + 1))))
        });
        Box::pin(futures::TryStreamExt::try_flatten(chunks))
    }
}
