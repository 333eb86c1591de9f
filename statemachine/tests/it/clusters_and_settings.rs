//! M1: descriptors, settings and the floor of history: rules and refusals.

use meshkit_statemachine::{
    ApplyCluster, ClusterId, Command, DemoteCluster, PromoteCluster, Rejection, Revision, RollbackConfig, SetConfig,
    record::{ClusterPhase, ClusterSpec, Fencing, Overrides},
};

use crate::world::{World, register};

fn spec() -> ClusterSpec {
    ClusterSpec {
        region: "eu".into(),
        priority: 10,
        fencing: Fencing::Manual,
        replication_endpoints: vec!["eu.example:7500".into()],
        owners: vec!["sre".into()],
        annotations: [("tier".to_owned(), "gold".to_owned())].into(),
    }
}

fn id(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

fn apply(name: &str, spec: ClusterSpec, state: Option<ClusterPhase>) -> Command {
    let id = id(name);
    ApplyCluster { id, spec, state }.into()
}

fn code(world: &mut World, command: Command) -> String {
    world.run(command).unwrap_err().code().to_owned()
}

#[test]
fn a_new_cluster_begins_passive_and_its_state_follows_the_rules() {
    use ClusterPhase::{Active, Draining, Maintenance, Passive};
    let mut world = World::new();
    world.run(apply("eu", spec(), None)).unwrap();
    let found = world.state.mesh.cluster(&id("eu")).unwrap();
    assert_eq!((found.state, &found.spec), (Passive, &spec()));
    for (from, to, refused) in [
        (Passive, Active, Some("cluster_transition")),
        (Passive, Draining, Some("cluster_transition")),
        (Passive, Maintenance, None),
        (Maintenance, Active, Some("cluster_transition")),
        (Maintenance, Passive, None),
    ] {
        let mut world = world.clone();
        world.run(apply("eu", spec(), Some(from))).unwrap();
        let outcome = world.run(apply("eu", spec(), Some(to)));
        assert_eq!(
            outcome.err().map(|r| r.code().to_owned()).as_deref(),
            refused,
            "{from:?} to {to:?}"
        );
        let now = world.state.mesh.cluster(&id("eu")).unwrap().state;
        assert_eq!(now, if refused.is_some() { from } else { to });
    }
    for to in [Passive, Draining, Maintenance] {
        assert_eq!(code(&mut world, apply("c1", spec(), Some(to))), "last_active_cluster");
    }
    world.run(apply("c1", spec(), Some(Active))).unwrap();
    let again = world.run(apply("c1", spec(), None)).unwrap();
    assert!(again.unit.changes().is_empty(), "the same twice changes nothing");
}

#[test]
fn a_descriptor_without_owners_or_out_of_range_is_refused() {
    let mut world = World::new();
    let refused = |world: &mut World, spec: ClusterSpec| match world.run(apply("eu", spec, None)) {
        Err(Rejection::InvalidArgument { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    let owners = |owners: Vec<String>| ClusterSpec { owners, ..spec() };
    assert_eq!(refused(&mut world, owners(vec![])), "owners");
    assert_eq!(refused(&mut world, owners(vec![" ".into()])), "owners");
    assert_eq!(refused(&mut world, owners(vec!["o".into(); 17])), "owners");
    let priority = ClusterSpec {
        priority: 1_001,
        ..spec()
    };
    assert_eq!(refused(&mut world, priority), "priority");
    let endpoints = ClusterSpec {
        replication_endpoints: vec!["eu.example".into()],
        ..spec()
    };
    assert_eq!(refused(&mut world, endpoints), "replicationEndpoints");
    assert!(world.state.mesh.cluster(&id("eu")).is_none());
}

#[test]
fn promoting_and_demoting_say_what_is_missing() {
    let mut world = World::new();
    world.run(apply("eu", spec(), None)).unwrap();
    let promote = |name: &str| Command::from(PromoteCluster { id: id(name) });
    let demote = |name: &str| Command::from(DemoteCluster { id: id(name) });
    assert_eq!(code(&mut world, promote("eu")), "replication_not_configured");
    assert_eq!(code(&mut world, demote("c1")), "last_active_cluster");
    assert_eq!(code(&mut world, promote("nowhere")), "not_found");
    for already in [promote("c1"), demote("eu")] {
        assert!(world.run(already).unwrap().unit.changes().is_empty());
    }
    world.run(apply("eu", spec(), Some(ClusterPhase::Maintenance))).unwrap();
    assert_eq!(code(&mut world, promote("eu")), "cluster_transition");
    assert_eq!(code(&mut world, demote("eu")), "cluster_transition");
}

fn set(pairs: &[(&str, u64)], reset: &[&str]) -> Command {
    SetConfig {
        set: pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
        reset: reset.iter().map(|name| (*name).to_owned()).collect(),
    }
    .into()
}

#[test]
fn settings_take_effect_at_once_and_go_back() {
    let mut world = World::new();
    world
        .run(set(&[("limits.peers", 1), ("limits.clusters", 2)], &[]))
        .unwrap();
    let first = world.state.mesh.position().revision;
    let was = world.state.mesh.config().unwrap().overrides.clone();
    world.run(register(1)).unwrap();
    assert_eq!(code(&mut world, register(2)), "resource_exhausted");
    world.run(set(&[("limits.clusters", 3)], &["limits.peers"])).unwrap();
    world.run(register(2)).unwrap();
    assert_eq!(world.state.mesh.settings().clusters_max, 3);
    let back = RollbackConfig {
        to: first,
        overrides: was.clone(),
    };
    world.run(back.into()).unwrap();
    let config = world.state.mesh.config().unwrap();
    assert_eq!((&config.overrides, config.rollback_of), (&was, Some(first)));
    assert_eq!(config.meta.version, 4, "a rollback is a new version");
    // What is as by default is not stored, so nothing changes here.
    let unchanged = world.run(set(&[("limits.operations", 10_000)], &["limits.operations_running"]));
    assert!(unchanged.unwrap().unit.changes().is_empty());
}

#[test]
fn settings_that_are_unknown_or_out_of_range_are_refused_whole() {
    let mut world = World::new();
    let before = world.state.mesh.config().cloned();
    for (pairs, reset) in [
        (&[("limits.peers", 0)][..], &[][..]),
        (&[("limits.peers", 5), ("limits.clusters", 1_001)], &[]),
        (&[("limits.peers", 5), ("limits.nothing", 1)], &[]),
        (&[("limits.peers", 5)], &["limits.nothing"]),
        (&[("limits.peers", 5)], &["limits.peers"]),
    ] {
        assert_eq!(code(&mut world, set(pairs, reset)), "invalid_argument");
        assert_eq!(world.state.mesh.config().cloned(), before);
    }
    let overrides = Overrides::from([("limits.nothing".to_owned(), 1)]);
    let back = RollbackConfig {
        to: Revision(1),
        overrides,
    };
    assert_eq!(code(&mut world, back.into()), "invalid_argument");
}

#[cfg(not(feature = "previous-level"))]
mod history {
    use meshkit_statemachine::{CheckpointAudit, CompactHistory, MeshId};

    use super::*;

    fn compact(world: &World, to: u64) -> Command {
        CompactHistory {
            mesh: MeshId::new("m1").unwrap(),
            to: Revision(to),
            to_mesh_time_ms: world.unit(Revision(to)).map_or(0, |unit| unit.unit.stamp.mesh_time_ms),
        }
        .into()
    }

    fn floor(world: &World) -> u64 {
        world.state.mesh.floor().0
    }

    /// Ten revisions, signed at the third and the sixth.
    fn signed() -> World {
        let mut world = World::new();
        (1..6).for_each(|n| drop(world.run(register(n)).unwrap()));
        for revision in [3, 6] {
            let command = world.checkpoint(Revision(revision));
            world.run(command).unwrap();
        }
        (6..8).for_each(|n| drop(world.run(register(n)).unwrap()));
        world
    }

    #[test]
    fn the_floor_rests_above_a_checkpoint_and_only_rises() {
        let mut world = signed();
        let command = compact(&world, 5);
        assert_eq!(code(&mut world, command), "history_in_use", "retries still need it");
        world.now_ms += 900_000;
        for (to, expected) in [(1, 1), (3, 1), (4, 4), (6, 4), (2, 4), (9, 7)] {
            let command = compact(&world, to);
            world.run(command).unwrap();
            assert_eq!(floor(&world), expected, "asked for {to}");
            let reloaded = world.reload();
            assert_eq!(reloaded.head_row(), world.state.head_row());
        }
        let command = compact(&world, 1_000);
        assert_eq!(code(&mut world, command), "invalid_argument");
        assert_eq!(
            world.state.mesh.checkpoint_count(),
            1,
            "only the one that anchors the rest"
        );
    }

    #[test]
    fn what_is_below_the_floor_decides_nothing() {
        let mut world = signed();
        world.now_ms += 900_000;
        let late = |revision| {
            move |world: &World| {
                let command = world.checkpoint(Revision(revision));
                let Command::CheckpointAudit(CheckpointAudit { revision, hash, .. }) = &command else {
                    panic!()
                };
                assert_eq!(world.unit(*revision).unwrap().chain, *hash);
                command
            }
        };
        let command = compact(&world, 7);
        world.run(command).unwrap();
        assert_eq!(floor(&world), 7);
        // A node that was restarted has not got that row; one that was not still has it in memory.
        let mut restarted = world.clone();
        restarted.state = world.reload();
        for (revision, expected) in [(5, Some("checkpoint_stale")), (7, None)] {
            for world in [&mut world, &mut restarted] {
                let command = late(revision)(world);
                let outcome = world.run(command).err().map(|rejection| rejection.code().to_owned());
                assert_eq!(outcome.as_deref(), expected);
            }
            assert_eq!(world.state.head_row(), restarted.state.head_row());
        }
    }
}
