//! Requests for approval.

use proto::v1;
use statemachine::record::{Approval, ApprovalState, Approvers, Scope};

use crate::time;

/// A request for approval, as its record alone tells it.
#[must_use]
pub fn approval(approval: &Approval) -> v1::Approval {
    let meta = &approval.meta;
    let decisions = approval.decisions.iter().map(|decision| v1::approval::Decision {
        actor: decision.actor.clone(),
        agrees: decision.agrees,
        reason: decision.reason.clone(),
        revision: decision.at.revision.0,
        decided_at: Some(time(decision.wall_ms)),
    });
    let dependencies = approval.reads.iter().map(|read| v1::approval::Dependency {
        record: statemachine::target_of(read.kind, &read.id),
        etag: read.etag.map(|etag| etag.to_string()).unwrap_or_default(),
    });
    v1::Approval {
        id: approval.id.to_string(),
        status: status(approval.state).into(),
        action: approval.action.clone(),
        target: approval.target.clone(),
        requester: approval.requester().to_owned(),
        reason: approval.origin.reason.clone(),
        ticket: approval.origin.ticket.clone(),
        approvers: approvers(approval.approvers).into(),
        needed: u32::try_from(approval.approvers.count()).unwrap_or(u32::MAX),
        agreed: u32::try_from(approval.agreed()).unwrap_or(u32::MAX),
        decisions: decisions.collect(),
        detail: approval.detail.clone(),
        hint: hint(approval),
        dependencies: dependencies.collect(),
        policy_version: approval.policy_version,
        request_hash: approval.request.to_string(),
        effects_hash: approval.effects.to_string(),
        version: meta.version,
        etag: meta.etag().to_string(),
        created_revision: meta.created.revision.0,
        changed_revision: meta.changed.revision.0,
        created_at: Some(time(meta.created_wall_ms)),
        changed_at: Some(time(meta.changed_wall_ms)),
        expires_at: Some(time(approval.expires_ms)),
        effects: Vec::new(),
        stale_because: String::new(),
    }
}

/// Who has to agree; unspecified where nobody has to.
#[must_use]
pub fn approvers(approvers: Approvers) -> v1::approval::Approvers {
    match approvers {
        Approvers::None => v1::approval::Approvers::Unspecified,
        Approvers::Operator => v1::approval::Approvers::Operator,
        Approvers::Admin => v1::approval::Approvers::Admin,
        Approvers::TwoAdmins => v1::approval::Approvers::TwoAdmins,
    }
}

fn status(state: ApprovalState) -> v1::approval::Status {
    match state {
        ApprovalState::Pending => v1::approval::Status::PendingApproval,
        ApprovalState::Approved => v1::approval::Status::Approved,
        ApprovalState::Rejected => v1::approval::Status::Rejected,
        ApprovalState::Expired => v1::approval::Status::Expired,
        ApprovalState::Stale => v1::approval::Status::Stale,
    }
}

/// Whether a request has the status that a filter asks for; an unspecified one asks for none.
#[must_use]
pub fn has_status(approval: &Approval, wanted: v1::approval::Status) -> bool {
    wanted == v1::approval::Status::Unspecified || status(approval.state) == wanted
}

fn hint(approval: &Approval) -> String {
    if !approval.is_pending() {
        return String::new();
    }
    let (id, asked) = (&approval.id, approval.requester());
    let left = approval.approvers.count().saturating_sub(approval.agreed());
    let run = match left {
        2.. => "run",
        _ => "runs",
    };
    let who = match (approval.approvers.scope(), left) {
        (Scope::Operate, _) => format!("somebody other than {asked} with mesh.operate"),
        (Scope::Admin, 2..) => format!("two persons other than {asked} with mesh.admin"),
        (Scope::Admin, _) if approval.agreed() > 0 => format!("a third person, other than {asked}, with mesh.admin"),
        (Scope::Admin, _) => format!("somebody other than {asked} with mesh.admin"),
    };
    format!("{who} {run} `mesh approvals approve {id}`")
}
