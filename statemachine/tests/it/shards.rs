//! Namespaces, shards and moves (S1): what is made, what is refused, and that no two peers ever serve one shard.

use std::collections::{BTreeMap, BTreeSet};

use meshkit_statemachine::{
    BeginMoves, CancelOperation, Command, CordonPeer, CreateNamespace, DeleteNamespace, DrainPeer, EndMoveStep, Hold,
    HoldShard, MeshState, MoveShard, NamespaceId, ObservePeers, OperationId, PeerId, PlaceCopies, Placement, Rejection,
    ShapeNamespace, StepEnd, is_quiet,
    plan::{
        avoid::Avoid,
        reconcile,
        shards::{Members, Purpose, layout},
        simulate::{self, Node, Scenario, Simulation, Stage},
    },
    presence::Terms,
    record::{
        Cause, FencingToken, HandOff, Health, MoveStep, Namespace, NamespacePhase, NamespacePolicy, NamespaceSpec,
        OperationState, Phase, Shard, ShardId, ShardStatus, StrategyKind,
    },
};
use proptest::prelude::*;

use crate::world::{World, peer_id, register};

/// Plays a scenario on a namespace, to the end.
pub fn simulate(mesh: &MeshState, namespace: &Namespace, scenario: &Scenario) -> Result<Simulation, Rejection> {
    let played = Stage::new(mesh, scenario)?.play(mesh, namespace, &|| true)?;
    Ok(played.unwrap())
}

pub fn orders() -> NamespaceId {
    NamespaceId::new("orders").unwrap()
}

pub fn shard_id(index: u32) -> ShardId {
    ShardId {
        namespace: orders(),
        index,
    }
}

pub fn spec(shards: u32, replicas: u32, hand_off: HandOff) -> NamespaceSpec {
    NamespaceSpec {
        strategy: StrategyKind::Rendezvous,
        region: String::new(),
        peers: String::new(),
        shards,
        replicas,
        policy: NamespacePolicy {
            hand_off,
            ..NamespacePolicy::default()
        },
    }
}

pub fn create(shards: u32, replicas: u32, hand_off: HandOff) -> Command {
    let (id, spec) = (orders(), spec(shards, replicas, hand_off));
    CreateNamespace { id, spec }.command().unwrap()
}

/// One batch of the controller's work on the namespace, as it plans it.
fn shape(world: &World, operation: &OperationId, most: usize) -> Command {
    let mesh = &world.state.mesh;
    let namespace = mesh.namespace(&orders()).unwrap();
    let done = mesh.operation(operation).unwrap().done;
    let placements = match namespace.phase {
        NamespacePhase::Creating => {
            let members = Members::of(&namespace.spec, mesh.peers_after(None).map(|peer| &**peer));
            let layout = layout(mesh, &namespace.id, &namespace.spec, members, Purpose::Balance);
            let next = done as usize..(done as usize + most).min(namespace.spec.shards as usize);
            let place = |shard: usize| Placement {
                owner: layout.owner(shard).cloned(),
                replicas: layout.replicas(shard).cloned().collect(),
            };
            next.map(place).collect()
        }
        NamespacePhase::Active | NamespacePhase::Deleting | NamespacePhase::Reshaping => Vec::new(),
    };
    let operation = operation.clone();
    ShapeNamespace {
        operation,
        done,
        placements,
    }
    .command()
    .unwrap()
}

fn delete(forced: bool) -> Command {
    DeleteNamespace { id: orders(), forced }.command().unwrap()
}

/// The operation on the namespace that runs.
fn under_way(world: &World) -> OperationId {
    let namespace = world.state.mesh.namespace(&orders()).unwrap();
    namespace.operation.clone().unwrap()
}

/// Works an operation on the namespace off.
pub fn finish(world: &mut World, most: usize) {
    let operation = under_way(world);
    while world.state.mesh.operation(&operation).unwrap().state == OperationState::Running {
        let command = shape(world, &operation, most);
        world.run(command).unwrap();
    }
    assert_eq!(
        world.state.mesh.operation(&operation).unwrap().state,
        OperationState::Succeeded
    );
}

pub fn world(peers: u8, shards: u32, replicas: u32, hand_off: HandOff) -> World {
    let mut world = World::new();
    for peer in 0..peers {
        world.run(register(peer)).unwrap();
    }
    world.run(create(shards, replicas, hand_off)).unwrap();
    finish(&mut world, 500);
    world
}

pub fn observe(peer: &PeerId, from: Health, to: Health) -> Command {
    let seen = vec![(peer.clone(), from, to)];
    ObservePeers { seen }.command().unwrap()
}

/// The first peers are alive.
fn heard(world: &mut World, peers: u8) {
    for peer in 0..peers {
        let alive = observe(&peer_id(peer), Health::Unknown, Health::Alive);
        world.run(alive).unwrap();
    }
}

pub fn shard(world: &World, index: u32) -> Shard {
    world.state.mesh.shard(&shard_id(index)).unwrap().clone()
}

/// A peer that does not own the shard.
pub fn another(world: &World, index: u32, peers: u8) -> PeerId {
    let owner = shard(world, index).owner;
    (0..peers)
        .map(peer_id)
        .find(|peer| Some(peer) != owner.as_ref())
        .unwrap()
}

pub fn move_to(index: u32, to: &PeerId) -> Command {
    let (id, to) = (shard_id(index), to.clone());
    MoveShard { id, to }.command().unwrap()
}

pub fn end(world: &World, index: u32, end: StepEnd) -> Command {
    let moving = shard(world, index).moving.unwrap();
    let (begun, step) = (moving.begun, moving.step);
    let id = shard_id(index);
    EndMoveStep {
        id,
        begun,
        step,
        end,
        by: None,
    }
    .command()
    .unwrap()
}

#[test]
fn a_namespace_is_made_in_batches_and_taken_away() {
    let mut world = World::new();
    for peer in 0..4 {
        world.run(register(peer)).unwrap();
    }
    world.run(create(1_200, 1, HandOff::Exclusive)).unwrap();
    let operation = under_way(&world);
    let first = shape(&world, &operation, 500);
    world.run(first.clone()).unwrap();
    // What a deposed leader sends again is refused.
    assert!(matches!(world.run(first), Err(Rejection::OperationMoved { .. })));
    finish(&mut world, 500);
    let mesh = &world.state.mesh;
    assert_eq!(mesh.shard_count(), 1_200);
    assert_eq!(mesh.namespace(&orders()).unwrap().phase, NamespacePhase::Active);
    let owned: u64 = (0..4).map(|peer| mesh.shards_owned(&peer_id(peer))).sum();
    assert_eq!(owned, 1_200);
    assert_eq!(
        (0..4).map(|peer| mesh.copied_by(&peer_id(peer)).count()).sum::<usize>(),
        1_200
    );
    let loaded = world.reload();
    assert_eq!(loaded.mesh.digest(), world.state.mesh.digest());
    assert_eq!(
        loaded.mesh.shards_owned(&peer_id(1)),
        world.state.mesh.shards_owned(&peer_id(1))
    );
    world.state.mesh.recount(&mut |_| true).unwrap();

    let served = world.run(delete(false));
    assert!(
        matches!(served, Err(Rejection::NamespaceInUse { served: 1_200, .. })),
        "{served:?}"
    );
    world.run(delete(true)).unwrap();
    finish_deleting(&mut world);
    assert_eq!(world.state.mesh.shard_count(), 0);
    assert!(world.state.mesh.namespace(&orders()).is_none());
    assert!((0..4).all(|peer| world.state.mesh.seats(&peer_id(peer)) == 0));
}

/// S3: a token that somebody still holds, or that data remembers, is less than any of a namespace of the same name.
#[test]
fn a_namespace_that_is_made_again_has_later_tokens() {
    let mut world = world(3, 4, 0, HandOff::Exclusive);
    let hold = |hold| HoldShard { id: shard_id(1), hold }.command().unwrap();
    for _ in 0..10 {
        world.run(hold(Hold::Disable)).unwrap();
        world.run(hold(Hold::Enable)).unwrap();
    }
    let before = shard(&world, 1);
    world.run(delete(true)).unwrap();
    finish_deleting(&mut world);
    world.run(create(4, 0, HandOff::Exclusive)).unwrap();
    finish(&mut world, 500);
    let after = shard(&world, 1);
    assert!(
        (after.mesh_epoch, after.epoch) > (before.mesh_epoch, before.epoch),
        "{before:?} {after:?}"
    );
}

/// S3: a peer that is cut off serves until its lease is over, whatever became of the namespace meanwhile.
#[test]
fn a_namespace_keeps_its_name_until_nobody_can_serve_its_shards() {
    let mut world = world(3, 4, 0, HandOff::Exclusive);
    heard(&mut world, 3);
    world.run(delete(true)).unwrap();
    let operation = under_way(&world);
    let gone = shape(&world, &operation, 500);
    world.run(gone).unwrap();
    assert_eq!(world.state.mesh.shard_count(), 0);
    let waits = world.state.mesh.operation(&operation).unwrap().clone();
    assert!(waits.detail.contains("leases are over"), "{}", waits.detail);
    let terms = Terms::of(world.state.mesh.settings());
    let over_ms = terms.over_ms(terms.lease_ms);
    assert!(over_ms > terms.lease_ms);
    let now_ms = world.state.mesh.stamp().mesh_time_ms;
    assert!(!is_quiet(&waits, now_ms + over_ms - 1) && is_quiet(&waits, now_ms + over_ms));
    // A leader whose clock is ahead is not believed.
    let early = shape(&world, &operation, 500);
    assert!(matches!(world.run(early), Err(Rejection::OperationMoved { .. })));
    let again = world.run(create(4, 0, HandOff::Exclusive));
    assert!(matches!(again, Err(Rejection::AlreadyExists { .. })), "{again:?}");
    world.now_ms += over_ms;
    let over = shape(&world, &operation, 500);
    world.run(over).unwrap();
    let ended = world.state.mesh.operation(&operation).unwrap();
    assert_eq!((ended.state, ended.detail.as_str()), (OperationState::Succeeded, ""));
    assert!(world.state.mesh.namespace(&orders()).is_none());
    world.run(create(4, 0, HandOff::Exclusive)).unwrap();
}

fn finish_deleting(world: &mut World) {
    while let Some(namespace) = world.state.mesh.namespace(&orders()) {
        let operation = namespace.operation.clone().unwrap();
        let command = shape(world, &operation, 500);
        world.run(command).unwrap();
    }
}

#[test]
fn making_a_namespace_can_be_cancelled_halfway() {
    let mut world = World::new();
    world.run(register(0)).unwrap();
    world.run(create(900, 0, HandOff::Exclusive)).unwrap();
    let id = under_way(&world);
    let batch = shape(&world, &id, 400);
    world.run(batch).unwrap();
    world.run(CancelOperation { id: id.clone() }.into()).unwrap();
    finish_deleting(&mut world);
    assert_eq!(world.state.mesh.shard_count(), 0);
    let ended = world.state.mesh.operation(&id).unwrap();
    assert_eq!(
        ended.state,
        OperationState::Cancelled,
        "who waits for it is not told that it was made"
    );
    assert!(ended.detail.contains("cancelled by alice"), "{}", ended.detail);
    let phases: Vec<Phase> = ended.steps.iter().map(|step| step.phase).collect();
    assert_eq!(phases, [Phase::Skipped, Phase::Done]);
    assert_eq!((ended.done, ended.total), (400, 400));
    // The name is free again.
    world.run(create(10, 0, HandOff::Exclusive)).unwrap();
}

#[test]
fn what_is_not_possible_is_refused_with_what_was_measured() {
    let mut world = world(3, 8, 0, HandOff::Exclusive);
    let exists = world.run(create(8, 0, HandOff::Exclusive));
    assert!(matches!(exists, Err(Rejection::AlreadyExists { .. })));
    for (shards, replicas) in [(0, 0), (65_537, 0), (8, 7)] {
        let spec = spec(shards, replicas, HandOff::Exclusive);
        let id = NamespaceId::new("other").unwrap();
        let refused = world.run(CreateNamespace { id, spec }.command().unwrap());
        assert!(matches!(refused, Err(Rejection::InvalidArgument { .. })), "{refused:?}");
    }
    let owner = shard(&world, 0).owner.unwrap();
    let there = world.run(move_to(0, &owner));
    assert!(matches!(there, Err(Rejection::ShardThere { .. })), "{there:?}");
    let to = another(&world, 0, 3);
    world.run(CordonPeer { id: to.clone() }.into()).unwrap();
    let unfit = world.run(move_to(0, &to)).unwrap_err();
    assert_eq!(unfit.measure(), ("cordoned".to_owned(), "takes shards".to_owned()));
    let nowhere = world.run(move_to(9, &owner));
    assert!(matches!(nowhere, Err(Rejection::NotFound { .. })));
}

#[test]
fn a_move_between_peers_that_act_waits_for_both() {
    let mut world = world(3, 8, 1, HandOff::Exclusive);
    heard(&mut world, 3);
    let before = shard(&world, 0);
    let to = another(&world, 0, 3);
    world.run(move_to(0, &to)).unwrap();
    assert_eq!(shard(&world, 0).owner, before.owner);
    let stale = end(&world, 0, StepEnd::Acknowledged);
    world.run(stale.clone()).unwrap();
    assert_eq!(shard(&world, 0).moving.unwrap().step, MoveStep::Stopping);
    assert!(matches!(world.run(stale), Err(Rejection::MoveOver { .. })));
    let released = end(&world, 0, StepEnd::Acknowledged);
    world.run(released).unwrap();
    let after = shard(&world, 0);
    assert_eq!(
        (after.owner, after.epoch, after.status),
        (Some(to), before.epoch + 1, ShardStatus::Active)
    );
    world.state.mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn held_shards_stay_and_disabling_fences() {
    let mut world = world(2, 4, 0, HandOff::Exclusive);
    let hold = |hold| HoldShard { id: shard_id(1), hold }.command().unwrap();
    let to = another(&world, 1, 2);
    world.run(hold(Hold::Pause)).unwrap();
    assert!(matches!(
        world.run(move_to(1, &to)),
        Err(Rejection::ShardTransition { .. })
    ));
    let first = shard(&world, 1);
    assert_eq!(first.epoch, first.meta.created.revision.0);
    world.run(hold(Hold::Disable)).unwrap();
    assert_eq!(shard(&world, 1).epoch, first.epoch + 1);
    assert!(matches!(
        world.run(hold(Hold::Resume)),
        Err(Rejection::ShardTransition { .. })
    ));
    world.run(hold(Hold::Enable)).unwrap();
    assert_eq!(
        (shard(&world, 1).epoch, shard(&world, 1).status),
        (first.epoch + 2, ShardStatus::Active)
    );
}

#[test]
fn batches_of_moves_keep_to_the_limits() {
    let mut world = world(3, 60, 0, HandOff::Exclusive);
    heard(&mut world, 3);
    let from = peer_id(0);
    let owned: Vec<ShardId> = world.state.mesh.owned_by(&from).cloned().collect();
    let moves = owned
        .iter()
        .map(|id| {
            (
                id.clone(),
                world.state.mesh.shard(id).unwrap().epoch,
                peer_id(1),
                Cause::Drained,
            )
        })
        .collect();
    let begin = BeginMoves { moves, operation: None };
    world.run(begin.command().unwrap()).unwrap();
    assert!(owned.len() > 16);
    assert_eq!(world.state.mesh.moving().count(), 16);
}

#[test]
fn a_simulation_is_what_would_happen_and_moves_nothing() {
    let world = world(6, 600, 1, HandOff::Exclusive);
    let mesh = &world.state.mesh;
    let namespace = mesh.namespace(&orders()).unwrap();
    let digest = mesh.digest();
    let play = |scenario: &Scenario| simulate(mesh, namespace, scenario);
    let same = play(&Scenario::default()).unwrap();
    assert_eq!((same.moved.len(), same.copied, same.unowned), (0, 0, 0));

    let without = Scenario {
        without: vec![peer_id(2)],
        ..Scenario::default()
    };
    let lost = play(&without).unwrap();
    let (owned, _) = lost.loads.get(&peer_id(2)).unwrap();
    assert_eq!(lost.moved.len() as u64, owned.owned);
    assert_eq!((lost.unavoidable(), lost.avoidable_permille()), (owned.owned, 0));
    assert!(lost.loads.values().all(|(_, after)| after.owned <= 132));

    let node = |id: &str| Node {
        id: PeerId::new(id).unwrap(),
        weight: None,
        region: None,
        zone: None,
    };
    let with = Scenario {
        nodes: vec![node("new")],
        ..Scenario::default()
    };
    let gained = play(&with).unwrap();
    assert_eq!(gained.unavoidable(), 0);
    let share = gained.loads[&PeerId::new("new").unwrap()].1.owned;
    assert!((60..=100).contains(&share), "{share}");
    assert_eq!(gained.moved.len() as u64, share);
    assert_eq!(gained.avoidable_permille(), (share * 1_000).div_ceil(600));
    assert_eq!(mesh.digest(), digest);

    for (wrong, field) in [
        (
            Scenario {
                nodes: vec![node("new"), node("new")],
                ..Scenario::default()
            },
            "nodes",
        ),
        (
            Scenario {
                nodes: vec![Node {
                    weight: Some(0),
                    ..node("p1")
                }],
                ..Scenario::default()
            },
            "weight",
        ),
        (
            Scenario {
                without: vec![PeerId::new("nobody").unwrap()],
                ..Scenario::default()
            },
            "without",
        ),
        (
            Scenario {
                without_zones: vec!["nowhere".to_owned()],
                ..Scenario::default()
            },
            "withoutZones",
        ),
        (
            Scenario {
                replicas: Some(7),
                ..Scenario::default()
            },
            "replicas",
        ),
    ] {
        match play(&wrong) {
            Err(Rejection::InvalidArgument { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{other:?}"),
        }
    }
    // Nobody is left: the shards would be nobody's.
    let zone = Scenario {
        without_zones: vec!["a".to_owned()],
        ..Scenario::default()
    };
    assert_eq!(play(&zone).unwrap().unowned, 600);
}

#[test]
fn two_states_differ_in_what_moved_between_them() {
    let mut world = world(3, 12, 0, HandOff::Exclusive);
    let before = world.state.mesh.clone();
    let (to, epoch) = (another(&world, 7, 3), shard(&world, 7).epoch);
    world.run(move_to(7, &to)).unwrap();
    let changed = simulate::diff(&before, &world.state.mesh, &orders());
    assert_eq!(changed.len(), 1);
    assert_eq!(
        (changed[0].shard, changed[0].after.clone()),
        (7, Some((Some(to), epoch + 1)))
    );
    assert_eq!(simulate::diff(&before, &before, &orders()), []);
}

/// One round of the controller, and what peers that act answer. Answers whether anything was done.
pub fn reconcile(world: &mut World, acknowledges: impl Fn(&PeerId) -> bool) -> bool {
    let round = reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default());
    let idle = round.is_idle();
    for end in round.end {
        world.run(end.command().unwrap()).unwrap();
    }
    let moves = round.begin;
    let begin = BeginMoves { moves, operation: None };
    world.run(begin.command().unwrap()).unwrap();
    let copies = round.copies;
    world.run(PlaceCopies { copies }.command().unwrap()).unwrap();
    let moving: Vec<Shard> = world.state.mesh.moving().cloned().collect();
    for shard in &moving {
        let moving = shard.moving.as_ref().unwrap();
        let waits_for = match moving.step {
            MoveStep::Preparing => moving.to.clone(),
            MoveStep::Stopping => shard.owner.clone().unwrap(),
        };
        if acknowledges(&waits_for) {
            let (begun, step, id) = (moving.begun, moving.step, shard.id.clone());
            let end = StepEnd::Acknowledged;
            world
                .run(
                    EndMoveStep {
                        id,
                        begun,
                        step,
                        end,
                        by: None,
                    }
                    .command()
                    .unwrap(),
                )
                .unwrap();
        }
    }
    !idle || !moving.is_empty()
}

pub fn settle(world: &mut World, acknowledges: impl Fn(&PeerId) -> bool) {
    for _ in 0..200 {
        if !reconcile(world, &acknowledges) {
            return;
        }
        world.now_ms += 1_000;
    }
    panic!("it does not settle");
}

#[test]
fn a_drain_moves_everything_that_the_peer_holds() {
    for acts in [false, true] {
        let mut world = world(5, 200, 1, HandOff::Exclusive);
        if acts {
            for peer in 0..5 {
                world
                    .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
                    .unwrap();
            }
        }
        let going = peer_id(2);
        let held = world.state.mesh.seats(&going);
        assert!(held > 60, "{held}");
        world.run(DrainPeer { id: going.clone() }.into()).unwrap();
        settle(&mut world, |_| true);
        let mesh = &world.state.mesh;
        assert_eq!(mesh.seats(&going), 0);
        assert!(
            mesh.shards_of(&orders())
                .all(|shard| shard.owner.is_some() && shard.replicas.len() == 1)
        );
        let most = (0..5).map(|peer| mesh.shards_owned(&peer_id(peer))).max().unwrap();
        assert!(most <= 55, "{most}");
        mesh.recount(&mut |_| true).unwrap();
    }
}

#[test]
fn replicas_that_nobody_could_hold_are_placed_when_somebody_comes() {
    let mut world = world(1, 20, 2, HandOff::Exclusive);
    assert!(reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default()).is_idle());
    for peer in 1..4 {
        world.run(register(peer)).unwrap();
    }
    settle(&mut world, |_| true);
    let mesh = &world.state.mesh;
    assert!(mesh.shards_of(&orders()).all(|shard| shard.replicas.len() == 2));
    mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn a_drain_with_nowhere_to_go_is_refused() {
    let mut world = world(1, 10, 0, HandOff::Exclusive);
    let refused = world.run(DrainPeer { id: peer_id(0) }.into());
    assert!(matches!(refused, Err(Rejection::NoEligiblePeer { .. })), "{refused:?}");
}

#[test]
fn the_shards_of_a_dead_peer_go_to_those_who_hold_copies() {
    let mut world = world(5, 200, 1, HandOff::Exclusive);
    for peer in 0..5 {
        world
            .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
            .unwrap();
    }
    let dead = peer_id(3);
    let before: Vec<Shard> = world
        .state
        .mesh
        .shards_of(&orders())
        .map(|shard| (**shard).clone())
        .collect();
    world.run(observe(&dead, Health::Alive, Health::Suspect)).unwrap();
    assert!(
        reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default()).is_idle(),
        "a suspect keeps what it has"
    );
    world.run(observe(&dead, Health::Suspect, Health::Dead)).unwrap();
    // The dead acknowledge nothing.
    settle(&mut world, |peer| *peer != dead);
    let mesh = &world.state.mesh;
    assert_eq!(mesh.seats(&dead), 0);
    let lost: Vec<&Shard> = before
        .iter()
        .filter(|shard| shard.owner.as_ref() == Some(&dead))
        .collect();
    let warm = lost.iter().filter(|shard| {
        let owner = mesh.shard(&shard.id).unwrap().owner.clone().unwrap();
        shard.replicas.contains(&owner)
    });
    assert!(warm.count() * 10 >= lost.len() * 8);
    for shard in &before {
        let epoch = mesh.shard(&shard.id).unwrap().epoch;
        assert_eq!(epoch, shard.epoch + u64::from(shard.owner.as_ref() == Some(&dead)));
    }
}

#[test]
fn a_move_that_nobody_works_on_is_given_up() {
    let mut world = world(3, 9, 0, HandOff::Exclusive);
    heard(&mut world, 3);
    let owner = shard(&world, 0).owner;
    let to = another(&world, 0, 3);
    world.run(move_to(0, &to)).unwrap();
    assert!(reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default()).is_idle());
    world.now_ms += 60_000;
    settle(&mut world, |_| false);
    assert_eq!(
        (shard(&world, 0).owner, shard(&world, 0).status),
        (owner, ShardStatus::Active)
    );
}

/// What the peers of the model do: each acts on the state as it saw it last.
#[derive(Default)]
struct Fleet {
    /// The shard as each peer saw it last; without one it serves nothing.
    seen: BTreeMap<PeerId, Shard>,
    serving: BTreeSet<PeerId>,
    /// Everything that was ever sent, to be sent again.
    sent: Vec<Command>,
}

const FLEET: u8 = 3;

#[derive(Debug, Clone)]
enum Act {
    /// A peer looks at the state, and serves or stops accordingly.
    Look(u8),
    /// A peer acknowledges what it saw.
    Acknowledge(u8),
    /// A peer acknowledges what is not its to acknowledge, or under the token before.
    Lie(u8, bool),
    /// A peer falls silent, its lease runs out, and the leader says so.
    LeaseOver,
    Move(u8),
    Cancel,
    TimeOut,
    /// A peer is given up: its lease has run out long ago.
    Die(u8),
    Revive(u8),
    /// What was sent before arrives once more.
    Again(prop::sample::Index),
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..FLEET).prop_map(Act::Look),
        6 => (0..FLEET).prop_map(Act::Acknowledge),
        2 => (0..FLEET, any::<bool>()).prop_map(|(peer, stale)| Act::Lie(peer, stale)),
        1 => Just(Act::LeaseOver),
        3 => (0..FLEET).prop_map(Act::Move),
        1 => Just(Act::Cancel),
        1 => Just(Act::TimeOut),
        1 => (0..FLEET).prop_map(Act::Die),
        1 => (0..FLEET).prop_map(Act::Revive),
        2 => any::<prop::sample::Index>().prop_map(Act::Again),
    ]
}

fn acknowledgement(shard: &Shard, by: Option<(PeerId, FencingToken)>) -> Command {
    let moving = shard.moving.as_ref().unwrap();
    let (begun, step, id) = (moving.begun, moving.step, shard.id.clone());
    let end = StepEnd::Acknowledged;
    EndMoveStep {
        id,
        begun,
        step,
        end,
        by,
    }
    .command()
    .unwrap()
}

impl Fleet {
    /// Refusals are part of the game.
    fn send(&mut self, world: &mut World, command: Command) -> Result<(), Rejection> {
        self.sent.push(command.clone());
        world.run(command).map(drop)
    }

    /// A peer serves what it saw that it owns, until it saw that it is to stop.
    fn look(&mut self, world: &World, peer: &PeerId) {
        let shard = shard(world, 0);
        let stops = shard
            .moving
            .as_ref()
            .is_some_and(|moving| moving.step == MoveStep::Stopping);
        if shard.owner.as_ref() == Some(peer) && !stops {
            self.serving.insert(peer.clone());
        } else {
            self.serving.remove(peer);
        }
        self.seen.insert(peer.clone(), shard);
    }

    fn acknowledge(&mut self, world: &mut World, peer: &PeerId) {
        let Some(seen) = self.seen.get(peer).cloned() else {
            return;
        };
        let Some(moving) = &seen.moving else { return };
        let speaks = match moving.step {
            MoveStep::Preparing => moving.to == *peer,
            // It has stopped: see `look`.
            MoveStep::Stopping => seen.owner.as_ref() == Some(peer),
        };
        if speaks {
            assert!(moving.step == MoveStep::Preparing || !self.serving.contains(peer));
            let by = Some((peer.clone(), world.state.mesh.token(&seen)));
            let command = acknowledgement(&seen, by);
            // Refused by who acknowledges where it is not refused before: the move is over, or its step is.
            if let Err(refused) = self.send(world, command) {
                assert!(matches!(refused, Rejection::MoveOver { .. }), "{refused:?}");
            }
        }
    }

    /// A peer says that it has done what another is waited for, or what it did under another token: it is refused, whatever it
    /// saw.
    fn lie(&mut self, world: &mut World, peer: &PeerId, stale: bool) {
        let now = shard(world, 0);
        let Some(moving) = &now.moving else { return };
        let awaited = match moving.step {
            MoveStep::Preparing => Some(&moving.to),
            MoveStep::Stopping => now.owner.as_ref(),
        };
        let mut token = world.state.mesh.token(&now);
        if stale {
            token.shard -= 1;
        }
        let is_awaited = awaited == Some(peer);
        if is_awaited && !stale {
            return;
        }
        let command = acknowledgement(&now, Some((peer.clone(), token)));
        let before = world.state.mesh.position();
        match self.send(world, command) {
            Err(Rejection::NotWaitedFor { .. }) => assert!(!is_awaited),
            Err(Rejection::StaleToken { .. }) => assert!(is_awaited && stale),
            other => panic!("{other:?}"),
        }
        assert_eq!(shard(world, 0), now, "{before:?}");
    }

    fn act(&mut self, world: &mut World, act: &Act) {
        let health = |world: &World, peer: u8| world.state.mesh.peer(&peer_id(peer)).unwrap().health;
        match act {
            Act::Look(peer) if health(world, *peer) == Health::Alive => self.look(world, &peer_id(*peer)),
            Act::Acknowledge(peer) if health(world, *peer) == Health::Alive => self.acknowledge(world, &peer_id(*peer)),
            Act::Look(_) | Act::Acknowledge(_) => {}
            Act::LeaseOver => {
                if let (Some(moving), Some(owner)) = (shard(world, 0).moving, shard(world, 0).owner) {
                    self.serving.remove(&owner);
                    self.seen.remove(&owner);
                    let (begun, step, id) = (moving.begun, moving.step, shard_id(0));
                    let end = StepEnd::LeaseOver;
                    let command = EndMoveStep {
                        id,
                        begun,
                        step,
                        end,
                        by: None,
                    };
                    let _ = self.send(world, command.command().unwrap());
                }
            }
            Act::Move(peer) => drop(self.send(world, move_to(0, &peer_id(*peer)))),
            Act::Lie(peer, stale) => self.lie(world, &peer_id(*peer), *stale),
            Act::Cancel | Act::TimeOut => {
                if shard(world, 0).moving.is_some() {
                    let how = if matches!(act, Act::Cancel) {
                        StepEnd::Cancelled
                    } else {
                        StepEnd::TimedOut
                    };
                    let command = end(world, 0, how);
                    let _ = self.send(world, command);
                }
            }
            Act::Die(peer) => {
                let id = peer_id(*peer);
                self.serving.remove(&id);
                self.seen.remove(&id);
                let _ = world.run(observe(&id, Health::Alive, Health::Dead));
            }
            Act::Revive(peer) => {
                let _ = world.run(observe(&peer_id(*peer), Health::Dead, Health::Alive));
            }
            Act::Again(which) if !self.sent.is_empty() => {
                let command = self.sent[which.index(self.sent.len())].clone();
                // A lease that was over once may be held again: only the leader of today may say so.
                if !format!("{command:?}").contains("LeaseOver") {
                    let _ = world.run(command);
                }
            }
            Act::Again(_) => {}
        }
    }
}

fn fleet(hand_off: HandOff) -> (World, Fleet) {
    let mut world = world(FLEET, 1, 0, hand_off);
    for peer in 0..FLEET {
        world
            .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
            .unwrap();
    }
    (world, Fleet::default())
}

proptest! {
    /// Whatever comes in whatever order, twice or late: under `exclusive` no two peers serve the shard, its token only grows, and
    /// a move that everybody works on ends.
    #[test]
    fn no_two_peers_serve_one_shard(acts in prop::collection::vec(acts(), 1..60)) {
        let (mut world, mut fleet) = fleet(HandOff::Exclusive);
        let mut epoch = shard(&world, 0).epoch;
        for act in &acts {
            fleet.act(&mut world, act);
            prop_assert!(fleet.serving.len() <= 1, "{:?} after {act:?}", fleet.serving);
            let now = shard(&world, 0).epoch;
            prop_assert!(now >= epoch);
            epoch = now;
        }
        for peer in 0..FLEET {
            fleet.act(&mut world, &Act::Revive(peer));
        }
        for _ in 0..3 {
            for peer in 0..FLEET {
                fleet.act(&mut world, &Act::Look(peer));
                fleet.act(&mut world, &Act::Acknowledge(peer));
            }
        }
        (0..FLEET).for_each(|peer| fleet.act(&mut world, &Act::Look(peer)));
        prop_assert!(shard(&world, 0).moving.is_none());
        prop_assert_eq!(fleet.serving.first().cloned(), shard(&world, 0).owner);
        world.state.mesh.recount(&mut |_| true).unwrap();
    }
}

/// The model sees two peers that serve one shard: an overlapping move has them, which is what it is for.
#[test]
fn the_model_sees_two_that_serve() {
    let (mut world, mut fleet) = fleet(HandOff::Overlap);
    let owner = shard(&world, 0).owner.unwrap();
    let to = another(&world, 0, FLEET);
    fleet.look(&world, &owner);
    fleet.send(&mut world, move_to(0, &to)).unwrap();
    fleet.look(&world, &to);
    fleet.acknowledge(&mut world, &to);
    fleet.look(&world, &to);
    assert_eq!(fleet.serving.len(), 2);
}
