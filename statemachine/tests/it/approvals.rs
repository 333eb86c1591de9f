//! Requests that wait for a second person: who may decide, what is still the same, and what ends.

use std::sync::Arc;

use meshkit_statemachine::{
    ApprovalId, ApproveStaged, Command, Conditions, CordonPeer, DeregisterPeer, DrainPeer, EndStaged, Event,
    FinalizeUpgrade, Hold, HoldShard, MeshId, NodeId, Origin, Outcome, PatchPeer, Proposal, Record, Recorded,
    RejectStaged, Rejection, Revision, RollbackConfig, SetConfig, UndrainPeer, dry_run, preview,
    record::{Approval, ApprovalState, Approvers, HandOff, PeerStatus, Scope},
    staging,
};

use crate::{
    shards,
    world::{World, key, peer_id, register},
};

const DAY_MS: u64 = 86_400_000;

fn set(name: &str, value: u64) -> Command {
    SetConfig {
        set: [(name.to_owned(), value)].into(),
        reset: vec![],
    }
    .into()
}

fn drain(n: u8) -> Command {
    DrainPeer { id: peer_id(n) }.into()
}

fn approve(id: &ApprovalId, scope: Scope) -> Command {
    ApproveStaged { id: id.clone(), scope }.into()
}

fn reject(id: &ApprovalId, scope: Scope) -> Command {
    RejectStaged { id: id.clone(), scope }.into()
}

fn label(n: u8, value: &str) -> Command {
    PatchPeer {
        id: peer_id(n),
        labels: [("rack".to_owned(), value.to_owned())].into(),
        metadata: Default::default(),
        remove_labels: vec![],
        remove_metadata: vec![],
    }
    .into()
}

/// Peers 1 to 3, and a rule for drains.
fn world(rule: Approvers) -> World {
    let mut world = World::new();
    for n in 1..=3 {
        world.run(register(n)).unwrap();
    }
    if rule != Approvers::None {
        world.run(set("approvals.peers.drain", rule as u64)).unwrap();
    }
    world
}

fn by(world: &World, actor: &str, command: Command) -> Proposal {
    let mut proposal = world.proposal(command);
    proposal.origin.actor = actor.to_owned();
    proposal.origin.reason = format!("{actor} says so");
    proposal
}

fn ask(world: &mut World, actor: &str, command: Command) -> Arc<Recorded> {
    let proposal = by(world, actor, command);
    world.propose(proposal)
}

/// Has a request staged, and answers what it waits as.
fn stage(world: &mut World, actor: &str, command: Command) -> ApprovalId {
    match &ask(world, actor, command).unit.outcome {
        Outcome::Staged { approval, .. } => approval.clone(),
        other => panic!("{other:?}"),
    }
}

fn decide(world: &mut World, actor: &str, command: Command) -> Result<Approval, Rejection> {
    let recorded = ask(world, actor, command);
    match &recorded.unit.outcome {
        Outcome::Applied { .. } => Ok(recorded.unit.approval().unwrap().clone()),
        Outcome::Rejected(rejection) => Err(rejection.clone()),
        other => panic!("{other:?}"),
    }
}

fn code(answer: Result<Approval, Rejection>) -> &'static str {
    answer.unwrap_err().code()
}

fn status(world: &World, n: u8) -> PeerStatus {
    world.state.mesh.peer(&peer_id(n)).unwrap().status
}

#[test]
fn without_a_rule_nothing_waits() {
    let mut world = world(Approvers::None);
    let recorded = ask(&mut world, "alice", drain(1));
    assert!(matches!(recorded.unit.outcome, Outcome::Applied { .. }));
    assert_eq!(world.state.mesh.approval_count(), 0);
}

#[test]
fn a_request_waits_and_is_carried_out_with_its_approval() {
    let mut world = world(Approvers::Operator);
    let recorded = ask(&mut world, "alice", drain(1));
    assert_eq!(
        (recorded.unit.action.as_str(), recorded.unit.target.as_str()),
        ("peers.drain", "peer/p1")
    );
    let Outcome::Staged {
        approval: id, events, ..
    } = &recorded.unit.outcome
    else {
        panic!("{recorded:?}")
    };
    assert_eq!(events, &[Event::ApprovalRequested(id.clone())]);
    assert_eq!(status(&world, 1), PeerStatus::Active, "nothing has taken effect");
    let staged = world.state.mesh.approval(id).unwrap().clone();
    assert_eq!((staged.requester(), staged.state), ("alice", ApprovalState::Pending));
    assert_eq!(staged.expires_ms, world.now_ms + DAY_MS);
    assert_eq!(world.state.mesh.approvals_pending(), 1);

    let recorded = ask(&mut world, "bob", approve(id, Scope::Operate));
    assert_eq!(status(&world, 1), PeerStatus::Draining);
    assert_eq!(
        (recorded.unit.origin.actor.as_str(), recorded.unit.action.as_str()),
        ("bob", "approvals.approve")
    );
    let approved = recorded.unit.approval().unwrap();
    assert_eq!(approved.state, ApprovalState::Approved);
    assert_eq!(approved.decisions[0].actor, "bob");
    assert_eq!(
        approved.meta.changed, recorded.unit.position,
        "in one commit with the effects"
    );
    let operation = world.state.mesh.running().next().unwrap();
    assert_eq!(operation.meta.created, recorded.unit.position);
    assert_eq!(
        (operation.actor.as_str(), operation.reason.as_str()),
        ("alice", "alice says so"),
        "in the requester's name"
    );
    assert_eq!(world.state.mesh.approvals_pending(), 0);
    assert_eq!(world.reload().head_row(), world.state.head_row());
}

#[test]
fn a_request_that_would_be_refused_is_refused_and_does_not_wait() {
    let mut world = world(Approvers::Operator);
    let recorded = ask(&mut world, "alice", drain(9));
    assert!(
        matches!(&recorded.unit.outcome, Outcome::Rejected(Rejection::NotFound { .. })),
        "{recorded:?}"
    );
    let mut proposal = by(&world, "alice", drain(1));
    proposal.conditions.if_match = Some("e-1".into());
    assert!(matches!(
        world.propose(proposal).unit.outcome,
        Outcome::Rejected(Rejection::EtagMismatch { .. })
    ));
    assert_eq!(world.state.mesh.approval_count(), 0);
}

#[test]
fn what_changes_nothing_waits_for_nobody() {
    let mut world = world(Approvers::None);
    world.run(drain(1)).unwrap();
    world.run(set("approvals.peers.drain", 2)).unwrap();
    let recorded = ask(&mut world, "alice", drain(1));
    assert!(matches!(&recorded.unit.outcome, Outcome::Applied { changes, .. } if changes.is_empty()));
}

#[test]
fn nobody_approves_their_own_request_and_everybody_may_take_theirs_back() {
    let mut world = world(Approvers::Operator);
    let id = stage(&mut world, "alice", drain(1));
    assert_eq!(
        code(decide(&mut world, "alice", approve(&id, Scope::Admin))),
        "approval_own"
    );
    let mut proposal = by(&world, "alice", reject(&id, Scope::Operate));
    proposal.origin.reason.clear();
    let recorded = world.propose(proposal);
    let ended = recorded.unit.approval().unwrap();
    assert_eq!(
        (ended.state, ended.detail.as_str()),
        (ApprovalState::Rejected, "taken back by alice")
    );
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Admin))),
        "approval_finished"
    );
    assert_eq!(status(&world, 1), PeerStatus::Active);
}

#[test]
fn a_rejection_of_somebody_elses_request_says_why() {
    let mut world = world(Approvers::Operator);
    let id = stage(&mut world, "alice", drain(1));
    let mut proposal = by(&world, "bob", reject(&id, Scope::Operate));
    proposal.origin.reason.clear();
    let recorded = world.propose(proposal);
    assert!(
        matches!(&recorded.unit.outcome, Outcome::Rejected(Rejection::InvalidArgument { field, .. }) if field == "reason")
    );
    let ended = decide(&mut world, "bob", reject(&id, Scope::Operate)).unwrap();
    assert_eq!(
        (ended.state, ended.detail.as_str()),
        (ApprovalState::Rejected, "rejected by bob: bob says so")
    );
}

#[test]
fn the_rule_says_what_it_takes_to_decide() {
    let mut world = world(Approvers::Admin);
    let id = stage(&mut world, "alice", drain(1));
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Operate))),
        "scope_missing"
    );
    assert_eq!(
        code(decide(&mut world, "bob", reject(&id, Scope::Operate))),
        "scope_missing"
    );
    decide(&mut world, "bob", approve(&id, Scope::Admin)).unwrap();
    assert_eq!(status(&world, 1), PeerStatus::Draining);
}

#[test]
fn two_admins_are_two_persons() {
    let mut world = world(Approvers::TwoAdmins);
    let id = stage(&mut world, "alice", drain(1));
    let first = decide(&mut world, "bob", approve(&id, Scope::Admin)).unwrap();
    assert_eq!((first.state, first.agreed()), (ApprovalState::Pending, 1));
    assert_eq!(status(&world, 1), PeerStatus::Active);
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Admin))),
        "approval_given"
    );
    assert_eq!(
        code(decide(&mut world, "alice", approve(&id, Scope::Admin))),
        "approval_own"
    );
    assert_eq!(
        code(decide(&mut world, "carol", approve(&id, Scope::Operate))),
        "scope_missing"
    );
    let second = decide(&mut world, "carol", approve(&id, Scope::Admin)).unwrap();
    assert_eq!((second.state, second.decisions.len()), (ApprovalState::Approved, 2));
    assert_eq!(status(&world, 1), PeerStatus::Draining);
}

#[test]
fn either_of_two_admins_may_say_no() {
    let mut world = world(Approvers::TwoAdmins);
    let id = stage(&mut world, "alice", drain(1));
    decide(&mut world, "bob", approve(&id, Scope::Admin)).unwrap();
    let ended = decide(&mut world, "bob", reject(&id, Scope::Admin)).unwrap();
    assert_eq!(ended.state, ApprovalState::Rejected);
}

#[test]
fn rules_that_become_stricter_count_for_what_waits() {
    let mut world = world(Approvers::Operator);
    let id = stage(&mut world, "alice", drain(1));
    world.run(set("approvals.peers.drain", 3)).unwrap();
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Operate))),
        "scope_missing"
    );
    let first = decide(&mut world, "bob", approve(&id, Scope::Admin)).unwrap();
    assert_eq!(
        (first.approvers, first.state),
        (Approvers::TwoAdmins, ApprovalState::Pending)
    );
    decide(&mut world, "carol", approve(&id, Scope::Admin)).unwrap();
    assert_eq!(status(&world, 1), PeerStatus::Draining);
}

#[test]
fn rules_that_become_laxer_do_not_count_for_what_waits() {
    let mut world = world(Approvers::Admin);
    let id = stage(&mut world, "alice", drain(1));
    let laxer = stage(&mut world, "alice", set("approvals.peers.drain", 0));
    decide(&mut world, "bob", approve(&laxer, Scope::Admin)).unwrap();
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Operate))),
        "scope_missing"
    );
    assert_eq!(status(&world, 1), PeerStatus::Active);
}

#[test]
fn what_moved_makes_an_approval_stale_and_what_did_not_does_not() {
    let mut world = world(Approvers::Operator);
    let (one, two) = (
        stage(&mut world, "alice", drain(1)),
        stage(&mut world, "alice", drain(2)),
    );
    // Other records, other operations and time go on; so do the revisions that ids are made of.
    world.run(label(3, "r3")).unwrap();
    world.run(CordonPeer { id: peer_id(1) }.into()).unwrap();
    world.now_ms += 60_000;
    let stale = decide(&mut world, "bob", approve(&one, Scope::Operate)).unwrap_err();
    assert_eq!(stale.code(), "approval_stale");
    assert!(stale.detail().contains("peer/p1 has changed"), "{}", stale.detail());
    assert_eq!(status(&world, 1), PeerStatus::Cordoned);
    decide(&mut world, "bob", approve(&two, Scope::Operate)).unwrap();
    assert_eq!(status(&world, 2), PeerStatus::Draining);
}

/// What a drain would wait for is said of it, and is not what it does.
#[test]
fn a_drain_is_the_same_whatever_it_would_wait_for() {
    let mut world = shards::world(3, 12, 0, HandOff::Exclusive);
    world
        .run(set("approvals.peers.drain", Approvers::Operator as u64))
        .unwrap();
    let held = |hold| {
        let id = shards::shard_id(0);
        HoldShard { id, hold }.command().unwrap()
    };
    let owner = shards::shard(&world, 0).owner.unwrap();
    world.run(held(Hold::Pause)).unwrap();
    let id = stage(&mut world, "alice", DrainPeer { id: owner.clone() }.into());
    world.run(held(Hold::Resume)).unwrap();
    decide(&mut world, "bob", approve(&id, Scope::Operate)).unwrap();
    assert_eq!(world.state.mesh.peer(&owner).unwrap().status, PeerStatus::Draining);
}

#[test]
fn a_record_that_was_changed_there_and_back_is_not_the_one_that_was_seen() {
    let mut world = world(Approvers::Operator);
    let id = stage(&mut world, "alice", drain(1));
    world.run(label(1, "a")).unwrap();
    world
        .run(
            PatchPeer {
                id: peer_id(1),
                labels: Default::default(),
                metadata: Default::default(),
                remove_labels: vec!["rack".into()],
                remove_metadata: vec![],
            }
            .into(),
        )
        .unwrap();
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Operate))),
        "approval_stale"
    );
}

#[test]
fn a_peer_that_was_made_anew_is_another_one() {
    let mut world = world(Approvers::None);
    world.run(set("approvals.peers.deregister", 1)).unwrap();
    let remove: Command = DeregisterPeer { id: peer_id(1) }.into();
    let id = stage(&mut world, "alice", remove.clone());
    let other = stage(&mut world, "carol", remove.clone());
    decide(&mut world, "bob", approve(&other, Scope::Operate)).unwrap();
    let gone = decide(&mut world, "bob", approve(&id, Scope::Operate)).unwrap_err();
    assert!(gone.detail().contains("peer/p1 is gone"), "{}", gone.detail());
    world.run(register(1)).unwrap();
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Operate))),
        "approval_stale"
    );
    assert_eq!(status(&world, 1), PeerStatus::Active);
}

#[test]
fn room_that_is_made_for_others_does_not_make_an_approval_stale() {
    let mut world = world(Approvers::None);
    world.run(set("limits.operations", 2)).unwrap();
    for n in [1, 2] {
        world.run(drain(n)).unwrap();
        world.run(UndrainPeer { id: peer_id(n) }.into()).unwrap();
    }
    world.run(set("approvals.peers.drain", 1)).unwrap();
    let id = stage(&mut world, "alice", drain(3));
    let other = stage(&mut world, "alice", drain(2));
    decide(&mut world, "bob", approve(&other, Scope::Operate)).unwrap();
    decide(&mut world, "bob", approve(&id, Scope::Operate)).unwrap();
    assert_eq!(status(&world, 3), PeerStatus::Draining);
}

#[test]
fn an_approval_runs_out_by_mesh_time() {
    let mut world = world(Approvers::Operator);
    let id = stage(&mut world, "alice", drain(1));
    world.now_ms += DAY_MS - 1;
    let early = world.clone();
    world.now_ms += 1;
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Operate))),
        "approval_expired"
    );
    assert_eq!(world.state.mesh.approvals_over(world.now_ms).count(), 1);
    world.run(EndStaged {}.into()).unwrap();
    let ended = world.state.mesh.approval(&id).unwrap();
    assert_eq!(ended.state, ApprovalState::Expired);
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Operate))),
        "approval_expired"
    );
    let mut world = early;
    decide(&mut world, "bob", approve(&id, Scope::Operate)).unwrap();
}

#[test]
fn what_waits_in_vain_is_ended() {
    let mut world = world(Approvers::Operator);
    let (one, two) = (
        stage(&mut world, "alice", drain(1)),
        stage(&mut world, "alice", drain(2)),
    );
    assert!(world.run(EndStaged {}.into()).unwrap().unit.changes().is_empty());
    world.run(label(1, "x")).unwrap();
    world.run(EndStaged {}.into()).unwrap();
    let mesh = &world.state.mesh;
    assert_eq!(mesh.approval(&one).unwrap().state, ApprovalState::Stale);
    assert_eq!(mesh.approval(&two).unwrap().state, ApprovalState::Pending);
    assert_eq!(
        code(decide(&mut world, "bob", approve(&one, Scope::Operate))),
        "approval_stale",
        "as before it was ended"
    );
}

#[test]
fn changing_the_rules_falls_under_the_rules_that_are_replaced() {
    let mut world = world(Approvers::TwoAdmins);
    // Not under a rule itself: making it stricter, or something else, goes through.
    world.run(set("limits.peers", 50)).unwrap();
    world.run(set("approvals.peers.deregister", 1)).unwrap();
    // Making it laxer takes what the strictest one asks for that it makes laxer.
    let weaker = SetConfig {
        set: [("approvals.peers.deregister".to_owned(), 0)].into(),
        reset: vec!["approvals.peers.drain".to_owned()],
    };
    let id = stage(&mut world, "alice", weaker.into());
    assert_eq!(world.state.mesh.approval(&id).unwrap().approvers, Approvers::TwoAdmins);
    let id = stage(&mut world, "alice", set("approvals.peers.deregister", 0));
    assert_eq!(world.state.mesh.approval(&id).unwrap().approvers, Approvers::Operator);
    let id = stage(&mut world, "alice", set("approvals.peers.drain", 2));
    assert_eq!(world.state.mesh.approval(&id).unwrap().approvers, Approvers::TwoAdmins);
    // So does going back to settings that are laxer, and back to all defaults.
    let rollback = RollbackConfig {
        to: Revision(1),
        overrides: Default::default(),
    };
    let id = stage(&mut world, "alice", rollback.into());
    assert_eq!(world.state.mesh.approval(&id).unwrap().approvers, Approvers::TwoAdmins);
    assert_eq!(world.state.mesh.settings().approve_peers_drain, 3);
    decide(&mut world, "bob", approve(&id, Scope::Admin)).unwrap();
    decide(&mut world, "carol", approve(&id, Scope::Admin)).unwrap();
    assert_eq!(world.state.mesh.settings().approve_peers_drain, 0);
}

#[test]
fn the_rule_for_settings_itself_is_no_way_round() {
    let mut world = world(Approvers::None);
    world.run(set("approvals.config.set", 2)).unwrap();
    let id = stage(&mut world, "alice", set("approvals.config.set", 0));
    assert_eq!(
        code(decide(&mut world, "alice", approve(&id, Scope::Admin))),
        "approval_own"
    );
    let other = stage(&mut world, "alice", set("limits.peers", 5));
    decide(&mut world, "bob", approve(&other, Scope::Admin)).unwrap();
    assert_eq!(world.state.mesh.settings().peers_max, 5);
    assert_eq!(
        code(decide(&mut world, "bob", approve(&id, Scope::Admin))),
        "approval_stale",
        "the settings are others now"
    );
}

#[test]
fn a_nodes_own_loops_ask_nobody() {
    let mut world = world(Approvers::TwoAdmins);
    let mut proposal = world.proposal(drain(1));
    proposal.origin = Origin::system("drain", NodeId(1), 0);
    assert!(matches!(world.propose(proposal).unit.outcome, Outcome::Applied { .. }));
}

#[test]
fn a_retry_is_answered_as_the_first_attempt() {
    let mut world = world(Approvers::Operator);
    let mut request = by(&world, "alice", drain(1));
    request.origin.idempotency = key("k", 1);
    let first = world.propose(request.clone());
    let Outcome::Staged { approval: id, .. } = &first.unit.outcome else {
        panic!("{first:?}")
    };
    let replayed = Outcome::Replayed {
        of: first.unit.position.revision,
    };
    assert_eq!(world.propose(request.clone()).unit.outcome, replayed);
    let mut decision = by(&world, "bob", approve(id, Scope::Operate));
    decision.origin.idempotency = key("d", 2);
    let decided = world.propose(decision.clone());
    assert!(matches!(decided.unit.outcome, Outcome::Applied { .. }));
    let replayed_decision = Outcome::Replayed {
        of: decided.unit.position.revision,
    };
    assert_eq!(world.propose(decision).unit.outcome, replayed_decision);
    assert_eq!(
        world.propose(request).unit.outcome,
        replayed,
        "also after it was carried out"
    );
    assert_eq!(
        code(decide(&mut world, "bob", approve(id, Scope::Operate))),
        "approval_finished",
        "without the key"
    );
    assert_eq!(world.state.mesh.operation_count(), 1);
}

#[test]
fn who_asks_twice_waits_once() {
    let mut world = world(Approvers::Operator);
    let id = stage(&mut world, "alice", drain(1));
    let again = ask(&mut world, "alice", drain(1));
    assert_eq!(
        again.unit.outcome,
        Outcome::Staged {
            approval: id.clone(),
            changes: vec![],
            events: vec![]
        }
    );
    assert_ne!(
        stage(&mut world, "carol", drain(1)),
        id,
        "another person asks for themselves"
    );
    world.run(label(1, "x")).unwrap();
    assert_ne!(
        stage(&mut world, "alice", drain(1)),
        id,
        "what is stale is not followed"
    );
}

#[test]
fn what_waits_and_what_is_kept_is_bounded() {
    let mut world = world(Approvers::Operator);
    world.run(set("limits.approvals_pending", 2)).unwrap();
    world.run(set("limits.approvals", 2)).unwrap();
    let one = stage(&mut world, "alice", drain(1));
    stage(&mut world, "alice", drain(2));
    let full = ask(&mut world, "alice", drain(3));
    assert!(
        matches!(
            &full.unit.outcome,
            Outcome::Rejected(Rejection::ResourceExhausted {
                measured: 2,
                limit: 2,
                ..
            })
        ),
        "{full:?}"
    );
    decide(&mut world, "alice", reject(&one, Scope::Operate)).unwrap();
    stage(&mut world, "alice", drain(3));
    assert!(world.state.mesh.approval(&one).is_none(), "ended ones make room");
    assert_eq!(world.state.mesh.approval_count(), 2);
    assert_eq!(world.reload().head_row(), world.state.head_row());
}

#[test]
fn a_dry_run_says_who_would_have_to_agree() {
    let world = world(Approvers::Admin);
    let proposal = by(&world, "alice", drain(1));
    let shown = preview(&world.state, &proposal);
    assert_eq!(shown.approvers, Approvers::Admin);
    let meshkit_statemachine::Answer::Recorded(recorded) = dry_run(&world.state, &proposal) else {
        panic!()
    };
    assert!(
        recorded
            .unit
            .changes()
            .iter()
            .any(|change| matches!(&change.after, Some(Record::Peer(_))))
    );
    let other = preview(&world.state, &by(&world, "alice", label(1, "x")));
    assert_eq!(other.approvers, Approvers::None);
}

#[test]
fn the_effects_that_are_shown_are_those_that_come() {
    let mut world = world(Approvers::Operator);
    let id = stage(&mut world, "alice", drain(1));
    let approval = world.state.mesh.approval(&id).unwrap().clone();
    let shown = staging::replan(&world.state.mesh, &approval).unwrap();
    let recorded = ask(&mut world, "bob", approve(&id, Scope::Operate));
    for put in &shown.puts {
        let done = recorded
            .unit
            .changes()
            .iter()
            .filter_map(|change| change.after.as_ref());
        assert!(done.clone().any(|after| after.kind() == put.kind()), "{put:?}");
    }
    assert_eq!(recorded.unit.changes().len(), shown.puts.len() + 1);
}

#[test]
fn a_condition_on_the_revision_holds_when_it_is_asked_for() {
    let mut world = world(Approvers::Operator);
    let mut request = by(&world, "alice", drain(1));
    request.conditions = Conditions {
        if_revision: Some(world.state.mesh.position().revision),
        ..Conditions::default()
    };
    let Outcome::Staged { approval: id, .. } = &world.propose(request).unit.outcome else {
        panic!()
    };
    world.run(label(2, "x")).unwrap();
    decide(&mut world, "bob", approve(id, Scope::Operate)).unwrap();
    assert_eq!(status(&world, 1), PeerStatus::Draining);
}

/// Below its feature level there is no rule, no request and no command for it.
#[test]
fn below_level_2_there_is_none_of_it() {
    let mut world = World::at_level(1);
    world.run(register(1)).unwrap();
    let unknown = world.run(set("approvals.peers.drain", 1)).unwrap_err();
    assert_eq!(
        unknown,
        Rejection::InvalidArgument {
            field: "settings".into(),
            why: "there is no setting `approvals.peers.drain`".into()
        }
    );
    let id = ApprovalId::new("ap-1").unwrap();
    for command in [
        approve(&id, Scope::Admin),
        reject(&id, Scope::Admin),
        EndStaged {}.into(),
    ] {
        assert_eq!(world.run(command).unwrap_err().code(), "feature_level_too_low");
    }
    world
        .run(
            FinalizeUpgrade {
                mesh: MeshId::new("m1").unwrap(),
                to: 2,
            }
            .into(),
        )
        .unwrap();
    world.run(set("approvals.peers.drain", 1)).unwrap();
    stage(&mut world, "alice", drain(1));
}
