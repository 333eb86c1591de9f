//! What every node can tell of the peers from the state alone: how they are seen, and what hangs on those that are silent.

use meshkit_statemachine::{
    DrainPeer,
    presence::{Census, MassSilence},
    record::{HandOff, Health},
};

use crate::{
    shards::{observe, world},
    world::{World, peer_id},
};

fn census(world: &World) -> Census {
    Census::of(&world.state.mesh)
}

fn owned(world: &World, peers: impl IntoIterator<Item = u8>) -> u64 {
    let shards = |peer| world.state.mesh.shards_owned(&peer_id(peer));
    peers.into_iter().map(shards).sum()
}

#[test]
fn where_no_peer_ever_spoke_silence_says_nothing() {
    let world = world(4, 40, 0, HandOff::Exclusive);
    let found = census(&world);
    let expected = Census {
        unknown: 4,
        ..Census::default()
    };
    assert_eq!(found, expected);
}

#[test]
fn shards_of_whoever_is_not_heard_while_others_are_count_as_those_of_silent_peers() {
    let mut world = world(4, 40, 0, HandOff::Exclusive);
    let seen = |world: &mut World, peer: u8, from, to| world.run(observe(&peer_id(peer), from, to)).unwrap();
    for peer in 0..3 {
        seen(&mut world, peer, Health::Unknown, Health::Alive);
    }
    assert_eq!(census(&world).shards_of_silent, owned(&world, [3]));
    seen(&mut world, 2, Health::Alive, Health::Suspect);
    let found = census(&world);
    let expected = Census {
        unknown: 1,
        alive: 2,
        suspect: 1,
        dead: 0,
        shards_of_silent: owned(&world, [2, 3]),
        mass_silence: None,
    };
    assert_eq!(found, expected);
    seen(&mut world, 2, Health::Suspect, Health::Dead);
    assert_eq!((census(&world).dead, census(&world).suspect), (1, 0));
    assert_eq!(census(&world).shards_of_silent, owned(&world, [2, 3]));
}

#[test]
fn a_mass_silence_is_seen_on_every_node_and_leaves_out_whoever_is_drained() {
    let mut world = world(5, 40, 0, HandOff::Exclusive);
    let seen = |world: &mut World, peer: u8, from, to| world.run(observe(&peer_id(peer), from, to)).unwrap();
    for peer in 0..5 {
        seen(&mut world, peer, Health::Unknown, Health::Alive);
    }
    // One alone never is.
    seen(&mut world, 0, Health::Alive, Health::Suspect);
    assert_eq!(census(&world).mass_silence, None);
    for peer in 1..3 {
        seen(&mut world, peer, Health::Alive, Health::Suspect);
    }
    assert_eq!(census(&world).mass_silence, Some(MassSilence { silent: 3, of: 5 }));
    world.run(DrainPeer { id: peer_id(0) }.into()).unwrap();
    assert_eq!(census(&world).mass_silence, Some(MassSilence { silent: 2, of: 4 }));
    world.run(DrainPeer { id: peer_id(1) }.into()).unwrap();
    let found = census(&world);
    assert_eq!((found.mass_silence, found.suspect), (None, 3));
    // Who leads goes by what it hears, whatever the state says of it yet.
    let heard = Some(MassSilence { silent: 2, of: 3 });
    assert_eq!(found.heard(true, heard).mass_silence, heard);
    assert_eq!(found.heard(false, heard).mass_silence, None);
    assert_eq!(found.shards_of_silent, owned(&world, 0..3));
}
