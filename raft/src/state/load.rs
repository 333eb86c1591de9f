//! Opens the state store: reads the current generation, checks it, forgets all others.

use statemachine::rows::{Table as StateTable, history_key};
use statemachine::{Loader, RECENT_MAX, Revision, State};

use crate::engine::{Batch, Durability, Engine, EngineError, KeyRange, Table};
use crate::state::rows::{CURRENT, Current, TABLES, bare_key, full_key, generation_range, value};

/// Rows read in one call to the engine.
const SCAN_ROWS: usize = 4096;

/// Reads what is current. A new store is given its first generation.
///
/// # Errors
/// [`EngineError::Corrupt`] naming the table (and row) whose rows are damaged or missing.
pub(crate) fn open(engine: &dyn Engine) -> Result<(Current, State), EngineError> {
    let current = match engine.get(Table::StateMeta, CURRENT)? {
        Some(row) => Current::decode(&row)?,
        None => {
            let current = Current::empty();
            let mut batch = Batch::new();
            batch.put(Table::StateMeta, CURRENT, current.encode());
            engine.write(batch, Durability::Unlogged)?;
            engine.flush()?;
            current
        }
    };
    forget_others(engine, current.generation)?;
    let state = generation(engine, &current)?;
    Ok((current, state))
}

/// Reads the rows of a generation and checks them against its head.
pub(crate) fn generation(engine: &dyn Engine, current: &Current) -> Result<State, EngineError> {
    let mut loader = Loader::new();
    for (table, name) in [
        (Table::Records, StateTable::Records),
        (Table::Cluster, StateTable::Cluster),
    ] {
        let range = generation_range(table, current.generation);
        each(engine, range, |key, bytes| {
            loader.row(name, key, bytes).map_err(|e| corrupt(table, &e))
        })?;
    }
    let last = Revision(current.revision);
    if last.0 > 0 {
        recent_history(engine, current.generation, last, &mut loader)?;
    }
    let state = loader
        .finish(Some(&current.head))
        .map_err(|e| corrupt(Table::Records, &e))?;
    if state.mesh.position().revision != last {
        let detail = format!("its head is at revision {}, not {last}", state.mesh.position().revision);
        return Err(EngineError::corrupt("table state_meta, row current", detail));
    }
    check_history(engine, current.generation, &state)?;
    Ok(state)
}

/// The history has to begin at the floor and to end in what the head says.
fn check_history(engine: &dyn Engine, generation: u32, state: &State) -> Result<(), EngineError> {
    let (mesh, last) = (&state.mesh, state.mesh.position().revision);
    if last.0 == 0 {
        return Ok(());
    }
    let agrees = mesh
        .recent_at(last)
        .is_some_and(|recent| recent.chain == mesh.chain() && recent.digest == mesh.digest());
    if !agrees {
        let detail = format!("revision {last} does not end in the chain and digest of the head");
        return Err(EngineError::corrupt("table history", detail));
    }
    let floor = mesh.mesh().map_or(Revision(1), |record| record.floor);
    let key = full_key(generation, &history_key(floor));
    if engine.get(Table::History, &key)?.is_none() {
        let detail = format!("revision {floor}, where it should begin, is missing");
        return Err(EngineError::corrupt("table history", detail));
    }
    Ok(())
}

/// The last history rows, none of which may be missing.
fn recent_history(
    engine: &dyn Engine,
    generation: u32,
    last: Revision,
    loader: &mut Loader,
) -> Result<(), EngineError> {
    let first = Revision(last.0.saturating_sub(RECENT_MAX as u64 - 1).max(1));
    let range = KeyRange {
        table: Table::History,
        from: full_key(generation, &history_key(first)),
        to: full_key(generation, &history_key(last.next())),
    };
    let mut next: Option<u64> = None;
    each(engine, range, |key, bytes| {
        let revision = <[u8; 8]>::try_from(key).map(u64::from_be_bytes).unwrap_or_default();
        if next.is_some_and(|next| next != revision) {
            return Err(EngineError::corrupt(
                "table history",
                format!("no row before revision {revision}"),
            ));
        }
        next = Some(revision + 1);
        loader
            .row(StateTable::History, key, bytes)
            .map_err(|e| corrupt(Table::History, &e))
    })?;
    if next != Some(last.0 + 1) {
        return Err(EngineError::corrupt(
            "table history",
            format!("revision {last} is missing"),
        ));
    }
    Ok(())
}

fn corrupt(table: Table, error: &statemachine::LoadError) -> EngineError {
    match error {
        statemachine::LoadError::TooNew { .. } => EngineError::Foreign {
            place: format!("table {table}"),
            detail: error.to_string(),
        },
        error => EngineError::corrupt(format!("table {table}"), error.to_string()),
    }
}

/// Visits the rows of a range by their bare keys and checked values.
pub(crate) fn each(
    engine: &dyn Engine,
    range: KeyRange,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let KeyRange { table, mut from, to } = range;
    loop {
        let rows = engine.scan(table, &from, &to, SCAN_ROWS)?;
        for (key, sealed) in &rows {
            visit(&bare_key(key), &value(table, key, sealed)?)?;
        }
        match rows.last() {
            Some((key, _)) if rows.len() == SCAN_ROWS => {
                from = key.to_vec();
                from.push(0);
            }
            _ => return Ok(()),
        }
    }
}

/// Removes rows that a crash, or an interrupted snapshot, left in other generations.
fn forget_others(engine: &dyn Engine, generation: u32) -> Result<(), EngineError> {
    for table in TABLES {
        let kept = generation_range(table, generation);
        for (from, to) in [(Vec::new(), kept.from), (kept.to, vec![0xff; 5])] {
            // A tombstone where there is nothing would only slow reads down.
            if !engine.scan(table, &from, &to, 1)?.is_empty() {
                engine.delete_range(table, &from, &to)?;
            }
        }
    }
    Ok(())
}
