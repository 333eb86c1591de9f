//! What is known of the log in memory: its bounds, the vote, and its last entries.

use std::collections::VecDeque;

use openraft::entry::RaftEntry;
use tokio::sync::watch;

use crate::log::row::LogEntry;
use crate::types::{LogId, Vote};

/// The end of the log, in memory.
pub(crate) struct Tail {
    /// The last entry removed from the log's beginning.
    pub purged: Option<LogId>,
    /// The last entry of the log; `purged` when it holds none.
    pub last: Option<LogId>,
    /// The vote last saved.
    pub vote: Option<Vote>,
    /// The committed mark last saved.
    pub committed: Option<LogId>,
    /// The last entries, without gaps, each with the number of the operation that appended it.
    entries: VecDeque<(u64, LogEntry)>,
    bytes: usize,
    bytes_max: usize,
    /// Index of the first entry appended while nothing had been purged.
    begin: u64,
    /// The last operation whose effects are durable.
    durable: u64,
    /// The same, for those who wait for it.
    completions: watch::Sender<u64>,
    /// The last operation issued.
    issued: u64,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            purged: None,
            last: None,
            vote: None,
            committed: None,
            entries: VecDeque::new(),
            bytes: 0,
            bytes_max,
            begin: 0,
            durable: 0,
            completions: watch::Sender::new(0),
            issued: 0,
        }
    }

    /// Numbers the next operation.
    pub(crate) fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// Operations up to `operation` are durable: their entries need not stay in memory.
    pub(crate) fn completed(&mut self, operation: u64) {
        self.durable = self.durable.max(operation);
        self.completions.send_replace(self.durable);
        self.evict();
    }

    /// The operation that has to be completed for the entry at `index` to be durable here. `None`
    /// where it is already, or is no part of this log.
    pub(crate) fn unsynced(&self, index: u64) -> Option<(u64, watch::Receiver<u64>)> {
        let begin = self.entries.front()?.1.index();
        let at = usize::try_from(index.checked_sub(begin)?).ok()?;
        let (operation, _) = self.entries.get(at)?;
        (*operation > self.durable).then(|| (*operation, self.completions.subscribe()))
    }

    /// Takes in an entry, read from disk (`operation` 0) or about to be written.
    pub(crate) fn push(&mut self, operation: u64, entry: LogEntry) {
        if self.last == self.purged {
            self.begin = entry.index();
        }
        self.last = Some(entry.log_id());
        self.bytes += entry.size();
        self.entries.push_back((operation, entry));
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            match self.entries.front() {
                Some((operation, _)) if *operation <= self.durable => self.pop_front(),
                _ => break,
            }
        }
    }

    fn pop_front(&mut self) {
        if let Some((_, entry)) = self.entries.pop_front() {
            self.bytes -= entry.size();
        }
    }

    /// Index of the first entry of the log, if it were to hold any.
    pub(crate) fn first_index(&self) -> u64 {
        next(self.purged).max(self.begin)
    }

    /// Index after the last entry.
    pub(crate) fn end_index(&self) -> u64 {
        next(self.last)
    }

    /// Forgets entries after `keep`.
    pub(crate) fn truncate_after(&mut self, keep: Option<LogId>) {
        let end = next(keep);
        if end >= self.end_index() {
            return;
        }
        while self.entries.back().is_some_and(|(_, entry)| entry.index() >= end) {
            if let Some((_, entry)) = self.entries.pop_back() {
                self.bytes -= entry.size();
            }
        }
        self.last = keep.max(self.purged);
    }

    /// Forgets entries up to `upto`.
    pub(crate) fn purge(&mut self, upto: LogId) {
        while self
            .entries
            .front()
            .is_some_and(|(_, entry)| entry.index() <= upto.index)
        {
            self.pop_front();
        }
        self.purged = self.purged.max(Some(upto));
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = self.purged;
        }
    }

    /// The part of `from..to` that is in memory: always the end of it, as far as the log goes.
    /// Also the index where that part begins; what comes before has to be read from disk.
    pub(crate) fn read(&self, from: u64, to: u64) -> (u64, Vec<LogEntry>) {
        let to = to.min(self.end_index());
        let begin = self
            .entries
            .front()
            .map_or(self.end_index(), |(_, entry)| entry.index());
        if from >= to || begin >= to {
            return (to.max(from), Vec::new());
        }
        let start = from.max(begin);
        let range = (start - begin) as usize..(to - begin) as usize;
        (
            start,
            self.entries.range(range).map(|(_, entry)| entry.clone()).collect(),
        )
    }
}

/// The index after a log id.
pub(crate) fn next(id: Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::log_id;

    fn tail(range: std::ops::Range<u64>, bytes_max: usize) -> Tail {
        let mut tail = Tail::new(bytes_max);
        for index in range {
            let operation = tail.issue();
            tail.push(operation, LogEntry::new_blank(log_id(1, index)));
        }
        tail
    }

    fn indexes(read: (u64, Vec<LogEntry>)) -> (u64, Vec<u64>) {
        (read.0, read.1.iter().map(RaftEntry::index).collect())
    }

    #[test]
    fn nothing_leaves_before_it_is_durable() {
        let mut tail = tail(0..10, 0);
        assert_eq!(indexes(tail.read(0, 100)), (0, (0..10).collect()));
        tail.completed(4);
        assert_eq!(indexes(tail.read(0, 100)), (4, (4..10).collect()));
        assert_eq!(indexes(tail.read(6, 8)), (6, vec![6, 7]));
        assert_eq!(indexes(tail.read(0, 3)), (3, vec![]));
    }

    #[test]
    fn an_entry_rewritten_after_a_truncation_stays_until_it_is_durable_itself() {
        let mut tail = tail(0..5, 0);
        tail.truncate_after(Some(log_id(1, 1)));
        let operation = tail.issue();
        tail.push(operation, LogEntry::new_blank(log_id(2, 2)));
        tail.completed(5);
        assert_eq!(indexes(tail.read(0, 9)), (2, vec![2]));
    }

    #[test]
    fn an_entry_is_unsynced_until_its_own_operation_is_completed() {
        let mut tail = tail(3..8, 1 << 20);
        tail.completed(2);
        assert!(tail.unsynced(4).is_none());
        assert_eq!(tail.unsynced(5).map(|(operation, _)| operation), Some(3));
        tail.truncate_after(Some(log_id(1, 5)));
        let operation = tail.issue();
        tail.push(operation, LogEntry::new_blank(log_id(2, 6)));
        tail.completed(5);
        assert_eq!(tail.unsynced(6).map(|(operation, _)| operation), Some(6));
        assert!(tail.unsynced(2).is_none() && tail.unsynced(9).is_none());
    }

    #[test]
    fn purge_past_the_end_moves_the_end() {
        let mut tail = tail(0..5, 1 << 20);
        tail.purge(log_id(3, 9));
        assert_eq!((tail.first_index(), tail.end_index()), (10, 10));
        assert_eq!(indexes(tail.read(0, 100)), (10, vec![]));
    }
}
