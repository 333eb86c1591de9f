//! Drains on terms, and of several peers at once (M5, M11): never more at a time than was said, and whatever ends them
//! leaves every peer in a status that somebody meant.

use meshkit_statemachine::{
    AdvanceDrain, AdvanceDrainPeers, CancelOperation, ClusterId, Command, CordonPeer, DeregisterPeer, DrainPeer,
    DrainPeerWithTerms, DrainPeers, ExpireDrain, OperationId, PeerId, RegisterPeer, SetConfig, UndrainPeer,
    plan::drain_peers::{round, selection},
    record::{Attributes, Operation, OperationState, PeerSpec, PeerStatus, Phase, SelectedState},
};
use proptest::prelude::*;

use crate::world::{World, peer_id, register};

fn with_terms(n: u8, deadline_ms: Option<u64>, forced: bool) -> Command {
    let id = peer_id(n);
    DrainPeerWithTerms {
        id,
        deadline_ms,
        forced,
    }
    .into()
}

fn many(at_once: u32, deadline_ms: Option<u64>, forced: bool) -> DrainPeers {
    DrainPeers {
        selector: "zone=a".into(),
        at_once,
        deadline_ms,
        forced,
        expected: vec![],
    }
}

/// A peer that the selector does not select, so that its cluster keeps one.
fn spare(cluster: &str) -> Command {
    let spec = PeerSpec {
        cluster: ClusterId::new(cluster).unwrap(),
        role: String::new(),
        region: String::new(),
        zone: "b".into(),
        endpoints: vec!["127.0.0.1:9000".into()],
        labels: Attributes::from([("zone".into(), "b".into())]),
        metadata: Attributes::new(),
        weight: 100,
    };
    RegisterPeer {
        id: PeerId::new(&format!("spare-{cluster}")).unwrap(),
        spec,
    }
    .into()
}

fn world(peers: u8) -> World {
    let mut world = World::new();
    for n in 1..=peers {
        world.run(register(n)).unwrap();
    }
    world.run(spare("c1")).unwrap();
    world
}

fn status(world: &World, n: u8) -> PeerStatus {
    world.state.mesh.peer(&peer_id(n)).unwrap().status
}

fn newest(world: &World) -> Operation {
    Operation::clone(world.state.mesh.operations_before(None).next().unwrap())
}

fn get(world: &World, id: &OperationId) -> Operation {
    world.state.mesh.operation(id).unwrap().clone()
}

fn set(world: &mut World, name: &str, value: u64) {
    let set = [(name.to_owned(), value)].into();
    world.run(SetConfig { set, reset: vec![] }.into()).unwrap();
}

fn advance(operation: &Operation) -> Command {
    AdvanceDrain {
        operation: operation.id.clone(),
        step: u32::try_from(operation.active_step().unwrap()).unwrap(),
    }
    .into()
}

/// What the controller would propose now, oldest operation first. Where the peers own nothing every drain is ready.
fn due(world: &World) -> Vec<Command> {
    let mesh = &world.state.mesh;
    let mut due = Vec::new();
    for operation in mesh.running() {
        match selection(operation) {
            None => due.push(advance(operation)),
            Some(several) if round(mesh, operation, several).is_idle(operation, several) => {}
            Some(several) => due.push(
                AdvanceDrainPeers {
                    operation: operation.id.clone(),
                    round: several.round,
                }
                .into(),
            ),
        }
    }
    due
}

/// How many drains the operation has under way.
fn draining(world: &World, id: &OperationId) -> usize {
    let of_it = |operation: &&Operation| operation.terms.parent.as_ref() == Some(id);
    world.state.mesh.running().filter(of_it).count()
}

#[test]
fn a_deadline_returns_the_peer_and_says_what_is_left() {
    let mut world = world(2);
    world.run(CordonPeer { id: peer_id(2) }.into()).unwrap();
    for (n, before) in [(1, PeerStatus::Active), (2, PeerStatus::Cordoned)] {
        world.run(with_terms(n, Some(5_000), false)).unwrap();
        let operation = newest(&world);
        let deadline = operation.terms.deadline.unwrap();
        assert_eq!(
            (deadline.mesh_ms, deadline.wall_ms),
            (world.now_ms + 5_000, world.now_ms + 5_000)
        );
        assert!(!operation.detail.is_empty(), "it says what it waits for");
        assert_eq!(operation.terms.waiting_since_wall_ms, Some(world.now_ms));
        world.now_ms += 4_999;
        let expire = || {
            Command::from(ExpireDrain {
                operation: operation.id.clone(),
            })
        };
        assert_eq!(world.run(expire()).unwrap_err().code(), "operation_moved", "not yet");
        world.now_ms += 1;
        world.run(expire()).unwrap();
        let failed = get(&world, &operation.id);
        assert_eq!((failed.state, status(&world, n)), (OperationState::Failed, before));
        assert!(
            failed.detail.contains("deadline passed") && failed.detail.contains("0 shards"),
            "{}",
            failed.detail
        );
        assert!(failed.steps.last().unwrap().name.starts_with("undo: p"), "{failed:?}");
        assert_eq!(world.run(expire()).unwrap_err().code(), "operation_moved", "once");
    }
    for wrong in [0, 999, 2_592_000_001] {
        assert_eq!(
            world.run(with_terms(1, Some(wrong), false)).unwrap_err().code(),
            "invalid_argument"
        );
    }
}

#[test]
fn a_drain_that_runs_can_be_given_other_terms() {
    let mut world = world(1);
    world.run(DrainPeer { id: peer_id(1) }.into()).unwrap();
    let id = newest(&world).id;
    world.run(with_terms(1, Some(60_000), false)).unwrap();
    let first = get(&world, &id).terms;
    assert!(first.deadline.is_some() && !first.forced);
    let forced = world.run(with_terms(1, None, true)).unwrap();
    assert_eq!(
        (forced.unit.action.as_str(), forced.unit.target.as_str()),
        ("peers.drain_forced", "peer/p1")
    );
    let second = get(&world, &id).terms;
    assert_eq!((second.deadline, second.forced), (first.deadline, true));
    assert!(
        world.run(with_terms(1, None, true)).unwrap().unit.changes().is_empty(),
        "as it is"
    );
    assert!(
        world
            .run(DrainPeer { id: peer_id(1) }.into())
            .unwrap()
            .unit
            .changes()
            .is_empty()
    );
    while let Some(step) = due(&world).pop() {
        world.run(step).unwrap();
    }
    let ended = get(&world, &id);
    assert_eq!(
        (ended.state, status(&world, 1)),
        (OperationState::Succeeded, PeerStatus::Drained)
    );
    assert!(ended.detail.contains("forced"), "{}", ended.detail);
    assert_eq!(ended.terms.waiting_since_wall_ms, None);
}

#[test]
fn enough_peers_stay_active() {
    let mut world = world(2);
    set(&mut world, "policy.peers_active_min", 3);
    let refused = world.run(DrainPeer { id: peer_id(1) }.into()).unwrap_err();
    assert_eq!(
        (refused.code(), refused.measure()),
        ("active_peers_low", ("2".into(), "3".into()))
    );
    assert!(refused.hint().contains("--force"));
    world.run(CordonPeer { id: peer_id(1) }.into()).unwrap();
    world.run(DrainPeer { id: peer_id(1) }.into()).unwrap();
    assert_eq!(
        status(&world, 1),
        PeerStatus::Draining,
        "it was not among the active ones"
    );
    world.run(with_terms(2, None, true)).unwrap();
    assert_eq!(status(&world, 2), PeerStatus::Draining);
}

#[test]
fn selections_are_held_to_their_rules() {
    let mut world = world(3);
    let code = |world: &mut World, command: DrainPeers| world.run(command.into()).unwrap_err();
    let with = |change: fn(&mut DrainPeers)| {
        let mut command = many(1, None, false);
        change(&mut command);
        command
    };
    for wrong in [
        with(|command| command.selector.clear()),
        with(|command| command.selector = "=".into()),
        with(|command| command.selector = "k,".repeat(300)),
        with(|command| command.at_once = 0),
        with(|command| command.at_once = 51),
        with(|command| command.deadline_ms = Some(1)),
    ] {
        assert_eq!(code(&mut world, wrong).code(), "invalid_argument");
    }
    let nothing = code(&mut world, with(|command| command.selector = "zone=z".into()));
    assert_eq!(
        (nothing.code(), nothing.measure()),
        ("nothing_selected", ("0".into(), "1".into()))
    );
    set(&mut world, "limits.drain_peers", 2);
    let large = code(&mut world, many(1, None, true));
    assert_eq!(
        (large.code(), large.measure()),
        ("selection_too_large", ("3".into(), "2".into()))
    );
    set(&mut world, "limits.drain_peers", 3);
    let changed = code(
        &mut world,
        with(|command| command.expected = vec![peer_id(1), peer_id(2)]),
    );
    assert_eq!(changed.code(), "selection_changed");
    assert!(changed.detail().contains("p3"), "{}", changed.detail());
    // Without the spare nobody would be left.
    world
        .run(
            DeregisterPeer {
                id: PeerId::new("spare-c1").unwrap(),
            }
            .into(),
        )
        .unwrap();
    let last = code(&mut world, many(1, None, false));
    assert_eq!(
        (last.code(), last.measure()),
        ("active_peers_low", ("0".into(), "1".into()))
    );
    let recorded = world.run(many(1, None, true).into()).unwrap();
    assert_eq!(
        (recorded.unit.action.as_str(), recorded.unit.target.as_str()),
        ("peers.drain_many_forced", "peers/zone=a")
    );
    let again = code(&mut world, many(1, None, true));
    assert_eq!(again.code(), "nothing_selected", "{again:?}");
}

#[test]
fn peers_that_another_operation_is_about_to_drain_do_not_count_as_active() {
    let mut world = World::new();
    for n in 1..=2 {
        world.run(register(n)).unwrap();
    }
    world.run(spare("c1")).unwrap();
    world.run(many(1, None, false).into()).unwrap();
    let mut spares = many(1, None, false);
    spares.selector = "zone=b".into();
    let refused = world.run(spares.into()).unwrap_err();
    assert_eq!(
        (refused.code(), refused.measure()),
        ("active_peers_low", ("0".into(), "1".into()))
    );
}

#[test]
fn several_are_drained_a_few_at_a_time_in_the_name_of_who_asked() {
    let mut world = world(5);
    world.run(CordonPeer { id: peer_id(4) }.into()).unwrap();
    let mut proposal = world.proposal(many(2, None, false).into());
    (proposal.origin.actor, proposal.origin.reason, proposal.origin.ticket) =
        ("bob".into(), "rack".into(), "CHG-1".into());
    world.propose(proposal);
    let id = newest(&world).id;
    assert_eq!(draining(&world, &id), 0, "the controller begins them");
    let mut most = 0;
    for _ in 0..100 {
        let Some(step) = due(&world).into_iter().next_back() else {
            break;
        };
        world.run(step.clone()).unwrap();
        if let Command::AdvanceDrainPeers(_) = step {
            assert_eq!(world.run(step).unwrap_err().code(), "operation_moved", "sent twice");
        }
        most = most.max(draining(&world, &id));
    }
    let ended = get(&world, &id);
    assert_eq!(
        (ended.state, ended.done, ended.total, most),
        (OperationState::Succeeded, 5, 5, 2)
    );
    assert!(ended.steps.iter().all(|step| step.phase == Phase::Done));
    let several = selection(&ended).unwrap();
    assert!(
        several
            .peers
            .iter()
            .all(|one| one.state == SelectedState::Drained && one.operation.is_some())
    );
    for n in 1..=5 {
        assert_eq!(status(&world, n), PeerStatus::Drained);
        let peer = world.state.mesh.peer(&peer_id(n)).unwrap();
        let child = get(&world, peer.operation.as_ref().unwrap());
        assert_eq!(
            (child.actor.as_str(), child.ticket.as_str(), peer.status_reason.as_str()),
            ("bob", "CHG-1", "rack")
        );
    }
    assert_eq!(world.reload().head_row(), world.state.head_row());
}

#[test]
fn what_others_do_meanwhile_is_noticed() {
    let mut world = world(5);
    world.run(many(1, None, false).into()).unwrap();
    let id = newest(&world).id;
    // Somebody else drains p1; p2 goes away; p4's drain is taken back while it runs.
    world.run(DrainPeer { id: peer_id(1) }.into()).unwrap();
    let foreign = newest(&world).id;
    world.run(DeregisterPeer { id: peer_id(2) }.into()).unwrap();
    let mut undone = false;
    for _ in 0..100 {
        if !undone && status(&world, 4) == PeerStatus::Draining {
            world.run(UndrainPeer { id: peer_id(4) }.into()).unwrap();
            undone = true;
        }
        let Some(step) = due(&world).into_iter().next_back() else {
            break;
        };
        world.run(step).unwrap();
    }
    let ended = get(&world, &id);
    let several = selection(&ended).unwrap();
    let states: Vec<_> = several.peers.iter().map(|one| one.state).collect();
    use SelectedState::{Drained, Gone, Returned};
    assert_eq!(states, [Drained, Gone, Drained, Returned, Drained]);
    assert_eq!(several.peers[0].operation.as_ref(), Some(&foreign));
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.detail.contains("p4 (was brought back)"), "{}", ended.detail);
}

#[test]
fn a_cluster_that_shrinks_meanwhile_holds_the_rest_up_until_it_grows() {
    let mut world = world(2);
    world.run(many(2, Some(60_000), false).into()).unwrap();
    let id = newest(&world).id;
    world
        .run(
            CordonPeer {
                id: PeerId::new("spare-c1").unwrap(),
            }
            .into(),
        )
        .unwrap();
    world.run(due(&world).pop().unwrap()).unwrap();
    assert_eq!(draining(&world, &id), 1, "one of the two has to stay");
    let held = get(&world, &id);
    assert!(held.detail.contains("has to keep 1 peers active"), "{}", held.detail);
    while let Some(step) = due(&world).pop() {
        world.run(step).unwrap();
    }
    assert_eq!(get(&world, &id).state, OperationState::Running);
    world.run(register(9)).unwrap();
    while let Some(step) = due(&world).pop() {
        world.run(step).unwrap();
    }
    assert_eq!(get(&world, &id).state, OperationState::Succeeded);
    assert_eq!(
        status(&world, 9),
        PeerStatus::Active,
        "it was not there when the peers were chosen"
    );
}

#[derive(Debug, Clone)]
enum Act {
    Go,
    Undrain(u8),
    Drain(u8),
    Cordon(u8),
    Deregister(u8),
    Wait,
}

fn act() -> impl Strategy<Value = Act> {
    let peer = 1_u8..7;
    prop_oneof![
        8 => Just(Act::Go),
        1 => peer.clone().prop_map(Act::Undrain),
        1 => peer.clone().prop_map(Act::Drain),
        1 => peer.clone().prop_map(Act::Cordon),
        1 => peer.prop_map(Act::Deregister),
        1 => Just(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// At no time are more drains of one operation under way than it may have, nor is a cluster without an active peer;
    /// wherever it is ended, by request or by its deadline, no peer stays draining on its account.
    #[test]
    fn however_it_ends_every_peer_is_as_somebody_meant(
        acts in prop::collection::vec((act(), any::<prop::sample::Index>()), 0..40),
        at_once in 1_u32..4,
        by_deadline in any::<bool>(),
        forced in any::<bool>(),
    ) {
        let mut world = world(6);
        world.run(many(at_once, Some(60_000), forced).into()).unwrap();
        let id = newest(&world).id;
        for (act, choice) in acts {
            let command = match act {
                Act::Go => {
                    let due = due(&world);
                    if due.is_empty() { continue }
                    choice.get(&due).clone()
                }
                Act::Undrain(n) => UndrainPeer { id: peer_id(n) }.into(),
                Act::Drain(n) => DrainPeer { id: peer_id(n) }.into(),
                Act::Cordon(n) => CordonPeer { id: peer_id(n) }.into(),
                Act::Deregister(n) => DeregisterPeer { id: peer_id(n) }.into(),
                Act::Wait => {
                    world.now_ms += 100;
                    continue;
                }
            };
            drop(world.run(command));
            prop_assert!(draining(&world, &id) <= at_once as usize);
            let spare = world.state.mesh.peer(&PeerId::new("spare-c1").unwrap()).unwrap();
            prop_assert_eq!(spare.status, PeerStatus::Active);
        }
        let ran = get(&world, &id).state == OperationState::Running;
        let drained: Vec<u8> = (1..=6).filter(|n| {
            world.state.mesh.peer(&peer_id(*n)).is_some_and(|peer| peer.status == PeerStatus::Drained)
        }).collect();
        if ran {
            if by_deadline {
                world.now_ms += 60_000;
                world.run(ExpireDrain { operation: id.clone() }.into()).unwrap();
            } else {
                world.run(CancelOperation { id: id.clone() }.into()).unwrap();
            }
        }
        let ended = get(&world, &id);
        prop_assert!(ended.finished_wall_ms.is_some());
        prop_assert!(ended.active_step().is_none());
        prop_assert_eq!(draining(&world, &id), 0);
        let several = selection(&ended).unwrap();
        prop_assert!(several.peers.iter().all(|one| one.state.is_settled()));
        prop_assert_eq!(ended.done as usize, several.count(SelectedState::Drained));
        for peer in world.state.mesh.peers_after(None) {
            // Who is draining is so on somebody else's account, by an operation that runs.
            if peer.status == PeerStatus::Draining {
                let other = get(&world, peer.operation.as_ref().unwrap());
                prop_assert!(other.state == OperationState::Running && other.terms.parent.is_none());
            }
        }
        for n in drained {
            prop_assert_eq!(status(&world, n), PeerStatus::Drained, "what is drained stays so");
        }
        prop_assert_eq!(world.reload().head_row(), world.state.head_row());
    }
}
