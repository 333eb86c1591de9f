//! Every refused precondition names the rule, what was measured, the limit, and how to go on (R3, M5).

use std::collections::BTreeSet;

use meshkit_api_server::{Error, error};
use proto::codes::Code;
use raft::MembershipRefusal;
use statemachine::{
    ApprovalId, ClusterId, Epoch, Etag, NamespaceId, OperationId, PeerId, Position, REJECTION_CODES, Rejection,
    Revision, TimelineId,
    record::{
        ApprovalState, Approvers, ClusterPhase, FencingToken, MoveStep, NamespacePhase, OperationState, Scope, ShardId,
        ShardStatus,
    },
};

/// One of each at least.
#[expect(clippy::too_many_lines, reason = "one line for each rejection")]
fn rejections() -> Vec<Rejection> {
    let text = || "x".to_owned();
    let (peer, cluster) = (PeerId::new("p1").unwrap(), ClusterId::new("c1").unwrap());
    let position = Position {
        timeline: TimelineId(7),
        revision: Revision(9),
    };
    let operation = OperationId::at(position);
    let approval = ApprovalId::at(position);
    let current = Etag(position);
    vec![
        Rejection::InvalidArgument {
            field: text(),
            why: text(),
        },
        Rejection::NotFound {
            kind: "peer".into(),
            id: text(),
        },
        Rejection::AlreadyExists {
            kind: "peer".into(),
            id: text(),
            current,
        },
        Rejection::EtagMismatch {
            given: text(),
            current: None,
        },
        Rejection::EtagMismatch {
            given: text(),
            current: Some(current),
        },
        Rejection::RevisionMismatch {
            given: Revision(1),
            current: Revision(2),
        },
        Rejection::IdempotencyKeyReused { revision: Revision(1) },
        Rejection::IdempotencyKeyExpired { age_ms: 2, ttl_ms: 1 },
        Rejection::ResourceExhausted {
            what: text(),
            measured: 2,
            limit: 1,
        },
        Rejection::PeerDraining {
            peer: peer.clone(),
            operation: None,
        },
        Rejection::PeerOwnsShards { peer, shards: 3 },
        Rejection::OperationFinished {
            operation: operation.clone(),
            state: OperationState::Succeeded,
        },
        Rejection::OperationMoved { operation, step: 1 },
        Rejection::CheckpointStale { revision: Revision(1) },
        Rejection::MeshInitialized,
        Rejection::MeshNotInitialized,
        Rejection::LastActiveCluster {
            cluster: cluster.clone(),
        },
        Rejection::ReplicationNotConfigured {
            cluster: cluster.clone(),
        },
        Rejection::ClusterTransition {
            cluster: cluster.clone(),
            from: ClusterPhase::Draining,
            to: ClusterPhase::Active,
        },
        Rejection::FeatureLevelTooLow { needed: 2, current: 1 },
        Rejection::FeatureLevelUnknown {
            asked: 9,
            current: 1,
            known: 2,
        },
        Rejection::HistoryInUse {
            to: Revision(1),
            age_ms: 1,
            needed_ms: 2,
        },
        Rejection::ApprovalStale {
            approval: approval.clone(),
            why: text(),
        },
        Rejection::ApprovalOwn {
            approval: approval.clone(),
        },
        Rejection::ApprovalGiven {
            approval: approval.clone(),
            actor: text(),
        },
        Rejection::ApprovalFinished {
            approval: approval.clone(),
            state: ApprovalState::Rejected,
        },
        Rejection::ApprovalExpired { approval, for_ms: 1 },
        Rejection::ScopeMissing {
            needed: Scope::Admin,
            approvers: Approvers::Admin,
        },
        Rejection::ActivePeersLow {
            cluster,
            left: 0,
            needed: 1,
        },
        Rejection::NothingSelected {
            selector: text(),
            set_aside: 0,
        },
        Rejection::SelectionTooLarge { selected: 2, limit: 1 },
        Rejection::SelectionChanged {
            selected: 2,
            expected: 1,
            first: text(),
        },
    ]
    .into_iter()
    .chain(of_shards())
    .collect()
}

fn of_shards() -> Vec<Rejection> {
    let peer: PeerId = "p1".parse().unwrap();
    let namespace: NamespaceId = "n1".parse().unwrap();
    let shard = ShardId {
        namespace: namespace.clone(),
        index: 3,
    };
    let token = |shard| FencingToken { mesh: Epoch(1), shard };
    let over = |begun| Rejection::MoveOver {
        shard: shard.clone(),
        begun: Revision(begun),
        step: MoveStep::Preparing,
    };
    let transition = |status| Rejection::ShardTransition {
        shard: shard.clone(),
        status,
        action: "shards.move".into(),
    };
    let mut all: Vec<_> = ShardStatus::ALL.into_iter().map(transition).collect();
    all.extend([
        over(0),
        over(7),
        Rejection::NoEligiblePeer {
            peer: Some(peer.clone()),
            namespace: namespace.clone(),
        },
        Rejection::NoEligiblePeer {
            peer: None,
            namespace: namespace.clone(),
        },
        Rejection::NamespaceBusy {
            namespace: namespace.clone(),
            phase: NamespacePhase::Creating,
            operation: None,
        },
        Rejection::NamespaceInUse {
            namespace: namespace.clone(),
            served: 2,
        },
        Rejection::ShardThere {
            shard: shard.clone(),
            peer: peer.clone(),
        },
        Rejection::TargetUnfit {
            peer: peer.clone(),
            why: "cordoned".into(),
        },
        Rejection::NotWaitedFor {
            shard: shard.clone(),
            peer,
            waits_for: "p2".into(),
        },
        Rejection::StaleToken {
            shard,
            token: token(1),
            current: token(2),
        },
        Rejection::ShardCountFixed {
            namespace: namespace.clone(),
            shards: 4,
            asked: 5,
        },
        Rejection::MovesTooMany {
            namespace,
            measured: 200,
            limit: 100,
        },
    ]);
    all
}

fn memberships() -> Vec<Error> {
    use MembershipRefusal as Refusal;
    let all = [
        Refusal::NotAMember,
        Refusal::NodeRemoved,
        Refusal::MemberExists,
        Refusal::NotAVoter,
        Refusal::NoOtherVoter,
        Refusal::LastVoter,
        Refusal::QuorumAtRisk,
        Refusal::ChangeUnderWay,
        Refusal::Other,
    ];
    let refused = |refusal| raft::Error::Membership {
        refusal,
        reason: "why".into(),
        measured: "1 voter answers".into(),
        limit: "at least 2 of 3".into(),
    };
    all.map(|refusal| Error::from(refused(refusal))).into()
}

#[test]
fn every_refused_precondition_says_what_was_measured_and_how_to_go_on() {
    let codes: BTreeSet<_> = rejections().iter().map(Rejection::code).collect();
    assert_eq!(
        codes,
        REJECTION_CODES.iter().copied().collect(),
        "a rejection without a sample"
    );
    let memberships = memberships();
    let names: BTreeSet<_> = memberships.iter().map(Error::name).collect();
    // These two are made where they are found, by the one constructor that rules have.
    let made = ["learner_lagging", "upgrade_incomplete"];
    for rule in error::RULES {
        assert!(names.contains(rule) || made.contains(rule), "{rule} without a sample");
    }
    let found = Error::from(rejections()[2].clone()).if_match_required();
    for refused in rejections()
        .into_iter()
        .map(Error::from)
        .chain(memberships)
        .chain([found])
    {
        let problem = refused.problem();
        assert!(!problem.detail.is_empty() && !problem.hint.is_empty(), "{refused}");
        let precondition =
            matches!(refused.code(), Code::Rule) || refused.code().grpc() == tonic::Code::FailedPrecondition;
        if precondition || refused.code().grpc() == tonic::Code::Aborted {
            assert!(
                !problem.measured.is_empty() && !problem.limit.is_empty(),
                "{refused}: {problem:?}"
            );
            let document = refused.document("r1");
            for member in ["code", "measured", "limit", "hint"] {
                assert!(
                    document[member].as_str().is_some_and(|text| !text.is_empty()),
                    "{document}"
                );
            }
        }
    }
}
