//! What a reader sees: the state at one point of the log, and the history up to it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use statemachine::record::Kind;
use statemachine::{Position, Record, Recorded, Revision, State};

use crate::engine::EngineError;
use crate::error::Error;
use crate::state::history::History;

/// The state after some log entry, and the history that led to it. Cheap to clone; never changes.
///
/// Reads of history go to the state store and block for as long as that takes (microseconds when
/// cached): long ranges belong on a blocking thread.
#[derive(Clone)]
pub struct View {
    pub(crate) inner: Arc<Published>,
}

/// What one apply batch publishes.
pub(crate) struct Published {
    pub(crate) state: State,
    pub(crate) applied_index: Option<u64>,
    pub(crate) history: History,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("position", &self.position())
            .field("applied_index", &self.applied_index())
            .finish_non_exhaustive()
    }
}

impl View {
    /// The whole state.
    pub fn state(&self) -> &State {
        &self.inner.state
    }

    /// The mesh's position in its history.
    pub fn position(&self) -> Position {
        self.inner.state.mesh.position()
    }

    /// The log index of the last entry this state contains.
    pub fn applied_index(&self) -> Option<u64> {
        self.inner.applied_index
    }

    /// The oldest revision whose history can be had.
    pub fn oldest(&self) -> Revision {
        self.state().mesh.floor().max(self.inner.history.oldest())
    }

    /// Refuses what begins before the oldest revision. Asked after a read: rows are removed while others are read, and
    /// what was read from the oldest on is whole.
    fn whole_from(&self, first: Revision) -> Result<(), Error> {
        let oldest = self.oldest();
        if first < oldest {
            return Err(Error::Compacted { oldest });
        }
        Ok(())
    }

    /// Everything that happened in one revision. `None` when it lies in the future of this view
    /// or below the compaction floor.
    ///
    /// # Errors
    /// [`Error::History`]: the row could not be read, or is damaged.
    pub fn unit(&self, revision: Revision) -> Result<Option<Arc<Recorded>>, Error> {
        if revision > self.position().revision {
            return Ok(None);
        }
        let unit = self.inner.history.unit(revision).map_err(failed)?;
        Ok(unit.filter(|_| revision >= self.oldest()))
    }

    /// The units of a range of revisions, oldest first, at most `limit`. Those in the future of
    /// this view are left out.
    ///
    /// # Errors
    /// [`Error::Compacted`]: the range begins below the floor. [`Error::History`]: a row could not be read, or is
    /// damaged.
    pub fn units(&self, range: RangeInclusive<Revision>, limit: usize) -> Result<Vec<Arc<Recorded>>, Error> {
        let (first, last) = range.into_inner();
        let last = last.min(self.position().revision);
        if first > last {
            return Ok(Vec::new());
        }
        let units = self.inner.history.units(first, last, limit).map_err(failed)?;
        self.whole_from(first)?;
        Ok(units)
    }

    /// The units of a range of revisions, newest first, at most `limit`. Those in the future of
    /// this view are left out.
    ///
    /// # Errors
    /// [`Error::Compacted`]: those asked for reach below the floor. [`Error::History`]: a row could not be read, or is
    /// damaged.
    pub fn units_newest_first(
        &self,
        range: RangeInclusive<Revision>,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, Error> {
        let (first, last) = range.into_inner();
        let last = last.min(self.position().revision);
        // Revisions have no gaps: the newest `limit` are the last `limit` numbers.
        let span = u64::try_from(limit).unwrap_or(u64::MAX);
        let first = first.max(Revision(last.0.saturating_add(1).saturating_sub(span)));
        let mut units = self.units(first..=last, limit)?;
        units.reverse();
        Ok(units)
    }

    /// Visits the units of a range of revisions, oldest first, however many. Stops at the first
    /// error.
    ///
    /// # Errors
    /// Those of `visit`; [`Error::Compacted`]: the floor has passed what was still to be visited; [`Error::History`]: a
    /// row could not be read, or is damaged.
    pub fn each_unit(
        &self,
        range: RangeInclusive<Revision>,
        mut visit: impl FnMut(Recorded) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (first, last) = range.into_inner();
        let last = last.min(self.position().revision);
        let mut next = first;
        let mut stopped = None;
        let outcome = self.inner.history.each(first, last, |unit| {
            let revision = unit.unit.position.revision;
            let checked = if revision == next {
                Ok(())
            } else {
                self.whole_from(next)
            };
            next = revision.next();
            checked.and_then(|()| visit(unit)).map_err(|e| {
                stopped = Some(e);
                EngineError::corrupt("visit", "stopped by the reader")
            })
        });
        match stopped {
            Some(error) => Err(error),
            None => {
                outcome.map_err(failed)?;
                if next <= last { self.whole_from(next) } else { Ok(()) }
            }
        }
    }

    /// A record as it was at a revision. `None` where it did not exist then.
    ///
    /// # Errors
    /// [`Error::Compacted`]: the revision is below the floor. [`Error::History`]: a row could not be read, or is
    /// damaged.
    pub fn record_at(&self, kind: Kind, id: &str, revision: Revision) -> Result<Option<Record>, Error> {
        let head = self.position().revision;
        let revision = revision.min(head);
        self.whole_from(revision)?;
        let (mesh, history) = (&self.state().mesh, &self.inner.history);
        let found = history
            .record_at((kind, id), revision, mesh.floor(), (head, mesh.record(kind, id)))
            .map_err(failed)?;
        self.whole_from(revision)?;
        Ok(found)
    }

    /// The revisions below one that changed a record, newest first, at most `limit`, as far as history is kept.
    ///
    /// # Errors
    /// [`Error::History`]: a row could not be read, or is damaged.
    pub fn changes_before(&self, kind: Kind, id: &str, below: Revision, limit: usize) -> Result<Vec<Revision>, Error> {
        let below = below.min(self.position().revision.next());
        self.inner
            .history
            .changes_before(kind, id, self.oldest()..below, limit)
            .map_err(failed)
    }

    /// The revisions of a range that changed a record, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Compacted`]: the range begins below the floor. [`Error::History`]: a row could not be read, or is
    /// damaged.
    pub fn changes_of(
        &self,
        kind: Kind,
        id: &str,
        range: RangeInclusive<Revision>,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, Error> {
        let (first, last) = range.into_inner();
        let last = last.min(self.position().revision);
        if first > last {
            return Ok(Vec::new());
        }
        let units = self
            .inner
            .history
            .changes_of(kind, id, first, last, limit)
            .map_err(failed)?;
        self.whole_from(first)?;
        Ok(units)
    }

    /// The oldest revision that is kept and did not happen before `mesh_time_ms`: the next one to come where all of them
    /// did. Mesh time never steps back, so this looks at few rows, however many there are.
    ///
    /// # Errors
    /// [`Error::Compacted`]: the floor moved meanwhile. [`Error::History`]: a row could not be read, or is damaged.
    pub fn first_since(&self, mesh_time_ms: u64) -> Result<Revision, Error> {
        let mut low = self.oldest();
        let mut end = self.position().revision.next();
        while low < end {
            let middle = Revision(low.0 + (end.0 - low.0) / 2);
            let unit = self.inner.history.unit(middle).map_err(failed)?;
            let Some(unit) = unit else {
                self.whole_from(middle)?;
                return Err(Error::History(format!("revision {middle} is missing")));
            };
            if unit.unit.stamp.mesh_time_ms < mesh_time_ms {
                low = middle.next();
            } else {
                end = middle;
            }
        }
        Ok(low)
    }
}

fn failed(error: EngineError) -> Error {
    tracing::error!(%error, "history could not be read");
    Error::History(error.to_string())
}
