//! The log's one writer: drains its queue, writes and syncs once, answers all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use openraft::storage::IOFlushed;
use parking_lot::Mutex;
use statemachine::codec::{self, Format};
use tokio::sync::{mpsc, oneshot};

use crate::checksum::seal;
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::fatal::FatalLatch;
use crate::log::tail::Tail;
use crate::log::{Limits, key, meta};
use crate::types::{LogId, LogIdRow, TypeConfig, Vote, VoteRow};

/// What the writer is asked to do, in order.
pub(crate) enum Operation {
    Append {
        rows: Vec<(u64, Bytes)>,
        done: IOFlushed<TypeConfig>,
    },
    Truncate {
        from: u64,
        to: u64,
        done: oneshot::Sender<io::Result<()>>,
    },
    Purge {
        from: u64,
        upto: LogId,
    },
    Vote {
        vote: Vote,
        done: oneshot::Sender<io::Result<()>>,
    },
    Committed(LogId),
}

/// Counts of what the writer did.
#[derive(Debug, Default)]
pub struct LogCounters {
    /// Batches written.
    pub batches: AtomicU64,
    /// Batches that were synced.
    pub syncs: AtomicU64,
    /// Entries written.
    pub entries: AtomicU64,
    /// Bytes of entries written.
    pub bytes: AtomicU64,
}

/// Drains the queue until it is closed or the disk fails.
pub(crate) struct LogWriter {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) queue: mpsc::Receiver<(u64, Operation)>,
    pub(crate) tail: Arc<Mutex<Tail>>,
    pub(crate) fatal: FatalLatch,
    pub(crate) limits: Limits,
    pub(crate) counters: Arc<LogCounters>,
}

/// Operations that are written together.
#[derive(Default)]
struct Group {
    batch: Batch,
    synced: bool,
    last: u64,
    entries: u64,
    committed: Option<LogId>,
    appends: Vec<IOFlushed<TypeConfig>>,
    waiters: Vec<oneshot::Sender<io::Result<()>>>,
}

impl Group {
    fn add(&mut self, number: u64, operation: Operation) {
        self.last = number;
        match operation {
            Operation::Append { rows, done } => {
                self.synced = true;
                self.entries += rows.len() as u64;
                for (index, row) in rows {
                    self.batch.put(Table::Log, key(index), row);
                }
                self.appends.push(done);
            }
            Operation::Truncate { from, to, done } => {
                self.synced = true;
                self.batch.delete_range(Table::Log, key(from), key(to));
                self.waiters.push(done);
            }
            Operation::Purge { from, upto } => {
                self.batch.delete_range(Table::Log, key(from), key(upto.index + 1));
                self.batch
                    .put(Table::LogMeta, meta::PURGED, encode(&LogIdRow::from(upto)));
            }
            Operation::Vote { vote, done } => {
                self.synced = true;
                self.batch
                    .put(Table::LogMeta, meta::VOTE, encode(&VoteRow::from(&vote)));
                self.waiters.push(done);
            }
            // Only the last one of a group matters.
            Operation::Committed(id) => self.committed = Some(id),
        }
    }

    fn finish(&mut self) -> (Batch, Durability) {
        if let Some(id) = self.committed {
            self.batch
                .put(Table::LogMeta, meta::COMMITTED, encode(&LogIdRow::from(id)));
        }
        let durability = if self.synced {
            Durability::Synced
        } else {
            Durability::Logged
        };
        (std::mem::take(&mut self.batch), durability)
    }

    fn answer(self, result: Result<(), &EngineError>) {
        let answer = || result.map_err(|e| io::Error::other(e.to_string()));
        for append in self.appends {
            append.io_completed(answer());
        }
        for waiter in self.waiters {
            // Who asked may have given up; the write stands.
            waiter.send(answer()).ok();
        }
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Bytes {
    seal(codec::encode(Format::Raft, value))
}

impl LogWriter {
    /// Runs until every sender of the queue is gone, or a write fails. Production runs it on a
    /// thread of its own, where its writes may block; it needs no runtime there.
    pub(crate) async fn run(mut self) {
        while let Some((number, operation)) = self.queue.recv().await {
            let mut group = Group::default();
            group.add(number, operation);
            while group.batch.bytes() < self.limits.batch_bytes {
                match self.queue.try_recv() {
                    Ok((number, operation)) => group.add(number, operation),
                    Err(_) => break,
                }
            }
            if self.commit(group).await.is_err() {
                break;
            }
        }
        // Whoever still waits finds the queue closed.
    }

    async fn commit(&self, mut group: Group) -> Result<(), ()> {
        let (batch, durability) = group.finish();
        if let Some(delay) = self.engine.simulated_delay() {
            tokio::time::sleep(delay).await;
        }
        let bytes = batch.bytes() as u64;
        match self.engine.write(batch, durability) {
            Ok(()) => {
                self.counters.batches.fetch_add(1, Ordering::Relaxed);
                self.counters
                    .syncs
                    .fetch_add(u64::from(group.synced), Ordering::Relaxed);
                self.counters.entries.fetch_add(group.entries, Ordering::Relaxed);
                self.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
                // A group that was not synced holds no entries: numbering it done evicts nothing
                // that is not durable.
                self.tail.lock().completed(group.last);
                group.answer(Ok(()));
                Ok(())
            }
            Err(error) => {
                // What of the batch reached the disk is unknown. Nothing after it may be
                // promised, so the node stops.
                self.fatal.engine(&error);
                group.answer(Err(&error));
                Err(())
            }
        }
    }
}
