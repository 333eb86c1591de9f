//! Carries drains out, step by step.

use std::{collections::BTreeMap, time::Duration};

use raft::Error;
use statemachine::{
    AdvanceDrain, AdvanceDrainPeers, Command, ExpireDrain, MeshState, OperationId, PeerId,
    plan::{drain, drain_peers},
    record::{Operation, OperationKind, Selection},
};
use tokio::time::Instant;

use crate::controller::{Controller, Node, Pace, Pass};

/// The most operations that are advanced in one pass.
const ADVANCED_PER_PASS_MAX: usize = 64;
/// How long a drain's record stays as it is before it is said anew what the drain waits for: each time is a revision.
const NOTED_AFTER: Duration = Duration::from_secs(5);
/// How long nothing is proposed after a pass of which nothing came.
const AFTER_NOTHING: Duration = Duration::from_millis(500);

/// Finishes the active step of every running drain whose peer holds nothing any more, says what the others wait for, begins the
/// next drains of operations on several peers, and ends what has not ended by its deadline.
pub(crate) struct Drain {
    settle: Duration,
    pace: Pace,
    /// How each operation was seen. Forgotten with leadership, which only makes the new leader wait again.
    seen: BTreeMap<OperationId, Seen>,
}

/// How an operation was seen, and when it was first seen so.
#[derive(Clone, Copy)]
struct Seen {
    version: u64,
    is_ready: bool,
    at: Instant,
}

impl Drain {
    pub fn new(settle: Duration) -> Self {
        Self {
            settle,
            pace: Pace::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Since when the operation is as it is.
    fn since(&mut self, operation: &Operation, is_ready: bool, now: Instant) -> &mut Instant {
        let first = Seen {
            version: operation.meta.version,
            is_ready,
            at: now,
        };
        let seen = self.seen.entry(operation.id.clone()).or_insert(first);
        if (seen.version, seen.is_ready) != (first.version, is_ready) {
            *seen = first;
        }
        &mut seen.at
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
        if let Some(wait) = self.pace.wait() {
            return Ok(Pass::Again(wait));
        }
        let view = node.handle.view();
        let mesh = &view.state().mesh;
        if mesh.operations_running() == 0 {
            self.seen.clear();
            return Ok(Pass::Idle);
        }
        let mut due = Due {
            now: Instant::now(),
            mesh_ms: node.handle.mesh_time_ms()?,
            steps: Vec::new(),
            soonest: None,
        };
        for operation in mesh.running() {
            if !due.expires(operation) {
                match &operation.kind {
                    OperationKind::DrainPeer(peer) => self.one(mesh, operation, peer, &mut due),
                    OperationKind::DrainPeers(selection) => several(mesh, operation, selection, &mut due),
                    // That is another controller's.
                    OperationKind::ShapeNamespace(_) => {}
                }
            }
        }
        self.seen.retain(|id, _| {
            mesh.operation(id)
                .is_some_and(|operation| operation.active_step().is_some())
        });
        // A step that was finished or cancelled meanwhile is refused by apply, which is as good. A refusal is a revision too, and
        // wakes this loop: what is refused again and again must not keep everybody busy.
        if !due.steps.is_empty() && node.propose_all("drain", due.steps).await? == 0 {
            self.pace.pause(AFTER_NOTHING);
            return Ok(Pass::Again(AFTER_NOTHING));
        }
        Ok(due.soonest.map_or(Pass::Idle, Pass::Again))
    }
}

impl Drain {
    /// The next step of one peer's drain. Forced, it waits neither for shards nor for anybody to take notice. Who holds shards or
    /// copies of them, or is about to, is waited for, as apply does.
    fn one(&mut self, mesh: &MeshState, operation: &Operation, peer: &PeerId, due: &mut Due) {
        let Some(step) = operation.active_step().and_then(|step| u32::try_from(step).ok()) else {
            return;
        };
        let forced = operation.terms.forced;
        let is_ready = forced || mesh.seats(peer) == 0;
        let (settle, now) = (self.settle, due.now);
        let since = self.since(operation, is_ready, now);
        let wait = match (forced, is_ready) {
            (true, _) => Duration::ZERO,
            (false, true) => (*since + settle).saturating_duration_since(now),
            (false, false) if now.saturating_duration_since(*since) < NOTED_AFTER => return,
            (false, false) => {
                *since = now;
                if drain::noted(mesh, operation).is_none() {
                    return;
                }
                Duration::ZERO
            }
        };
        let step = AdvanceDrain {
            operation: operation.id.clone(),
            step,
        };
        due.add(wait, step.into());
    }
}

/// The next step of an operation that drains several: the planner says whether there is one.
fn several(mesh: &MeshState, operation: &Operation, selection: &Selection, due: &mut Due) {
    if drain_peers::round(mesh, operation, selection).is_idle(operation, selection) {
        return;
    }
    let step = AdvanceDrainPeers {
        operation: operation.id.clone(),
        round: selection.round,
    };
    // A program of the level before has no such command, and no such operation.
    if let Ok(command) = step.command() {
        due.add(Duration::ZERO, command);
    }
}

/// What is to be done in a pass, and when the next has to be.
struct Due {
    now: Instant,
    mesh_ms: u64,
    steps: Vec<Command>,
    soonest: Option<Duration>,
}

impl Due {
    /// Whether the operation's deadline has passed: then that is its next step.
    fn expires(&mut self, operation: &Operation) -> bool {
        let Some(deadline) = operation.terms.deadline else {
            return false;
        };
        let left = Duration::from_millis(deadline.mesh_ms.saturating_sub(self.mesh_ms));
        let step = ExpireDrain {
            operation: operation.id.clone(),
        };
        if let Ok(command) = step.command() {
            self.add(left, command);
        }
        left.is_zero()
    }

    fn add(&mut self, wait: Duration, command: Command) {
        if wait.is_zero() && self.steps.len() < ADVANCED_PER_PASS_MAX {
            self.steps.push(command);
        } else {
            let soonest = self.soonest.map_or(wait, |soonest| soonest.min(wait));
            self.soonest = Some(soonest);
        }
    }
}

#[cfg(test)]
mod tests {
    use statemachine::{
        BeginMoves, DrainPeer, Hold, HoldShard, PlaceCopies,
        plan::{avoid::Avoid, reconcile},
        record::ShardId,
    };

    use super::*;
    use crate::{
        namespaces::work_off,
        world::{World, peer},
    };

    const SETTLE: Duration = Duration::from_millis(100);

    /// What the loop would propose in a pass at `now`.
    fn steps(drain: &mut Drain, world: &World, now: Instant) -> Vec<Command> {
        let mut due = Due {
            now,
            mesh_ms: 0,
            steps: Vec::new(),
            soonest: None,
        };
        for operation in world.mesh().running() {
            if let OperationKind::DrainPeer(id) = &operation.kind {
                drain.one(world.mesh(), operation, id, &mut due);
            }
        }
        due.steps
    }

    fn pass(drain: &mut Drain, world: &mut World, now: Instant) -> usize {
        let steps = steps(drain, world, now);
        let proposed = steps.len();
        for step in steps {
            assert!(world.run(step), "nothing is proposed that apply refuses");
        }
        proposed
    }

    fn begin_moves(world: &mut World) {
        let (moves, operation) = (reconcile::round(world.mesh(), 0, &Avoid::default()).begin, None);
        let begin = BeginMoves { moves, operation };
        assert!(world.run(begin.command().unwrap()));
    }

    fn copied(world: &World) -> Vec<ShardId> {
        world.mesh().copied_by(&peer(1)).cloned().collect()
    }

    #[test]
    fn a_peer_that_holds_copies_is_not_proposed_until_it_holds_none() {
        let mut world = World::of(3);
        world.create(0, 12, 1);
        work_off(&mut world);
        assert!(world.run(DrainPeer { id: peer(1) }.into()));
        while world.mesh().shards_owned(&peer(1)) > 0 {
            begin_moves(&mut world);
        }
        let copies = copied(&world);
        assert!(!copies.is_empty());
        let mut drain = Drain::new(SETTLE);
        let began = Instant::now();
        // A minute of passes, as often as changes could wake the loop.
        for pass_ms in (0..60_000).step_by(20) {
            let now = began + Duration::from_millis(pass_ms);
            assert_eq!(pass(&mut drain, &mut world, now), 0, "after {pass_ms} ms");
        }
        let elsewhere = copies.iter().map(|id| {
            let shard = world.mesh().shard(id).unwrap();
            let other = [peer(0), peer(2)].into_iter().find(|other| !shard.involves(other));
            (id.clone(), shard.meta.version, other.into_iter().collect())
        });
        let copies = elsewhere.collect();
        assert!(world.run(PlaceCopies { copies }.command().unwrap()));
        assert_eq!(world.mesh().seats(&peer(1)), 0);
        let now = began + Duration::from_secs(60);
        assert_eq!(pass(&mut drain, &mut world, now), 0, "it is seen to settle first");
        assert_eq!(pass(&mut drain, &mut world, now + SETTLE), 1);
    }

    #[test]
    fn what_a_drain_waits_for_is_said_when_it_changes_and_not_too_often() {
        let mut world = World::of(3);
        world.create(0, 12, 0);
        work_off(&mut world);
        assert!(world.run(DrainPeer { id: peer(1) }.into()));
        let held: Vec<ShardId> = world.mesh().owned_by(&peer(1)).cloned().collect();
        let mut drain = Drain::new(SETTLE);
        let began = Instant::now();
        let mut proposed = 0;
        for pass_ms in (0..60_000_u64).step_by(20) {
            let now = began + Duration::from_millis(pass_ms);
            let hold = if pass_ms % 40 == 0 { Hold::Pause } else { Hold::Resume };
            let (id, is_early) = (held[0].clone(), pass_ms < 30_000);
            if is_early {
                assert!(world.run(HoldShard { id, hold }.command().unwrap()));
            }
            proposed += pass(&mut drain, &mut world, now);
        }
        let most = 60_000 / NOTED_AFTER.as_millis();
        assert!(proposed > 1 && (proposed as u128) <= most, "{proposed}");
        let operation = world.mesh().running().next().unwrap();
        assert_eq!(operation.detail, format!("waits for {} shards to move", held.len()));
    }
}
