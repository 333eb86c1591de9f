//! The API over a real cluster in one process: three nodes on simulated disks and streams in memory.

mod golden;
mod grpc;
mod hostile;
mod leader;
mod operations;
mod paging;
mod rest;
mod world;
