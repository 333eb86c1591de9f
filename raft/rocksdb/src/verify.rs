//! A store's files, read again from the disk while the store is in use.
//!
//! What is read through the open store may come from its block cache, and from the operating system's: it says nothing
//! of what has become of the disk since. So the files are opened a second time, read-only, without a cache of ours and
//! past that of the system, and every block in them is read and checked against its checksum: also those that hold
//! nothing but rows which newer ones hide, because a compaction will read them one day.

use std::ops::ControlFlow;

use raft::engine::EngineError;
use rocksdb::{DB, ReadOptions};

use crate::RocksEngine;
use crate::error::translate;

/// Bytes read ahead of the rows that are looked at.
const READ_AHEAD: usize = 256 << 10;

impl RocksEngine {
    /// Reads every block of every file. `visit` is told the bytes of each row that is there, and may break it off.
    pub(crate) fn verify_files(&self, visit: &mut dyn FnMut(usize) -> ControlFlow<()>) -> Result<(), EngineError> {
        let files = self.reopened()?;
        for table in self.store.tables() {
            let handle = files.cf_handle(table.as_str()).ok_or_else(|| {
                EngineError::corrupt(
                    self.path.display().to_string(),
                    format!("table {table} is missing on disk"),
                )
            })?;
            let mut options = ReadOptions::default();
            options.set_total_order_seek(true);
            // Rows that were removed are still in blocks, and those are what is looked at.
            #[allow(deprecated, reason = "it is not for speed, which is what it is discouraged for")]
            options.set_ignore_range_deletions(true);
            options.set_readahead_size(READ_AHEAD);
            let mut rows = files.raw_iterator_cf_opt(handle, options);
            rows.seek_to_first();
            while let Some((key, value)) = rows.item() {
                if visit(key.len() + value.len()).is_break() {
                    return Ok(());
                }
                rows.next();
            }
            rows.status().map_err(|e| self.failed("verify", e))?;
        }
        Ok(())
    }

    /// The files as they are now, open a second time. They stay readable when a compaction removes them.
    fn reopened(&self) -> Result<DB, EngineError> {
        // From the look at the list of files until all of them are open.
        self.db.disable_file_deletions().map_err(|e| self.failed("verify", e))?;
        let opened = match self.open_beside(true) {
            // Not every file system can be read past its cache.
            Err(EngineError::Io { .. }) => self.open_beside(false),
            opened => opened,
        };
        self.db.enable_file_deletions().map_err(|e| self.failed("verify", e))?;
        opened
    }

    fn open_beside(&self, past_the_system_cache: bool) -> Result<DB, EngineError> {
        let options = self.options.verification(self.store, past_the_system_cache);
        let tables = self.store.tables().iter().map(|table| self.options.uncached(*table));
        DB::open_cf_descriptors_read_only(&options, &self.path, tables, false)
            .map_err(|e| translate(&format!("verify {}", self.path.display()), e))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::unix::fs::FileExt;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicBool, Ordering};

    use raft::engine::{Batch, Durability, Engine, KeyRange, Store, Table, Visit};

    use super::*;
    use crate::Options;

    fn open(path: &Path) -> RocksEngine {
        RocksEngine::open(path, Store::State, &Options::default()).unwrap()
    }

    fn put(engine: &RocksEngine, table: Table, keys: std::ops::Range<u32>, value: &str) {
        let mut batch = Batch::new();
        for key in keys {
            batch.put(table, key.to_be_bytes(), format!("{value} of {key}").repeat(10));
        }
        engine.write(batch, Durability::Unlogged).unwrap();
    }

    fn tables(path: &Path) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).unwrap();
        let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        found.retain(|path| path.extension().is_some_and(|end| end == "sst"));
        found.sort();
        found
    }

    fn writable(path: &Path) -> File {
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    fn flip(file: &File, at: u64) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    fn verify(engine: &RocksEngine) -> Result<usize, EngineError> {
        let mut bytes = 0;
        engine.verify(&mut |more| {
            bytes += more;
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }

    fn read_all(engine: &RocksEngine, table: Table) -> Result<usize, EngineError> {
        let mut rows = 0;
        let range = KeyRange {
            table,
            from: Vec::new(),
            to: vec![0xff; 5],
        };
        engine.export(&[range], &mut |visit| {
            rows += usize::from(matches!(visit, Visit::Row(..)));
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    #[test]
    fn a_flip_beneath_a_cached_block_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        put(&engine, Table::Records, 0..100, "first");
        engine.flush().unwrap();
        // All of it is in the cache now, and more in a memtable.
        engine.scan(Table::Records, &[], &[0xff; 5], 1_000).unwrap();
        put(&engine, Table::Records, 100..110, "second");
        assert!(verify(&engine).unwrap() > 10_000);
        let file = writable(tables(directory.path()).first().unwrap());
        let at = file.metadata().unwrap().len() / 4;
        flip(&file, at);
        assert_eq!(
            read_all(&engine, Table::Records).unwrap(),
            110,
            "the store itself reads it from its cache, and sees nothing"
        );
        let found = verify(&engine).unwrap_err();
        assert!(
            matches!(&found, EngineError::Corrupt { .. }) && found.to_string().contains("checksum"),
            "{found}"
        );
        flip(&file, at);
        verify(&engine).unwrap();
    }

    /// Rows that are there, that newer ones hide, and that were removed, one by one and as a range. In tables without
    /// filters: one that does not check out is not used by RocksDB, and so misleads nobody.
    #[test]
    fn flips_are_found_wherever_they_are() {
        const FOOTER: u64 = 53;
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        put(&engine, Table::Index, 0..60, "first");
        put(&engine, Table::History, 0..60, "removed");
        engine.flush().unwrap();
        put(&engine, Table::Index, 0..50, "second");
        let mut batch = Batch::new();
        batch.delete_range(Table::History, 0_u32.to_be_bytes(), 100_u32.to_be_bytes());
        batch.delete(Table::Index, 55_u32.to_be_bytes());
        engine.write(batch, Durability::Unlogged).unwrap();
        engine.flush().unwrap();
        verify(&engine).unwrap();
        let (mut tried, mut missed) = (0, Vec::new());
        for path in tables(directory.path()) {
            let file = writable(&path);
            let length = file.metadata().unwrap().len();
            for at in (0..length - FOOTER).step_by(37) {
                flip(&file, at);
                tried += 1;
                if verify(&engine).is_ok() {
                    missed.push((path.file_name().unwrap().to_owned(), at, length));
                }
                flip(&file, at);
            }
        }
        assert!(tried > 200, "{tried}");
        assert!(missed.is_empty(), "{} of {tried}: {missed:?}", missed.len());
    }

    #[test]
    fn a_file_that_is_gone_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        put(&engine, Table::Records, 0..10, "first");
        engine.flush().unwrap();
        std::fs::remove_file(tables(directory.path()).first().unwrap()).unwrap();
        let found = verify(&engine).unwrap_err();
        assert!(matches!(&found, EngineError::Corrupt { .. }), "{found}");
    }

    #[test]
    fn it_is_broken_off() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        put(&engine, Table::Records, 0..100, "first");
        engine.flush().unwrap();
        let mut visited = 0;
        let visit = &mut |_| {
            visited += 1;
            if visited < 5 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        };
        engine.verify(visit).unwrap();
        assert_eq!(visited, 5);
    }

    /// Files come and go beneath it, and nothing is taken for damage.
    #[test]
    fn flushes_and_compactions_do_not_disturb_it() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path());
        let ended = AtomicBool::new(false);
        let verified = std::thread::scope(|scope| {
            let verifier = scope.spawn(|| {
                let mut verified = 0;
                while !ended.load(Ordering::Relaxed) {
                    verify(&engine).unwrap();
                    verified += 1;
                }
                verified
            });
            for round in 0..300 {
                put(&engine, Table::Records, 0..20, &format!("round {round}"));
                put(&engine, Table::History, round * 20..round * 20 + 20, "history");
                engine
                    .delete_range(Table::History, &0_u32.to_be_bytes(), &(round * 10).to_be_bytes())
                    .unwrap();
                engine.flush().unwrap();
                if verifier.is_finished() {
                    break;
                }
            }
            ended.store(true, Ordering::Relaxed);
            verifier.join().unwrap()
        });
        assert!(verified > 3, "{verified}");
    }
}
