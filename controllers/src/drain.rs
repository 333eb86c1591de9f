//! Carries drains out, step by step.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use raft::Error;
use statemachine::{
    AdvanceDrain, Conditions, OperationId, Request,
    record::{Operation, OperationKind},
};
use tokio::time::Instant;

use crate::controller::{Controller, Node, Pass};

/// The most drains that are advanced in one pass.
const ADVANCED_PER_PASS_MAX: usize = 64;

/// Finishes the active step of every running drain whose peer owns nothing any more.
pub(crate) struct Drain {
    settle: Duration,
    /// When each operation's version was first seen ready. Forgotten with leadership, which only makes the new leader
    /// wait again.
    ready: BTreeMap<OperationId, (u64, Instant)>,
}

impl Drain {
    pub fn new(settle: Duration) -> Self {
        Self {
            settle,
            ready: BTreeMap::new(),
        }
    }

    /// How long until the operation's step may be finished; none where it is not ready at all.
    fn due(&mut self, operation: &Operation, now: Instant) -> Duration {
        let version = operation.meta.version;
        let seen = self.ready.entry(operation.id.clone()).or_insert((version, now));
        if seen.0 != version {
            *seen = (version, now);
        }
        (seen.1 + self.settle).saturating_duration_since(now)
    }
}

impl Controller for Drain {
    fn name(&self) -> &'static str {
        "drain"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let view = node.handle.view();
        let mesh = &view.state().mesh;
        if mesh.operations_running() == 0 {
            self.ready.clear();
            return Ok(Pass::Idle);
        }
        let now = Instant::now();
        let mut steps = Vec::new();
        let mut soonest: Option<Duration> = None;
        for operation in mesh.running() {
            let OperationKind::DrainPeer(peer) = &operation.kind;
            let Some(step) = operation.active_step().and_then(|step| u32::try_from(step).ok()) else {
                continue;
            };
            if mesh.shards_owned(peer) > 0 {
                continue;
            }
            let wait = self.due(operation, now);
            if wait.is_zero() && steps.len() < ADVANCED_PER_PASS_MAX {
                steps.push(AdvanceDrain {
                    operation: operation.id.clone(),
                    step,
                });
            } else {
                soonest = Some(soonest.map_or(wait, |soonest| soonest.min(wait)));
            }
        }
        self.ready.retain(|id, _| {
            mesh.operation(id)
                .is_some_and(|operation| operation.active_step().is_some())
        });
        let proposals = steps.into_iter().map(|step| {
            let request = Request {
                origin: node.origin("drain"),
                conditions: Conditions::default(),
                command: step.into(),
            };
            node.handle.propose(request, node.deadline())
        });
        // A step that was finished or cancelled meanwhile is refused by apply, which is as good.
        for answer in join_all(proposals).await {
            answer?;
        }
        Ok(soonest.map_or(Pass::Idle, Pass::Again))
    }
}
