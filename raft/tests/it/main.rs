//! Tests of consensus from the outside, on simulated disks and on RocksDB.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

mod cluster;
mod compaction;
mod durability;
mod fitness;
mod refusals;
mod snapshots;
mod storage;
mod world;
