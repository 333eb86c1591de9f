//! How the stores are tuned.

use raft::engine::{Store, Table};
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel};

const MIB: usize = 1 << 20;

/// What can be tuned.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of each table's memtable before RocksDB writes it out. More means fewer, larger
    /// files and, for the state, more log to replay after a crash.
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
            memtable_bytes: 32 * MIB,
            wal_bytes_max: 128 * MIB as u64,
            cache_bytes: 32 * MIB,
            open_files_max: 512,
        }
    }
}

impl Options {
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

    pub(crate) fn table(&self, table: Table) -> ColumnFamilyDescriptor {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(self.cache_bytes));
        blocks.set_format_version(5);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
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
        ColumnFamilyDescriptor::new(table.as_str(), options)
    }
}
