//! Who is given shards (S11, M11): not who refuses them, nor who never answers, nor who was never heard while others are.

use std::collections::BTreeMap;

use meshkit_statemachine::{
    DrainPeer, EndMoveStep, Hold, HoldShard, PeerId, PlaceCopies, StepEnd,
    plan::{
        avoid::Avoid,
        reconcile::{self, Round},
        simulate::{Node, Scenario},
    },
    preview,
    record::{HandOff, Health, MoveStep, Shard, ShardStatus},
};

use crate::{
    shards::{move_to, observe, orders, settle, shard_id, simulate, world},
    world::{World, peer_id},
};

/// What a peer says when it is to get ready.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Ready,
    Failed,
    Nothing,
}

/// A leader's controller, and how many moves it began to whom.
#[derive(Default)]
struct Leader {
    avoid: Avoid,
    begun: BTreeMap<PeerId, u64>,
}

impl Leader {
    /// One pass, and what peers answer to it: one of them as it is told, all others that they are ready.
    fn pass(&mut self, world: &mut World, odd: &PeerId, says: Says) -> Round {
        let mesh = world.state.mesh.clone();
        self.avoid.look(&mesh, world.now_ms);
        let round = reconcile::round(&mesh, world.now_ms, &self.avoid);
        self.avoid.expect(&mesh, &round.begin);
        for (_, _, to, _) in &round.begin {
            *self.begun.entry(to.clone()).or_default() += 1;
        }
        for end in round.end.clone() {
            world.run(end.command().unwrap()).unwrap();
        }
        for begin in round.moves(&mesh, 500) {
            let of_a_drain = mesh.peers_after(None).any(|peer| peer.operation == begin.operation);
            assert!(begin.operation.is_some() && of_a_drain);
            world.run(begin.command().unwrap()).unwrap();
        }
        let copies = round.copies.clone();
        world.run(PlaceCopies { copies }.command().unwrap()).unwrap();
        let moving: Vec<Shard> = world.state.mesh.moving().cloned().collect();
        for shard in moving {
            let moving = shard.moving.unwrap();
            assert!(moving.operation.is_some());
            let end = match (moving.step, says) {
                (MoveStep::Preparing, Says::Failed) if moving.to == *odd => StepEnd::Cancelled,
                (MoveStep::Preparing, Says::Nothing) if moving.to == *odd => continue,
                (MoveStep::Preparing | MoveStep::Stopping, _) => StepEnd::Acknowledged,
            };
            let (id, begun, step, by) = (shard.id, moving.begun, moving.step, None);
            let end = EndMoveStep {
                id,
                begun,
                step,
                end,
                by,
            };
            world.run(end.command().unwrap()).unwrap();
        }
        world.now_ms += 100;
        round
    }

    fn passes(&mut self, world: &mut World, odd: &PeerId, says: Says, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.pass(world, odd, says);
        }
    }

    fn begun(&self, peer: &PeerId) -> u64 {
        self.begun.get(peer).copied().unwrap_or_default()
    }
}

fn heard(peers: u8, shards: u32, replicas: u32) -> World {
    let mut world = world(peers, shards, replicas, HandOff::Exclusive);
    for peer in 0..peers {
        world
            .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
            .unwrap();
    }
    world
}

fn drain(world: &mut World, peer: u8) {
    world.run(DrainPeer { id: peer_id(peer) }.into()).unwrap();
}

#[test]
fn what_a_target_refuses_goes_elsewhere_and_it_is_not_asked_again_and_again() {
    let mut world = heard(4, 120, 0);
    let odd = peer_id(2);
    let had = world.state.mesh.shards_owned(&odd);
    drain(&mut world, 1);
    let mut leader = Leader::default();
    leader.passes(&mut world, &odd, Says::Failed, 60);
    assert_eq!(world.state.mesh.seats(&peer_id(1)), 0);
    assert_eq!(world.state.mesh.shards_owned(&odd), had);
    let begun = leader.begun(&odd);
    assert!((1..=17).contains(&begun), "{begun}");
    leader.passes(&mut world, &odd, Says::Failed, 300);
    assert_eq!(leader.begun(&odd), begun, "nothing is left to be asked for");
}

#[test]
fn where_nobody_else_is_the_only_target_is_tried_ever_less_often_and_taken_when_it_can() {
    let mut world = heard(2, 40, 0);
    let odd = peer_id(0);
    drain(&mut world, 1);
    let mut leader = Leader::default();
    leader.passes(&mut world, &odd, Says::Failed, 600);
    let begun = leader.begun(&odd);
    assert!((1..=16 + 8).contains(&begun), "{begun}");
    let round = leader.pass(&mut world, &odd, Says::Failed);
    assert_eq!(
        (round.stuck, round.waiting),
        (0, world.state.mesh.shards_owned(&peer_id(1)))
    );
    leader.passes(&mut world, &odd, Says::Ready, 310);
    assert_eq!(world.state.mesh.seats(&peer_id(1)), 0);
    world.state.mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn a_target_that_never_answers_holds_up_nothing_but_one_step_and_one_shard() {
    let mut world = heard(4, 120, 0);
    let odd = peer_id(2);
    drain(&mut world, 1);
    let mut leader = Leader::default();
    // The time of one step, and of those that were begun before anything was known of it.
    leader.passes(&mut world, &odd, Says::Nothing, 130);
    let left = world.state.mesh.shards_owned(&peer_id(1));
    assert!(left <= 1, "{left}");
    leader.passes(&mut world, &odd, Says::Nothing, 130);
    assert_eq!(world.state.mesh.seats(&peer_id(1)), 0);
    let begun = leader.begun(&odd);
    assert!((1..=20).contains(&begun), "{begun}");
}

#[test]
fn who_was_never_heard_is_given_nothing_while_others_are() {
    let mut world = world(4, 120, 1, HandOff::Exclusive);
    for peer in 0..3 {
        world
            .run(observe(&peer_id(peer), Health::Unknown, Health::Alive))
            .unwrap();
    }
    let silent = peer_id(3);
    let mesh = &world.state.mesh;
    let had = mesh.seats(&silent);
    let node = Node {
        id: PeerId::new("new").unwrap(),
        weight: None,
        region: None,
        zone: None,
    };
    let played = |scenario: &Scenario| simulate(mesh, mesh.namespace(&orders()).unwrap(), scenario).unwrap();
    let lost = played(&Scenario {
        without: vec![peer_id(1)],
        ..Scenario::default()
    });
    let (before, after) = lost.loads[&silent];
    assert_eq!(before, after);
    // Who is still to come will be heard.
    let come = played(&Scenario {
        nodes: vec![node.clone()],
        ..Scenario::default()
    });
    assert!(come.loads[&node.id].1.owned > 0);
    let moved = (0..120).find(|index| {
        let owner = mesh.shard(&shard_id(*index)).unwrap().owner.clone();
        owner != Some(silent.clone())
    });
    let checks = |to: &PeerId| {
        let preview = preview(&world.state, &world.proposal(move_to(moved.unwrap(), to)));
        preview
            .checks
            .into_iter()
            .map(|check| check.measured)
            .collect::<Vec<_>>()
    };
    let noted = |to: &PeerId| checks(to).iter().any(|measured| measured.contains("was never heard"));
    assert!(noted(&silent) && !(0..3).any(|peer| noted(&peer_id(peer))));
    drain(&mut world, 1);
    settle(&mut world, |_| true);
    assert_eq!(world.state.mesh.seats(&peer_id(1)), 0);
    assert_eq!(world.state.mesh.seats(&silent), had);
    world.run(observe(&silent, Health::Unknown, Health::Alive)).unwrap();
    drain(&mut world, 2);
    settle(&mut world, |_| true);
    assert!(world.state.mesh.seats(&silent) > had);
}

#[test]
fn copies_of_held_shards_leave_a_peer_that_is_drained_and_their_owners_stay() {
    let mut world = heard(5, 100, 1);
    let going = peer_id(2);
    let copied: Vec<_> = world.state.mesh.copied_by(&going).take(2).cloned().collect();
    for (id, hold) in copied.iter().zip([Hold::Pause, Hold::Disable]) {
        let id = id.clone();
        world.run(HoldShard { id, hold }.command().unwrap()).unwrap();
    }
    let owners = |world: &World| -> Vec<_> {
        let owner = |id| world.state.mesh.shard(id).unwrap().owner.clone();
        copied.iter().map(owner).collect()
    };
    let before = owners(&world);
    drain(&mut world, 2);
    settle(&mut world, |_| true);
    assert_eq!(world.state.mesh.seats(&going), 0);
    assert_eq!(owners(&world), before);
    for (id, status) in copied.iter().zip([ShardStatus::Paused, ShardStatus::Disabled]) {
        let shard = world.state.mesh.shard(id).unwrap();
        assert_eq!((shard.status, shard.replicas.len()), (status, 1));
    }
    world.state.mesh.recount(&mut |_| true).unwrap();
}

#[test]
fn a_held_shard_whose_owner_is_lost_keeps_the_copy_that_is_left() {
    let mut world = heard(6, 100, 2);
    let going = peer_id(2);
    let id = world.state.mesh.copied_by(&going).next().unwrap().clone();
    let before = world.state.mesh.shard(&id).unwrap().clone();
    let left = before.replicas.iter().find(|peer| **peer != going).unwrap().clone();
    let pause = HoldShard {
        id: id.clone(),
        hold: Hold::Pause,
    };
    world.run(pause.command().unwrap()).unwrap();
    let owner = before.owner.clone().unwrap();
    let scenario = Scenario {
        without: vec![owner.clone(), going.clone()],
        ..Scenario::default()
    };
    let mesh = &world.state.mesh;
    let simulated = simulate(mesh, mesh.namespace(&orders()).unwrap(), &scenario).unwrap();
    world.run(observe(&owner, Health::Alive, Health::Suspect)).unwrap();
    world.run(observe(&owner, Health::Suspect, Health::Dead)).unwrap();
    drain(&mut world, 2);
    settle(&mut world, |peer| *peer != owner);
    let after = world.state.mesh.shard(&id).unwrap();
    assert_eq!((&after.owner, after.replicas.len()), (&before.owner, 2));
    assert!(after.replicas.contains(&left) && !after.replicas.contains(&going));
    for (peer, (_, load)) in &simulated.loads {
        let mesh = &world.state.mesh;
        let held = (mesh.shards_owned(peer), mesh.shards_copied(peer));
        assert_eq!(held, (load.owned, load.copies), "{peer} has what was simulated");
    }
}
