//! Lets history go that the settings do not ask to keep.

use std::time::Duration;

use raft::{Error, View};
use statemachine::{CompactHistory, Conditions, Outcome, Request, Revision, record::Settings};
use tokio::time::Instant;

use crate::controller::{Controller, Node, Pass};

/// From one look at the history to the next: retention is no matter of milliseconds, and the state changes all the time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long nothing is proposed after a refusal.
const AFTER_REJECTION: Duration = Duration::from_secs(10);
/// The most checkpoints that one step passes: each is a record that goes, and a command changes so many at the most.
const CHECKPOINTS_PER_STEP_MAX: usize = 500;

/// Moves the floor up, one bounded step at a time, while history goes back further than `retention.history` and
/// `retention.history_revisions` allow.
pub(crate) struct Retention {
    not_before: Instant,
}

impl Retention {
    pub fn new() -> Self {
        Self {
            not_before: Instant::now(),
        }
    }
}

impl Controller for Retention {
    fn name(&self) -> &'static str {
        "retention"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let wait = self.not_before.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            return Ok(Pass::Again(wait));
        }
        self.not_before = Instant::now() + LOOK_EVERY;
        let Some(command) = next(&node.handle.view())? else {
            return Ok(Pass::Idle);
        };
        let to = command.to;
        // A program of the level before has no such command, and proposes none.
        let Ok(command) = command.command() else {
            return Ok(Pass::Idle);
        };
        let request = Request {
            origin: node.origin("retention"),
            conditions: Conditions::default(),
            command,
        };
        let committed = node.handle.propose(request, node.deadline()).await?;
        match committed.unit().map(|recorded| &recorded.unit.outcome) {
            Some(Outcome::Rejected(rejection)) => {
                tracing::warn!(%to, reason = %rejection.detail(), "history could not be compacted; it is tried later");
                self.not_before = Instant::now() + AFTER_REJECTION;
            }
            Some(Outcome::Applied { .. } | Outcome::Staged { .. } | Outcome::Replayed { .. }) | None => {}
        }
        Ok(Pass::Again(LOOK_EVERY))
    }
}

/// The next step, if one is due. Reads a few dozen rows of history at the most.
fn next(view: &View) -> Result<Option<CompactHistory>, Error> {
    let mesh = &view.state().mesh;
    let Some(record) = mesh.mesh().filter(|record| record.feature_level >= 2) else {
        return Ok(None);
    };
    let floor = record.floor;
    // Checkpoints that an earlier command was too small for.
    let is_left = mesh
        .checkpoints_below(Revision(floor.0.saturating_sub(1)))
        .next()
        .is_some();
    let to = if is_left {
        floor
    } else {
        let target = target(view, mesh.settings())?;
        let passed = mesh
            .checkpoints_below(target)
            .skip_while(|checkpoint| checkpoint.revision < floor);
        match passed.take(CHECKPOINTS_PER_STEP_MAX).last() {
            Some(anchor) => anchor.revision.next(),
            None => return Ok(None),
        }
    };
    let unit = view.unit(to)?;
    Ok(unit.map(|unit| CompactHistory {
        mesh: record.id.clone(),
        to,
        to_mesh_time_ms: unit.unit.stamp.mesh_time_ms,
    }))
}

/// The oldest revision that has to be kept: either setting may let go of what the other would keep, and neither of what
/// a retry may still ask for.
fn target(view: &View, settings: &Settings) -> Result<Revision, Error> {
    let mesh = &view.state().mesh;
    let (head, now_ms) = (mesh.position().revision, mesh.stamp().mesh_time_ms);
    let mut target = Revision(0);
    if settings.history_revisions > 0 {
        target = Revision(head.0.saturating_add(1).saturating_sub(settings.history_revisions));
    }
    if settings.history_ms > 0 {
        target = target.max(view.first_since(now_ms.saturating_sub(settings.history_ms))?);
    }
    if target <= mesh.floor() {
        return Ok(target);
    }
    let needed_ms = settings.idempotency_ulid_ttl_ms.max(settings.idempotency_key_ttl_ms);
    let free_ms = now_ms.saturating_sub(needed_ms);
    let in_use = view.first_since(free_ms.saturating_add(1))?;
    Ok(target.min(Revision(in_use.0.saturating_sub(1))))
}
