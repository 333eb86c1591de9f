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

    /// Everything that happened in one revision. `None` when it lies in the future of this view
    /// or below the compaction floor.
    ///
    /// # Errors
    /// [`Error::History`]: the row could not be read, or is damaged.
    pub fn unit(&self, revision: Revision) -> Result<Option<Arc<Recorded>>, Error> {
        if revision > self.position().revision {
            return Ok(None);
        }
        self.inner.history.unit(revision).map_err(failed)
    }

    /// The units of a range of revisions, oldest first, at most `limit`. Those in the future of
    /// this view are left out.
    ///
    /// # Errors
    /// [`Error::History`]: a row could not be read, or is damaged.
    pub fn units(&self, range: RangeInclusive<Revision>, limit: usize) -> Result<Vec<Arc<Recorded>>, Error> {
        let (first, last) = range.into_inner();
        let last = last.min(self.position().revision);
        if first > last {
            return Ok(Vec::new());
        }
        self.inner.history.units(first, last, limit).map_err(failed)
    }

    /// The units of a range of revisions, newest first, at most `limit`. Those in the future of
    /// this view are left out.
    ///
    /// # Errors
    /// [`Error::History`]: a row could not be read, or is damaged.
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
    /// Those of `visit`; [`Error::History`]: a row could not be read, or is damaged.
    pub fn each_unit(
        &self,
        range: RangeInclusive<Revision>,
        mut visit: impl FnMut(Recorded) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (first, last) = range.into_inner();
        let last = last.min(self.position().revision);
        let mut stopped = None;
        let outcome = self.inner.history.each(first, last, |unit| {
            visit(unit).map_err(|e| {
                stopped = Some(e);
                EngineError::corrupt("visit", "stopped by the reader")
            })
        });
        match stopped {
            Some(error) => Err(error),
            None => outcome.map_err(failed),
        }
    }

    /// A record as it was at a revision. `None` where it did not exist then.
    ///
    /// # Errors
    /// [`Error::History`]: a row could not be read, or is damaged.
    pub fn record_at(&self, kind: Kind, id: &str, revision: Revision) -> Result<Option<Record>, Error> {
        let revision = revision.min(self.position().revision);
        self.inner.history.record_at(kind, id, revision).map_err(failed)
    }

    /// The revisions below one that changed a record, newest first, at most `limit`, as far as history is kept.
    ///
    /// # Errors
    /// [`Error::History`]: a row could not be read, or is damaged.
    pub fn changes_before(&self, kind: Kind, id: &str, below: Revision, limit: usize) -> Result<Vec<Revision>, Error> {
        let below = below.min(self.position().revision.next());
        let floor = self.state().mesh.floor();
        self.inner
            .history
            .changes_before(kind, id, floor..below, limit)
            .map_err(failed)
    }

    /// The revisions of a range that changed a record, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::History`]: a row could not be read, or is damaged.
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
        self.inner
            .history
            .changes_of(kind, id, first, last, limit)
            .map_err(failed)
    }
}

fn failed(error: EngineError) -> Error {
    tracing::error!(%error, "history could not be read");
    Error::History(error.to_string())
}
