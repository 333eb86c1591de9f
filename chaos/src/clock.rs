//! A node's clocks in simulated time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use raft::env::Clock;

/// Where simulated wall clocks begin: 2030-01-01 UTC, in ms since 1970.
pub const EPOCH_MS: u64 = 1_893_456_000_000;

/// Time since the simulation began. Zero where none is running.
#[must_use]
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The clocks of one node. Monotonic time is that of the simulation; the wall clock may be off.
#[derive(Debug)]
pub struct SimClock {
    ahead_ms: Arc<AtomicI64>,
    last_us: AtomicU64,
}

impl SimClock {
    /// Clocks whose wall time is ahead of the simulation's by this many milliseconds, which may be changed at any time.
    #[must_use]
    pub fn ahead_by(ahead_ms: Arc<AtomicI64>) -> Self {
        Self {
            ahead_ms,
            last_us: AtomicU64::new(0),
        }
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        // While a crashed node's tasks are dropped there is no simulated time: time stands still then.
        let us = u64::try_from(now().as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.last_us.fetch_max(us, Ordering::Relaxed).max(us))
    }

    fn wall_ms(&self) -> u64 {
        let ms = u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX);
        EPOCH_MS
            .saturating_add(ms)
            .saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }
}
