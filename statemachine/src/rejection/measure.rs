//! What was measured, and what it was held against.

use super::{Rejection, percent};
use crate::{Revision, record::ClusterPhase};

impl Rejection {
    /// The measured value and the limit that it broke, both with their unit; empty where the detail alone can say it.
    #[must_use]
    pub fn measure(&self) -> (String, String) {
        let pair =
            |measured: &dyn std::fmt::Display, limit: &dyn std::fmt::Display| (measured.to_string(), limit.to_string());
        match self {
            // What is wrong with a field is its own measure: see the problem's `field`.
            Self::InvalidArgument { .. } => (String::new(), String::new()),
            Self::NotFound { .. } => pair(&"absent", &"present"),
            Self::AlreadyExists { .. } => pair(&"present", &"absent"),
            Self::EtagMismatch { given, current } => match current {
                Some(current) => pair(current, given),
                None => pair(&"no record", given),
            },
            Self::RevisionMismatch { given, current } => pair(current, given),
            Self::IdempotencyKeyReused { revision } => {
                (format!("used at revision {revision}"), "one request".to_owned())
            }
            Self::IdempotencyKeyExpired { age_ms, ttl_ms } => (format!("{age_ms} ms"), format!("{ttl_ms} ms")),
            Self::ResourceExhausted { measured, limit, .. } => pair(measured, limit),
            Self::PeerDraining { .. } => pair(&"draining or drained", &"not draining"),
            Self::PeerOwnsShards { shards, .. } => pair(shards, &0),
            Self::OperationFinished { state, .. } => pair(&state.word(), &"running"),
            Self::OperationMoved { step, .. } => ("another step".to_owned(), format!("step {step}")),
            Self::CheckpointStale { revision } => (format!("revision {revision}"), "the chain's own hash".to_owned()),
            Self::MeshInitialized => pair(&"initialized", &"not initialized"),
            Self::MeshNotInitialized => pair(&"not initialized", &"initialized"),
            Self::LastActiveCluster { .. } => pair(&"0 other active clusters", &1),
            Self::ReplicationNotConfigured { .. } => pair(&"unknown", &"ready"),
            Self::ClusterTransition { from, to, .. } => {
                let leads = match to {
                    ClusterPhase::Active => "passive",
                    ClusterPhase::Passive => "active, passive or maintenance",
                    ClusterPhase::Maintenance => "passive or maintenance",
                    ClusterPhase::Draining => "draining",
                };
                pair(&from.word(), &leads)
            }
            Self::FeatureLevelTooLow { needed, current } => pair(current, needed),
            Self::FeatureLevelUnknown { asked, current, known } => (asked.to_string(), format!("{current} to {known}")),
            Self::HistoryInUse { age_ms, needed_ms, .. } => (format!("{age_ms} ms"), format!("{needed_ms} ms")),
            Self::ApprovalStale { why, .. } => pair(why, &"what was approved"),
            Self::ApprovalOwn { .. } => pair(&"the requester", &"somebody else"),
            Self::ApprovalGiven { actor, .. } => (format!("{actor} has agreed"), "another person".to_owned()),
            Self::ApprovalFinished { state, .. } => pair(&state.word(), &"pending"),
            Self::ApprovalExpired { for_ms, .. } => (format!("over for {for_ms} ms"), "0 ms".to_owned()),
            Self::ScopeMissing { needed, .. } => (String::new(), needed.word().to_owned()),
            Self::ActivePeersLow { left, needed, .. } => pair(left, needed),
            Self::NothingSelected { .. } => pair(&0, &1),
            Self::SelectionTooLarge { selected, limit } => pair(selected, limit),
            Self::SelectionChanged { selected, expected, .. } => pair(selected, expected),
            Self::NoEligiblePeer { .. } => pair(&"nobody", &"somebody"),
            Self::NamespaceBusy { phase, .. } => pair(&phase.word(), &"active"),
            Self::NamespaceInUse { served, .. } => pair(served, &0),
            Self::ShardTransition { status, .. } => pair(&status.word(), &"a status that leads there"),
            Self::ShardThere { peer, .. } => (format!("owned by {peer}"), "somebody else".to_owned()),
            Self::TargetUnfit { why, .. } => pair(why, &"takes shards"),
            Self::MoveOver { begun: Revision(0), .. } => pair(&"no move", &"a move"),
            Self::MoveOver { begun, step, .. } => (
                "another move or step".to_owned(),
                format!("move {begun}, {}", step.word()),
            ),
            Self::NotWaitedFor { peer, waits_for, .. } => pair(peer, waits_for),
            Self::StaleToken { token, current, .. } => pair(token, current),
            Self::ShardCountFixed { shards, asked, .. } => pair(asked, shards),
            Self::MovesTooMany { measured, limit, .. } => pair(&percent(*measured), &percent(*limit)),
        }
    }
}
