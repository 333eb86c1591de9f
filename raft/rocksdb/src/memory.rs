//! What a store takes of memory, as RocksDB itself counts it.

use rocksdb::properties;

use crate::RocksEngine;

/// Memory of one store, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Blocks that were read from files, index and filter blocks included.
    pub block_cache: u64,
    /// Writes that are in no file yet, those that are being written out included.
    pub memtables: u64,
    /// What open files keep beside the cache.
    pub table_readers: u64,
}

impl RocksEngine {
    /// What the store takes now.
    pub fn memory(&self) -> Memory {
        let mut memory = Memory::default();
        for table in self.store.tables() {
            let Ok(table) = self.table(*table) else { continue };
            // RocksDB knows all of these of every table; what it does not say is not counted.
            let of = |name| self.db.property_int_value_cf(table, name).ok().flatten().unwrap_or(0);
            // All tables share one cache, so each of them tells of the whole.
            memory.block_cache = of(properties::BLOCK_CACHE_USAGE);
            memory.memtables += of(properties::SIZE_ALL_MEM_TABLES);
            memory.table_readers += of(properties::ESTIMATE_TABLE_READERS_MEM);
        }
        memory
    }
}

#[cfg(test)]
mod tests {
    use raft::engine::{Batch, Durability, Engine, Store, Table};

    use super::*;
    use crate::Options;

    #[test]
    fn what_is_written_is_counted_and_what_is_read_again_is_cached() {
        let directory = tempfile::tempdir().unwrap();
        let engine = RocksEngine::open(directory.path(), Store::State, &Options::default()).unwrap();
        let (empty, mut batch) = (engine.memory(), Batch::new());
        for key in 0..1_000_u32 {
            batch.put(Table::History, key.to_be_bytes(), vec![0xa5; 1_000]);
        }
        engine.write(batch, Durability::Unlogged).unwrap();
        let written = engine.memory();
        assert!(
            written.memtables > empty.memtables + 1_000_000,
            "{empty:?}, then {written:?}"
        );
        engine.flush().unwrap();
        assert!(engine.memory().memtables < written.memtables, "{:?}", engine.memory());
        let before = engine.memory().block_cache;
        engine.scan(Table::History, &[], &[0xff; 5], 2_000).unwrap();
        assert!(engine.memory().block_cache > before + 900_000, "{:?}", engine.memory());
    }
}
