//! Ends requests for approval that wait in vain.

use std::time::Duration;

use raft::Error;
use statemachine::{Conditions, EndStaged, Request};
use tokio::time::Instant;

use crate::controller::{Controller, Node, Pass};

/// From one look at the requests to the next: each costs a few lookups, and the state changes all the time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Ends requests that nobody decided in time, and those whose records have changed since.
pub(crate) struct Approvals {
    not_before: Instant,
}

impl Approvals {
    pub fn new() -> Self {
        Self {
            not_before: Instant::now(),
        }
    }
}

impl Controller for Approvals {
    fn name(&self) -> &'static str {
        "approvals"
    }

    fn period(&self) -> Duration {
        LOOK_EVERY
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let wait = self.not_before.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return Ok(Pass::Again(wait));
        }
        self.not_before = Instant::now() + LOOK_EVERY;
        let view = node.handle.view();
        let mesh = &view.state().mesh;
        if mesh.approvals_pending() == 0 || mesh.approvals_over(node.handle.mesh_time_ms()?).next().is_none() {
            return Ok(Pass::Idle);
        }
        // A program of the level before has no such command, and proposes none.
        let Ok(command) = (EndStaged {}).command() else {
            return Ok(Pass::Idle);
        };
        let request = Request {
            origin: node.origin("approvals"),
            conditions: Conditions::default(),
            command,
        };
        node.handle.propose(request, node.deadline()).await?;
        Ok(Pass::Again(LOOK_EVERY))
    }
}
