//! Requests that wait for a second person: what is written down of them, and whether they would still come to the same.
//!
//! A request is planned by its own handler when it is asked for, and again when it is decided. Both plans that are
//! compared are made as if at the position and the time of the asking, so that ids and times that follow from them do
//! not differ; what differs, then, is what the request would do.

use std::sync::Arc;

use crate::{
    ApprovalId, Command, Conditions, Effects, Event, Hash, MeshState, Origin, Proposal, Record, Rejection, View, audit,
    codec::{self, Format},
    command::Handler,
    record::{Approval, ApprovalState, Approvers, Kind, Meta, Read},
};

/// The longest request that may wait, in bytes: the unit that carries it out holds it twice beside what it changes.
pub const STAGED_BYTES_MAX: usize = 64 * 1024;
/// The most records that a request may change which waits: its own record changes with them.
const CHANGES_MAX: usize = crate::CHANGES_MAX - 3;

/// What a request comes to that may have to wait.
pub(crate) enum Staged {
    /// It takes effect at once.
    Not(Effects),
    /// It waits for approval. There are no effects where the same request of the same person waits already.
    As(ApprovalId, Effects),
}

/// Who has to agree to a request before it takes effect. A node's own loops ask nobody.
fn approvers(mesh: &MeshState, origin: &Origin, handler: &dyn Handler) -> Approvers {
    match origin.is_internal() {
        true => Approvers::None,
        false => handler.approvers(mesh),
    }
}

/// Who would have to agree to a proposal.
pub(crate) fn asked(mesh: &MeshState, proposal: &Proposal) -> Approvers {
    approvers(mesh, &proposal.origin, proposal.command.handler())
}

/// Stages a request whose handler would do `effects`, where somebody has to agree and there is anything to agree to.
///
/// # Errors
/// It is too large to wait, or too many do.
pub(crate) fn stage(
    view: &View<'_>,
    command: &Command,
    conditions: &Conditions,
    effects: Effects,
) -> Result<Staged, Rejection> {
    let approvers = approvers(view.mesh, view.origin, command.handler());
    if approvers == Approvers::None || effects == Effects::unchanged() {
        return Ok(Staged::Not(effects));
    }
    let request = codec::encode(Format::Record, &(command, conditions));
    let changes = effects.puts.len() + effects.deletes.len();
    let pending = view.mesh.approvals_pending();
    let limits = [
        (
            "bytes of a request that has to be approved",
            request.len(),
            STAGED_BYTES_MAX,
        ),
        (
            "records changed by a request that has to be approved",
            changes,
            CHANGES_MAX,
        ),
    ];
    if let Some((what, measured, limit)) = limits.into_iter().find(|(_, measured, limit)| measured > limit) {
        return Err(exhausted(what, measured as u64, limit as u64));
    }
    let (request, digest) = (audit::request_hash(&[&request]), digest(&effects));
    let same = |approval: &&Approval| {
        approval.request == request
            && approval.requester() == view.origin.actor
            && approval.expires_ms > view.stamp.mesh_time_ms
    };
    let fresh = |approval: &&Approval| replan(view.mesh, approval).is_ok();
    if let Some(there) = view.mesh.pending_approvals().filter(same).find(fresh) {
        return Ok(Staged::As(there.id.clone(), Effects::unchanged()));
    }
    let settings = view.mesh.settings();
    if pending >= settings.approvals_pending_max {
        return Err(exhausted(
            "requests that wait for approval",
            pending,
            settings.approvals_pending_max,
        ));
    }
    let handler = command.handler();
    let target = handler.target();
    let approval = Approval {
        id: ApprovalId::at(view.position),
        state: ApprovalState::Pending,
        action: handler.action().to_owned(),
        target: target
            .as_ref()
            .map_or_else(|| handler.subject(), |(kind, id)| crate::target_of(*kind, id)),
        command: command.clone(),
        conditions: conditions.clone(),
        origin: view.origin.clone(),
        request,
        asked: view.position,
        asked_stamp: view.stamp,
        effects: digest,
        reads: reads(view.mesh, target, &effects),
        approvers,
        policy_version: view.mesh.config().map_or(0, |config| config.meta.version),
        decisions: Vec::new(),
        expires_ms: view.stamp.mesh_time_ms.saturating_add(settings.approvals_ttl_ms),
        detail: String::new(),
        meta: Meta::default(),
    };
    let id = approval.id.clone();
    let effects = make_room(view)
        .event(Event::ApprovalRequested(id.clone()))
        .put(Record::Approval(approval.into()));
    Ok(Staged::As(id, effects))
}

fn exhausted(what: &str, measured: u64, limit: u64) -> Rejection {
    let what = what.to_owned();
    Rejection::ResourceExhausted { what, measured, limit }
}

/// Takes ended requests away where there are as many as are kept: two for the one that comes, so that a lowered limit
/// is reached in time.
fn make_room(view: &View<'_>) -> Effects {
    if view.mesh.approval_count() < view.mesh.settings().approvals_max {
        return Effects::default();
    }
    let oldest = view.mesh.ended_approvals().take(2);
    oldest.fold(Effects::default(), |effects, ended| {
        effects.delete(Kind::Approval, ended.id.as_str())
    })
}

/// What is only let go to make room is no part of what was asked for.
fn is_housekeeping(kind: Kind) -> bool {
    match kind {
        Kind::Operation | Kind::Checkpoint | Kind::Approval | Kind::Session => true,
        Kind::Mesh | Kind::Peer | Kind::Cluster | Kind::Config | Kind::Certificate | Kind::Namespace | Kind::Shard => {
            false
        }
    }
}

/// Hash over what effects change, and to what.
fn digest(effects: &Effects) -> Hash {
    let mut parts = Vec::with_capacity(effects.puts.len() + effects.deletes.len());
    for put in &effects.puts {
        // Version and times are stamped when it is carried out; how the record was before is compared by its ETag.
        let mut put = put.clone();
        put.set_meta(Meta::default());
        // How far an operation is said to be is no part of what it is to do.
        if let Record::Operation(operation) = &mut put {
            Arc::make_mut(operation).detail.clear();
        }
        parts.push(put.encode());
    }
    for (kind, id) in effects.deletes.iter().filter(|(kind, _)| !is_housekeeping(*kind)) {
        parts.push(crate::target_of(*kind, id).into_bytes());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    audit::request_hash(&parts)
}

/// The records that effects replace or remove, and the target, as they are.
fn reads(mesh: &MeshState, target: Option<(Kind, String)>, effects: &Effects) -> Vec<Read> {
    let puts = effects.puts.iter().map(|put| (put.kind(), put.id()));
    // An operation that begins has its id from the position that it begins at, so there is none to look for.
    let puts = puts.filter(|(kind, id)| *kind != Kind::Operation || mesh.meta(*kind, id).is_some());
    let deletes = effects.deletes.iter().cloned();
    let deletes = deletes.filter(|(kind, _)| !is_housekeeping(*kind));
    let mut reads: Vec<Read> = Vec::new();
    for (kind, id) in target.into_iter().chain(puts).chain(deletes) {
        if reads.iter().all(|read| (read.kind, &read.id) != (kind, &id)) {
            let etag = mesh.meta(kind, &id).map(|meta| meta.etag());
            reads.push(Read { kind, id, etag });
        }
    }
    reads
}

/// The first record that has changed since the request was asked for, in words; none where all are as they were.
pub(crate) fn moved(mesh: &MeshState, approval: &Approval) -> Option<String> {
    approval.reads.iter().find_map(|read| {
        let now = mesh.meta(read.kind, &read.id).map(|meta| meta.etag());
        if now == read.etag {
            return None;
        }
        let name = crate::target_of(read.kind, &read.id);
        Some(match (&read.etag, now) {
            (_, None) => format!("{name} is gone"),
            (None, Some(_)) => format!("{name} has come into being"),
            (Some(_), Some(now)) => format!("{name} has changed: its ETag is {now}"),
        })
    })
}

/// What a request would change now, planned as if at the position and the time of its asking. The records are as a
/// handler makes them: without version and times.
///
/// # Errors
/// [`Rejection::ApprovalStale`]: something has changed, or the request would come to something else, or be refused.
pub fn replan(mesh: &MeshState, approval: &Approval) -> Result<Effects, Rejection> {
    let stale = |why: String| Rejection::ApprovalStale {
        approval: approval.id.clone(),
        why,
    };
    if let Some(why) = moved(mesh, approval) {
        return Err(stale(why));
    }
    let view = View {
        mesh,
        position: approval.asked,
        stamp: approval.asked_stamp,
        origin: &approval.origin,
        checks: None,
    };
    let effects = approval.command.handler().validate(&view);
    let effects = effects.map_err(|rejection| stale(format!("it would be refused: {}", rejection.detail())))?;
    if digest(&effects) != approval.effects {
        return Err(stale(
            "it would come to something else than when it was asked for".to_owned(),
        ));
    }
    Ok(effects)
}

/// What carries a request out now, in the name of whoever asked.
///
/// # Errors
/// As [`replan`].
pub(crate) fn execute(view: &View<'_>, approval: &Approval) -> Result<Effects, Rejection> {
    replan(view.mesh, approval)?;
    let asked = View {
        origin: &approval.origin,
        ..*view
    };
    let effects = approval.command.handler().validate(&asked);
    effects.map_err(|rejection| Rejection::ApprovalStale {
        approval: approval.id.clone(),
        why: format!("it would be refused: {}", rejection.detail()),
    })
}

impl Origin {
    /// Whether a node's own loop asks.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.transport == "internal"
    }
}
