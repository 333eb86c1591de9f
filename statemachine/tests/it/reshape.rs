//! A namespace is described anew (S1, S6): what is simulated is what is done, within the ceiling, and giving up goes back.

use meshkit_statemachine::{
    AdvanceDrainPeers, AdvanceReshape, BeginMoves, CancelOperation, Command, DrainPeer, DrainPeers, EndMoveStep,
    PatchPeer, PeerId, PlaceCopies, Rejection, ReshapeNamespace, StepEnd, UndrainPeer,
    plan::{reshape, simulate::Scenario},
    record::{Attributes, HandOff, Health, Namespace, NamespacePhase, NamespaceSpec, OperationState, StrategyKind},
};

use crate::{
    shards::{move_to, observe, orders, settle, shard, simulate, world},
    world::{World, peer_id, register},
};

fn namespace(world: &World) -> Namespace {
    world.state.mesh.namespace(&orders()).unwrap().clone()
}

fn ring(world: &World) -> NamespaceSpec {
    NamespaceSpec {
        strategy: StrategyKind::Ring,
        ..namespace(world).spec
    }
}

fn command(world: &World, spec: NamespaceSpec, ceiling: Option<u32>) -> Command {
    let target = reshape::target(&world.state.mesh, &namespace(world), &spec, &|| true).unwrap();
    let (id, moved_permille_max) = (orders(), ceiling);
    ReshapeNamespace {
        id,
        spec,
        target,
        moved_permille_max,
    }
    .command()
    .unwrap()
}

/// One pass of the controller: begins what it can, ends what moves, and says how far it is. False once it is done.
fn pass(world: &mut World) -> bool {
    let Some(target) = namespace(world).target else {
        return false;
    };
    let namespace = namespace(world);
    let id = namespace.operation.clone().unwrap();
    let operation = world.state.mesh.operation(&id).unwrap().clone();
    let step = u32::try_from(operation.active_step().unwrap()).unwrap();
    let advance = |done: u32, over: bool| {
        AdvanceReshape {
            operation: id.clone(),
            step,
            before: operation.done,
            done,
            over,
        }
        .command()
        .unwrap()
    };
    if step == 0 {
        let rest = reshape::rest(&world.state.mesh, &namespace, &target);
        let operation_id = Some(id.clone());
        let (done, over) = (operation.total - rest.len().min(operation.total), rest.is_empty());
        let moves = rest.begin.into_iter().take(500).collect();
        let begin = BeginMoves {
            moves,
            operation: operation_id,
        };
        world.run(begin.command().unwrap()).unwrap();
        let moving: Vec<_> = world.state.mesh.moving().cloned().collect();
        for shard in moving {
            let moving = shard.moving.unwrap();
            let (begun, step, end) = (moving.begun, moving.step, StepEnd::Acknowledged);
            let id = shard.id;
            let end = EndMoveStep {
                id,
                begun,
                step,
                end,
                by: None,
            };
            world.run(end.command().unwrap()).unwrap();
        }
        world.run(advance(done, over)).unwrap();
        // What a deposed leader sends again is refused.
        if done != operation.done {
            assert!(matches!(
                world.run(advance(done, over)),
                Err(Rejection::OperationMoved { .. })
            ));
        }
        return true;
    }
    let copies = reshape::copies(&world.state.mesh, &namespace);
    for batch in copies.chunks(500) {
        let copies = batch.to_vec();
        world.run(PlaceCopies { copies }.command().unwrap()).unwrap();
    }
    let placed = reshape::copies(&world.state.mesh, &namespace);
    assert!(placed.is_empty(), "the step comes to its end: {placed:?}");
    world.run(advance(operation.done, true)).unwrap();
    true
}

/// A namespace on four peers, and two peers more that came later.
fn grown(shards: u32, replicas: u32) -> World {
    let mut world = world(4, shards, replicas, HandOff::Exclusive);
    for peer in 4..6 {
        world.run(register(peer)).unwrap();
    }
    world
}

fn owners(world: &World) -> Vec<Option<PeerId>> {
    let id = orders();
    let shards = world.state.mesh.shards_of(&id);
    shards.map(|shard| shard.owner.clone()).collect()
}

#[test]
fn what_is_simulated_is_what_is_done() {
    let mut world = grown(600, 1);
    let scenario = Scenario {
        strategy: Some(StrategyKind::Ring),
        replicas: Some(2),
        ..Scenario::default()
    };
    let simulated = simulate(&world.state.mesh, &namespace(&world), &scenario).unwrap();
    let mut expected = owners(&world);
    for moved in &simulated.moved {
        expected[moved.shard as usize] = moved.to.clone();
    }
    let spec = NamespaceSpec {
        replicas: 2,
        ..ring(&world)
    };
    // All of these owners could stay: it is more than the policy's ceiling allows, and the refusal says how much.
    match world.run(command(&world, spec.clone(), None)) {
        Err(Rejection::MovesTooMany { measured, limit, .. }) => {
            assert_eq!((u64::from(measured), limit), (simulated.avoidable_permille(), 100));
        }
        other => panic!("{other:?}"),
    }
    world.run(command(&world, spec.clone(), Some(1_000))).unwrap();
    assert_eq!(namespace(&world).phase, NamespacePhase::Reshaping);
    while pass(&mut world) {}
    let after = namespace(&world);
    assert_eq!(
        (after.phase, after.operation, after.target),
        (NamespacePhase::Active, None, None)
    );
    assert_eq!(after.spec, spec);
    assert_eq!(owners(&world), expected);
    for index in 0..600 {
        assert_eq!(shard(&world, index).replicas.len(), 2, "{index}");
    }
    // Nothing is left to do, and asking again does nothing.
    let before = world.state.mesh.digest();
    let again = simulate(&world.state.mesh, &namespace(&world), &Scenario::default()).unwrap();
    assert_eq!(again.moved, []);
    assert_eq!(world.state.mesh.digest(), before);
}

#[test]
fn giving_up_goes_back_and_leaves_what_has_moved() {
    let mut world = grown(600, 0);
    let before = namespace(&world).spec;
    world.run(command(&world, ring(&world), Some(1_000))).unwrap();
    let operation = namespace(&world).operation.unwrap();
    pass(&mut world);
    pass(&mut world);
    let moved = owners(&world);
    let id = operation.clone();
    world.run(Command::CancelOperation(CancelOperation { id })).unwrap();
    let ended = world.state.mesh.operation(&operation).unwrap();
    assert_eq!(ended.state, OperationState::Cancelled);
    assert!(ended.detail.contains("stay where they are"), "{}", ended.detail);
    let after = namespace(&world);
    assert_eq!(
        (after.spec, after.phase, after.target),
        (before, NamespacePhase::Active, None)
    );
    assert_eq!(owners(&world), moved);
}

#[test]
fn what_cannot_be_reshaped_is_refused_and_says_why() {
    let mut world = grown(100, 0);
    let grown = NamespaceSpec {
        shards: 200,
        ..ring(&world)
    };
    match world.run(command(&world, grown, Some(1_000))) {
        Err(Rejection::ShardCountFixed { shards, asked, .. }) => assert_eq!((shards, asked), (100, 200)),
        other => panic!("{other:?}"),
    }
    let nobody = NamespaceSpec {
        replicas: 9,
        ..ring(&world)
    };
    assert!(matches!(
        world.run(command(&world, nobody, Some(1_000))),
        Err(Rejection::InvalidArgument { .. })
    ));
    let unselected = NamespaceSpec {
        peers: "zone=nowhere".to_owned(),
        ..ring(&world)
    };
    assert!(matches!(
        world.run(command(&world, unselected, Some(1_000))),
        Err(Rejection::NoEligiblePeer { peer: None, .. })
    ));
    // The plan is older than what it was made from.
    let planned = command(&world, ring(&world), Some(1_000));
    let unfit: Vec<PeerId> = (4..6).map(peer_id).collect();
    for peer in &unfit {
        let drain = DrainPeer { id: peer.clone() };
        world.run(Command::DrainPeer(drain)).unwrap();
    }
    assert!(matches!(world.run(planned), Err(Rejection::TargetUnfit { .. })));
    // While it is being reshaped, nothing else begins.
    let mut world = crate::shards::world(4, 100, 0, HandOff::Exclusive);
    world.run(command(&world, ring(&world), Some(1_000))).unwrap();
    assert!(matches!(
        world.run(command(&world, ring(&world), Some(1_000))),
        Err(Rejection::NamespaceBusy { .. })
    ));
}

#[test]
fn shards_that_are_held_stay_where_they_are() {
    let mut world = grown(100, 0);
    let target = reshape::target(&world.state.mesh, &namespace(&world), &ring(&world), &|| true).unwrap();
    let held = (0..100).find(|index| target.owner(*index) != shard(&world, *index).owner.as_ref());
    let held = held.unwrap();
    let planned = command(&world, ring(&world), Some(1_000));
    let pause = meshkit_statemachine::HoldShard {
        id: crate::shards::shard_id(held),
        hold: meshkit_statemachine::Hold::Pause,
    };
    world.run(pause.command().unwrap()).unwrap();
    world.run(planned).unwrap();
    let owner = shard(&world, held).owner;
    while pass(&mut world) {}
    assert_eq!(shard(&world, held).owner, owner);
    assert!(world.run(move_to(held, &peer_id(0))).is_err());
    // Its owner cannot go without leaving it behind, and a simulation says so.
    let scenario = Scenario {
        without: owner.into_iter().collect(),
        ..Scenario::default()
    };
    let simulated = simulate(&world.state.mesh, &namespace(&world), &scenario).unwrap();
    assert_eq!(simulated.held, 1);
}

/// A peer that is late is waited for; one that is dead is not.
#[test]
fn who_is_suspected_is_not_given_up() {
    let mut world = grown(100, 0);
    let planned = command(&world, ring(&world), Some(1_000));
    world.run(planned).unwrap();
    let late = peer_id(4);
    let rest = |world: &World| {
        let namespace = namespace(world);
        reshape::rest(&world.state.mesh, &namespace, namespace.target.as_ref().unwrap())
    };
    let all = rest(&world);
    let bound = all.begin.iter().filter(|(_, _, to, _)| *to == late).count();
    assert!(bound > 0 && all.in_doubt == 0);
    world.run(observe(&late, Health::Unknown, Health::Alive)).unwrap();
    world.run(observe(&late, Health::Alive, Health::Suspect)).unwrap();
    let doubtful = rest(&world);
    assert_eq!((doubtful.in_doubt as usize, doubtful.len()), (bound, all.len()));
    assert!(doubtful.begin.iter().all(|(_, _, to, _)| *to != late));
    world.run(observe(&late, Health::Suspect, Health::Dead)).unwrap();
    let without = rest(&world);
    assert_eq!(
        (without.in_doubt, without.len() as usize),
        (0, all.len() as usize - bound)
    );
}

#[test]
fn peers_that_go_leave_the_map_that_was_simulated() {
    let mut world = world(9, 900, 1, HandOff::Exclusive);
    let going: Vec<PeerId> = (6..9).map(peer_id).collect();
    // One of those who stay has just come back, and holds nothing.
    world.run(Command::DrainPeer(DrainPeer { id: peer_id(1) })).unwrap();
    settle(&mut world, |_| true);
    world.run(UndrainPeer { id: peer_id(1) }.into()).unwrap();
    let scenario = Scenario {
        without: going.clone(),
        ..Scenario::default()
    };
    let simulated = simulate(&world.state.mesh, &namespace(&world), &scenario).unwrap();
    assert_eq!(simulated.avoidable_permille(), 0, "who can stay does");
    let mut expected = owners(&world);
    for moved in &simulated.moved {
        expected[moved.shard as usize] = moved.to.clone();
    }
    // Peers that act: no more of them move at once than the limits allow, so that it takes many rounds.
    for peer in (0..9).map(peer_id) {
        world.run(observe(&peer, Health::Unknown, Health::Alive)).unwrap();
    }
    for peer in &going {
        world.run(Command::DrainPeer(DrainPeer { id: peer.clone() })).unwrap();
    }
    settle(&mut world, |_| true);
    assert_eq!(owners(&world), expected);
}

#[test]
fn whose_turn_to_drain_comes_later_is_given_nothing() {
    let mut world = world(9, 300, 0, HandOff::Exclusive);
    let going: Vec<PeerId> = (6..9).map(peer_id).collect();
    for id in going.clone() {
        let labels = Attributes::from([("zone".to_owned(), "z".to_owned())]);
        let patch = PatchPeer {
            id,
            labels,
            metadata: Attributes::new(),
            remove_labels: Vec::new(),
            remove_metadata: Vec::new(),
        };
        world.run(patch.into()).unwrap();
    }
    let several = DrainPeers {
        selector: "zone=z".into(),
        at_once: 1,
        deadline_ms: None,
        forced: false,
        expected: going,
    };
    world.run(several.into()).unwrap();
    let held = |world: &World, peer: u8| world.state.mesh.shards_owned(&peer_id(peer));
    let before = (held(&world, 7), held(&world, 8));
    let operation = world.state.mesh.operations_before(None).next().unwrap().id.clone();
    let advance = AdvanceDrainPeers { operation, round: 0 };
    world.run(advance.into()).unwrap();
    settle(&mut world, |_| true);
    assert_eq!(held(&world, 6), 0);
    assert_eq!((held(&world, 7), held(&world, 8)), before);
}

#[test]
fn reshaping_as_it_is_spreads_shards_over_those_who_came() {
    let mut world = world(4, 400, 0, HandOff::Exclusive);
    world.run(register(4)).unwrap();
    let same = namespace(&world).spec;
    world.run(command(&world, same, Some(1_000))).unwrap();
    while pass(&mut world) {}
    let owned = world.state.mesh.shards_owned(&peer_id(4));
    assert!((60..=88).contains(&owned), "the one that came owns {owned} of 400");
}

/// A peer is drained in the middle of the step that places copies: its own shards wait for other owners, and are no part of that
/// step, which ends all the same.
#[test]
fn copies_of_shards_that_wait_for_an_owner_stay() {
    let mut world = grown(60, 1);
    let spec = NamespaceSpec {
        replicas: 2,
        ..ring(&world)
    };
    world.run(command(&world, spec, Some(1_000))).unwrap();
    while world
        .state
        .mesh
        .running()
        .any(|operation| operation.active_step() == Some(0))
    {
        assert!(pass(&mut world));
    }
    let going = peer_id(2);
    world.run(DrainPeer { id: going.clone() }.into()).unwrap();
    let before = world.state.mesh.clone();
    let owned = before.owned_by(&going).count();
    assert!(owned > 0 && before.copied_by(&going).next().is_some());
    let copies = reshape::copies(&before, &namespace(&world));
    assert_eq!(copies.len(), 60 - owned, "all others get one copy more");
    // The step sees to it that nothing is left to do.
    assert!(pass(&mut world));
    assert!(namespace(&world).target.is_none());
    for id in before.owned_by(&going) {
        let (was, is) = (before.shard(id).unwrap(), world.state.mesh.shard(id).unwrap());
        assert_eq!((&is.owner, &is.replicas), (&was.owner, &was.replicas), "{id}");
    }
}
