//! What a fleet has to tell.

use std::time::Duration;

use serde::Serialize;

use super::watchman::Seen;

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How many peers there are.
    pub peers: u32,
    /// How many run.
    pub running: u32,
    /// How many shards there are.
    pub shards: u32,
    /// How long the fleet has run, in ms.
    pub ran_ms: u64,
    /// Hand-overs a second, in thousandths.
    pub handed_over_milli_per_s: u64,
    /// What was seen.
    #[serde(flatten)]
    pub seen: Seen,
}

impl Report {
    /// Of what was seen in so much time.
    pub fn of(peers: u32, running: u32, shards: u32, ran: Duration, seen: Seen) -> Self {
        let ran_ms = u64::try_from(ran.as_millis()).unwrap_or(u64::MAX);
        Self {
            peers,
            running,
            shards,
            ran_ms,
            handed_over_milli_per_s: seen.handed_over.saturating_mul(1_000_000) / ran_ms.max(1),
            seen,
        }
    }

    /// Whether nothing was violated.
    pub fn held(&self) -> bool {
        self.seen.violations == 0
    }
}
