//! The API over a real cluster in one process: three nodes on simulated disks and streams in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what it expects by failing"
)]

mod approvals;
mod backup;
mod golden;
mod grpc;
mod hostile;
mod leader;
mod limits;
mod operations;
mod paging;
mod preconditions;
mod rest;
mod sessions;
mod shards;
mod standing;
mod trail;
mod watches;
mod world;
