//! A client's side: which node to ask, when to ask again, and what may be concluded from no answer.

use std::{collections::BTreeMap, io, time::Duration};

use rand::{Rng, rngs::StdRng};
use statemachine::{Command, Conditions, NodeId, Origin, PeerId};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use turmoil::net::TcpStream;

use crate::{
    history::Outcome,
    network::{CLIENT_PORT, host},
    port::{self, Ask, Became, Reply},
    schedule::MACHINES,
};

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// How long an operation may take, over all its attempts.
const OPERATION: Duration = Duration::from_secs(4);
/// The shortest wait before another attempt.
const BACKOFF_MS: u64 = 20;

/// A client's connections, and whom it believes to lead.
pub struct Session {
    streams: BTreeMap<NodeId, TcpStream>,
    leader: NodeId,
    rng: StdRng,
}

/// How an operation ended, who said so, and how often it was sent.
pub struct Ended {
    /// How.
    pub outcome: Outcome,
    /// Who gave the last answer.
    pub node: Option<NodeId>,
    /// How often.
    pub attempts: u32,
}

impl Session {
    /// Begins without connections.
    #[must_use]
    pub fn new(rng: StdRng) -> Self {
        Self {
            streams: BTreeMap::new(),
            leader: NodeId(1),
            rng,
        }
    }

    /// Commits a command, over as many attempts as it takes and time allows.
    pub async fn propose(&mut self, origin: &Origin, conditions: &Conditions, command: &Command) -> Ended {
        let ask = Ask::Propose {
            origin: Box::new(origin.clone()),
            conditions: conditions.clone(),
            command: Box::new(command.clone()),
            within_ms: ms(ATTEMPT),
        };
        self.run(&ask, |session| session.leader).await
    }

    /// Reads a peer from a node of its choice.
    pub async fn read(&mut self, peer: &PeerId, linearizable: bool) -> Ended {
        let ask = Ask::Read {
            peer: peer.clone(),
            linearizable,
            within_ms: ms(ATTEMPT),
        };
        self.run(&ask, Self::any).await
    }

    fn any(&mut self) -> NodeId {
        NodeId(self.rng.random_range(1..=MACHINES))
    }

    async fn run(&mut self, ask: &Ask, mut whom: impl FnMut(&mut Self) -> NodeId) -> Ended {
        let deadline = Instant::now() + OPERATION;
        let mut attempts = 0;
        let mut maybe_applied = false;
        let mut last;
        loop {
            attempts += 1;
            let node = whom(self);
            let attempt = timeout_at(
                deadline.min(Instant::now() + ATTEMPT + ATTEMPT / 4),
                self.attempt(node, ask),
            )
            .await;
            let outcome = match attempt {
                Ok(Ok(reply)) => self.judge(node, reply),
                Ok(Err((error, sent))) => {
                    self.forget(node);
                    Err((error.to_string(), sent))
                }
                Err(_) => {
                    self.forget(node);
                    Err(("no answer in time".to_owned(), true))
                }
            };
            match outcome {
                Ok(outcome) => {
                    return Ended {
                        outcome,
                        node: Some(node),
                        attempts,
                    };
                }
                Err((why, maybe)) => {
                    maybe_applied |= maybe;
                    last = (why, node);
                }
            }
            if Instant::now() + Duration::from_millis(BACKOFF_MS) >= deadline {
                break;
            }
            sleep(Duration::from_millis(self.rng.random_range(BACKOFF_MS..4 * BACKOFF_MS))).await;
        }
        let (why, node) = last;
        let outcome = if maybe_applied {
            Outcome::Unknown(why)
        } else {
            Outcome::Failed(why)
        };
        Ended {
            outcome,
            node: Some(node),
            attempts,
        }
    }

    /// Whatever the node was, it may not be the one to ask any more.
    fn forget(&mut self, node: NodeId) {
        self.streams.remove(&node);
        if self.leader == node {
            self.leader = self.any();
        }
    }

    /// One request and its answer; a failure says whether the request may have reached the node.
    async fn attempt(&mut self, node: NodeId, ask: &Ask) -> Result<Reply, (io::Error, bool)> {
        // Taken out while in use: an attempt that is given up leaves no stream behind with half an answer in it.
        let mut stream = match self.streams.remove(&node) {
            Some(stream) => stream,
            None => {
                let connect = TcpStream::connect((host(node), CLIENT_PORT));
                let connected = timeout(Duration::from_millis(500), connect).await;
                connected
                    .map_err(io::Error::from)
                    .flatten()
                    .map_err(|error| (error, false))?
            }
        };
        port::send(&mut stream, ask).await.map_err(|error| (error, true))?;
        let reply = port::receive(&mut stream).await.map_err(|error| (error, true))?;
        self.streams.insert(node, stream);
        Ok(reply)
    }

    /// An answer that ends the operation; or why another attempt is needed, and whether this one may have had effect.
    fn judge(&mut self, node: NodeId, reply: Reply) -> Result<Outcome, (String, bool)> {
        match reply {
            Reply::Recorded(revision, chain, Became::Applied) => Ok(Outcome::Applied(revision, Some(chain))),
            Reply::Recorded(at, _, Became::Replayed(of)) => Ok(Outcome::Replayed { at, of }),
            Reply::Recorded(revision, _, Became::Rejected(code)) => Ok(Outcome::Rejected(Some(revision), code)),
            Reply::Read(revision, chain, peer) => Ok(Outcome::Seen(revision, Some(chain), peer)),
            Reply::NotLeader(leader) => {
                self.leader = leader.filter(|leader| *leader != node).unwrap_or_else(|| self.any());
                Err(("not the leader".to_owned(), false))
            }
            Reply::Failed { why, maybe_applied } => {
                self.leader = self.any();
                Err((why, maybe_applied))
            }
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
