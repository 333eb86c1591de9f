//! `approvals.approve`, `approvals.reject`, `approvals.end`

use serde::{Deserialize, Serialize};

use crate::{
    ApprovalId, Effects, Event, Handler, Record, Rejection, Rule, View, check,
    record::{Approval, ApprovalState, Decision, Kind, Scope},
    staging,
};

/// Agrees to a request that waits. The last who has to agree carries it out, in the same commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveStaged {
    /// The request.
    pub id: ApprovalId,
    /// What whoever agrees may do.
    pub scope: Scope,
}

/// Says no to a request that waits, or takes it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectStaged {
    /// The request.
    pub id: ApprovalId,
    /// What whoever says no may do.
    pub scope: Scope,
}

/// Ends what waits in vain: requests that nobody decided in time, and those whose records have changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndStaged {}

/// The most requests that one command ends.
const ENDED_PER_COMMAND_MAX: usize = 100;

super::level_2!(ApproveStaged, RejectStaged, EndStaged);

impl Handler for ApproveStaged {
    fn action(&self) -> &'static str {
        "approvals.approve"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Approval, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::APPROVAL_EXISTS,
            check::APPROVAL_UNDECIDED,
            check::APPROVAL_IN_TIME,
            check::APPROVER_IS_ANOTHER,
            check::APPROVER_MAY,
            check::APPROVER_COUNTS,
            check::APPROVAL_FRESH,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let mut approval = open(view, &self.id)?.clone();
        let actor = &view.origin.actor;
        let another = approval.requester() != actor;
        view.check(check::APPROVER_IS_ANOTHER, actor, approval.requester(), another, || {
            Rejection::ApprovalOwn {
                approval: self.id.clone(),
            }
        })?;
        // Rules that have become stricter count for what waits already; laxer ones do not.
        approval.approvers = approval.approvers.max(approval.command.handler().approvers(view.mesh));
        check_scope(view, &approval, self.scope)?;
        let scope = approval.approvers.scope();
        let mut decisions = approval.decisions.iter();
        let again = decisions.any(|decision| decision.actor == *actor && decision.scope >= scope);
        view.check(check::APPROVER_COUNTS, u8::from(again), 0, !again, || {
            Rejection::ApprovalGiven {
                approval: self.id.clone(),
                actor: actor.clone(),
            }
        })?;
        approval.decisions.retain(|decision| decision.actor != *actor);
        approval.decisions.push(decision(view, self.scope, true));
        let given = Event::ApprovalGiven {
            approval: self.id.clone(),
            actor: actor.clone(),
        };
        if approval.agreed() < approval.approvers.count() {
            // Nobody is asked to agree to what cannot be carried out.
            fresh(view, staging::replan(view.mesh, &approval))?;
            return Ok(Effects::default().event(given).put(Record::Approval(approval.into())));
        }
        let mut effects = fresh(view, staging::execute(view, &approval))?;
        effects.events.insert(0, given);
        approval.detail = format!("carried out for {}", approval.requester());
        Ok(effects.ended(approval, ApprovalState::Approved))
    }
}

impl Handler for RejectStaged {
    fn action(&self) -> &'static str {
        "approvals.reject"
    }

    fn target(&self) -> Option<(Kind, String)> {
        Some((Kind::Approval, self.id.to_string()))
    }

    fn level(&self) -> u32 {
        2
    }

    fn rules(&self) -> &'static [&'static Rule] {
        &[
            check::APPROVAL_EXISTS,
            check::APPROVAL_UNDECIDED,
            check::APPROVAL_IN_TIME,
            check::APPROVAL_FRESH,
            check::APPROVER_MAY,
            check::FORM,
        ]
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let mut approval = open(view, &self.id)?.clone();
        let actor = &view.origin.actor;
        if approval.requester() == actor {
            approval.detail = format!("taken back by {actor}");
        } else {
            check_scope(view, &approval, self.scope)?;
            let said = !view.origin.reason.is_empty();
            let why = said.then_some(()).ok_or_else(|| {
                let why = "say why, for whoever asked";
                Rejection::invalid("reason", why)
            });
            view.check_form(check::FORM, why)?;
            approval.detail = format!("rejected by {actor}: {}", view.origin.reason);
        }
        approval.decisions.push(decision(view, self.scope, false));
        Ok(Effects::default().ended(approval, ApprovalState::Rejected))
    }
}

impl Handler for EndStaged {
    fn action(&self) -> &'static str {
        "approvals.end"
    }

    fn target(&self) -> Option<(Kind, String)> {
        None
    }

    fn level(&self) -> u32 {
        2
    }

    fn validate(&self, view: &View<'_>) -> Result<Effects, Rejection> {
        let over = view.mesh.approvals_over(view.stamp.mesh_time_ms);
        let over = over.take(ENDED_PER_COMMAND_MAX);
        Ok(over.fold(Effects::default(), |effects, (approval, state, detail)| {
            let approval = Approval {
                detail,
                ..approval.clone()
            };
            effects.ended(approval, state)
        }))
    }
}

impl Effects {
    /// Ends a request.
    fn ended(self, mut approval: Approval, state: ApprovalState) -> Self {
        approval.state = state;
        let approval_id = approval.id.clone();
        self.event(Event::ApprovalEnded {
            approval: approval_id,
            state,
        })
        .put(Record::Approval(approval.into()))
    }
}

/// The request, if it can still be decided.
fn open<'a>(view: &View<'a>, id: &ApprovalId) -> Result<&'a Approval, Rejection> {
    let found = view.mesh.approval(id);
    let there = found.is_some();
    let missing = || Rejection::NotFound {
        kind: Kind::Approval.word().to_owned(),
        id: id.to_string(),
    };
    view.check(check::APPROVAL_EXISTS, u8::from(there), 1, there, missing)?;
    let found = found.ok_or_else(missing)?;
    let state = found.state;
    let undecided = match state {
        ApprovalState::Approved | ApprovalState::Rejected => false,
        ApprovalState::Pending | ApprovalState::Expired | ApprovalState::Stale => true,
    };
    let (now_ms, waits) = (view.stamp.mesh_time_ms, ApprovalState::Pending.word());
    view.check(check::APPROVAL_UNDECIDED, state.word(), waits, undecided, || {
        Rejection::ApprovalFinished {
            approval: id.clone(),
            state,
        }
    })?;
    let in_time = state != ApprovalState::Expired && (found.expires_ms > now_ms || !found.is_pending());
    let for_ms = now_ms.saturating_sub(found.expires_ms);
    view.check(check::APPROVAL_IN_TIME, format!("{for_ms} ms"), "0 ms", in_time, || {
        Rejection::ApprovalExpired {
            approval: id.clone(),
            for_ms,
        }
    })?;
    if state == ApprovalState::Stale {
        let why = found.detail.clone();
        let approval = id.clone();
        return fresh(view, Err(Rejection::ApprovalStale { approval, why }));
    }
    Ok(found)
}

/// Notes whether a request would still do what it was asked to.
fn fresh<T>(view: &View<'_>, planned: Result<T, Rejection>) -> Result<T, Rejection> {
    let checked = planned.as_ref().map(drop).map_err(Clone::clone);
    view.check_form(check::APPROVAL_FRESH, checked)?;
    planned
}

fn check_scope(view: &View<'_>, approval: &Approval, held: Scope) -> Result<(), Rejection> {
    let (needed, approvers) = (approval.approvers.scope(), approval.approvers);
    view.check(check::APPROVER_MAY, held.word(), needed.word(), held >= needed, || {
        Rejection::ScopeMissing { needed, approvers }
    })
}

fn decision(view: &View<'_>, scope: Scope, agrees: bool) -> Decision {
    Decision {
        actor: view.origin.actor.clone(),
        agrees,
        scope,
        reason: view.origin.reason.clone(),
        at: view.position,
        wall_ms: view.stamp.wall_ms,
    }
}
