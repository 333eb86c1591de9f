//! Opens the log: reads every row once and checks it.

use std::sync::Arc;

use openraft::entry::RaftEntry;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use statemachine::codec::{self, Format};
use tokio::sync::mpsc;

use crate::blocking::Threads;
use crate::checksum::unseal;
use crate::engine::{Engine, EngineError, Table};
use crate::fatal::FatalLatch;
use crate::log::reader::{LogReader, decode};
use crate::log::store::LogStore;
use crate::log::tail::{Tail, next};
use crate::log::writer::{LogCounters, LogWriter};
use crate::log::{Limits, key, meta};
use crate::types::{LogIdRow, VoteRow};

/// Rows checked in one call to the engine.
const SCAN_ROWS: usize = 4096;

/// Opens the log on `engine`. Blocks while it reads all of it.
///
/// # Errors
/// [`EngineError::Corrupt`] naming the row that fails its checksum, is missing, or is out of
/// order.
pub(crate) fn open(
    engine: Arc<dyn Engine>,
    limits: Limits,
    threads: Threads,
    fatal: FatalLatch,
) -> Result<(LogStore, LogWriter), EngineError> {
    let tail = Arc::new(Mutex::new(load(&*engine, limits.tail_bytes)?));
    let (queue, operations) = mpsc::channel(limits.queue);
    let counters = Arc::new(LogCounters::default());
    let reader = LogReader {
        engine: engine.clone(),
        tail: tail.clone(),
        threads,
        fatal: fatal.clone(),
        read_bytes: limits.read_bytes,
    };
    let store = LogStore {
        reader,
        queue,
        counters: counters.clone(),
    };
    let writer = LogWriter {
        engine,
        queue: operations,
        tail,
        fatal,
        limits,
        counters,
    };
    Ok((store, writer))
}

pub(crate) fn load(engine: &dyn Engine, tail_bytes: usize) -> Result<Tail, EngineError> {
    let mut tail = Tail::new(tail_bytes);
    tail.vote = read::<VoteRow>(engine, meta::VOTE)?.map(Into::into);
    tail.committed = read::<LogIdRow>(engine, meta::COMMITTED)?.map(Into::into);
    tail.purged = read::<LogIdRow>(engine, meta::PURGED)?.map(Into::into);
    tail.last = tail.purged;
    loop {
        let from = tail.end_index();
        let rows = engine.scan(Table::Log, &key(from), &key(u64::MAX), SCAN_ROWS)?;
        if rows.is_empty() {
            return Ok(tail);
        }
        for row in rows {
            let entry = decode(row)?;
            let (id, expected) = (entry.log_id(), next(tail.last));
            if id.index != expected {
                let detail = format!("entries {expected} to {} are missing", id.index - 1);
                return Err(EngineError::corrupt("table log", detail));
            }
            if tail.last.is_some_and(|last| last.leader_id > id.leader_id) {
                let place = format!("table log, entry {}", id.index);
                return Err(EngineError::corrupt(
                    place,
                    "its term is lower than that of the entry before",
                ));
            }
            tail.push(0, entry);
        }
    }
}

fn read<T: DeserializeOwned>(engine: &dyn Engine, name: &[u8]) -> Result<Option<T>, EngineError> {
    let Some(row) = engine.get(Table::LogMeta, name)? else {
        return Ok(None);
    };
    let place = || format!("table log_meta, row {}", String::from_utf8_lossy(name));
    let value = unseal(&row).map_err(|detail| EngineError::corrupt(place(), detail))?;
    let value = codec::decode(Format::Raft, &value);
    value
        .map(Some)
        .map_err(|e| EngineError::corrupt(place(), e.to_string()))
}
