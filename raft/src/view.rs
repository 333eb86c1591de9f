//! What a reader sees: the state at one point of the log, and the history up to it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use statemachine::{Position, Revision, State, Unit};

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
    pub fn unit(&self, revision: Revision) -> Result<Option<Arc<Unit>>, Error> {
        todo!()
    }

    /// The units of a range of revisions, oldest first, at most `limit`.
    pub fn units(
        &self,
        range: RangeInclusive<Revision>,
        limit: usize,
    ) -> Result<Vec<Arc<Unit>>, Error> {
        todo!()
    }
}
