//! Letting go of history on this node's disk: rows below the mesh's floor are removed in the background, a bounded batch
//! at a time.
//!
//! Nothing has to be remembered for it. The floor is part of the state, and what is left below it is what the first rows
//! of the history say; a process that starts goes on where the last one stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use statemachine::rows::{history_key, index_key, index_revision};
use statemachine::{Recorded, Revision};

use crate::blocking::Threads;
use crate::engine::{Batch, Durability, Engine, EngineError, Table};
use crate::state::history::Generation;
use crate::state::machine::Shared;
use crate::state::rows::{bare_key, full_key, value};

/// Revisions that are removed by one write.
const BATCH_REVISIONS: usize = 64;

/// How far history has been let go of in one generation of rows.
#[derive(Debug, Default)]
pub(crate) struct Pruned {
    /// Rows below this revision may be gone from the disk.
    begun: AtomicU64,
    /// Rows below this revision are known to be gone.
    done: AtomicU64,
    busy: AtomicBool,
}

impl Pruned {
    /// The oldest revision whose rows are certainly there. Asked after a read: what was read is whole where it begins here
    /// or later.
    pub(crate) fn oldest(&self) -> Revision {
        Revision(self.begun.load(Ordering::SeqCst))
    }

    fn begin(&self, floor: Revision) {
        self.begun.fetch_max(floor.0, Ordering::SeqCst);
    }
}

impl Shared {
    /// Begins to remove what is below the floor, if anything is.
    pub(crate) async fn prune_if_due(self: &Arc<Self>) -> std::io::Result<()> {
        let (floor, generation) = {
            let applier = self.applier.lock();
            (applier.state.mesh.floor(), applier.generation.clone())
        };
        let pruned = &generation.1;
        if pruned.done.load(Ordering::Relaxed) >= floor.0 || pruned.busy.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        pruned.begin(floor);
        match self.threads {
            Threads::Own => {
                let shared = Arc::downgrade(self);
                tokio::task::spawn_blocking(move || prune_in_background(&shared, &generation, floor));
                Ok(())
            }
            Threads::Inline => {
                let outcome = prune_all(&*self.engine, &generation, floor);
                pruned.busy.store(false, Ordering::Release);
                outcome.map_err(|error| self.failed(error))
            }
        }
    }
}

/// Removes batch after batch, until all is gone or the node ends: between two batches nothing is held.
fn prune_in_background(shared: &Weak<Shared>, generation: &Generation, floor: Revision) {
    loop {
        let Some(shared) = shared.upgrade().filter(|shared| shared.fatal.get().is_none()) else {
            break;
        };
        match prune(&*shared.engine, generation, floor) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                shared.fatal.engine(&error);
                break;
            }
        }
    }
    generation.1.busy.store(false, Ordering::Release);
}

fn prune_all(engine: &dyn Engine, generation: &Generation, floor: Revision) -> Result<(), EngineError> {
    while prune(engine, generation, floor)? {}
    Ok(())
}

/// Removes the oldest rows below the floor, each revision with what the index has of it, by one write. Whether there are
/// more.
fn prune(engine: &dyn Engine, generation: &Generation, floor: Revision) -> Result<bool, EngineError> {
    let key = |bytes: &[u8]| full_key(generation.0, bytes);
    let done = Revision(generation.1.done.load(Ordering::Relaxed));
    let (from, to) = (key(&history_key(done)), key(&history_key(floor)));
    let rows = engine.scan(Table::History, &from, &to, BATCH_REVISIONS)?;
    let mut batch = Batch::new();
    let mut last = None;
    for (row, sealed) in &rows {
        let bytes = value(Table::History, row, sealed)?;
        let revision = index_revision(row).unwrap_or_default();
        let recorded = Recorded::decode(&bytes)
            .map_err(|e| EngineError::corrupt(format!("table history, revision {revision}"), e.to_string()))?;
        for (kind, id) in recorded.unit.changes().iter().filter_map(statemachine::Change::key) {
            batch.delete(Table::Index, key(&index_key(kind, &id, revision)));
        }
        last = Some(revision);
    }
    let Some(last) = last else {
        generation.1.done.fetch_max(floor.0, Ordering::Relaxed);
        return Ok(false);
    };
    batch.delete_range(Table::History, from, key(&history_key(last.next())));
    // Together with the state that has the floor, or after it: never before.
    engine.write(batch, Durability::Unlogged)?;
    generation.1.done.fetch_max(last.next().0, Ordering::Relaxed);
    Ok(true)
}

/// Whether a snapshot carries a row: what is below the floor may be on the way out, and is not sent.
pub(crate) fn is_kept(table: Table, key: &bytes::Bytes, floor: Revision) -> bool {
    match table {
        Table::History | Table::Index => index_revision(&bare_key(key)).is_none_or(|revision| revision >= floor),
        Table::Records | Table::Cluster | Table::Log | Table::LogMeta | Table::StateMeta => true,
    }
}
