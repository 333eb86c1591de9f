//! Sees to it that shards are where they can stay: off peers that are drained or dead, with the copies that they are to have.

use std::time::Duration;

use raft::Error;
use statemachine::{
    Command, MeshState, PlaceCopies,
    plan::{
        avoid::Avoid,
        reconcile::{self, Round},
    },
};
use tokio::time::Instant;

use crate::controller::{Controller, Node, Pace, Pass};

/// The most moves that one command begins: each is a record, and applying a command takes a few milliseconds at the most.
const MOVES_MAX: usize = 200;
/// The most shards that one command gives other copies.
const COPIES_MAX: usize = 200;
/// The most steps of moves that are ended in one pass; each is a command.
const ENDS_MAX: usize = 64;
/// How long nothing is proposed after a round of which nothing came.
const AFTER_NOTHING: Duration = Duration::from_secs(1);

/// Carries out what [`reconcile::round`] finds, round after round.
pub(crate) struct Shards {
    threads: raft::Threads,
    pace: Pace,
    /// What became of the moves so far.
    avoid: Avoid,
}

impl Shards {
    pub fn new(threads: raft::Threads) -> Self {
        Self {
            threads,
            pace: Pace::new(),
            avoid: Avoid::default(),
        }
    }
}

impl Controller for Shards {
    fn name(&self) -> &'static str {
        "shards"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        if let Some(wait) = self.pace.wait() {
            return Ok(Pass::Again(wait));
        }
        let view = node.handle.view();
        if view.state().mesh.shard_count() == 0 {
            return Ok(Pass::Idle);
        }
        let now_ms = node.handle.mesh_time_ms()?;
        let mesh = &view.state().mesh;
        self.avoid.look(mesh, now_ms);
        let began = Instant::now();
        let (of, avoid) = (view.clone(), self.avoid.clone());
        let round = node
            .compute(self.threads, move || reconcile::round(&of.state().mesh, now_ms, &avoid))
            .await?;
        self.pace.took(began.elapsed());
        let again = self.avoid.next_ms(now_ms).filter(|_| round.waiting > 0);
        let again = again.map(Duration::from_millis).into_iter();
        let next = again.chain(next_deadline(mesh, now_ms)).min();
        let next = next.map_or(Pass::Idle, Pass::Again);
        if round.is_idle() {
            return Ok(next);
        }
        self.avoid
            .expect(mesh, round.begin.get(..MOVES_MAX).unwrap_or(&round.begin));
        let commands = commands(mesh, round);
        if commands.is_empty() {
            // A program of the level before has none of them, and no shards.
            return Ok(next);
        }
        if node.propose_all("shards", commands).await? == 0 {
            self.pace.pause(AFTER_NOTHING);
            return Ok(Pass::Again(AFTER_NOTHING));
        }
        Ok(Pass::Again(Duration::ZERO))
    }
}

/// The commands of a round, as many as one pass proposes.
fn commands(mesh: &MeshState, round: Round) -> Vec<Command> {
    let mut commands = Vec::new();
    let moves = round.moves(mesh, MOVES_MAX);
    let ends = round.end.into_iter().take(ENDS_MAX);
    commands.extend(ends.filter_map(|end| end.command().ok()));
    commands.extend(moves.into_iter().filter_map(|begin| begin.command().ok()));
    if !round.copies.is_empty() {
        let copies = round.copies.into_iter().take(COPIES_MAX).collect();
        commands.extend(PlaceCopies { copies }.command().ok());
    }
    commands
}

/// When the step of the next move has taken too long.
fn next_deadline(mesh: &MeshState, now_ms: u64) -> Option<Duration> {
    let moving = mesh.moving().filter_map(|shard| shard.moving.as_ref());
    let soonest = moving.map(|moving| moving.deadline_ms).min()?;
    Some(Duration::from_millis(soonest.saturating_sub(now_ms)))
}
