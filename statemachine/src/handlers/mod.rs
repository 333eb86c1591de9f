//! One file per command. Each knows its own fields and rules, and nothing of the pipeline.

mod advance_drain;
mod advance_drain_peers;
mod apply_cluster;
mod cancel_operation;
mod checkpoint_audit;
mod compact_history;
mod cordon_peer;
mod decide_staged;
mod demote_cluster;
mod deregister_peer;
mod drain_peer;
mod drain_peers;
mod expire_drain;
mod finalize_upgrade;
mod hold_shards;
mod init_mesh;
mod move_shards;
mod namespaces;
mod observe_peers;
mod patch_peer;
mod place_copies;
mod promote_cluster;
mod record_backup;
mod record_change;
mod record_refusals;
mod register_peer;
mod reshape_namespace;
mod restore_mesh;
mod sessions;
mod set_config;
mod shape_namespace;
mod uncordon_peer;
mod undrain_peer;

pub use self::{
    advance_drain::AdvanceDrain,
    advance_drain_peers::AdvanceDrainPeers,
    apply_cluster::ApplyCluster,
    cancel_operation::CancelOperation,
    checkpoint_audit::CheckpointAudit,
    compact_history::CompactHistory,
    cordon_peer::CordonPeer,
    decide_staged::{ApproveStaged, EndStaged, RejectStaged},
    demote_cluster::DemoteCluster,
    deregister_peer::DeregisterPeer,
    drain_peer::{DEADLINE_MS, DrainPeer, DrainPeerWithTerms},
    drain_peers::{DrainPeers, SELECTOR_BYTES_MAX as DRAIN_SELECTOR_BYTES_MAX},
    expire_drain::ExpireDrain,
    finalize_upgrade::FinalizeUpgrade,
    hold_shards::{Hold, HoldShard},
    init_mesh::{FEATURE_LEVEL, InitMesh},
    move_shards::{BeginMoves, EndMoveStep, MOVES_BATCH_MAX, MoveShard, StepEnd},
    namespaces::{CreateNamespace, DeleteNamespace, SetNamespacePolicy},
    observe_peers::{OBSERVED_MAX, ObservePeers},
    patch_peer::{PatchPeer, PatchPeerSpec},
    place_copies::{COPIES_BATCH_MAX, PlaceCopies},
    promote_cluster::PromoteCluster,
    record_backup::RecordBackup,
    record_change::{NodeAction, RecordChange},
    record_refusals::{REFUSALS_MAX, RecordRefusals},
    register_peer::RegisterPeer,
    reshape_namespace::{AdvanceReshape, ReshapeNamespace},
    restore_mesh::{RecoverMesh, RestoreMesh},
    sessions::{BeginSession, EndSessions, SESSION_MAX_MS, SESSIONS_MAX, SESSIONS_PER_SUBJECT_MAX},
    set_config::{RollbackConfig, SetConfig},
    shape_namespace::{BATCH_MAX as SHAPE_BATCH_MAX, Placement, ShapeNamespace, is_quiet},
    uncordon_peer::UncordonPeer,
    undrain_peer::UndrainPeer,
};
/// A command that came with feature level 2: the program of the level before has none.
macro_rules! of_level_2 {
    ($command:expr) => {{
        #[cfg(feature = "previous-level")]
        {
            let _ = $command;
            Err(crate::Rejection::FeatureLevelTooLow {
                needed: 2,
                current: super::FEATURE_LEVEL,
            })
        }
        #[cfg(not(feature = "previous-level"))]
        Ok($command.into())
    }};
}
use of_level_2;

/// What makes commands of handlers that came with feature level 2.
macro_rules! level_2 {
    ($($name:ident),+) => {
        $(impl $name {
            /// The command, where this program's feature level has it.
            ///
            /// # Errors
            /// [`FeatureLevelTooLow`](crate::Rejection::FeatureLevelTooLow) in a program of the level before.
            pub fn command(self) -> Result<crate::Command, crate::Rejection> {
                super::of_level_2!(self)
            }
        })+
    };
}
use level_2;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ClusterId, Effects, NamespaceId, OperationId, PeerId, Record, Rejection, Rule, View, check,
    plan::{drain, shards::somebody_takes},
    record::{Cluster, Health, Namespace, Operation, OperationKind, OperationState, Peer, PeerStatus, Shard, ShardId},
    selector::Selector,
};

/// What is there, or the refusal that says there is none.
fn found<T>(view: &View<'_>, rule: &'static Rule, found: Option<T>, kind: &str, id: &str) -> Result<T, Rejection> {
    let missing = || Rejection::NotFound {
        kind: kind.to_owned(),
        id: id.to_owned(),
    };
    view.check(rule, u8::from(found.is_some()), 1, found.is_some(), missing)?;
    found.ok_or_else(missing)
}

/// The peer, or the refusal that says there is none.
fn peer<'a>(view: &View<'a>, id: &PeerId) -> Result<&'a Peer, Rejection> {
    found(view, check::PEER_EXISTS, view.mesh.peer(id), "peer", id.as_str())
}

/// The operation, or the refusal that says there is none.
fn operation<'a>(view: &View<'a>, id: &OperationId) -> Result<&'a Operation, Rejection> {
    let operation = view.mesh.operation(id);
    found(view, check::OPERATION_EXISTS, operation, "operation", id.as_str())
}

/// The cluster's descriptor, or the refusal that says there is none.
fn cluster<'a>(view: &View<'a>, id: &ClusterId) -> Result<&'a Cluster, Rejection> {
    found(
        view,
        check::CLUSTER_EXISTS,
        view.mesh.cluster(id),
        "cluster",
        id.as_str(),
    )
}

/// The namespace, or the refusal that says there is none.
fn namespace<'a>(view: &View<'a>, id: &NamespaceId) -> Result<&'a Namespace, Rejection> {
    let namespace = view.mesh.namespace(id);
    found(view, check::NAMESPACE_EXISTS, namespace, "namespace", id.as_str())
}

/// The shard, or the refusal that says there is none.
fn shard<'a>(view: &View<'a>, id: &ShardId) -> Result<&'a Shard, Rejection> {
    found(view, check::SHARD_EXISTS, view.mesh.shard(id), "shard", &id.to_string())
}

/// An operation that runs on a namespace, and the namespace; `moved` where it is another, or is not there any more.
fn on_namespace<'a>(
    view: &View<'a>,
    id: &OperationId,
    moved: impl Fn() -> Rejection,
) -> Result<(&'a Operation, &'a Namespace), Rejection> {
    let running = operation(view, id)?;
    let OperationKind::ShapeNamespace(namespace) = &running.kind else {
        return Err(moved());
    };
    let runs = running.state == OperationState::Running;
    let namespace = view.mesh.namespace(namespace).filter(|_| runs);
    Ok((running, namespace.ok_or_else(moved)?))
}

/// Holds a count against its quota, for one more.
fn room(view: &View<'_>, rule: &'static Rule, what: &str, measured: u64, limit: u64) -> Result<(), Rejection> {
    view.check(rule, format_args!("{measured} {what}"), limit, measured < limit, || {
        Rejection::ResourceExhausted {
            what: what.to_owned(),
            measured,
            limit,
        }
    })
}

/// What is kept of why a peer is not active. Feature level 1 keeps nothing.
fn status_reason(view: &View<'_>, status: PeerStatus) -> String {
    match status {
        PeerStatus::Active => String::new(),
        PeerStatus::Cordoned | PeerStatus::Draining | PeerStatus::Drained if view.mesh.feature_level() < 2 => {
            String::new()
        }
        PeerStatus::Cordoned | PeerStatus::Draining | PeerStatus::Drained => view.origin.reason.clone(),
    }
}

/// Refuses where the peer is draining, or, as `is_refused` has it, drained.
fn not_draining(view: &View<'_>, peer: &Peer, is_refused: bool) -> Result<(), Rejection> {
    let status = peer.status.word();
    view.check(check::PEER_NOT_DRAINING, status, "not draining", !is_refused, || {
        Rejection::PeerDraining {
            peer: peer.id.clone(),
            operation: peer.operation.clone(),
        }
    })
}

/// Refuses where shards of the peer would have nowhere to go.
fn shards_have_a_place(view: &View<'_>, going: &PeerId) -> Result<(), Rejection> {
    let owned: BTreeSet<&NamespaceId> = view.mesh.owned_by(going).map(|shard| &shard.namespace).collect();
    // Those that are about to be drained as well are no reason to refuse: it may be undone before their turn.
    let nobody = BTreeSet::new();
    let takes = |namespace: &NamespaceId| somebody_takes(view.mesh, namespace, going, &nobody);
    let stranded = owned.iter().find(|namespace| !takes(namespace));
    let measured = stranded.map_or_else(
        || format!("somebody in each of {} namespaces", owned.len()),
        |namespace| format!("nobody for {namespace}{}", others(view, going, namespace)),
    );
    view.check(
        check::SHARDS_HAVE_A_PLACE,
        measured,
        "somebody in each",
        stranded.is_none(),
        || Rejection::NoEligiblePeer {
            peer: Some(going.clone()),
            namespace: stranded.map_or_else(NamespaceId::least, |namespace| (*namespace).clone()),
        },
    )
}

/// How the other peers are that a namespace selects, where none of them takes shards, in words.
fn others(view: &View<'_>, going: &PeerId, namespace: &NamespaceId) -> String {
    let namespace = view.mesh.namespace(namespace);
    let Some(selector) = namespace.and_then(|namespace| Selector::parse(&namespace.spec.peers).ok()) else {
        return String::new();
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for peer in view.mesh.peers_after(None) {
        if peer.id != *going && selector.matches(&peer.spec.labels) {
            let word = match (peer.status, peer.health) {
                (_, Health::Suspect | Health::Dead) => peer.health.word(),
                (PeerStatus::Active, Health::Unknown) => "never heard",
                (_, Health::Unknown | Health::Alive) => peer.status.word(),
            };
            *counts.entry(word).or_default() += 1;
        }
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    match counts.is_empty() {
        true => ", it selects no other peer".to_owned(),
        false => format!(", the others are {}", counts.join(", ")),
    }
}

/// Shows who previews a drain the shards that are paused or disabled: it would wait for them. Refuses nothing.
fn show_held<'a>(view: &View<'_>, going: impl IntoIterator<Item = &'a PeerId>) -> Result<(), Rejection> {
    if view.checks.is_none() {
        return Ok(());
    }
    let (held, named) = drain::held(view.mesh, going);
    if held == 0 {
        return Ok(());
    }
    let measured = format!("{held} ({named}): the drain waits until they are resumed, enabled or left behind");
    view.check(check::HELD_SHARDS_NOTED, measured, "any number", true, || {
        Rejection::MeshNotInitialized
    })
}

/// The same with the progress of drains whose peers hold something else by it.
fn with_progress(view: &View<'_>, effects: Effects) -> Effects {
    let drains = drain::progress(view.mesh, &effects.puts);
    let drains = drains.into_iter().map(|drain| Record::Operation(drain.into()));
    drains.fold(effects, Effects::put)
}

/// Refuses where the peer owns shards, holds copies of some, or is about to own one.
fn owns_nothing(view: &View<'_>, peer: &PeerId) -> Result<(), Rejection> {
    let shards = view.mesh.seats(peer);
    view.check(check::PEER_OWNS_NOTHING, shards, 0, shards == 0, || {
        Rejection::PeerOwnsShards {
            peer: peer.clone(),
            shards,
        }
    })
}
