//! Refusals on their way into the audit trail: bounded, batched, and never in the way of a request.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use raft::Error;
use statemachine::{Conditions, REFUSALS_MAX, RecordRefusals, Refusal, Request};
use tokio::time::Instant;

use crate::controller::{Controller, Node, Pass};

/// How often what has gathered is committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// The most refusals of one principal in a batch; the rest are counted.
const PER_PRINCIPAL_MAX: u32 = 16;

/// Gathers refusals of this node until they are committed.
#[derive(Default)]
pub struct RefusalLog {
    pending: Mutex<Pending>,
}

#[derive(Default)]
struct Pending {
    refusals: Vec<Refusal>,
    per_principal: BTreeMap<String, u32>,
    suppressed: u64,
}

impl RefusalLog {
    /// Takes one refusal. Never blocks and never grows beyond a batch: what is too much is counted.
    pub fn note(&self, refusal: Refusal) {
        let mut pending = self.pending.lock();
        let noted = pending.per_principal.get(&refusal.actor).copied().unwrap_or(0);
        if pending.refusals.len() >= REFUSALS_MAX || noted >= PER_PRINCIPAL_MAX {
            pending.suppressed += 1;
            return;
        }
        pending.per_principal.insert(refusal.actor.clone(), noted + 1);
        pending.refusals.push(refusal);
    }

    fn take(&self) -> Option<RecordRefusals> {
        let Pending {
            refusals,
            per_principal: _,
            suppressed,
        } = std::mem::take(&mut *self.pending.lock());
        (!refusals.is_empty() || suppressed > 0).then_some(RecordRefusals { refusals, suppressed })
    }

    /// Takes back a batch that could not be committed.
    fn put_back(&self, batch: RecordRefusals) {
        self.pending.lock().suppressed += batch.suppressed;
        batch.refusals.into_iter().for_each(|refusal| self.note(refusal));
    }

    pub(crate) fn controller(self: Arc<Self>) -> Committer {
        Committer {
            log: self,
            next: Instant::now(),
        }
    }
}

/// Commits what has gathered.
pub(crate) struct Committer {
    log: Arc<RefusalLog>,
    next: Instant,
}

impl Controller for Committer {
    fn name(&self) -> &'static str {
        "refusals"
    }

    fn period(&self) -> Duration {
        COMMIT_EVERY
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let wait = self.next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return Ok(Pass::Again(wait));
        }
        let Some(batch) = self.log.take() else {
            return Ok(Pass::Idle);
        };
        self.next = Instant::now() + COMMIT_EVERY;
        let request = Request {
            origin: node.origin("refusals"),
            conditions: Conditions::default(),
            command: batch.clone().into(),
        };
        match node.handle.propose_anywhere(request, node.deadline()).await {
            Ok(_) => Ok(Pass::Idle),
            Err(error) => {
                // It may be there twice then, rather than not at all.
                self.log.put_back(batch);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use statemachine::NodeId;

    use super::*;

    fn refusal(actor: &str) -> Refusal {
        Refusal {
            actor: actor.into(),
            action: "peers.drain".into(),
            target: "peer/p1".into(),
            code: "scope_missing".into(),
            request_id: "r".into(),
            transport: "h2".into(),
            node: NodeId(1),
            refused_wall_ms: 1,
        }
    }

    #[test]
    fn one_principal_cannot_crowd_out_another() {
        let log = RefusalLog::default();
        (0..1000).for_each(|_| log.note(refusal("noisy")));
        log.note(refusal("quiet"));
        let batch = log.take().unwrap();
        assert_eq!(batch.refusals.len(), PER_PRINCIPAL_MAX as usize + 1);
        assert_eq!(batch.suppressed, 1000 - u64::from(PER_PRINCIPAL_MAX));
        assert!(log.take().is_none());
        log.put_back(batch.clone());
        assert_eq!(log.take(), Some(batch));
    }
}
