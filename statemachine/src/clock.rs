//! Mesh time: the one clock that the replicated state may depend on.
//!
//! A leader continues from the last committed mesh time with its monotonic clock, and slews towards its wall clock at a
//! bounded rate. So a wall clock that jumps a year can neither expire nor freeze anything, while mesh time still ends
//! up near wall time once clocks are right.

/// For every second that passes, mesh time may gain or lose this many milliseconds to come nearer to wall time.
pub const SLEW_MS_PER_S: u64 = 100;

/// A leader's mesh clock. Sans-IO: the caller reads the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshClock {
    mesh_ms: u64,
    monotonic_ms: u64,
}

impl MeshClock {
    /// Starts from the last committed mesh time at a reading of the monotonic clock. A mesh without time yet
    /// (`committed_ms` = 0) starts at wall time.
    #[must_use]
    pub fn take_over(committed_ms: u64, monotonic_ms: u64, wall_ms: u64) -> Self {
        let mesh_ms = if committed_ms == 0 { wall_ms } else { committed_ms };
        Self { mesh_ms, monotonic_ms }
    }

    /// Mesh time at a reading of both clocks. Never steps back.
    pub fn now(&mut self, monotonic_ms: u64, wall_ms: u64) -> u64 {
        let elapsed = monotonic_ms.saturating_sub(self.monotonic_ms);
        if elapsed == 0 {
            return self.mesh_ms;
        }
        let straight = self.mesh_ms.saturating_add(elapsed);
        let bound = slew_bound(elapsed, self.monotonic_ms, monotonic_ms);
        let slewed = if wall_ms > straight {
            straight.saturating_add(bound.min(wall_ms - straight))
        } else {
            straight.saturating_sub(bound.min(straight - wall_ms))
        };
        self.mesh_ms = slewed.max(self.mesh_ms);
        self.monotonic_ms = self.monotonic_ms.max(monotonic_ms);
        self.mesh_ms
    }
}

/// Whole steps of slew that fall between two readings, so that many small readings slew as much as one large one.
fn slew_bound(elapsed: u64, from_ms: u64, to_ms: u64) -> u64 {
    const STEP_MS: u64 = 1000 / SLEW_MS_PER_S;
    let steps = to_ms / STEP_MS - from_ms / STEP_MS;
    steps.min(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_MS: u64 = 365 * 86_400_000;

    #[test]
    fn a_jump_of_a_year_moves_mesh_time_by_the_slew_only() {
        let start = 50 * YEAR_MS;
        for wall in [start - YEAR_MS, start + YEAR_MS] {
            let mut clock = MeshClock::take_over(start, 0, start);
            let mut last = start;
            for tick in 1..=600 {
                let now = clock.now(tick * 100, wall);
                assert!(now >= last, "stepped back");
                last = now;
            }
            let moved = last - start;
            assert!((54_000..=66_000).contains(&moved), "60 s became {moved} ms");
        }
    }

    #[test]
    fn it_settles_on_wall_time() {
        let start = 50 * YEAR_MS;
        let mut clock = MeshClock::take_over(start, 0, start + 1000);
        for tick in 1..=200 {
            clock.now(tick * 100, start + 1000 + tick * 100);
        }
        assert_eq!(clock.now(20_001, start + 21_001), start + 21_001);
    }

    #[test]
    fn readings_do_not_multiply_the_slew() {
        let start = 50 * YEAR_MS;
        let mut often = MeshClock::take_over(start, 0, start);
        (1..=10_000).for_each(|ms| {
            often.now(ms, start + YEAR_MS);
        });
        let mut once = MeshClock::take_over(start, 0, start);
        assert_eq!(often.now(10_001, start + YEAR_MS), once.now(10_001, start + YEAR_MS));
    }
}
