//! The side of the node that wants to become a member.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use statemachine::NodeId;
use tokio::time::{Instant, sleep};

use super::{JoinRefusal, PATIENCE, Pins};
use crate::error::Fatal;
use crate::handle::Endpoint;
use crate::net::NetError;
use crate::net::identity::RefusalCode;
use crate::net::message::{Lane, Message, Secret};
use crate::net::pool::Pool;

/// Between two rounds over all members that are known.
const PAUSE: Duration = Duration::from_millis(300);

/// What a node needs to join.
#[derive(Clone)]
pub struct JoinRequest {
    /// What its token proves it by.
    pub secret: Vec<u8>,
    /// Members, and where their node-to-node ports are. Only they are spoken to before this node has a membership.
    pub members: Vec<(NodeId, String)>,
    /// Where this node is to be reached.
    pub own: Endpoint,
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JoinRequest({:?} at {:?})", self.own, self.members)
    }
}

/// Why a node has not joined.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JoinError {
    /// The cluster does not take it in, and will not when asked again.
    #[error("{}: {detail}", refusal.code())]
    Refused {
        /// Why.
        refusal: JoinRefusal,
        /// For people.
        detail: String,
    },
    /// A member does not speak with this node, and will not when asked again.
    #[error("node {node} refuses the connection ({code}): {detail}")]
    Shut {
        /// Which.
        node: NodeId,
        /// Why.
        code: RefusalCode,
        /// For people.
        detail: String,
    },
    /// No leader answered in time. Asking again is right.
    #[error("no leader took this node in in time; last: {last}")]
    Late {
        /// What the last attempt came to.
        last: String,
    },
    /// The node has stopped itself.
    #[error(transparent)]
    Fatal(#[from] Fatal),
}

/// Asks one member after the other, until the leader has answered.
pub(crate) async fn ask(
    pool: &Pool,
    pins: &Pins,
    request: &JoinRequest,
    deadline: Instant,
    fatal: impl Future<Output = Fatal>,
) -> Result<(), JoinError> {
    tokio::select! {
        done = rounds(pool, pins, request, deadline) => done,
        fatal = fatal => Err(JoinError::Fatal(fatal)),
    }
}

async fn rounds(pool: &Pool, pins: &Pins, request: &JoinRequest, deadline: Instant) -> Result<(), JoinError> {
    let known = request.members.iter().map(|(node, raft)| (node.0, raft.clone()));
    let mut known: BTreeMap<u64, String> = known.collect();
    let mut last = "nobody was asked".to_owned();
    loop {
        let mut left = known.clone();
        // Whoever is said to lead is asked next, and nobody twice in a round: two nodes may take each other for it.
        let mut named = None;
        while let Some((node, raft)) = named.take().or_else(|| left.pop_first()) {
            if Instant::now() >= deadline {
                return Err(JoinError::Late { last });
            }
            match ask_one(pool, (node, &raft), request, deadline).await? {
                Heard::In(members) => {
                    pins.add(members.into_iter().map(|(node, _)| node));
                    return Ok(());
                }
                Heard::Leader(leader, raft) => {
                    tracing::info!(node, leader, raft, "another node leads");
                    last = format!("node {node} says that node {leader} at {raft} leads");
                    pins.add([leader]);
                    let is_new = known.insert(leader, raft.clone()).as_ref() != Some(&raft);
                    if left.remove(&leader).is_some() || is_new {
                        named = Some((leader, raft));
                    }
                }
                Heard::Nothing(why) => {
                    tracing::info!(node, raft, why, "not taken in yet");
                    last = format!("node {node} at {raft}: {why}");
                }
            }
        }
        if Instant::now() + PAUSE >= deadline {
            return Err(JoinError::Late { last });
        }
        sleep(PAUSE).await;
    }
}

enum Heard {
    In(Vec<(u64, Endpoint)>),
    /// Who leads, and its node-to-node port.
    Leader(u64, String),
    Nothing(String),
}

async fn ask_one(
    pool: &Pool,
    (node, raft): (u64, &str),
    request: &JoinRequest,
    deadline: Instant,
) -> Result<Heard, JoinError> {
    let deadline = deadline.min(Instant::now() + PATIENCE);
    let at = Endpoint {
        raft: raft.to_owned(),
        api: String::new(),
    };
    let link = pool.link(node, &at, Lane::Control);
    let message = Message::Join {
        secret: Secret(request.secret.clone()),
        endpoint: request.own.clone(),
    };
    let answer = match link.conn(deadline).await {
        Ok(conn) => conn.request(message, Vec::new(), deadline).await,
        Err(error) => Err(error),
    };
    match answer {
        Ok(Message::Joined { members }) => Ok(Heard::In(members)),
        Ok(Message::JoinElsewhere {
            leader: Some((leader, at)),
        }) => Ok(Heard::Leader(leader, at.raft)),
        Ok(Message::JoinElsewhere { leader: None }) => Ok(Heard::Nothing("it knows no leader".to_owned())),
        Ok(Message::JoinRefused { refusal, detail }) => Err(JoinError::Refused { refusal, detail }),
        Ok(other) => Ok(Heard::Nothing(format!("it answered {other:?}"))),
        Err(NetError::Refused { code, detail }) if !passes(code) => Err(JoinError::Shut {
            node: NodeId(node),
            code,
            detail,
        }),
        Err(error) => Ok(Heard::Nothing(error.to_string())),
    }
}

/// Whether who was refused so may be let in a moment later, or by another.
fn passes(code: RefusalCode) -> bool {
    match code {
        RefusalCode::TooMany | RefusalCode::WrongTarget | RefusalCode::NotPinned => true,
        RefusalCode::NoCertificate
        | RefusalCode::NotANode
        | RefusalCode::ForeignMesh
        | RefusalCode::ForeignCluster
        | RefusalCode::WrongNode
        | RefusalCode::Removed
        | RefusalCode::Protocol
        | RefusalCode::Expired
        | RefusalCode::StaleDirectory => false,
    }
}
