//! Requests that wait, or waited, for a second person.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::{MeshState, Row};
use crate::{
    ApprovalId, Hash,
    record::{Approval, ApprovalState},
    staging,
};

/// The requests, with a list of those that wait.
#[derive(Debug, Default, Clone)]
pub(super) struct Approvals {
    pub(super) all: OrdMap<ApprovalId, Row<Approval>>,
    pending: OrdSet<ApprovalId>,
}

impl Approvals {
    pub(super) fn insert(&mut self, record: Arc<Approval>, hash: Hash) -> Option<Hash> {
        match record.is_pending() {
            true => self.pending.insert(record.id.clone()),
            false => self.pending.remove(&record.id),
        };
        self.all
            .insert(record.id.clone(), Row { record, hash })
            .map(|row| row.hash)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Hash> {
        self.pending.remove(id);
        self.all.remove(id).map(|row| row.hash)
    }

    /// Whether the list is what follows from the requests.
    pub(super) fn follow(&self) -> bool {
        let pending = self.all.values().filter(|row| row.record.is_pending());
        let pending: OrdSet<_> = pending.map(|row| row.record.id.clone()).collect();
        pending == self.pending
    }
}

impl MeshState {
    /// A request that waits, or waited, for a second person.
    #[must_use]
    pub fn approval(&self, id: &ApprovalId) -> Option<&Approval> {
        self.approvals.all.get(id).map(|row| &*row.record)
    }

    /// Requests for approval, newest first, from the one before `before`. Ids sort by the revision that made them.
    pub fn approvals_before(&self, before: Option<&ApprovalId>) -> impl Iterator<Item = &Arc<Approval>> {
        use std::ops::Bound;
        let to = before.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        let range = self.approvals.all.range((Bound::Unbounded, to));
        range.rev().map(|(_, row)| &row.record)
    }

    /// Requests that wait, oldest first.
    pub fn pending_approvals(&self) -> impl Iterator<Item = &Approval> {
        self.approvals.pending.iter().filter_map(|id| self.approval(id))
    }

    /// How many requests wait.
    #[must_use]
    pub fn approvals_pending(&self) -> u64 {
        self.approvals.pending.len() as u64
    }

    /// How many requests for approval there are, ended ones included.
    #[must_use]
    pub fn approval_count(&self) -> u64 {
        self.approvals.all.len() as u64
    }

    /// Requests that do not wait any more, oldest first.
    pub fn ended_approvals(&self) -> impl Iterator<Item = &Approval> {
        let records = self.approvals.all.values().map(|row| &*row.record);
        records.filter(|approval| !approval.is_pending())
    }

    /// Requests that wait in vain at a mesh time, with what has become of them, and why.
    pub fn approvals_over(&self, now_ms: u64) -> impl Iterator<Item = (&Approval, ApprovalState, String)> {
        self.pending_approvals().filter_map(move |approval| {
            if approval.expires_ms <= now_ms {
                let why = "nobody decided in time".to_owned();
                return Some((approval, ApprovalState::Expired, why));
            }
            staging::moved(self, approval).map(|why| (approval, ApprovalState::Stale, why))
        })
    }
}
