//! `peers.drain`

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use super::{peer, room, status_reason};
use crate::{
    Effects, Event, Handler, MeshState, OperationId, PeerId, Record, Rejection, Rule, View, check,
    plan::{drain, drain_peers},
    record::{Approvers, Deadline, Kind, Meta, Operation, OperationKind, OperationState, Peer, PeerStatus, Terms},
};

/// How long a drain may be given, in ms: a second to thirty days.
pub const DEADLINE_MS: RangeInclusive<u64> = 1_000..=2_592_000_000;

/// Starts moving everything off a peer, as an operation. A peer that is draining or drained stays as it is: asking
/// twice follows the operation that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPeer {
    /// The peer.
    pub id: PeerId,
}

/// The same on terms. For a peer that is draining, they become those of the operation that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainPeerWithTerms {
    /// The peer.
    pub id: PeerId,
    /// How long it may take, in ms of mesh time from now.
    pub deadline_ms: Option<u64>,
    /// Do not wait for what cannot be moved.
    pub forced: bool,
}

super::level_2!(DrainPeerWithTerms);

impl Handler for DrainPeer {
    fn action(&self) -> &'static str {
        "peers.drain"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::PEER_EXISTS,
            check::OPERATIONS_BELOW_LIMIT,
            check::ACTIVE_PEERS_LEFT,
            check::SHARDS_HAVE_A_PLACE,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let before = peer(view, &self.id)?;
        match before.status {
            PeerStatus::Draining | PeerStatus::Drained => Ok(Effects::unchanged()),
            PeerStatus::Active | PeerStatus::Cordoned => begin(view, before, Terms::default()),
        }
    }
}

impl Handler for DrainPeerWithTerms {
    fn action(&self) -> &'static str {
        if self.forced {
            "peers.drain_forced"
        } else {
            "peers.drain"
        }
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Peer, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    /// Force is no way around those who have to agree to a drain.
    fn approvers(&self, mesh: &MeshState) -> Approvers {
        let settings = mesh.settings();
        settings.approvers("peers.drain").max(settings.approvers(self.action()))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::FORM,
            check::PEER_EXISTS,
            check::OPERATIONS_BELOW_LIMIT,
            check::ACTIVE_PEERS_LEFT,
            check::SHARDS_HAVE_A_PLACE,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        view.check_form(check::FORM, check_deadline(self.deadline_ms))?;
        let before = peer(view, &self.id)?;
        let terms = terms(view, self.deadline_ms, self.forced);
        match before.status {
            PeerStatus::Drained => Ok(Effects::unchanged()),
            PeerStatus::Draining => Ok(change_terms(view, before, &terms)),
            PeerStatus::Active | PeerStatus::Cordoned => begin(view, before, terms),
        }
    }
}

/// Checks a deadline against its range.
pub(super) fn check_deadline(deadline_ms: Option<u64>) -> Result<(), Rejection> {
    match deadline_ms {
        Some(ms) if !DEADLINE_MS.contains(&ms) => {
            let (min, max) = (DEADLINE_MS.start(), DEADLINE_MS.end());
            Err(Rejection::invalid(
                "deadline",
                format!("{ms} ms is not within {min} to {max} ms"),
            ))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn terms(view: &View<'_>, deadline_ms: Option<u64>, forced: bool) -> Terms {
    let deadline = deadline_ms.map(|ms| Deadline {
        mesh_ms: view.stamp.mesh_time_ms.saturating_add(ms),
        wall_ms: view.stamp.wall_ms.saturating_add(ms),
    });
    Terms {
        deadline,
        forced,
        ..Terms::default()
    }
}

/// Puts the drain of a peer that runs on other terms.
fn change_terms(view: &View<'_>, peer: &Peer, terms: &Terms) -> Effects {
    let operation = peer.operation.as_ref().and_then(|id| view.mesh.operation(id));
    let Some(before) = operation.filter(|operation| operation.state == OperationState::Running) else {
        return Effects::unchanged();
    };
    let mut after = before.clone();
    after.terms.deadline = terms.deadline.or(after.terms.deadline);
    after.terms.forced |= terms.forced;
    if after.terms == before.terms {
        return Effects::unchanged();
    }
    if let Some(step) = after.active_step() {
        after.detail = drain::waits_for(view.mesh, peer, step, after.terms.forced);
    }
    Effects::default().put(Record::Operation(after.into()))
}

/// Begins the drain of one peer that is not set aside yet.
fn begin(view: &View<'_>, before: &Peer, terms: Terms) -> Result<Effects, Rejection> {
    let (measured, limit) = (
        view.mesh.operations_running(),
        view.mesh.settings().operations_running_max,
    );
    room(
        view,
        check::OPERATIONS_BELOW_LIMIT,
        "running operations",
        measured,
        limit,
    )?;
    // A setting of level 2: 0 below it.
    let needed = if terms.forced {
        0
    } else {
        view.mesh.settings().peers_active_min
    };
    // Nothing can fail without the rule; who looks at the checks is shown it all the same.
    if needed > 0 || view.checks.is_some() {
        check_active_left(view, &BTreeSet::from([&before.id]), needed)?;
    }
    if !terms.forced {
        super::shards_have_a_place(view, &before.id)?;
        super::show_held(view, [&before.id])?;
    }
    let id = OperationId::at(view.position);
    Ok(make_room(view, 1).and(started(view, before, id, terms)))
}

/// Refuses where a cluster would be left with too few active peers.
pub(super) fn check_active_left(view: &View<'_>, going: &BTreeSet<&PeerId>, needed: u64) -> Result<(), Rejection> {
    let Some(worst) = drain_peers::active_left(view.mesh, going, needed) else {
        return Ok(());
    };
    view.check(
        check::ACTIVE_PEERS_LEFT,
        worst.left,
        needed,
        worst.left >= needed,
        || Rejection::ActivePeersLow {
            cluster: worst.cluster.clone(),
            left: worst.left,
            needed,
        },
    )
}

/// The first step of a drain: the peer takes no new work, and the operation is there.
pub(super) fn started(view: &View<'_>, before: &Peer, id: OperationId, mut terms: Terms) -> Effects {
    let plan = drain::plan(view.mesh, before);
    let mut detail = String::new();
    if view.mesh.feature_level() >= 2 {
        detail = drain::waits_for(view.mesh, before, 1, terms.forced);
        terms.waiting_since_wall_ms = Some(view.stamp.wall_ms);
    }
    let operation = Operation {
        id,
        kind: OperationKind::DrainPeer(before.id.clone()),
        state: OperationState::Running,
        steps: plan.steps,
        done: 0,
        total: plan.moves,
        detail,
        actor: view.origin.actor.clone(),
        reason: view.origin.reason.clone(),
        ticket: view.origin.ticket.clone(),
        finished_wall_ms: None,
        meta: Meta::default(),
        terms,
    };
    let after = Peer {
        status: PeerStatus::Draining,
        status_reason: status_reason(view, PeerStatus::Draining),
        status_before_drain: Some(before.status),
        operation: Some(operation.id.clone()),
        ..before.clone()
    };
    Effects::default()
        .event(Event::PeerDrainStarted(before.id.clone()))
        .event(Event::OperationStarted(operation.id.clone()))
        .put(Record::Peer(after.into()))
        .put(Record::Operation(operation.into()))
}

/// Takes ended operations away where there are as many as are kept: two for each that comes, so that a lowered limit is
/// reached in time.
pub(super) fn make_room(view: &View<'_>, coming: usize) -> Effects {
    let limit = view.mesh.settings().operations_max;
    let after = view.mesh.operation_count().saturating_add(coming as u64);
    if after <= limit {
        return Effects::default();
    }
    let oldest = view.mesh.ended().take(coming.saturating_mul(2));
    oldest.fold(Effects::default(), |effects, ended| {
        effects.delete(Kind::Operation, ended.id.as_str())
    })
}
