//! What one node asks of another to see whether it is well: its clock, its digest, its disk.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use statemachine::{Hash, NodeId, Revision};
use tokio::time::{Instant, timeout_at};

use crate::env::Clock;
use crate::error::Error;
use crate::handle::Handle;
use crate::health::Soundness;
use crate::net::NetError;
use crate::net::message::{Lane, Message};
use crate::net::pool::Pool;
use crate::node::Raft;

/// How long a node that is a little behind is given to come to the revision that is asked about.
const CATCH_UP_WITHIN: Duration = Duration::from_millis(300);

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vitals {
    /// Its wall clock when it was asked, ms since 1970.
    pub wall_ms: u64,
    /// How long it took to answer, on its own monotonic clock.
    pub held_ms: u64,
    /// Its digest at the revision that was asked about. `None` where it is behind, or that is too long ago.
    pub digest: Option<Hash>,
    /// The last revision that it has applied.
    pub revision: u64,
    /// What is left on its disk. `None` before it was measured.
    pub free_bytes: Option<u64>,
    /// Whether that is too little.
    pub short: bool,
    /// What it has found to be wrong with its own state.
    pub corrupt: Option<String>,
}

/// What a node said of itself, and how its clock stands to the asking node's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkup {
    /// What it said.
    pub vitals: Vitals,
    /// How far its clock is ahead of the asking node's (behind: negative), in ms.
    pub offset_ms: i64,
    /// By how much that may be wrong: half of the time on the way.
    pub uncertainty_ms: u64,
}

/// Examines this node, and asks others to examine themselves.
pub(crate) struct Examiner {
    pub clock: Arc<dyn Clock>,
    pub raft: Raft,
    pub soundness: Soundness,
}

impl Examiner {
    /// What this node says of itself.
    pub(crate) async fn examine(&self, revision: Revision) -> Vitals {
        let (wall_ms, begun) = (self.clock.wall_ms(), self.clock.monotonic());
        self.reach(revision).await;
        let Soundness { publisher, health, .. } = &self.soundness;
        let view = publisher.view();
        let mesh = &view.state().mesh;
        let disk = health.disk();
        Vitals {
            wall_ms,
            digest: mesh.recent_at(revision).map(|recent| recent.digest),
            revision: mesh.position().revision.0,
            free_bytes: disk.map(|disk| disk.free_bytes),
            short: disk.is_some_and(|disk| disk.short),
            corrupt: health.corrupt(),
            held_ms: millis(self.clock.monotonic().saturating_sub(begun)),
        }
    }

    /// Waits a moment for a revision to be applied.
    async fn reach(&self, revision: Revision) {
        let deadline = Instant::now() + CATCH_UP_WITHIN;
        let publisher = &self.soundness.publisher;
        let mut applied = publisher.applied();
        while publisher.view().position().revision < revision {
            match timeout_at(deadline, applied.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    /// Asks a node for its vitals.
    pub(crate) async fn ask(
        &self,
        pool: &Pool,
        node: NodeId,
        revision: Revision,
        deadline: Instant,
    ) -> Result<Checkup, NetError> {
        let (wall_ms, begun) = (self.clock.wall_ms(), self.clock.monotonic());
        let vitals = if node == self.soundness.own {
            self.examine(revision).await
        } else {
            self.request(pool, node, revision, deadline).await?
        };
        let took = millis(self.clock.monotonic().saturating_sub(begun));
        let (offset_ms, uncertainty_ms) = offset(wall_ms, took, &vitals);
        Ok(Checkup {
            vitals,
            offset_ms,
            uncertainty_ms,
        })
    }

    async fn request(
        &self,
        pool: &Pool,
        node: NodeId,
        revision: Revision,
        deadline: Instant,
    ) -> Result<Vitals, NetError> {
        let endpoint = {
            use openraft::async_runtime::watch::WatchReceiver;
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.get_node(&node.0).cloned()
        };
        let endpoint = endpoint.ok_or_else(|| NetError::Unreachable(format!("node {node} is not a member")))?;
        let conn = pool.link(node.0, &endpoint, Lane::Control).conn(deadline).await?;
        let message = Message::Checkup { revision: revision.0 };
        match conn.request(message, Vec::new(), deadline).await? {
            Message::CheckedUp(vitals) => Ok(vitals),
            other => Err(NetError::Protocol(format!("unexpected answer {other:?}"))),
        }
    }
}

impl Handle {
    /// Asks a node, which may be this one, for its vitals. `revision`: about whose digest.
    ///
    /// # Errors
    /// [`Error::Unavailable`] and [`Error::DeadlineExceeded`]: it does not answer.
    pub async fn checkup(&self, node: NodeId, revision: Revision, deadline: Instant) -> Result<Checkup, Error> {
        let asked = self.node.examiner.ask(&self.node.pool, node, revision, deadline);
        asked.await.map_err(|error| match error {
            NetError::Timeout => Error::DeadlineExceeded { maybe_applied: false },
            error => Error::unavailable(error.to_string()),
        })
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How far the other clock is ahead, and by how much that may be wrong. The other read its clock when the request
/// came, about half of the way there and back after it was sent (as in NTP, RFC 5905, section 8).
fn offset(sent_wall_ms: u64, took_ms: u64, vitals: &Vitals) -> (i64, u64) {
    let way = took_ms.saturating_sub(vitals.held_ms);
    let arrived = i128::from(sent_wall_ms) + i128::from(way / 2);
    let offset = i128::from(vitals.wall_ms) - arrived;
    let offset = offset.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    (i64::try_from(offset).unwrap_or_default(), way.div_ceil(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals(wall_ms: u64, held_ms: u64) -> Vitals {
        Vitals {
            wall_ms,
            held_ms,
            digest: None,
            revision: 0,
            free_bytes: None,
            short: false,
            corrupt: None,
        }
    }

    #[test]
    fn the_way_counts_half_and_the_time_to_answer_does_not() {
        assert_eq!(offset(10_000, 40, &vitals(10_020, 0)), (0, 20));
        assert_eq!(offset(10_000, 340, &vitals(10_020, 300)), (0, 20));
        assert_eq!(offset(10_000, 40, &vitals(12_020, 0)), (2_000, 20));
        assert_eq!(offset(10_000, 41, &vitals(5_020, 0)), (-5_000, 21));
        assert_eq!(offset(0, 0, &vitals(u64::MAX, 0)), (i64::MAX, 0));
    }
}
