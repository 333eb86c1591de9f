//! How a node that is no member becomes one: it asks, with the secret of a token that was made for it.

mod ask;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use statemachine::cluster::{self, InvitationRefused, Outcome};
use statemachine::{Answer, NodeId, Stamp, audit};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, MembershipRefusal};
use crate::handle::Endpoint;
use crate::net::message::{Message, Secret};
use crate::node::{Raft, leader_of};
use crate::propose::Proposer;
use crate::state::publish::Publisher;

pub(crate) use ask::ask;
pub use ask::{JoinError, JoinRequest};

/// For the answer of one member: two changes are committed meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer addresses than a name with its port are not taken.
const ADDRESS_BYTES_MAX: usize = 261;
/// Longer secrets are not looked at.
const SECRET_BYTES_MAX: usize = 64;

/// Why a cluster does not take a node in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Serialize, Deserialize)]
pub enum JoinRefusal {
    /// Nobody invited it, or the secret is another.
    TokenInvalid,
    /// The token's time is over.
    TokenExpired,
    /// A node with other endpoints has used the token.
    TokenUsed,
    /// A member with its id has other endpoints.
    MemberExists,
    /// The node was removed for good.
    NodeRemoved,
    /// What it sent makes no sense.
    Malformed,
}

impl JoinRefusal {
    /// The name by which it is documented.
    pub fn code(self) -> &'static str {
        match self {
            Self::TokenInvalid => "join_token_invalid",
            Self::TokenExpired => "join_token_expired",
            Self::TokenUsed => "join_token_used",
            Self::MemberExists => "member_exists",
            Self::NodeRemoved => "node_removed",
            Self::Malformed => "invalid_argument",
        }
    }
}

/// Whom a node without a membership speaks with; `None`: every node of its cluster.
#[derive(Clone, Default)]
pub(crate) struct Pins(Arc<Mutex<Option<BTreeSet<u64>>>>);

impl Pins {
    pub(crate) fn new(nodes: Option<&[NodeId]>) -> Self {
        let nodes = nodes.map(|nodes| nodes.iter().map(|node| node.0).collect());
        Self(Arc::new(Mutex::new(nodes)))
    }

    pub(crate) fn allows(&self, node: NodeId) -> bool {
        self.0.lock().as_ref().is_none_or(|nodes| nodes.contains(&node.0))
    }

    /// Notes nodes that a pinned one vouches for.
    fn add(&self, nodes: impl IntoIterator<Item = u64>) {
        if let Some(pinned) = &mut *self.0.lock() {
            pinned.extend(nodes);
        }
    }
}

/// Whether a node is to be added: true for a new one, false for one that is a member with the same endpoints.
///
/// # Errors
/// [`Error::Membership`]: there is a member with its id and other endpoints, or it was removed for good.
pub(crate) fn check_new(raft: &Raft, state: &Publisher, node: NodeId, endpoint: &Endpoint) -> Result<bool, Error> {
    if state.view().state().cluster.is_removed(node) {
        let reason = format!("node {node} was removed for good: a new node needs a new id");
        let measure = ("removed for good", "an id that was never used");
        return Err(Error::membership(MembershipRefusal::NodeRemoved, reason, measure));
    }
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    match metrics.membership_config.get_node(&node.0) {
        None => Ok(true),
        Some(known) if known == endpoint => Ok(false),
        Some(Endpoint { raft, api }) => {
            let reason = format!("node {node} is a member, with API {api} and Raft {raft}");
            let measure = ("a member with other addresses", "no member");
            Err(Error::membership(MembershipRefusal::MemberExists, reason, measure))
        }
    }
}

/// Takes in who asks, or says why not.
pub(crate) async fn admit(
    raft: &Raft,
    proposer: &Proposer,
    node: NodeId,
    secret: Secret,
    endpoint: Endpoint,
) -> Result<Message, String> {
    if raft.as_leader().is_err() {
        let leader = leader_of(raft).filter(|(leader, _)| *leader != proposer.own.0);
        let leader = leader.and_then(|(leader, at)| Some((leader, at?)));
        return Ok(Message::JoinElsewhere { leader });
    }
    let deadline = Instant::now() + PATIENCE;
    if let Err((refusal, detail)) = invited(raft, proposer, node, &secret, &endpoint, deadline).await? {
        tracing::warn!(%node, ?refusal, detail, "a node that asks to join is refused");
        return Ok(Message::JoinRefused { refusal, detail });
    }
    let change = ChangeMembers::AddNodes(BTreeMap::from([(node.0, endpoint)]));
    // Changes nothing where it is a member by now.
    match timeout_at(deadline, raft.change_membership(change, true)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(proposer.explain(error).to_string()),
        Err(_) => return Err("adding the node took too long".to_owned()),
    }
    tracing::info!(%node, "a node has joined by invitation");
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.nodes().map(|(id, at)| (*id, at.clone()));
    Ok(Message::Joined {
        members: members.collect(),
    })
}

type Judged = Result<(), (JoinRefusal, String)>;

/// Makes use of a node's invitation: once, but as often as the same node asks.
async fn invited(
    raft: &Raft,
    proposer: &Proposer,
    node: NodeId,
    secret: &Secret,
    endpoint: &Endpoint,
    deadline: Instant,
) -> Result<Judged, String> {
    if let Err(why) = well_formed(secret, endpoint) {
        return Ok(Err((JoinRefusal::Malformed, why)));
    }
    let command = cluster::Command::AdmitNode {
        stamp: Stamp::default(),
        node,
        secret: audit::fingerprint(&secret.0),
        api: endpoint.api.clone(),
        raft: endpoint.raft.clone(),
    };
    let committed = proposer.propose_cluster(command, deadline).await;
    match committed.map_err(|e| e.to_string())?.answer {
        Answer::Cluster(Outcome::Applied | Outcome::Unchanged) => {}
        Answer::Cluster(Outcome::NodeRemoved) => {
            let detail = format!("node {node} was removed for good");
            return Ok(Err((JoinRefusal::NodeRemoved, detail)));
        }
        Answer::Cluster(Outcome::NotInvited(why)) => return Ok(Err(told(why, node))),
        other => return Err(format!("the leader's state answered {other:?}")),
    }
    match check_new(raft, &proposer.publisher, node, endpoint) {
        Ok(_) => Ok(Ok(())),
        Err(Error::Membership { refusal, reason, .. }) => {
            let refusal = match refusal {
                MembershipRefusal::NodeRemoved => JoinRefusal::NodeRemoved,
                _ => JoinRefusal::MemberExists,
            };
            Ok(Err((refusal, reason)))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn told(why: InvitationRefused, node: NodeId) -> (JoinRefusal, String) {
    match why {
        InvitationRefused::Unknown => (
            JoinRefusal::TokenInvalid,
            format!(
                "this is not the token of an invitation of node {node}; a later invitation takes an earlier one's place"
            ),
        ),
        InvitationRefused::Expired => (
            JoinRefusal::TokenExpired,
            format!("the time of this invitation of node {node} is over"),
        ),
        InvitationRefused::Used => (
            JoinRefusal::TokenUsed,
            format!("this invitation of node {node} was used already, with other endpoints"),
        ),
    }
}

fn well_formed(secret: &Secret, endpoint: &Endpoint) -> Result<(), String> {
    if secret.0.is_empty() || secret.0.len() > SECRET_BYTES_MAX {
        return Err(format!("a secret of {} bytes", secret.0.len()));
    }
    for address in [&endpoint.api, &endpoint.raft] {
        let port = address.rsplit_once(':').and_then(|(host, port)| {
            let plain = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic());
            plain.then(|| port.parse::<u16>().ok()).flatten()
        });
        if address.len() > ADDRESS_BYTES_MAX || port.is_none_or(|port| port == 0) {
            return Err("an endpoint that is no host:port".to_owned());
        }
    }
    Ok(())
}
