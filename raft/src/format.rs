//! The marker row in each store: which format it has, and whose it is.

use serde::{Deserialize, Serialize};
use statemachine::codec::{self, Format};

use crate::checksum::{seal, unseal};
use crate::engine::{Batch, Durability, Engine, EngineError, Store, Table};
use crate::net::Identity;
use crate::recovery;

/// The only version of the stores' layout.
const LAYOUT: u32 = 1;
const KEY: &[u8] = b"marker";

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Marker {
    layout: u32,
    store: String,
    mesh: String,
    cluster: String,
    node: u64,
}

/// Checks that both stores belong to this node, or makes new ones its own. A new log store is
/// marked as not recovered: see [`recovery`](crate::recovery).
///
/// # Errors
/// [`EngineError::Foreign`] says whose it is; [`EngineError::Corrupt`] when a marker is damaged, or
/// when there is a state and its log is gone.
pub(crate) fn claim(log: &dyn Engine, state: &dyn Engine, own: &Identity) -> Result<(), EngineError> {
    let (has_log, has_state) = (is_own(log, Store::Log, own)?, is_own(state, Store::State, own)?);
    if has_state && !has_log {
        let detail = "it is empty, and the state store is not: the log was lost. Remove both stores, and the node \
                      rebuilds itself from the others";
        return Err(EngineError::corrupt("log store", detail));
    }
    if !has_log {
        let mut batch = marked(Store::Log, own);
        batch.put(Table::LogMeta, recovery::KEY, recovery::marker());
        log.write(batch, Durability::Synced)?;
    }
    if !has_state {
        state.write(marked(Store::State, own), Durability::Unlogged)?;
        state.flush()?;
    }
    Ok(())
}

fn table_of(store: Store) -> Table {
    match store {
        Store::Log => Table::LogMeta,
        Store::State => Table::StateMeta,
    }
}

fn marker(store: Store, own: &Identity) -> Marker {
    Marker {
        layout: LAYOUT,
        store: store.as_str().to_owned(),
        mesh: own.mesh.to_string(),
        cluster: own.cluster.to_string(),
        node: own.node.0,
    }
}

fn marked(store: Store, own: &Identity) -> Batch {
    let mut batch = Batch::new();
    let row = seal(codec::encode(Format::Raft, &marker(store, own)));
    batch.put(table_of(store), KEY, row);
    batch
}

/// Whether a store is this node's already; `false` for a new one.
fn is_own(engine: &dyn Engine, store: Store, own: &Identity) -> Result<bool, EngineError> {
    let (table, marker) = (table_of(store), marker(store, own));
    let Some(row) = engine.get(table, KEY)? else {
        return Ok(false);
    };
    let place = format!("{} store", store.as_str());
    let damaged = |detail: String| EngineError::corrupt(format!("table {table}, row marker"), detail);
    let value = unseal(&row).map_err(damaged)?;
    let found: Marker = codec::decode(Format::Raft, &value).map_err(|e| damaged(e.to_string()))?;
    if found.layout != LAYOUT {
        let detail = format!("has layout {}, this release knows {LAYOUT}", found.layout);
        return Err(EngineError::Foreign { place, detail });
    }
    if found != marker {
        let detail = format!(
            "is the {} store of node {} of cluster {} of mesh {}",
            found.store, found.node, found.cluster, found.mesh
        );
        return Err(EngineError::Foreign { place, detail });
    }
    Ok(true)
}
