//! Limits on moves (S11): what is planned is what apply lets begin, a drain says how far it is, and nothing is planned in vain.

use meshkit_statemachine::{
    BeginMoves, DrainPeer, EndMoveStep, StepEnd,
    plan::{avoid::Avoid, reconcile},
    record::{HandOff, Health, Operation, OperationState},
};

use crate::{
    shards::{observe, orders, world},
    world::{World, peer_id},
};

fn drain(world: &World) -> Operation {
    let peer = world.state.mesh.peer(&peer_id(1)).unwrap();
    let operation = peer.operation.as_ref().unwrap();
    world.state.mesh.operation(operation).unwrap().clone()
}

#[test]
fn a_drain_moves_no_more_at_once_than_the_limits_say_and_counts_what_has_moved() {
    let mut world = world(4, 200, 0, HandOff::Overlap);
    for peer in 0..4 {
        world
            .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
            .unwrap();
    }
    world.run(DrainPeer { id: peer_id(1) }.into()).unwrap();
    let owned = world.state.mesh.shards_owned(&peer_id(1));
    assert!(owned > 40, "{owned}");
    assert_eq!(drain(&world).detail, format!("waits for {owned} shards to move"));
    let mut moved = 0;
    while moved < owned {
        let round = reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default());
        // 16 at once: of the peer, and of the namespace.
        assert_eq!(round.begin.len() as u64, 16.min(owned - moved));
        assert_eq!(round.waiting, (owned - moved).saturating_sub(16));
        let (moves, operation) = (round.begin, None);
        let planned = moves.len();
        world.run(BeginMoves { moves, operation }.command().unwrap()).unwrap();
        assert_eq!(world.state.mesh.moving().count(), planned, "all that was planned");
        let full = reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default());
        assert!(full.is_idle(), "nothing is proposed while there is no room: {full:?}");
        let moving: Vec<_> = world.state.mesh.moving().cloned().collect();
        for shard in moving {
            let step = shard.moving.unwrap();
            let ready = EndMoveStep {
                id: shard.id,
                begun: step.begun,
                step: step.step,
                end: StepEnd::Acknowledged,
                by: None,
            };
            world.run(ready.command().unwrap()).unwrap();
            moved += 1;
            let drain = drain(&world);
            assert_eq!((u64::from(drain.done), drain.state), (moved, OperationState::Running));
        }
    }
    assert!(
        drain(&world).detail.starts_with("owns nothing"),
        "{}",
        drain(&world).detail
    );
    world.state.mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn what_nobody_can_take_is_counted_and_not_planned() {
    let mut world = world(3, 30, 2, HandOff::Exclusive);
    for peer in 0..3 {
        world
            .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
            .unwrap();
    }
    for (from, to) in [(Health::Alive, Health::Suspect), (Health::Suspect, Health::Dead)] {
        for peer in 0..3 {
            world.run(observe(&peer_id(peer), from, to)).unwrap();
        }
    }
    let round = reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default());
    assert!(round.is_idle(), "{round:?}");
    assert_eq!((round.stuck, round.waiting), (30, 0));
    // One comes back: it takes all that it may at once.
    world.run(observe(&peer_id(0), Health::Dead, Health::Alive)).unwrap();
    let round = reconcile::round(&world.state.mesh, world.now_ms, &Avoid::default());
    let id = orders();
    let owned = world.state.mesh.shards_of(&id);
    let away = owned.filter(|shard| shard.owner.as_ref() != Some(&peer_id(0))).count();
    assert_eq!((round.begin.len(), round.waiting as usize), (16, away - 16));
}
