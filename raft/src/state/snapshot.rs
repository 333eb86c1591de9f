//! Snapshots: the rows of the current generation as they are at one instant, in bounded chunks.
//!
//! Nothing is written to make one. While it is sent, the engine shows it as it was.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use openraft::RaftSnapshotBuilder;
use openraft::storage::Snapshot;
use serde::{Deserialize, Serialize};
use statemachine::Revision;
use statemachine::codec::{self, Format};
use tokio::sync::{mpsc, oneshot};

use crate::blocking::Threads;
use crate::checksum::{seal, unseal};
use crate::engine::{Engine, EngineError, Table, Visit};
use crate::handle::Endpoint;
use crate::state::install::Staged;
use crate::state::machine::Shared;
use crate::state::prune::is_kept;
use crate::state::rows::{Current, TABLES, bare_key, generation_range, value};
use crate::types::{CommittedLeaderId, SnapshotMeta, TypeConfig};

/// Chunks that wait for the network.
const CHUNKS_READY: usize = 4;

/// A snapshot as openraft hands it around.
pub(crate) type StateSnapshot = Snapshot<CommittedLeaderId, u64, Endpoint, SnapshotData>;

/// The content of a snapshot: on its way out, or arrived.
pub struct SnapshotData(pub(crate) Content);

pub(crate) enum Content {
    /// To be read, chunk by chunk.
    Outgoing(Outgoing),
    /// Written beside the current state, complete.
    Staged(Box<Staged>),
    /// Known to be possible; nothing was read for it.
    Described,
}

/// A snapshot being read.
pub(crate) struct Outgoing {
    pub current: Current,
    /// Chunks, then the end. A channel that closes without an end was cut short.
    pub chunks: mpsc::Receiver<Result<Piece, EngineError>>,
}

impl std::fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Content::Outgoing(_) => "an outgoing snapshot",
            Content::Staged(_) => "a staged snapshot",
            Content::Described => "a snapshot's description",
        })
    }
}

/// A piece of a snapshot on its way out.
pub(crate) enum Piece {
    Chunk(Bytes),
    /// All chunks came before.
    End,
}

impl Outgoing {
    /// The next chunk; `None` at the end.
    ///
    /// # Errors
    /// The rows could not be read, or whoever read them is gone.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        match self.chunks.recv().await {
            Some(Ok(Piece::Chunk(chunk))) => Ok(Some(chunk)),
            Some(Ok(Piece::End)) => Ok(None),
            Some(Err(error)) => Err(error),
            None => Err(EngineError::io("snapshot", io::Error::other("it was cut short"))),
        }
    }
}

/// A row of a chunk. Keys are without generation, values without checksum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ChunkRow {
    pub table: u8,
    pub key: Bytes,
    pub value: Bytes,
}

/// Number of a table in a chunk. Never reused.
pub(crate) fn table_number(table: Table) -> Option<u8> {
    match table {
        Table::Records => Some(1),
        Table::History => Some(2),
        Table::Index => Some(3),
        Table::Cluster => Some(4),
        Table::Log | Table::LogMeta | Table::StateMeta => None,
    }
}

/// The table of a number in a chunk.
pub(crate) fn table_of(number: u8) -> Option<Table> {
    TABLES.into_iter().find(|table| table_number(*table) == Some(number))
}

/// A chunk of rows, with its checksum.
pub(crate) fn encode_chunk(rows: &[ChunkRow]) -> Bytes {
    seal(codec::encode(Format::Snapshot, rows))
}

/// The rows of a chunk.
///
/// # Errors
/// What is wrong with it, for people.
pub(crate) fn decode_chunk(chunk: &Bytes) -> Result<Vec<ChunkRow>, String> {
    codec::decode(Format::Snapshot, &unseal(chunk)?).map_err(|e| e.to_string())
}

/// Begins reading the rows of `current`, which must not change before this returns; history from `floor` on.
pub(crate) async fn export(
    engine: Arc<dyn Engine>,
    current: Current,
    floor: Revision,
    chunk_bytes: usize,
    threads: Threads,
) -> io::Result<Outgoing> {
    let generation = current.generation;
    match threads {
        Threads::Own => {
            let (sender, chunks) = mpsc::channel(CHUNKS_READY);
            let (pinned, is_pinned) = oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let mut pinned = Some(pinned);
                read(&*engine, (generation, floor), chunk_bytes, &mut |event| match event {
                    Event::Pinned => {
                        pinned.take().map(|pinned| pinned.send(()));
                        true
                    }
                    // Fails when the snapshot is not wanted any more.
                    Event::Piece(piece) => sender.blocking_send(piece).is_ok(),
                });
            });
            is_pinned
                .await
                .map_err(|_| io::Error::other("the state store could not be read"))?;
            Ok(Outgoing { current, chunks })
        }
        Threads::Inline => {
            let mut all = Vec::new();
            read(&*engine, (generation, floor), chunk_bytes, &mut |event| {
                if let Event::Piece(piece) = event {
                    all.push(piece);
                }
                true
            });
            let (sender, chunks) = mpsc::channel(all.len().max(1));
            for chunk in all {
                sender.try_send(chunk).ok();
            }
            Ok(Outgoing { current, chunks })
        }
    }
}

enum Event {
    Pinned,
    Piece(Result<Piece, EngineError>),
}

/// Reads a generation; `sink` says whether it wants more.
fn read(
    engine: &dyn Engine,
    (generation, floor): (u32, Revision),
    chunk_bytes: usize,
    sink: &mut dyn FnMut(Event) -> bool,
) {
    let ranges = TABLES.map(|table| generation_range(table, generation));
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut failed = None;
    let mut wanted = true;
    let outcome = engine.export(&ranges, &mut |visit| {
        let (table, (key, sealed)) = match visit {
            Visit::Pinned => {
                wanted = sink(Event::Pinned);
                return flow(wanted);
            }
            Visit::Row(table, row) => (table, row),
        };
        let Some(number) = table_number(table).filter(|_| is_kept(table, &key, floor)) else {
            return ControlFlow::Continue(());
        };
        match value(table, &key, &sealed) {
            Ok(value) => {
                bytes += key.len() + value.len();
                rows.push(ChunkRow {
                    table: number,
                    key: bare_key(&key),
                    value,
                });
            }
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        }
        if bytes >= chunk_bytes {
            bytes = 0;
            wanted = sink(Event::Piece(Ok(Piece::Chunk(encode_chunk(&std::mem::take(&mut rows))))));
        }
        flow(wanted)
    });
    match failed.or(outcome.err()) {
        Some(error) => {
            sink(Event::Piece(Err(error)));
        }
        None => {
            let rest = || Event::Piece(Ok(Piece::Chunk(encode_chunk(&rows))));
            if wanted && (rows.is_empty() || sink(rest())) {
                sink(Event::Piece(Ok(Piece::End)));
            }
        }
    }
}

fn flow(wanted: bool) -> ControlFlow<()> {
    if wanted {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(())
    }
}

/// Makes openraft's snapshots: flushes the state store, so that the log may be purged up to what
/// was applied before. No content is read for it: that is done when somebody needs it.
pub struct Builder {
    pub(crate) shared: Arc<Shared>,
    pub(crate) meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<StateSnapshot, io::Error> {
        // The rows up to `meta` were written before this builder was made: a flush covers them.
        self.shared.flush().await?;
        self.shared.snapshot_made();
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: SnapshotData(Content::Described),
        })
    }
}
