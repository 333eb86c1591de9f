//! The mesh state as a backup: as it is at one instant, in pieces of bounded size, while the node goes on.
//!
//! Nothing is written to make one. As with a snapshot, the engine shows the rows as they were while they are read.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use statemachine::backup::{Encoder, Header, ROWS_BYTES, Row, TABLES};
use statemachine::{ClusterId, rows};
use tokio::sync::{mpsc, oneshot};

use crate::blocking::Threads;
use crate::engine::{EngineError, Table, Visit};
use crate::error::Error;
use crate::handle::Handle;
use crate::state::machine::Shared;
use crate::state::prune::is_kept;
use crate::state::rows::{bare_key, engine_table, generation_range, value};

/// Pieces that wait for whoever takes them; more make the reading wait.
const PIECES_READY: usize = 4;

/// A backup being read. Dropped, the reading stops.
#[derive(Debug)]
pub struct Backup {
    header: Header,
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// All bytes came before.
    End(Bytes),
    Failed(EngineError),
}

impl Backup {
    /// What it is of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its next bytes, in order; `None` after the last. Waits for the disk alone: bound it.
    ///
    /// # Errors
    /// [`Error::History`]: rows could not be read, or are damaged.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        match self.pieces.recv().await {
            Some(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Piece::End(bytes)) => {
                self.ended = true;
                Ok(Some(bytes))
            }
            Some(Piece::Failed(error)) => {
                tracing::error!(%error, "a backup could not be read");
                Err(Error::History(error.to_string()))
            }
            None => Err(Error::unavailable("the reading of the backup was cut short")),
        }
    }
}

impl Handle {
    /// Begins a backup of what this node has applied.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: there is no mesh yet, or the node is shutting down.
    pub async fn backup(&self) -> Result<Backup, Error> {
        let (shared, threads) = self.state_store()?;
        let source = Source {
            shared,
            cluster: self.identity().cluster.clone(),
            wall_ms: self.wall_ms(),
        };
        match threads {
            Threads::Own => {
                let (sender, pieces) = mpsc::channel(PIECES_READY);
                let (begun, begins) = oneshot::channel();
                tokio::task::spawn_blocking(move || {
                    let mut begun = Some(begun);
                    source.read(&mut |event| match event {
                        Event::Begun(header) => begun.take().is_some_and(|begun| begun.send(header).is_ok()),
                        // Fails when nobody wants the rest any more.
                        Event::Piece(piece) => sender.blocking_send(piece).is_ok(),
                    });
                });
                let header = begins.await.map_err(|_| not_begun())?;
                Ok(Backup {
                    header,
                    pieces,
                    ended: false,
                })
            }
            Threads::Inline => {
                let (mut header, mut all) = (None, Vec::new());
                source.read(&mut |event| {
                    match event {
                        Event::Begun(begun) => header = Some(begun),
                        Event::Piece(piece) => all.push(piece),
                    }
                    true
                });
                let (sender, pieces) = mpsc::channel(all.len().max(1));
                for piece in all {
                    sender.try_send(piece).ok();
                }
                Ok(Backup {
                    header: header.ok_or_else(not_begun)?,
                    pieces,
                    ended: false,
                })
            }
        }
    }
}

fn not_begun() -> Error {
    Error::unavailable("there is no mesh yet to make a backup of")
}

enum Event {
    Begun(Header),
    Piece(Piece),
}

/// What a backup is read from.
struct Source {
    shared: Arc<Shared>,
    cluster: ClusterId,
    wall_ms: u64,
}

impl Source {
    /// Reads all of it; `sink` says whether it wants more. Blocks.
    fn read(self, sink: &mut dyn FnMut(Event) -> bool) {
        // While this is held nothing is applied: rows and state are of the same entry.
        let applier = self.shared.applier.lock();
        let Some(header) = Header::of(&applier.state, self.cluster, self.wall_ms) else {
            return;
        };
        // Kept until the end: a snapshot that is installed meanwhile must not remove the rows.
        let generation = applier.generation.clone();
        let floor = header.floor;
        let mut applier = Some(applier);
        let (mut encoder, first) = Encoder::begin(header.clone());
        let mut beginning = Some((header, Bytes::from(first)));
        let ranges = TABLES.map(|table| generation_range(engine_table(table), generation.0));
        let (mut rows, mut bytes) = (Vec::new(), 0);
        let (mut failed, mut wanted) = (None, true);
        let outcome = self.shared.engine.export(&ranges, &mut |visit| {
            let (table, (key, sealed)) = match visit {
                Visit::Pinned => {
                    applier.take();
                    if let Some((header, first)) = beginning.take() {
                        wanted = sink(Event::Begun(header)) && sink(Event::Piece(Piece::Bytes(first)));
                    }
                    return flow(wanted);
                }
                Visit::Row(table, row) => (table, row),
            };
            if !is_kept(table, &key, floor) {
                return ControlFlow::Continue(());
            }
            match row(table, &key, &sealed) {
                Ok(row) => {
                    bytes += row.bytes();
                    rows.push(row);
                }
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            if bytes >= ROWS_BYTES {
                bytes = 0;
                let part = encoder.rows(std::mem::take(&mut rows));
                wanted = sink(Event::Piece(Piece::Bytes(part.into())));
            }
            flow(wanted)
        });
        if let Some(error) = failed.or(outcome.err()) {
            sink(Event::Piece(Piece::Failed(error)));
            return;
        }
        if wanted && !rows.is_empty() {
            wanted = sink(Event::Piece(Piece::Bytes(encoder.rows(rows).into())));
        }
        if wanted {
            let (_, last) = encoder.end();
            sink(Event::Piece(Piece::End(last.into())));
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

fn row(table: Table, key: &Bytes, sealed: &Bytes) -> Result<Row, EngineError> {
    let value = value(table, key, sealed)?;
    let known = rows::Table::ALL.into_iter().find(|known| engine_table(*known) == table);
    known
        .and_then(|known| Row::new(known, bare_key(key).to_vec(), value.to_vec()))
        .ok_or_else(|| EngineError::io("backup", io::Error::other(format!("table {table} is not part of one"))))
}
