//! `[storage]` and `[retention]`: what is kept on disk, and for how long.

use crate::config::settings::{section, within};

section! {
    /// The two stores on disk, log and state.
    pub struct Storage {
        /// Memory that caches blocks for reads, per store.
        cache_bytes: u64 = 16_777_216_u64 => within(1_048_576, 1_099_511_627_776);
        /// Memory that collects writes of the state before they become files, and half as much for the log; while that goes
        /// on, up to as much again. More means fewer files, and more log to replay after a crash.
        memtable_bytes: u64 = 16_777_216_u64 => within(1_048_576, 4_294_967_296);
        /// Size the log store's write-ahead files may reach before tables are written out.
        wal_bytes_max: u64 = 134_217_728_u64 => within(16_777_216, 68_719_476_736);
        /// Files kept open, per store.
        open_files_max: u64 = 512_u64 => within(64, 1_000_000);
        /// The state is made durable after this many bytes of changes …
        state_flush_bytes: u64 = 12_582_912_u64 => within(65_536, 4_294_967_296);
        /// … or this long after a change; until then the log holds what is needed to rebuild it.
        state_flush_interval_ms: u64 = 10_000_u64 => within(100, 3_600_000);
        /// Below this many free bytes on its disk the node takes no mutations, raises `NOSPACE` and leaves leading to
        /// others; it goes on at a quarter more …
        disk_soft_bytes: u64 = 268_435_456_u64 => within(0, 1_099_511_627_776);
        /// … or below this share of the disk in percent, whichever is more.
        disk_soft_percent: u64 = 1_u64 => within(0, 50);
        /// Below this many free bytes the ballast is given up.
        disk_hard_bytes: u64 = 67_108_864_u64 => within(0, 1_099_511_627_776);
        /// Size of the ballast, a file in the data directory whose space is for what has to be written when all else
        /// is taken. 0: none.
        ballast_bytes: u64 = 67_108_864_u64 => within(0, 68_719_476_736);
        /// Between two measurements of the disk.
        disk_check_interval_ms: u64 = 1_000_u64 => within(50, 60_000);
        /// Between two passes of the scrub, which reads all blocks on disk, past every cache, and counts all rows and
        /// all records in memory again to find what has changed on its own.
        scrub_interval_ms: u64 = 3_600_000_u64 => within(100, 2_592_000_000);
        /// How much of them the scrub reads in a second. It reads the disk twice, blocks and rows.
        scrub_bytes_per_s: u64 = 16_777_216_u64 => within(65_536, 4_294_967_296);
        /// Memory for the newest entries of the log, for replication and apply.
        log_tail_bytes: u64 = 2_097_152_u64 => within(1_048_576, 4_294_967_296);
    }
}

section! {
    /// How much of the past is kept.
    pub struct Retention {
        /// Audit records between two checkpoints that the leader signs.
        audit_checkpoint_records: u64 = 1_000_u64 => within(1, 1_000_000);
        /// After this long one is signed also with fewer, if there are any at all.
        audit_checkpoint_interval_ms: u64 = 60_000_u64 => within(100, 86_400_000);
    }
}
