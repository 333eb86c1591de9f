//! openraft's view of the log.

use std::io;
use std::sync::Arc;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::log::reader::LogReader;
use crate::log::tail::{Tail, next};
use crate::log::writer::{LogCounters, Operation};
use crate::types::{LogId, TypeConfig, Vote};

/// Tells when entries are durable in this node's own log.
#[derive(Clone)]
pub(crate) struct Synced(Arc<Mutex<Tail>>);

impl Synced {
    /// Waits until the entry at `index` is durable, if it is a part of the log at all. Never
    /// returns where the log writer has failed: that stops the node.
    pub(crate) async fn wait(&self, index: u64) {
        let unsynced = self.0.lock().unsynced(index);
        if let Some((operation, mut completions)) = unsynced {
            completions.wait_for(|completed| *completed >= operation).await.ok();
        }
    }
}

/// The log. Cloning shares it.
#[derive(Clone)]
pub struct LogStore {
    pub(crate) reader: LogReader,
    pub(crate) queue: mpsc::Sender<(u64, Operation)>,
    pub(crate) counters: Arc<LogCounters>,
}

impl LogStore {
    pub(crate) fn synced(&self) -> Synced {
        Synced(self.reader.tail.clone())
    }

    async fn send(&self, number: u64, operation: Operation) -> io::Result<()> {
        self.queue.send((number, operation)).await.map_err(|_| stopped())
    }
}

fn stopped() -> io::Error {
    io::Error::other("the log writer has stopped")
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let tail = self.reader.tail.lock();
        Ok(LogState {
            last_purged_log_id: tail.purged,
            last_log_id: tail.last,
        })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, saved) = oneshot::channel();
        let number = self.reader.tail.lock().issue();
        self.send(number, Operation::Vote { vote: *vote, done }).await?;
        saved.await.map_err(|_| stopped())??;
        self.reader.tail.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let Some(id) = committed else { return Ok(()) };
        let number = {
            let mut tail = self.reader.tail.lock();
            tail.committed = Some(id);
            tail.issue()
        };
        self.send(number, Operation::Committed(id)).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.reader.tail.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = crate::log::row::LogEntry> + Send,
        I::IntoIter: Send,
    {
        let (number, rows) = {
            let mut rows = Vec::new();
            let mut tail = self.reader.tail.lock();
            let number = tail.issue();
            for mut entry in entries {
                rows.push((entry.index(), entry.row()));
                tail.push(number, entry);
            }
            (number, rows)
        };
        self.send(number, Operation::Append { rows, done }).await
    }

    async fn truncate_after(&mut self, keep: Option<LogId>) -> Result<(), io::Error> {
        let (done, truncated) = oneshot::channel();
        let (number, from, to) = {
            let mut tail = self.reader.tail.lock();
            let to = tail.end_index();
            tail.truncate_after(keep);
            if tail.end_index() == to {
                return Ok(());
            }
            (tail.issue(), tail.end_index(), to)
        };
        self.send(number, Operation::Truncate { from, to, done }).await?;
        truncated.await.map_err(|_| stopped())?
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let (number, from) = {
            let mut tail = self.reader.tail.lock();
            if tail.purged >= Some(upto) {
                return Ok(());
            }
            let from = next(tail.purged);
            tail.purge(upto);
            (tail.issue(), from)
        };
        self.send(number, Operation::Purge { from, upto }).await
    }
}
