//! Each node tells the cluster what it alone can know: that its disk is nearly full, or that its own state is damaged.

use std::time::Duration;

use raft::Error;
use statemachine::cluster::AlarmKind;

use crate::{
    checkup::{clear, raise},
    controller::{Controller, Node, Pass},
};

/// Raises this node's own alarms, and takes them down.
pub(crate) struct Standing;

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
