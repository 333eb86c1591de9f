//! RocksDB behind `raft`'s `Engine`.
//!
//! Owns: how the two stores of a node are laid out and tuned in RocksDB, and what each of its
//! errors means. Does not own: what the rows mean, when they are written or synced, or whether
//! a directory belongs to this node (`raft` checks the marker row it keeps in each store).

mod error;
mod framing;
mod memory;
mod options;
mod verify;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use raft::engine::{Batch, Change, Durability, Engine, EngineError, KeyRange, Row, Store, Table, Visit};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{ColumnFamily, DB, FlushOptions, IteratorMode, ReadOptions, WriteBatch, WriteOptions};

pub use memory::Memory;
pub use options::Options;

use error::translate;

/// One store of a node, open in RocksDB.
pub struct RocksEngine {
    db: DB,
    store: Store,
    path: PathBuf,
    options: Options,
}

impl std::fmt::Debug for RocksEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksEngine")
            .field("store", &self.store)
            .field("path", &self.path)
            .finish()
    }
}

impl RocksEngine {
    /// Opens the store in directory `path`, creating it if it is not there.
    ///
    /// # Errors
    /// [`EngineError::Foreign`] when another process has it open, [`EngineError::Corrupt`] naming
    /// the file when something in it fails its checksum or has the wrong length.
    pub fn open(path: &Path, store: Store, options: &Options) -> Result<Self, EngineError> {
        let context = || format!("{} store in {}", store.as_str(), path.display());
        framing::check(path)?;
        std::fs::create_dir_all(path).map_err(|e| EngineError::io(context(), e))?;
        let shared = options.shared(store);
        let tables = store.tables().iter().map(|t| options.table(*t, &shared));
        let mut database = options.database(store);
        shared.bound(&mut database);
        let db = DB::open_cf_descriptors(&database, path, tables).map_err(|e| translate(&context(), e))?;
        let engine = Self {
            db,
            store,
            path: path.to_path_buf(),
            options: options.clone(),
        };
        engine.check_bookkeeping()?;
        Ok(engine)
    }

    /// Reads the small tables whole. Only single rows of them are looked up later, and a damaged block that holds
    /// none of the newest would be found by a compaction, at a time of its own choosing.
    fn check_bookkeeping(&self) -> Result<(), EngineError> {
        for table in self.store.tables() {
            match table {
                Table::LogMeta | Table::StateMeta => {}
                Table::Log | Table::Records | Table::History | Table::Index | Table::Cluster => continue,
            }
            for row in self.db.iterator_cf(self.table(*table)?, IteratorMode::Start) {
                row.map_err(|e| self.failed("check", e))?;
            }
        }
        Ok(())
    }

    fn table(&self, table: Table) -> Result<&ColumnFamily, EngineError> {
        self.db
            .cf_handle(table.as_str())
            .ok_or_else(|| EngineError::corrupt(self.path.display().to_string(), format!("table {table} is missing")))
    }

    fn failed(&self, doing: &str, error: rocksdb::Error) -> EngineError {
        translate(&format!("{doing} in {}", self.path.display()), error)
    }

    fn bounded(from: &[u8], to: &[u8]) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        options.set_total_order_seek(true);
        options
    }
}

impl Engine for RocksEngine {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        let mut writes = WriteBatch::default();
        for change in batch.changes() {
            match change {
                Change::Put { table, key, value } => writes.put_cf(self.table(*table)?, key, value),
                Change::Delete { table, key } => writes.delete_cf(self.table(*table)?, key),
                Change::DeleteRange { table, from, to } => {
                    writes.delete_range_cf(self.table(*table)?, from, to);
                }
            }
        }
        let mut options = WriteOptions::default();
        match durability {
            Durability::Synced => options.set_sync(true),
            Durability::Logged => options.set_sync(false),
            Durability::Unlogged => options.disable_wal(true),
        }
        self.db.write_opt(writes, &options).map_err(|e| self.failed("write", e))
    }

    fn delete_range(&self, table: Table, from: &[u8], to: &[u8]) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        batch.delete_range(table, from, to);
        let durability = match self.store {
            Store::Log => Durability::Logged,
            Store::State => Durability::Unlogged,
        };
        self.write(batch, durability)
    }

    fn flush(&self) -> Result<(), EngineError> {
        let mut tables = Vec::with_capacity(self.store.tables().len());
        for table in self.store.tables() {
            tables.push(self.table(*table)?);
        }
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db
            .flush_cfs_opt(&tables, &options)
            .map_err(|e| self.failed("flush", e))
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let value = self
            .db
            .get_cf(self.table(table)?, key)
            .map_err(|e| self.failed("read", e))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, EngineError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let options = Self::bounded(from, to);
        let rows = self
            .db
            .iterator_cf_opt(self.table(table)?, options, IteratorMode::Start);
        rows.take(limit)
            .map(|row| {
                let (key, value) = row.map_err(|e| self.failed("scan", e))?;
                Ok((Bytes::from(key), Bytes::from(value)))
            })
            .collect()
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, EngineError> {
        if from >= to {
            return Ok(None);
        }
        let options = Self::bounded(from, to);
        let mut rows = self.db.iterator_cf_opt(self.table(table)?, options, IteratorMode::End);
        match rows.next() {
            None => Ok(None),
            Some(Ok((key, value))) => Ok(Some((Bytes::from(key), Bytes::from(value)))),
            Some(Err(e)) => Err(self.failed("scan", e)),
        }
    }

    fn export(&self, ranges: &[KeyRange], visit: &mut dyn FnMut(Visit) -> ControlFlow<()>) -> Result<(), EngineError> {
        let pinned = self.db.snapshot();
        if visit(Visit::Pinned).is_break() {
            return Ok(());
        }
        for KeyRange { table, from, to } in ranges {
            let mut options = Self::bounded(from, to);
            // All of it is read once: it would push out what is read often.
            options.fill_cache(false);
            for row in pinned.iterator_cf_opt(self.table(*table)?, options, IteratorMode::Start) {
                let (key, value) = row.map_err(|e| self.failed("export", e))?;
                let row = (Bytes::from(key), Bytes::from(value));
                if visit(Visit::Row(*table, row)).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn verify(&self, visit: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<(), EngineError> {
        self.verify_files(visit)
    }

    fn checkpoint(&self, to: &Path) -> Result<(), EngineError> {
        // A checkpoint copies the write-ahead log but not the memtables of tables without one.
        self.flush()?;
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(|e| self.failed("checkpoint", e))
    }
}
