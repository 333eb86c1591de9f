//! Each node tells the cluster what it alone can know: that its disk is nearly full, that its own state is damaged, or that
//! its clock was set to something that is far from the mesh's time. The leader measures clocks too, but by a clock that has
//! run past the end of the others' certificates a node refuses them, and cannot be asked any more.

use std::time::Duration;

use raft::Error;
use statemachine::cluster::AlarmKind;

use crate::{
    checkup::{clear, raise},
    controller::{Controller, Node, Pass},
};

/// A wall clock that jumps by more than this was not just corrected: no limit for alarms is as wide.
const JUMP_MS: i64 = 600_000;

/// Raises this node's own alarms, and takes them down.
#[derive(Default)]
pub(crate) struct Standing {
    /// How far the wall clock was ahead of the monotonic one, in ms.
    ahead_ms: Option<i64>,
}

impl Standing {
    /// Raises `CLOCK` where the clock has jumped away from the mesh's time. The leader takes it down, once it measures that
    /// the clock is right.
    async fn look_at_clock(&mut self, node: &Node) -> Result<(), Error> {
        let (wall_ms, own) = (node.clock.wall_ms(), node.handle.node());
        let monotonic_ms = u64::try_from(node.clock.monotonic().as_millis()).unwrap_or(u64::MAX);
        let ahead_ms = wall_ms.cast_signed().saturating_sub(monotonic_ms.cast_signed());
        let jump_ms = ahead_ms.saturating_sub(*self.ahead_ms.get_or_insert(ahead_ms));
        let view = node.handle.view();
        if jumped_away(jump_ms, wall_ms, view.state().mesh.stamp().mesh_time_ms) {
            let way = if jump_ms < 0 { "back" } else { "ahead" };
            let detail = format!(
                "its clock has jumped {} ms {way}, by its own monotonic clock",
                jump_ms.unsigned_abs()
            );
            // Tried again while the cluster does not take it.
            raise(node, own, AlarmKind::Clock, detail).await?;
        }
        self.ahead_ms = Some(ahead_ms);
        Ok(())
    }
}

/// Whether a wall clock that has jumped to `wall_ms` is far off now, and was nearer to the mesh's time before.
fn jumped_away(jump_ms: i64, wall_ms: u64, mesh_ms: u64) -> bool {
    let before_ms = wall_ms.saturating_add_signed(jump_ms.saturating_neg());
    jump_ms.saturating_abs() > JUMP_MS && wall_ms.abs_diff(mesh_ms) > before_ms.abs_diff(mesh_ms)
}

impl Controller for Standing {
    fn name(&self) -> &'static str {
        "standing"
    }

    fn period(&self) -> Duration {
        Duration::from_millis(500)
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let own = node.handle.node();
        if node.handle.view().state().cluster.is_removed(own) {
            return Ok(Pass::Idle);
        }
        self.look_at_clock(node).await?;
        let health = node.handle.health();
        if let Some(detail) = health.corrupt() {
            raise(node, own, AlarmKind::Corrupt, detail).await?;
        }
        if let Some(disk) = health.disk() {
            let (free, mark) = (disk.free_bytes, disk.mark_bytes);
            if disk.short {
                let detail = format!("{free} bytes are free on its disk, the mark is {mark}");
                raise(node, own, AlarmKind::NoSpace, detail).await?;
            } else {
                let reason = format!("{free} bytes are free again, the mark is {mark}");
                clear(node, own, AlarmKind::NoSpace, reason).await?;
            }
        }
        Ok(Pass::Idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESH_MS: u64 = 50 * 365 * 86_400_000;
    const YEAR_MS: i64 = 365 * 86_400_000;

    #[test]
    fn a_clock_that_jumps_away_is_told_from_one_that_is_set_right() {
        let jumps = |jump_ms, to_ms: i64| jumped_away(jump_ms, MESH_MS.saturating_add_signed(to_ms), MESH_MS);
        assert!(jumps(YEAR_MS, YEAR_MS) && jumps(-YEAR_MS, -YEAR_MS));
        assert!(!jumps(-YEAR_MS, 0) && !jumps(YEAR_MS, 0));
        assert!(!jumps(0, 0) && !jumps(0, YEAR_MS));
        // From wrong to wrong: further off counts.
        assert!(jumps(2 * YEAR_MS, YEAR_MS + 1) && !jumps(2 * YEAR_MS, YEAR_MS - 1));
        // What a correction or a pause of the machine does.
        assert!(!jumps(JUMP_MS, JUMP_MS) && jumps(JUMP_MS + 1, JUMP_MS + 1));
    }
}
