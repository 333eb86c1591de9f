//! The marker row in each store: which format it has, and whose it is.

use serde::{Deserialize, Serialize};
use statemachine::codec::{self, Format};

use crate::checksum::{seal, unseal};
use crate::engine::{Batch, Durability, Engine, EngineError, Store, Table};
use crate::net::Identity;

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

/// Checks that a store belongs to this node, or makes a new one its own.
///
/// # Errors
/// [`EngineError::Foreign`] says whose it is; [`EngineError::Corrupt`] when the marker is damaged.
pub(crate) fn claim(engine: &dyn Engine, store: Store, own: &Identity) -> Result<(), EngineError> {
    let table = match store {
        Store::Log => Table::LogMeta,
        Store::State => Table::StateMeta,
    };
    let marker = Marker {
        layout: LAYOUT,
        store: store.as_str().to_owned(),
        mesh: own.mesh.to_string(),
        cluster: own.cluster.to_string(),
        node: own.node.0,
    };
    let Some(row) = engine.get(table, KEY)? else {
        let mut batch = Batch::new();
        batch.put(table, KEY, seal(codec::encode(Format::Raft, &marker)));
        return match store {
            Store::Log => engine.write(batch, Durability::Synced),
            Store::State => engine.write(batch, Durability::Unlogged).and_then(|()| engine.flush()),
        };
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
    Ok(())
}
