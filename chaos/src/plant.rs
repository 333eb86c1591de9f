//! Bugs that are put in on purpose, to see that the invariants find them. Off unless asked for.

use clap::ValueEnum;

/// A bug to plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// Every disk reports synced writes as durable and makes none so: what a forgotten fsync does.
    LyingSync,
    /// The same, on the log's disks only.
    LyingLogSync,
}
