//! Taking a snapshot in: its rows are written beside the current ones, checked, and then made
//! current by one row. Whatever interrupts it leaves the current state as it was.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use statemachine::State;

use crate::checksum::seal;
use crate::engine::{Batch, Durability, EngineError, Table};
use crate::state::apply::Applier;
use crate::state::history::Generation;
use crate::state::load;
use crate::state::machine::Shared;
use crate::state::rows::{CURRENT, Current, full_key};
use crate::state::snapshot::{Outgoing, decode_chunk, table_of};
use crate::types::{LogId, SnapshotMeta, StoredMembership};

/// A snapshot that is being received. Dropped unfinished, its rows are removed later.
pub(crate) struct Stage {
    shared: Arc<Shared>,
    current: Current,
    generation: Arc<Generation>,
    chunks: u64,
}

/// A snapshot that was received whole and adds up to what it says of itself.
pub(crate) struct Staged {
    current: Current,
    generation: Arc<Generation>,
    state: State,
    membership: StoredMembership,
}

impl Staged {
    /// What openraft wants to know of it.
    pub(crate) fn meta(&self) -> SnapshotMeta {
        let last_log_id = self.current.applied.map(LogId::from);
        SnapshotMeta {
            last_log_id,
            last_membership: self.membership.clone(),
        }
    }
}

/// Why a chunk was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// It is damaged, or out of order: the sender has to begin anew.
    #[error("{0}")]
    Refused(String),
    /// The disk failed, or the state is of a feature level that this program does not know.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Stage {
    /// Begins a new generation. `current` is the sender's.
    pub(crate) fn begin(shared: Arc<Shared>, current: Current) -> Self {
        let generation = shared.new_generation();
        Self {
            shared,
            current,
            generation,
            chunks: 0,
        }
    }

    /// Writes the rows of chunk `number` (from 0). Blocks.
    pub(crate) fn chunk(&mut self, number: u64, chunk: &Bytes) -> Result<(), StageError> {
        if number != self.chunks {
            return Err(StageError::Refused(format!(
                "chunk {number} came, {} is next",
                self.chunks
            )));
        }
        let damaged = |detail| StageError::Refused(format!("chunk {number} is damaged: {detail}"));
        let mut batch = Batch::new();
        for row in decode_chunk(chunk).map_err(damaged)? {
            let Some(table) = table_of(row.table) else {
                return Err(damaged(format!("table {} is not known to this release", row.table)));
            };
            batch.put(table, full_key(self.generation.0, &row.key), seal(row.value.into()));
        }
        self.shared.engine.write(batch, Durability::Unlogged)?;
        self.chunks += 1;
        Ok(())
    }

    /// Ends it; `chunks` is how many the sender sent. Reads all of it back and checks it. Blocks.
    pub(crate) fn finish(self, chunks: u64) -> Result<Staged, StageError> {
        if chunks != self.chunks {
            return Err(StageError::Refused(format!(
                "{chunks} chunks were sent, {} came",
                self.chunks
            )));
        }
        let mut current = self.current;
        current.generation = self.generation.0;
        current.installed = current.applied;
        let membership = current.membership.clone();
        let membership = StoredMembership::try_from(membership).map_err(StageError::Refused)?;
        let state = load::generation(&*self.shared.engine, &current).map_err(|error| match error {
            // A level that this program cannot follow: sending it again does not help.
            EngineError::Io { .. } | EngineError::Foreign { .. } => StageError::Engine(error),
            EngineError::Corrupt { .. } => StageError::Refused(error.to_string()),
        })?;
        Ok(Staged {
            current,
            generation: self.generation,
            state,
            membership,
        })
    }
}

/// Writes a snapshot of this very process beside the current state.
pub(crate) async fn stage_outgoing(shared: &Arc<Shared>, mut outgoing: Outgoing) -> io::Result<Staged> {
    let mut stage = Stage::begin(shared.clone(), outgoing.current.clone());
    let mut number = 0;
    while let Some(chunk) = outgoing.next().await? {
        stage = shared
            .threads
            .run(move || stage.chunk(number, &chunk).map(|()| stage))
            .await?
            .map_err(|e| io::Error::other(e.to_string()))?;
        number += 1;
    }
    let finished = shared.threads.run(move || stage.finish(number)).await?;
    finished.map_err(|e| io::Error::other(e.to_string()))
}

/// Makes a staged snapshot current. Blocks.
///
/// # Errors
/// The disk failed: which of the two states is current is only known after opening it again.
pub(crate) fn switch(shared: &Shared, staged: Staged) -> Result<(), EngineError> {
    let Staged {
        current,
        generation,
        state,
        membership,
    } = staged;
    let last = current.applied.map(LogId::from);
    let mut batch = Batch::new();
    batch.put(Table::StateMeta, CURRENT, current.encode());
    shared.engine.write(batch, Durability::Unlogged)?;
    // Rows and the row that makes them current reach the disk at one point.
    shared.engine.flush()?;

    let mut applier = shared.applier.lock();
    let old = std::mem::replace(&mut applier.generation, generation);
    applier.state = state;
    applier.applied = last;
    applier.installed = last;
    applier.membership = membership;
    applier.unflushed_bytes = 0;
    publish(&applier);
    drop(applier);
    shared.retire(&old);
    shared.durable_upto(last);
    shared.snapshot_made();
    Ok(())
}

fn publish(applier: &Applier) {
    // No units: whoever follows the history finds the gap by the revision, and reads it from the
    // view.
    applier
        .publisher
        .publish(applier.state.clone(), applier.applied, applier.history(), Vec::new());
}
