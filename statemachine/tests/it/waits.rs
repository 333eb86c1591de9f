//! A drain that waits says for what, in its record and to who previews it; and what it waits for is what apply waits for.

use meshkit_statemachine::{
    AdvanceDrain, BeginMoves, Check, Command, CordonPeer, DrainPeer, Hold, HoldShard, PlaceCopies, Rejection,
    ShapeNamespace, StepEnd,
    plan::{avoid::Avoid, drain, reconcile},
    preview,
    record::{HandOff, Health, Operation, ShardId},
};

use crate::{
    shards::{end, observe, orders, shard, world},
    world::{World, peer_id},
};

fn operation(world: &World) -> Operation {
    let peer = world.state.mesh.peer(&peer_id(1)).unwrap();
    let operation = peer.operation.as_ref().unwrap();
    world.state.mesh.operation(operation).unwrap().clone()
}

fn advance(world: &World) -> Command {
    let operation = operation(world);
    let step = u32::try_from(operation.active_step().unwrap()).unwrap();
    let operation = operation.id;
    AdvanceDrain { operation, step }.into()
}

fn hold(id: &ShardId, hold: Hold) -> Command {
    let id = id.clone();
    HoldShard { id, hold }.command().unwrap()
}

fn owned(world: &World) -> Vec<ShardId> {
    world.state.mesh.owned_by(&peer_id(1)).cloned().collect()
}

fn checks(world: &World, command: Command) -> Vec<Check> {
    preview(&world.state, &world.proposal(command)).checks
}

/// Begins the moves that the controller would begin now.
fn begin_moves(world: &mut World) {
    let (moves, operation) = (
        reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default()).begin,
        None,
    );
    world.run(BeginMoves { moves, operation }.command().unwrap()).unwrap();
}

fn drain_of_1() -> Command {
    DrainPeer { id: peer_id(1) }.into()
}

#[test]
fn a_drain_names_the_shards_that_are_held_and_the_peers_that_have_not_answered() {
    let mut world = world(4, 40, 0, HandOff::Exclusive);
    for peer in 0..4 {
        world
            .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
            .unwrap();
    }
    let shows_held = |world: &World| {
        let held = checks(world, drain_of_1());
        held.into_iter().find(|check| check.rule.name.contains("paused"))
    };
    assert_eq!(shows_held(&world), None, "nothing is held");
    let all = owned(&world);
    let (paused, disabled) = (&all[0], &all[1]);
    world.run(hold(paused, Hold::Pause)).unwrap();
    world.run(hold(disabled, Hold::Disable)).unwrap();
    let shown = shows_held(&world).unwrap();
    assert!(shown.passed, "it refuses nothing");
    let held = format!("{paused} is paused, {disabled} is disabled");
    assert!(shown.measured.starts_with(&format!("2 ({held})")), "{shown:?}");

    world.run(drain_of_1()).unwrap();
    let waits = format!("waits for {} shards to move: {held}", all.len());
    assert_eq!(operation(&world).detail, waits);
    begin_moves(&mut world);
    world.now_ms += 1_000;
    world.run(advance(&world)).unwrap();
    let noted = operation(&world);
    let moving: Vec<ShardId> = world.state.mesh.moving().map(|shard| shard.id.clone()).collect();
    let first = shard(&world, moving[0].index).moving.unwrap().to;
    let prepares = format!(
        "{waits}, {first} has not said that it is ready for {} and {} more",
        moving[0],
        moving.len() - 1
    );
    assert_eq!(noted.detail, prepares);
    assert_eq!(noted.active_step(), Some(1), "no step is finished by it");
    assert_eq!(noted.terms.waiting_since_wall_ms, Some(world.now_ms));
    // It is said once: what says nothing new is refused, and the controller knows that.
    assert_eq!(drain::noted(&world.state.mesh, &noted), None);
    assert_eq!(world.run(advance(&world)).unwrap_err().code(), "peer_owns_shards");

    for id in &moving {
        let ready = end(&world, id.index, StepEnd::Acknowledged);
        world.run(ready).unwrap();
    }
    world.run(advance(&world)).unwrap();
    let detail = operation(&world).detail;
    assert!(
        detail.contains(&format!("p1 has not said that it stopped {}", moving[0])),
        "{detail}"
    );
    // With each shard that has moved the record says what is left.
    let stopped = end(&world, moving[0].index, StepEnd::Acknowledged);
    world.run(stopped).unwrap();
    let detail = operation(&world).detail;
    assert!(
        detail.starts_with(&format!("waits for {} shards to move: {held}", all.len() - 1))
            && !detail.contains(&format!("stopped {} ", moving[0])),
        "{detail}"
    );
    world.state.mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn a_drain_names_the_namespace_whose_shards_nobody_can_take() {
    let mut world = world(3, 12, 0, HandOff::Exclusive);
    world.run(drain_of_1()).unwrap();
    for peer in [0, 2] {
        world.run(CordonPeer { id: peer_id(peer) }.into()).unwrap();
    }
    world.run(advance(&world)).unwrap();
    let detail = operation(&world).detail;
    assert!(
        detail.ends_with("shards to move: nobody can take shards of orders"),
        "{detail}"
    );
}

#[test]
fn a_drain_waits_for_copies_too_and_is_not_proposed_before() {
    let mut world = world(3, 12, 1, HandOff::Exclusive);
    world.run(drain_of_1()).unwrap();
    while !owned(&world).is_empty() {
        begin_moves(&mut world);
    }
    let copied: Vec<ShardId> = world.state.mesh.copied_by(&peer_id(1)).cloned().collect();
    assert!(copied.len() > 1, "{copied:?}");
    // A copy of a shard that is held is as good as any.
    world.run(hold(&copied[0], Hold::Pause)).unwrap();
    let waits = format!("owns nothing; waits for {} copies to be placed elsewhere", copied.len());
    assert_eq!(operation(&world).detail, waits);
    assert_eq!(world.run(advance(&world)).unwrap_err().code(), "peer_owns_shards");
    let before = operation(&world);
    assert_eq!(drain::noted(&world.state.mesh, &before), None);
    let copies = copied.iter().map(|id| {
        let shard = shard(&world, id.index);
        let mut others = [peer_id(0), peer_id(2)].into_iter();
        let other = others.find(|peer| Some(peer) != shard.owner.as_ref()).unwrap();
        (id.clone(), shard.meta.version, vec![other])
    });
    let copies = copies.collect();
    world.run(PlaceCopies { copies }.command().unwrap()).unwrap();
    assert_eq!(world.state.mesh.seats(&peer_id(1)), 0);
    let detail = operation(&world).detail;
    assert!(detail.starts_with("owns nothing; gives data planes time"), "{detail}");
    world.run(advance(&world)).unwrap();
    world.run(advance(&world)).unwrap();
    world.state.mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn a_drain_that_nobody_could_follow_says_how_the_others_are() {
    let mut world = world(3, 12, 0, HandOff::Exclusive);
    for (peer, to) in [(0, Health::Suspect), (2, Health::Alive)] {
        world.run(observe(&peer_id(peer), Health::Unknown, to)).unwrap();
    }
    world.run(CordonPeer { id: peer_id(2) }.into()).unwrap();
    let checks = checks(&world, drain_of_1());
    let last = checks.last().unwrap();
    assert_eq!(
        (last.passed, last.measured.as_str()),
        (false, "nobody for orders, the others are 1 cordoned, 1 suspect")
    );
    let refused = world.run(drain_of_1()).unwrap_err();
    assert!(matches!(refused, Rejection::NoEligiblePeer { .. }), "{refused:?}");
    assert!(refused.detail().contains("suspect, dead"), "{}", refused.detail());
    assert!(refused.hint().contains("`mesh presence list`"), "{}", refused.hint());
}

#[test]
fn a_step_of_an_operation_that_has_ended_is_refused() {
    let mut world = world(1, 4, 0, HandOff::Exclusive);
    let operation = world.state.mesh.operations_before(None).next().unwrap().id.clone();
    let again = ShapeNamespace {
        operation,
        done: 4,
        placements: Vec::new(),
    };
    let refused = world.run(again.command().unwrap()).unwrap_err();
    assert_eq!(refused.code(), "operation_moved");
    assert!(world.state.mesh.namespace(&orders()).is_some());
}
