//! M1, M2, M5: each verb, its refusals, and what it leaves alone.

use meshkit_statemachine::{
    AdvanceDrain, Answer, CancelOperation, CheckpointAudit, Command, Conditions, CordonPeer, DeregisterPeer, DrainPeer,
    Entry, LoadError, NodeId, Outcome, PatchPeer, PatchPeerSpec, Rejection, Revision, UncordonPeer, UndrainPeer, apply,
    cluster,
    record::{Attributes, OperationState, PeerStatus, Phase, Settings},
};

use meshkit_statemachine::rows::Table;

use crate::world::{World, init, key, peer_id, register};

fn cordon(n: u8) -> Command {
    CordonPeer { id: peer_id(n) }.into()
}

fn drain(n: u8) -> Command {
    DrainPeer { id: peer_id(n) }.into()
}

fn undrain(n: u8) -> Command {
    UndrainPeer { id: peer_id(n) }.into()
}

fn status(world: &World, n: u8) -> PeerStatus {
    world.state.mesh.peer(&peer_id(n)).unwrap().status
}

#[test]
fn cordon_and_uncordon_are_level_triggered() {
    let mut world = World::new();
    world.run(register(1)).unwrap();
    world.run(cordon(1)).unwrap();
    let version = world.state.mesh.peer(&peer_id(1)).unwrap().meta.version;
    let again = world.run(cordon(1)).unwrap();
    assert!(again.unit.changes().is_empty());
    assert_eq!(world.state.mesh.peer(&peer_id(1)).unwrap().meta.version, version);
    world.run(UncordonPeer { id: peer_id(1) }.into()).unwrap();
    assert_eq!(status(&world, 1), PeerStatus::Active);
    assert_eq!(world.run(cordon(9)).unwrap_err().code(), "not_found");
}

#[test]
fn a_drain_runs_step_by_step_to_its_end() {
    let mut world = World::new();
    world.run(register(1)).unwrap();
    world.run(cordon(1)).unwrap();
    world.run(drain(1)).unwrap();
    assert_eq!(status(&world, 1), PeerStatus::Draining);
    let operation = world.state.mesh.running().next().unwrap().clone();
    assert_eq!(operation.active_step(), Some(1));
    for rule in [
        cordon(1),
        UncordonPeer { id: peer_id(1) }.into(),
        DeregisterPeer { id: peer_id(1) }.into(),
    ] {
        let refused = world.run(rule).unwrap_err();
        assert_eq!(refused.code(), "peer_draining");
        assert!(refused.hint().contains("undrain"));
    }
    // A second drain follows the first.
    assert!(world.run(drain(1)).unwrap().unit.changes().is_empty());
    let advance = |step| {
        Command::from(AdvanceDrain {
            operation: operation.id.clone(),
            step,
        })
    };
    assert_eq!(world.run(advance(0)).unwrap_err().code(), "operation_moved");
    world.run(advance(1)).unwrap();
    assert_eq!(
        world.run(advance(1)).unwrap_err().code(),
        "operation_moved",
        "sent twice"
    );
    assert_eq!(status(&world, 1), PeerStatus::Draining);
    world.run(advance(2)).unwrap();
    assert_eq!(status(&world, 1), PeerStatus::Drained);
    let ended = world.state.mesh.operation(&operation.id).unwrap();
    assert_eq!(ended.state, OperationState::Succeeded);
    assert!(ended.steps.iter().all(|step| step.phase == Phase::Done));
    assert_eq!(world.state.mesh.operations_running(), 0);
    assert_eq!(world.run(advance(2)).unwrap_err().code(), "operation_moved");
    assert_eq!(
        world
            .run(
                CancelOperation {
                    id: operation.id.clone()
                }
                .into()
            )
            .unwrap_err()
            .code(),
        "operation_finished"
    );
    world.run(undrain(1)).unwrap();
    assert_eq!(status(&world, 1), PeerStatus::Cordoned, "as it was before the drain");
    assert_eq!(
        world.state.mesh.operation(&operation.id).unwrap().state,
        OperationState::Succeeded
    );
}

#[test]
fn cancelling_and_undraining_are_the_same() {
    let mut by_cancel = World::new();
    by_cancel.run(register(1)).unwrap();
    by_cancel.run(drain(1)).unwrap();
    let mut by_undrain = by_cancel.clone();
    let id = by_cancel.state.mesh.running().next().unwrap().id.clone();
    by_cancel.run(CancelOperation { id: id.clone() }.into()).unwrap();
    by_undrain.run(undrain(1)).unwrap();
    for world in [&by_cancel, &by_undrain] {
        assert_eq!(status(world, 1), PeerStatus::Active);
        let operation = world.state.mesh.operation(&id).unwrap();
        assert_eq!(operation.state, OperationState::Cancelled);
        assert_eq!(operation.detail, "cancelled by alice");
        assert_eq!(
            operation
                .steps
                .iter()
                .filter(|step| step.phase == Phase::Skipped)
                .count(),
            2
        );
    }
    assert_eq!(
        by_cancel.state.mesh.peer(&peer_id(1)).map(|peer| peer.meta),
        by_undrain.state.mesh.peer(&peer_id(1)).map(|peer| peer.meta)
    );
}

#[test]
fn registering_checks_duplicates_and_quota() {
    let mut world = World::new();
    let first = world.run(register(1)).unwrap();
    let Err(Rejection::AlreadyExists { current, .. }) = world.run(register(1)) else {
        panic!()
    };
    assert_eq!(current.0, first.unit.position);
    world.run(DeregisterPeer { id: peer_id(1) }.into()).unwrap();
    world.run(register(1)).unwrap();
    assert_ne!(
        world.state.mesh.peer(&peer_id(1)).unwrap().meta.etag(),
        current,
        "M2: a new record, a new ETag"
    );
    assert_eq!(world.state.mesh.peer(&peer_id(1)).unwrap().meta.version, 1);
}

#[test]
fn patches_touch_only_what_they_name() {
    let mut world = World::new();
    world.run(register(1)).unwrap();
    let patch = |labels: &[(&str, &str)], remove: &[&str]| {
        Command::from(PatchPeer {
            id: peer_id(1),
            labels: labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            metadata: Attributes::new(),
            remove_labels: remove.iter().map(|key| (*key).to_owned()).collect(),
            remove_metadata: Vec::new(),
        })
    };
    world.run(patch(&[("tier", "x")], &["zone", "never-there"])).unwrap();
    let labels = &world.state.mesh.peer(&peer_id(1)).unwrap().spec.labels;
    assert_eq!(labels, &Attributes::from([("tier".to_owned(), "x".to_owned())]));
    assert!(
        world
            .run(patch(&[("tier", "x")], &[]))
            .unwrap()
            .unit
            .changes()
            .is_empty()
    );
    assert_eq!(
        world.run(patch(&[("a", "b")], &["a"])).unwrap_err().code(),
        "invalid_argument"
    );
    assert_eq!(
        world.run(patch(&[("a", &"v".repeat(257))], &[])).unwrap_err().code(),
        "invalid_argument"
    );
}

#[test]
fn what_was_registered_can_be_changed() {
    let mut world = World::new();
    world.run(register(1)).unwrap();
    let attributes = || PatchPeer {
        id: peer_id(1),
        labels: Attributes::from([("tier".to_owned(), "x".to_owned())]),
        metadata: Attributes::new(),
        remove_labels: Vec::new(),
        remove_metadata: Vec::new(),
    };
    let nothing = || PatchPeerSpec {
        attributes: attributes(),
        role: None,
        region: None,
        zone: None,
        endpoints: Vec::new(),
        weight: None,
    };
    let spec = |world: &World| world.state.mesh.peer(&peer_id(1)).unwrap().spec.clone();
    let before = spec(&world);
    let weighed = PatchPeerSpec {
        weight: Some(300),
        ..nothing()
    };
    world.run(weighed.command().unwrap()).unwrap();
    let mut expected = before.clone();
    expected.labels.insert("tier", "x");
    expected.weight = 300;
    assert_eq!(spec(&world), expected, "what is not given stays");
    let moved = PatchPeerSpec {
        role: Some("gateway".into()),
        region: Some(String::new()),
        zone: Some("b".into()),
        endpoints: vec!["h:1".into(), "h:2".into()],
        ..nothing()
    };
    world.run(moved.clone().command().unwrap()).unwrap();
    expected.role = "gateway".into();
    expected.region = String::new();
    expected.zone = "b".into();
    expected.endpoints = vec!["h:1".into(), "h:2".into()];
    assert_eq!(spec(&world), expected);
    let again = world.run(moved.command().unwrap()).unwrap();
    assert!(again.unit.changes().is_empty());
    let wrong = [
        PatchPeerSpec {
            weight: Some(0),
            ..nothing()
        },
        PatchPeerSpec {
            weight: Some(10_001),
            ..nothing()
        },
        PatchPeerSpec {
            zone: Some("two words".into()),
            ..nothing()
        },
        PatchPeerSpec {
            endpoints: vec!["no-port".into()],
            ..nothing()
        },
    ];
    for wrong in wrong {
        let refused = world.run(wrong.command().unwrap()).unwrap_err();
        assert_eq!(refused.code(), "invalid_argument");
        assert_eq!(spec(&world), expected);
    }
}

#[test]
fn conditions_are_checked_before_rules() {
    let mut world = World::new();
    let etag = {
        world.run(register(1)).unwrap();
        world.state.mesh.peer(&peer_id(1)).unwrap().meta.etag().to_string()
    };
    let refused = |world: &mut World, conditions: Conditions, command: Command| {
        let mut proposal = world.proposal(command);
        proposal.conditions = conditions;
        match &world.propose(proposal).unit.outcome {
            Outcome::Rejected(rejection) => Some(rejection.clone()),
            Outcome::Applied { .. } | Outcome::Replayed { .. } | Outcome::Staged { .. } => None,
        }
    };
    let when = |etag: &str| Conditions {
        if_match: Some(etag.to_owned()),
        ..Conditions::default()
    };
    let rejection = refused(&mut world, when("never-issued"), cordon(1)).unwrap();
    assert!(rejection.detail().contains(&etag), "M2: names the current ETag");
    assert_eq!(refused(&mut world, when(&etag), cordon(1)), None);
    assert_eq!(
        refused(&mut world, when(&etag), cordon(1)).unwrap().code(),
        "etag_mismatch",
        "stale now"
    );
    assert_eq!(refused(&mut world, when("*"), cordon(1)), None);
    assert_eq!(
        refused(&mut world, when("*"), cordon(2)).unwrap().code(),
        "etag_mismatch"
    );
    let absent = Conditions {
        if_absent: true,
        ..Conditions::default()
    };
    assert_eq!(
        refused(&mut world, absent.clone(), cordon(1)).unwrap().code(),
        "already_exists"
    );
    assert_eq!(refused(&mut world, absent, register(2)), None);
    let at = |revision| Conditions {
        if_revision: Some(revision),
        ..Conditions::default()
    };
    let head = world.state.mesh.position().revision;
    assert_eq!(refused(&mut world, at(head), cordon(2)), None);
    assert_eq!(
        refused(&mut world, at(head), cordon(2)).unwrap().code(),
        "revision_mismatch"
    );
}

#[test]
fn a_retry_with_its_key_is_answered_and_not_applied() {
    let mut world = World::new();
    world.run(register(1)).unwrap();
    let mut proposal = world.proposal(cordon(1));
    proposal.origin.idempotency = key("k", 1);
    let first = world.propose(proposal.clone());
    world.run(UncordonPeer { id: peer_id(1) }.into()).unwrap();
    let retry = world.propose(proposal.clone());
    assert_eq!(
        retry.unit.outcome,
        Outcome::Replayed {
            of: first.unit.position.revision
        }
    );
    assert_eq!(status(&world, 1), PeerStatus::Active, "not applied again");
    proposal.origin.idempotency = key("k", 2);
    let Outcome::Rejected(reused) = &world.propose(proposal.clone()).unit.outcome else {
        panic!()
    };
    assert_eq!(reused.code(), "idempotency_key_reused");
    proposal.origin.idempotency = key(&"k".repeat(65), 1);
    let Outcome::Rejected(long) = &world.propose(proposal.clone()).unit.outcome else {
        panic!()
    };
    assert_eq!(long.code(), "invalid_argument");
    proposal.origin.idempotency = key(&"k".repeat(64), 1);
    let first = &world.propose(proposal).unit.outcome;
    assert!(
        matches!(first, Outcome::Applied { .. }),
        "the refused key stands for no other"
    );
}

#[test]
fn ended_operations_make_room_for_new_ones() {
    let mut world = World::with(Settings {
        operations_max: 3,
        ..Settings::default()
    });
    world.run(register(1)).unwrap();
    world.run(register(2)).unwrap();
    world.run(drain(2)).unwrap();
    let kept = world.state.mesh.running().next().unwrap().id.clone();
    for _ in 0..10 {
        world.run(drain(1)).unwrap();
        world.run(undrain(1)).unwrap();
        assert!(world.state.mesh.operation_count() <= 3);
    }
    let still = world.state.mesh.operation(&kept);
    assert!(still.is_some(), "what runs is never taken away");
    assert_eq!(world.reload().mesh.digest(), world.state.mesh.digest());
}

#[test]
fn non_retryable_rejections_are_remembered() {
    let mut world = World::new();
    let mut proposal = world.proposal(cordon(1));
    proposal.origin.idempotency = key("k", 1);
    let first = world.propose(proposal.clone());
    world.run(register(1)).unwrap();
    assert_eq!(
        world.propose(proposal).unit.outcome,
        Outcome::Replayed {
            of: first.unit.position.revision
        }
    );
}

#[test]
fn nothing_happens_before_the_mesh_is_initialized() {
    let mut world = World::default();
    let proposal = world.proposal(register(1));
    let answer = world.apply(&Entry::Command(Box::new(proposal)));
    assert!(matches!(answer, Answer::Refused(Rejection::MeshNotInitialized)));
    assert!(world.rows.is_empty());
    world.run(init()).unwrap();
    assert_eq!(world.run(init()).unwrap_err().code(), "mesh_initialized");
    assert_eq!(
        world.state.mesh.position().revision,
        Revision(2),
        "a rejection takes a revision too"
    );
}

#[test]
fn checkpoints_have_to_match_the_chain() {
    let mut world = World::new();
    let recorded = world.run(register(1)).unwrap();
    let mut checkpoint = CheckpointAudit {
        revision: recorded.unit.position.revision,
        hash: recorded.chain,
        node: NodeId(1),
        certificate: vec![1],
        signature: vec![2],
    };
    world.run(checkpoint.clone().into()).unwrap();
    assert_eq!(
        world.state.mesh.last_checkpoint().unwrap().revision,
        recorded.unit.position.revision
    );
    checkpoint.hash.0[0] ^= 1;
    assert_eq!(world.run(checkpoint.into()).unwrap_err().code(), "checkpoint_stale");
}

#[test]
fn the_cluster_partition_takes_no_revision_and_stays_out_of_the_digest() {
    let mut world = World::new();
    let (position, digest) = (world.state.mesh.position(), world.state.mesh.digest());
    let remove = cluster::Command::RemoveNode {
        stamp: Default::default(),
        node: NodeId(3),
        actor: "alice".into(),
        reason: String::new(),
    };
    world.apply(&Entry::Cluster(remove.clone()));
    assert!(world.state.cluster.is_removed(NodeId(3)));
    assert_eq!(
        (world.state.mesh.position(), world.state.mesh.digest()),
        (position, digest)
    );
    let head = world.state.cluster.audit_head();
    let again = apply(&mut world.state, &Entry::Cluster(remove));
    assert!(matches!(again.answer, Answer::Cluster(cluster::Outcome::Unchanged)));
    assert_eq!(world.state.cluster.audit_head(), head);
    assert_eq!(world.reload().cluster.audit_head(), head);
    assert!(world.reload().cluster.is_removed(NodeId(3)));
    // A row that goes missing is found: the chain says that it was there.
    let lost = world.rows[&Table::Cluster].keys().next_back().unwrap().clone();
    world.rows.get_mut(&Table::Cluster).unwrap().remove(&lost);
    assert_eq!(world.try_reload().err(), Some(LoadError::Cluster));
}

#[test]
fn a_directory_made_anew_is_not_corrupt_and_nothing_else_is_forgotten() {
    let mut world = World::new();
    let alarm = |node, kind| cluster::Command::RaiseAlarm {
        stamp: Default::default(),
        node,
        kind,
        detail: "a test".into(),
    };
    let describe = |directory, boots| cluster::Command::DescribeNode {
        stamp: Default::default(),
        cluster: meshkit_statemachine::ClusterId::new("c1").unwrap(),
        node: NodeId(2),
        facts: cluster::NodeFacts {
            api: "https://n2:1".into(),
            raft: "n2:2".into(),
            version: "1".into(),
            feature_level: 1,
            incarnation: cluster::Incarnation {
                directory,
                boots,
                ..Default::default()
            },
        },
    };
    world.apply(&Entry::Cluster(describe(7, 1)));
    for node in [NodeId(1), NodeId(2)] {
        for kind in cluster::AlarmKind::ALL {
            world.apply(&Entry::Cluster(alarm(node, kind)));
        }
    }
    // Started again on the same rows: still what it was.
    world.apply(&Entry::Cluster(describe(7, 2)));
    assert!(world.state.cluster.has_alarm(NodeId(2), cluster::AlarmKind::Corrupt));
    world.apply(&Entry::Cluster(describe(8, 1)));
    assert!(!world.state.cluster.has_alarm(NodeId(2), cluster::AlarmKind::Corrupt));
    assert_eq!(world.state.cluster.alarms().count(), 5);
    // The row is gone too, and the chain knows why.
    assert_eq!(world.reload().cluster.alarms().count(), 5);
}

#[test]
fn reasons_and_tickets_have_limits() {
    let mut world = World::new();
    let mut proposal = world.proposal(register(1));
    proposal.origin.reason = "ä".repeat(600);
    let recorded = world.propose(proposal);
    assert!(matches!(&recorded.unit.outcome, Outcome::Rejected(rejection) if rejection.code() == "invalid_argument"));
    assert!(
        recorded.unit.origin.reason.len() <= 1024,
        "what is recorded is bounded too"
    );
}

#[test]
fn a_lost_end_of_history_is_found() {
    let mut world = World::new();
    world.run(register(1)).unwrap();
    world.rows.get_mut(&Table::History).unwrap().pop_last();
    assert!(matches!(world.try_reload(), Err(LoadError::History(_))));
}
