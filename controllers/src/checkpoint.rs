//! Signs the audit chain, now and then.

use std::{sync::Arc, time::Duration};

use raft::Error;
use statemachine::{CheckpointAudit, Conditions, Outcome, Request, audit};
use tokio::time::Instant;

use crate::{
    controller::{Controller, Node, Pass},
    ports::{Signed, Signer},
};

/// How long nothing is signed after a signature was refused: signing again at once would only add to the load.
const AFTER_REJECTION: Duration = Duration::from_secs(5);

/// When the audit chain is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// After this many records.
    pub every_records: u64,
    /// After this time, where there is any record that no checkpoint covers.
    pub every: Duration,
}

/// Proposes a signed checkpoint when one is due.
pub(crate) struct Checkpoint {
    schedule: Schedule,
    signer: Arc<dyn Signer>,
    last: Instant,
    not_before: Instant,
}

impl Checkpoint {
    pub fn new(schedule: Schedule, signer: Arc<dyn Signer>) -> Self {
        Self {
            schedule,
            signer,
            last: Instant::now(),
            not_before: Instant::now(),
        }
    }
}

impl Controller for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn period(&self) -> Duration {
        self.schedule
            .every
            .clamp(Duration::from_millis(100), Duration::from_secs(10))
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let wait = self.not_before.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return Ok(Pass::Again(wait));
        }
        let view = node.handle.view();
        let mesh = &view.state().mesh;
        let Some(record) = mesh.mesh() else {
            return Ok(Pass::Idle);
        };
        let head = mesh.position().revision;
        // Counted from the revision that recorded the last one: a checkpoint alone calls for no other.
        let recorded = mesh.last_checkpoint().map_or(0, |last| last.meta.created.revision.0);
        let uncovered = head.0.saturating_sub(recorded);
        let due =
            uncovered >= self.schedule.every_records || (uncovered > 0 && self.last.elapsed() >= self.schedule.every);
        if !due {
            return Ok(Pass::Idle);
        }
        let message = audit::checkpoint_message(&record.id, head, mesh.chain());
        let Signed { certificate, signature } = match self.signer.sign(&message) {
            Ok(signed) => signed,
            Err(error) => {
                tracing::error!(%error, "the audit trail could not be signed");
                return Ok(Pass::Again(Duration::from_secs(10)));
            }
        };
        let command = CheckpointAudit {
            revision: head,
            hash: mesh.chain(),
            node: node.handle.node(),
            certificate,
            signature,
        };
        let request = Request {
            origin: node.origin("checkpoint"),
            conditions: Conditions::default(),
            command: command.into(),
        };
        let committed = node.handle.propose(request, node.deadline()).await?;
        self.last = Instant::now();
        if let Some(Outcome::Rejected(rejection)) = committed.unit().map(|recorded| &recorded.unit.outcome) {
            tracing::warn!(reason = %rejection.detail(), "a signature came too late; the next one is tried later");
            self.not_before = Instant::now() + AFTER_REJECTION;
        }
        Ok(Pass::Idle)
    }
}
