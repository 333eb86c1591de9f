//! What a loop is, and what every loop is given: the driver runs them, they know nothing of it.

use std::{future::Future, sync::Arc, time::Duration};

use raft::{Handle, env::Clock};
use statemachine::Origin;
use tokio::time::Instant;

/// How long one proposal of a loop may take.
pub(crate) const PROPOSAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Nothing to do until the state changes or the period is over.
    Idle,
    /// Something is to be looked at again after this time, whatever happens.
    Again(Duration),
}

/// One loop.
pub(crate) trait Controller: Send + 'static {
    /// Its name in logs, metrics and the audit trail.
    fn name(&self) -> &'static str;

    /// How long it sleeps at the most while nothing changes.
    fn period(&self) -> Duration;

    /// Looks at the state and does what is to be done. Safe to repeat, and to drop at any await.
    fn pass(&mut self, node: &Node) -> impl Future<Output = Result<Pass, raft::Error>> + Send;
}

/// What every loop has.
#[derive(Clone)]
pub(crate) struct Node {
    pub handle: Handle,
    pub clock: Arc<dyn Clock>,
}

impl Node {
    /// The origin of a command that a loop proposes.
    pub fn origin(&self, name: &str) -> Origin {
        Origin::system(name, self.handle.node(), self.clock.wall_ms())
    }

    /// When a proposal made now has to be answered.
    pub fn deadline(&self) -> Instant {
        Instant::now() + PROPOSAL_TIMEOUT
    }
}
