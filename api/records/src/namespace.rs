//! Namespaces.

use proto::v1;
use statemachine::record::{HandOff, Namespace, NamespacePhase, NamespacePolicy, StrategyKind};

use crate::time;

/// A namespace.
#[must_use]
pub fn namespace(namespace: &Namespace) -> v1::Namespace {
    let (spec, meta) = (&namespace.spec, &namespace.meta);
    v1::Namespace {
        id: namespace.id.to_string(),
        strategy: strategy(spec.strategy).into(),
        region: spec.region.clone(),
        selector: spec.peers.clone(),
        shards: spec.shards,
        replicas: spec.replicas,
        policy: Some(policy(&spec.policy)),
        phase: phase(namespace.phase).into(),
        operation: namespace
            .operation
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        ticket: namespace.ticket.clone(),
        version: meta.version,
        etag: meta.etag().to_string(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
    }
}

/// How a shard goes from one owner to the next.
#[must_use]
pub fn hand_off(hand_off: HandOff) -> v1::namespace::HandOff {
    match hand_off {
        HandOff::Exclusive => v1::namespace::HandOff::Exclusive,
        HandOff::Overlap => v1::namespace::HandOff::Overlap,
    }
}

/// The phase that a filter names; none where it names none.
#[must_use]
pub fn namespace_phase(phase: v1::namespace::Phase) -> Option<NamespacePhase> {
    match phase {
        v1::namespace::Phase::Unspecified => None,
        v1::namespace::Phase::Creating => Some(NamespacePhase::Creating),
        v1::namespace::Phase::Active => Some(NamespacePhase::Active),
        v1::namespace::Phase::Deleting => Some(NamespacePhase::Deleting),
        v1::namespace::Phase::Reshaping => Some(NamespacePhase::Reshaping),
    }
}

fn phase(phase: NamespacePhase) -> v1::namespace::Phase {
    match phase {
        NamespacePhase::Creating => v1::namespace::Phase::Creating,
        NamespacePhase::Active => v1::namespace::Phase::Active,
        NamespacePhase::Deleting => v1::namespace::Phase::Deleting,
        NamespacePhase::Reshaping => v1::namespace::Phase::Reshaping,
    }
}

fn strategy(strategy: StrategyKind) -> v1::namespace::Strategy {
    match strategy {
        StrategyKind::Ring => v1::namespace::Strategy::Ring,
        StrategyKind::Rendezvous => v1::namespace::Strategy::Rendezvous,
        StrategyKind::Locality => v1::namespace::Strategy::Locality,
    }
}

fn policy(policy: &NamespacePolicy) -> v1::namespace::Policy {
    v1::namespace::Policy {
        hand_off: hand_off(policy.hand_off).into(),
        moves_max: Some(policy.moves_max),
        step: Some(super::duration(policy.step_ms)),
        moved_permille_max: Some(policy.moved_permille_max),
    }
}
