//! Carries operations on namespaces out, batch by batch: makes shards, takes them away, moves them to where a new description
//! wants them.

use std::{collections::BTreeSet, time::Duration};

use raft::Error;
use statemachine::{
    AdvanceReshape, BeginMoves, Command, MeshState, NamespaceId, OperationId, PlaceCopies, Placement, ShapeNamespace,
    is_quiet,
    plan::{
        avoid::Avoid,
        reshape,
        room::{Begin, Running},
        shards::{Layout, Members, Purpose, about_to_drain, layout},
    },
    record::{Namespace, NamespacePhase, Operation, OperationKind},
};
use tokio::time::Instant;

use crate::controller::{Controller, Node, Pace, Pass};

/// The most shards of one command: applying it takes a few milliseconds at the most.
const BATCH_MAX: usize = 200;
/// The most operations that one pass goes on with. Those that only wait for others are not among them.
const OPERATIONS_MAX: usize = 16;
/// The most commands that one pass proposes for one operation.
const COMMANDS_MAX: usize = 4;
/// How long nothing is proposed after a pass of which nothing came.
const AFTER_NOTHING: Duration = Duration::from_millis(500);

/// Goes on with every operation on a namespace that runs.
pub(crate) struct Namespaces {
    threads: raft::Threads,
    pace: Pace,
    /// Where the shards of the namespace go that was made last: the same for all of its batches, unless peers change. Only
    /// saves the time to lay it out again.
    placed: Placed,
    /// The operation that the next pass begins with: the pass before left it.
    next: Option<OperationId>,
    /// What became of the moves so far.
    avoid: Avoid,
}

impl Namespaces {
    pub fn new(threads: raft::Threads) -> Self {
        Self {
            threads,
            pace: Pace::new(),
            placed: None,
            next: None,
            avoid: Avoid::default(),
        }
    }
}

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespaces"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(1)
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        if let Some(wait) = self.pace.wait() {
            return Ok(Pass::Again(wait));
        }
        let view = node.handle.view();
        let placed = self.placed.take();
        let mut running = running(&view.state().mesh);
        let now_ms = node.handle.mesh_time_ms()?;
        // Also while there is nothing to do: a move that ended long ago says nothing about its target at the next occasion.
        self.avoid.look(&view.state().mesh, now_ms);
        if running.is_empty() {
            return Ok(Pass::Idle);
        }
        if let Some(next) = self.next.take() {
            let behind = running.partition_point(|(operation, _)| *operation < next);
            running.rotate_left(behind);
        }
        let began = Instant::now();
        let (of, avoid) = (view.clone(), self.avoid.clone());
        let steps = node
            .compute(self.threads, move || {
                Steps::of(&of.state().mesh, &running, placed, (&avoid, now_ms))
            })
            .await?;
        self.pace.took(began.elapsed());
        self.next = steps.next;
        if steps.commands.is_empty() {
            return Ok(Pass::Idle);
        }
        self.avoid.expect(&view.state().mesh, &steps.begin);
        if node.propose_all("namespaces", steps.commands).await? == 0 {
            // Peers have changed under the plan, or everything that is left waits for others.
            self.pace.pause(AFTER_NOTHING);
            return Ok(Pass::Again(AFTER_NOTHING));
        }
        self.placed = steps.placed;
        Ok(match &self.next {
            Some(_) => Pass::Again(Duration::ZERO),
            None => Pass::Idle,
        })
    }
}

type Placed = Option<(OperationId, Layout)>;

/// The operations on namespaces that run, oldest first.
fn running(mesh: &MeshState) -> Vec<(OperationId, NamespaceId)> {
    let all = mesh.running();
    all.filter_map(|operation| match &operation.kind {
        OperationKind::ShapeNamespace(id) => Some((operation.id.clone(), id.clone())),
        OperationKind::DrainPeer(_) | OperationKind::DrainPeers(_) => None,
    })
    .collect()
}

/// What one pass does.
struct Steps {
    commands: Vec<Command>,
    /// The moves that these begin.
    begin: Vec<Begin>,
    /// Where the shards go of the first namespace that is being made.
    placed: Placed,
    /// The first operation that was left for the next pass.
    next: Option<OperationId>,
}

impl Steps {
    /// The next commands of these operations, in their order, until enough of them have gone on. `placed` is what the pass before
    /// has found out; `avoid` says who is given no more at this mesh time.
    fn of(mesh: &MeshState, running: &[(OperationId, NamespaceId)], placed: Placed, avoid: (&Avoid, u64)) -> Self {
        let mut known = placed;
        let mut steps = Self {
            commands: Vec::new(),
            begin: Vec::new(),
            placed: None,
            next: None,
        };
        let mut gone_on = 0;
        for (operation, namespace) in running {
            if gone_on >= OPERATIONS_MAX {
                steps.next = Some(operation.clone());
                break;
            }
            let (Some(operation), Some(namespace)) = (mesh.operation(operation), mesh.namespace(namespace)) else {
                continue;
            };
            let commands = match namespace.phase {
                NamespacePhase::Creating => {
                    let mut placed = known.take().filter(|(of, _)| *of == operation.id);
                    let commands = make(mesh, namespace, operation, &mut placed);
                    steps.placed = steps.placed.or(placed);
                    commands
                }
                NamespacePhase::Deleting => taken_away(mesh, namespace, operation, avoid.1),
                NamespacePhase::Reshaping => reshaped(mesh, namespace, operation, avoid, &mut steps.begin),
                NamespacePhase::Active => Vec::new(),
            };
            gone_on += usize::from(!commands.is_empty());
            steps.commands.extend(commands);
        }
        steps
    }
}

fn shape(operation: &Operation, placements: Vec<Placement>) -> Vec<Command> {
    let shape = ShapeNamespace {
        operation: operation.id.clone(),
        done: operation.done,
        placements,
    };
    // A program of the level before has no such command, and no such operation.
    shape.command().into_iter().collect()
}

/// The next shards of a namespace that go; or its name, once nobody can serve any of them.
fn taken_away(mesh: &MeshState, namespace: &Namespace, operation: &Operation, now_ms: u64) -> Vec<Command> {
    let waits = mesh.shards_of(&namespace.id).next().is_none() && !is_quiet(operation, now_ms);
    if waits {
        Vec::new()
    } else {
        shape(operation, Vec::new())
    }
}

/// The next shards of a namespace that is being made, where they belong.
fn make(mesh: &MeshState, namespace: &Namespace, operation: &Operation, placed: &mut Placed) -> Vec<Command> {
    let (_, layout) = placed.get_or_insert_with(|| {
        let peers = mesh.peers_after(None).map(|peer| &**peer);
        let members = Members::of(&namespace.spec, peers).keeping(&about_to_drain(mesh));
        let placed = layout(mesh, &namespace.id, &namespace.spec, members, Purpose::Repair);
        (operation.id.clone(), placed)
    });
    let (first, shards) = (operation.done as usize, namespace.spec.shards as usize);
    let batch = first..first.saturating_add(BATCH_MAX).min(shards);
    let placements = batch.map(|shard| Placement {
        owner: layout.owner(shard).cloned(),
        replicas: layout.replicas(shard).cloned().collect(),
    });
    shape(operation, placements.collect())
}

/// What is left of the way to a new description: owners first, copies then.
fn reshaped(
    mesh: &MeshState,
    namespace: &Namespace,
    operation: &Operation,
    avoid: (&Avoid, u64),
    begin: &mut Vec<Begin>,
) -> Vec<Command> {
    let Some((step, target)) = operation.active_step().zip(namespace.target.as_ref()) else {
        return Vec::new();
    };
    let advance = |done: u32, over: bool| AdvanceReshape {
        operation: operation.id.clone(),
        step: u32::try_from(step).unwrap_or(u32::MAX),
        before: operation.done,
        done,
        over,
    };
    let mut commands = Vec::new();
    if step > 0 {
        let copies = reshape::copies(mesh, namespace);
        let batches = copies.chunks(BATCH_MAX).take(COMMANDS_MAX);
        commands.extend(batches.filter_map(|copies| {
            let copies = copies.to_vec();
            PlaceCopies { copies }.command().ok()
        }));
        // Not with the last of them: those whose shards have changed meanwhile are left out, and looked at again.
        if copies.is_empty() {
            commands.extend(advance(operation.done, true).command().ok());
        }
        return commands;
    }
    let rest = reshape::rest(mesh, namespace, target);
    let (left, over) = (rest.len(), rest.is_empty());
    let done = operation.total.saturating_sub(left);
    if over || done != operation.done {
        commands.extend(advance(done, over).command().ok());
    }
    let moves = admitted(mesh, rest.begin, avoid);
    if !moves.is_empty() {
        begin.extend(moves.iter().cloned());
        let operation = Some(operation.id.clone());
        commands.extend(BeginMoves { moves, operation }.command().ok());
    }
    commands
}

/// Those of the wanted moves that could begin now, all together, at most a batch; in their order. Where somebody has to go is
/// written down, so the shards of a peer that is given nothing now wait until it may be tried again: with one move then, the
/// first that there is room for.
fn admitted(mesh: &MeshState, wanted: Vec<Begin>, (avoid, now_ms): (&Avoid, u64)) -> Vec<Begin> {
    let avoided = avoid.avoided(mesh, now_ms);
    let mut tried = BTreeSet::new();
    let mut running = Running::now(mesh);
    let mut begin = Vec::new();
    for (id, epoch, to, cause) in wanted {
        if begin.len() >= BATCH_MAX {
            break;
        }
        if avoided.contains(&to) || tried.contains(&to) {
            continue;
        }
        let shard = mesh.shard(&id).filter(|shard| running.admits(mesh, shard, &to));
        let Some(shard) = shard else { continue };
        running.add(shard, &to);
        if avoid.tries(&to) {
            tried.insert(to.clone());
        }
        begin.push((id, epoch, to, cause));
    }
    begin
}

/// Works off every operation on a namespace, pass after pass, while anything comes of it.
#[cfg(test)]
pub(crate) fn work_off(world: &mut crate::world::World) {
    loop {
        let running = running(world.mesh());
        let steps = Steps::of(world.mesh(), &running, None, (&Avoid::default(), 0));
        let applied = steps.commands.into_iter().map(|command| world.run(command));
        if applied.filter(|applied| *applied).count() == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use statemachine::{
        EndMoveStep, ObservePeers, ReshapeNamespace, StepEnd,
        record::{Cause, Health, MoveStep, OperationState},
    };

    use super::*;
    use crate::world::{World, namespace, peer, spec};

    const MANY: u8 = 20;

    /// Begins to spread a namespace over who is there now.
    fn spread(world: &mut World, n: u8, replicas: u32) {
        let (id, spec) = (namespace(n), spec(4, replicas));
        let target = reshape::target(world.mesh(), world.mesh().namespace(&id).unwrap(), &spec, &|| true).unwrap();
        let reshape = ReshapeNamespace {
            id,
            spec,
            target,
            moved_permille_max: Some(1_000),
        };
        assert!(world.run(reshape.command().unwrap()));
    }

    fn steps(world: &World) -> Steps {
        Steps::of(world.mesh(), &running(world.mesh()), None, (&Avoid::default(), 0))
    }

    #[test]
    fn operations_that_only_wait_keep_no_other_from_going_on() {
        let mut world = World::of(1);
        for n in 0..MANY {
            world.create(n, 4, 0);
        }
        work_off(&mut world);
        for n in 1..4 {
            world.register(n);
        }
        let seen = (0..4).map(|n| (peer(n), Health::Unknown, Health::Alive)).collect();
        assert!(world.run(ObservePeers { seen }.command().unwrap()));
        for n in 0..MANY {
            spread(&mut world, n, 0);
        }
        // Until all wait for peers to say that they are ready, or for room.
        work_off(&mut world);
        assert_eq!(running(world.mesh()).len(), usize::from(MANY));
        assert!(steps(&world).commands.is_empty());
        world.create(MANY, 4, 0);
        let next = steps(&world);
        assert_eq!(next.commands.len(), 1, "the youngest goes on");
        assert_eq!(next.next, None);
    }

    #[test]
    fn a_pass_ends_after_enough_operations_and_names_whom_it_left() {
        let mut world = World::of(1);
        for n in 0..MANY {
            world.create(n, 4, 0);
        }
        let pass = steps(&world);
        assert_eq!(pass.commands.len(), OPERATIONS_MAX);
        assert_eq!(
            pass.next.as_ref(),
            running(world.mesh()).get(OPERATIONS_MAX).map(|(id, _)| id)
        );
    }

    /// A move of each of the shards of a namespace that a peer owns.
    fn moves(world: &World, n: u8, from: u8, to: u8) -> Vec<Begin> {
        let (id, owner) = (namespace(n), peer(from));
        let shards = world.mesh().shards_of(&id);
        let owned = shards.filter(|shard| shard.owner.as_ref() == Some(&owner));
        let begin = owned.map(|shard| (shard.id.clone(), shard.epoch, peer(to), Cause::Placed));
        begin.collect()
    }

    fn begin(world: &mut World, moves: Vec<Begin>) {
        let operation = None;
        assert!(world.run(BeginMoves { moves, operation }.command().unwrap()));
    }

    #[test]
    fn who_has_refused_is_tried_with_a_move_that_there_is_room_for() {
        let mut world = World::of(2);
        for n in 0..2 {
            world.create(n, 64, 0);
        }
        work_off(&mut world);
        for n in 2..4 {
            world.register(n);
        }
        let seen = (0..4).map(|n| (peer(n), Health::Unknown, Health::Alive)).collect();
        assert!(world.run(ObservePeers { seen }.command().unwrap()));
        // What the one is to take from the other comes to nothing.
        let refused: Vec<Begin> = moves(&world, 0, 1, 2).into_iter().take(1).collect();
        let id = refused[0].0.clone();
        begin(&mut world, refused);
        let mut avoid = Avoid::default();
        avoid.look(world.mesh(), 0);
        let begun = world.mesh().shard(&id).unwrap().moving.as_ref().unwrap().begun;
        let (step, end, by) = (MoveStep::Preparing, StepEnd::Cancelled, None);
        let end = EndMoveStep {
            id,
            begun,
            step,
            end,
            by,
        };
        assert!(world.run(end.command().unwrap()));
        avoid.look(world.mesh(), 0);
        assert!(avoid.avoided(world.mesh(), 0).contains(&peer(2)));
        // Meanwhile the first source gets as many moves as it may have.
        let most = usize::try_from(world.mesh().settings().moves_per_peer_max).unwrap();
        let others: Vec<Begin> = moves(&world, 1, 0, 3).into_iter().take(most).collect();
        assert_eq!(others.len(), most);
        begin(&mut world, others);
        let now_ms = avoid.next_ms(0).unwrap();
        let mut wanted = moves(&world, 0, 0, 2);
        assert!(!wanted.is_empty());
        assert!(admitted(world.mesh(), wanted.clone(), (&avoid, now_ms)).is_empty());
        let possible = moves(&world, 0, 1, 2);
        wanted.extend(possible.iter().cloned());
        assert!(admitted(world.mesh(), wanted.clone(), (&avoid, 0)).is_empty());
        let tried = admitted(world.mesh(), wanted, (&avoid, now_ms));
        assert_eq!(tried.as_slice(), &possible[..1]);
    }

    #[test]
    fn a_reshaping_is_over_only_when_every_copy_is_where_it_is_to_be() {
        let mut world = World::of(1);
        world.create(0, 4, 1);
        work_off(&mut world);
        for n in 1..4 {
            world.register(n);
        }
        spread(&mut world, 0, 1);
        let id = running(world.mesh()).first().unwrap().0.clone();
        // Nobody has been heard of, so moves end where they begin.
        while world.mesh().operation(&id).unwrap().active_step() == Some(0) {
            for command in steps(&world).commands {
                world.run(command);
            }
        }
        let commands = steps(&world).commands;
        let are_copies = commands
            .iter()
            .all(|command| matches!(command, Command::PlaceCopies(_)));
        assert!(!commands.is_empty() && are_copies, "{commands:?}");
        work_off(&mut world);
        let ended = world.mesh().operation(&id).unwrap();
        assert_eq!(ended.state, OperationState::Succeeded);
        let of = namespace(0);
        let mut shards = world.mesh().shards_of(&of);
        assert!(shards.all(|shard| shard.replicas.len() == 1));
    }
}
