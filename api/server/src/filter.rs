//! Which records a list shows and a watch follows: one rule for both.

use proto::v1;
use statemachine::{
    Outcome, PeerId, Recorded,
    record::{
        Approval, Cluster, ClusterPhase, Namespace, NamespacePhase, Operation, Peer, PeerStatus, Shard, ShardStatus,
    },
    selector::Selector,
};

use crate::{Error, convert};

/// Peers of a status, of a cluster, with certain labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peers {
    status: Option<PeerStatus>,
    cluster: String,
    selector: Selector,
}

impl Peers {
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn new(status: i32, cluster: &str, selector: &str) -> Result<Self, Error> {
        let status =
            v1::peer::Status::try_from(status).map_err(|_| Error::invalid("status", "there is no such status"))?;
        Ok(Self {
            status: convert::peer_status(status),
            cluster: cluster.to_owned(),
            selector: Selector::parse(selector)?,
        })
    }

    pub(crate) fn selects(&self, peer: &Peer) -> bool {
        self.status.is_none_or(|status| peer.status == status)
            && (self.cluster.is_empty() || peer.spec.cluster.as_str() == self.cluster)
            && self.selector.matches(&peer.spec.labels)
    }
}

/// Operations in a state, on a target.
#[derive(Debug, Clone, Default)]
pub(crate) struct Operations {
    state: v1::operation::State,
    target: String,
}

impl Operations {
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn new(state: i32, target: &str) -> Result<Self, Error> {
        Ok(Self {
            state: v1::operation::State::try_from(state)
                .map_err(|_| Error::invalid("state", "there is no such state"))?,
            target: target.to_owned(),
        })
    }

    pub(crate) fn selects(&self, operation: &Operation) -> bool {
        convert::is_in_state(operation, self.state)
            && (self.target.is_empty() || operation.kind.target() == self.target)
    }
}

/// Clusters in a state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clusters {
    state: Option<ClusterPhase>,
}

impl Clusters {
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn new(state: i32) -> Result<Self, Error> {
        let state =
            v1::cluster::State::try_from(state).map_err(|_| Error::invalid("state", "there is no such state"))?;
        Ok(Self {
            state: convert::cluster_phase(state),
        })
    }

    pub(crate) fn selects(&self, cluster: &Cluster) -> bool {
        self.state.is_none_or(|state| cluster.state == state)
    }
}

/// Namespaces in a phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespaces {
    phase: Option<NamespacePhase>,
}

impl Namespaces {
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn new(phase: i32) -> Result<Self, Error> {
        let phase =
            v1::namespace::Phase::try_from(phase).map_err(|_| Error::invalid("phase", "there is no such phase"))?;
        Ok(Self {
            phase: convert::namespace_phase(phase),
        })
    }

    pub(crate) fn selects(&self, namespace: &Namespace) -> bool {
        self.phase.is_none_or(|phase| namespace.phase == phase)
    }
}

/// Shards of a namespace, of an owner, of a status, that a peer has to do with; what is empty is not asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shards {
    namespace: String,
    owner: String,
    status: Option<ShardStatus>,
    peer: Option<PeerId>,
    index: Option<u32>,
}

impl Shards {
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn new(
        namespace: &str,
        owner: &str,
        status: i32,
        peer: &str,
        index: Option<u32>,
    ) -> Result<Self, Error> {
        let status =
            v1::shard::Status::try_from(status).map_err(|_| Error::invalid("status", "there is no such status"))?;
        let peer = match peer.is_empty() {
            true => None,
            false => Some(PeerId::new(peer).map_err(|error| Error::invalid("peer", error.to_string()))?),
        };
        if index.is_some() && namespace.is_empty() {
            return Err(Error::invalid("shard", "a number needs its namespace"));
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            owner: owner.to_owned(),
            status: convert::shard_status(status),
            peer,
            index,
        })
    }

    pub(crate) fn selects(&self, shard: &Shard) -> bool {
        (self.namespace.is_empty() || shard.id.namespace.as_str() == self.namespace)
            && (self.owner.is_empty() || shard.owner.as_ref().is_some_and(|owner| owner.as_str() == self.owner))
            && self.status.is_none_or(|status| shard.status == status)
            && self.peer.as_ref().is_none_or(|peer| shard.involves(peer))
            && self.index.is_none_or(|index| shard.id.index == index)
    }
}

/// Requests for approval: of a status, about a record, of a person, for an action; what is empty is not asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Approvals {
    status: v1::approval::Status,
    target: String,
    requester: String,
    action: String,
}

impl Approvals {
    /// # Errors
    /// `invalid_argument`.
    pub(crate) fn new(status: i32, target: &str, requester: &str, action: &str) -> Result<Self, Error> {
        Ok(Self {
            status: v1::approval::Status::try_from(status)
                .map_err(|_| Error::invalid("status", "there is no such status"))?,
            target: target.to_owned(),
            requester: requester.to_owned(),
            action: action.to_owned(),
        })
    }

    pub(crate) fn selects(&self, approval: &Approval) -> bool {
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        convert::has_status(approval, self.status)
            && is(&self.target, &approval.target)
            && is(&self.requester, approval.requester())
            && is(&self.action, &approval.action)
    }
}

/// Entries of the audit trail: of an actor, about a target and so on; what is empty is not asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail {
    pub(crate) actor: String,
    pub(crate) target: String,
    pub(crate) action: String,
    pub(crate) ticket: String,
    pub(crate) outcome: v1::audit_record::Outcome,
}

impl Trail {
    pub(crate) fn selects(&self, recorded: &Recorded) -> bool {
        let unit = &recorded.unit;
        let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        let outcome = match unit.outcome {
            Outcome::Applied { .. } => v1::audit_record::Outcome::Applied,
            Outcome::Rejected(_) => v1::audit_record::Outcome::Rejected,
            Outcome::Replayed { .. } => v1::audit_record::Outcome::Replayed,
            Outcome::Staged { .. } => v1::audit_record::Outcome::Staged,
        };
        // What decides a request belongs to whoever asked and to what it is about, too.
        let asked = unit.approval();
        let is = |wanted: &str, found: &str, of_request: fn(&Approval) -> &str| {
            is(wanted, found) || asked.is_some_and(|approval| wanted == of_request(approval))
        };
        is(&self.actor, &unit.origin.actor, Approval::requester)
            && is(&self.target, &unit.target, |approval| &approval.target)
            && is(&self.action, &unit.action, |approval| &approval.action)
            && is(&self.ticket, &unit.origin.ticket, |approval| &approval.origin.ticket)
            && (self.outcome == v1::audit_record::Outcome::Unspecified || self.outcome == outcome)
    }
}
