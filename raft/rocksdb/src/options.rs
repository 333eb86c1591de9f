//! How the stores are tuned.

use raft::engine::{Store, Table};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, WriteBufferManager,
};

const MIB: usize = 1 << 20;

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of memtables before RocksDB writes them out, of the state store; half of it of the log store. All tables of
    /// a store share them. More means fewer, larger files and, for the state, more log to replay after a crash. While
    /// they are written out, up to as many again are taken by the next.
    pub memtable_bytes: usize,
    /// Bytes of log that RocksDB keeps in write-ahead files before it writes memtables out.
    pub wal_bytes_max: u64,
    /// Bytes of decompressed blocks cached for reads, per store.
    pub cache_bytes: usize,
    /// Files RocksDB keeps open, per store; -1 for all.
    pub open_files_max: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memtable_bytes: 16 * MIB,
            wal_bytes_max: 128 * MIB as u64,
            cache_bytes: 16 * MIB,
            open_files_max: 512,
        }
    }
}

/// What the tables of one store share.
pub(crate) struct Shared {
    cache: Cache,
    memtables: WriteBufferManager,
}

impl Shared {
    /// Has all tables of a database count on the same memory for their memtables.
    pub(crate) fn bound(&self, database: &mut rocksdb::Options) {
        database.set_write_buffer_manager(&self.memtables);
    }
}

impl Options {
    /// What the tables of one store share.
    pub(crate) fn shared(&self, store: Store) -> Shared {
        Shared {
            cache: Cache::new_lru_cache(self.cache_bytes),
            // Writers are not held up at the limit: the tables' own limit of two memtables does that.
            memtables: WriteBufferManager::new_write_buffer_manager(self.memtables(store), false),
        }
    }

    /// The log is written in order of its keys: but for what was truncated its files do not overlap, and are moved where
    /// others are merged. So more and smaller ones cost next to nothing.
    fn memtables(&self, store: Store) -> usize {
        match store {
            Store::Log => self.memtable_bytes / 2,
            Store::State => self.memtable_bytes,
        }
    }

    pub(crate) fn database(&self, store: Store) -> rocksdb::Options {
        let mut options = rocksdb::Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        options.set_max_open_files(self.open_files_max);
        options.set_max_background_jobs(2);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(4 * MIB);
        match store {
            Store::Log => {
                // A torn last record is a write that was never acknowledged. Anything else that
                // does not check out in the write-ahead log is corruption and stops the node:
                // the default mode would silently drop acknowledged entries after it.
                options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
                options.set_track_and_verify_wals_in_manifest(true);
                options.set_max_total_wal_size(self.wal_bytes_max);
            }
            Store::State => {
                // Written without a write-ahead log: all tables reach the disk at one point.
                options.set_atomic_flush(true);
                options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
            }
        }
        options
    }

    pub(crate) fn table(&self, table: Table, shared: &Shared) -> ColumnFamilyDescriptor {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&shared.cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        ColumnFamilyDescriptor::new(table.as_str(), self.family(table, blocks))
    }

    /// As [`Options::database`], for files that are only looked at once more, each of them.
    pub(crate) fn verification(&self, store: Store, past_the_system_cache: bool) -> rocksdb::Options {
        let mut options = self.database(store);
        options.set_max_open_files(-1);
        options.set_max_file_opening_threads(1);
        options.set_skip_stats_update_on_db_open(true);
        // What is in a write-ahead file may be written right now, and is no part of what is looked at.
        options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
        options.set_track_and_verify_wals_in_manifest(false);
        options.set_use_direct_reads(past_the_system_cache);
        options
    }

    /// As [`Options::table`], so that every block comes from the file.
    pub(crate) fn uncached(&self, table: Table) -> ColumnFamilyDescriptor {
        let mut blocks = BlockBasedOptions::default();
        blocks.disable_cache();
        let mut options = self.family(table, blocks);
        // Rows that newer ones hide are read one by one, rather than leapt over.
        options.set_max_sequential_skip_in_iterations(u64::MAX);
        ColumnFamilyDescriptor::new(table.as_str(), options)
    }

    fn family(&self, table: Table, mut blocks: BlockBasedOptions) -> rocksdb::Options {
        blocks.set_format_version(5);
        match table {
            // Read in ranges by index: filters would only cost memory.
            Table::Log | Table::History | Table::Index => {}
            Table::LogMeta | Table::StateMeta | Table::Records | Table::Cluster => {
                blocks.set_bloom_filter(10.0, false);
            }
        }
        let mut options = rocksdb::Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(match table {
            Table::LogMeta | Table::StateMeta => 4 * MIB,
            Table::Log | Table::Records | Table::History | Table::Index | Table::Cluster => self.memtable_bytes,
        });
        options
    }
}
