//! A client as users have it: the SDK, over simulated connections, to the nodes' API.

use std::{sync::Arc, time::Duration};

use api_client::{
    Answer, BoxStream, CallOptions, Client, Connect, ConnectError, Consistency, Endpoint, Entropy, Stage,
};
use futures::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use proto::v1;
use raft::env::Clock;
use rand::{Rng, RngCore, rngs::StdRng};
use statemachine::{NodeId, REJECTION_CODES, Revision};
use turmoil::net::TcpStream;

use crate::{
    clock::SimClock,
    history::{Call, Outcome},
    network::{API_PORT, CLUSTER, host, node_of},
    port::PeerSeen,
    session::Ended,
    workload::VALUE,
};

/// How long a command may take, over all its attempts.
const COMMAND: Duration = Duration::from_secs(4);
/// How long a read of one node may take.
const READ: Duration = Duration::from_millis(1_500);

/// A client's SDK.
pub struct Session {
    client: Client,
    rng: StdRng,
    machines: u64,
}

impl Session {
    /// Begins without connections. `machines`: how many there are, nodes of the cluster or not.
    ///
    /// # Errors
    /// The SDK refuses the endpoints: a bug here.
    pub fn new(mut rng: StdRng, machines: u64) -> Result<Self, api_client::Error> {
        let endpoints = (1..=machines).filter_map(|node| endpoint(NodeId(node))).collect();
        let entropy = SimEntropy {
            clock: SimClock::ahead_by(Arc::default()),
            rng: Mutex::new(rand::SeedableRng::seed_from_u64(rng.next_u64())),
        };
        let client = Client::builder(endpoints, Arc::new(SimConnect))
            .entropy(Arc::new(entropy))
            .timeout(COMMAND)
            .attempt_timeout(READ)
            .build()?;
        Ok(Self { client, rng, machines })
    }

    /// Carries an operation out.
    pub async fn perform(&mut self, call: &Call, key: &str) -> Ended {
        match call {
            Call::Read(peer) => self.read(peer, Consistency::Linearizable).await,
            Call::ReadLocal(peer) => self.read(peer, Consistency::Local).await,
            Call::Register(_)
            | Call::Deregister(_)
            | Call::Write { .. }
            | Call::Cordon(_)
            | Call::Uncordon(_)
            | Call::Drain(_)
            | Call::Undrain(_) => commanded(self.command(call, key).await),
        }
    }

    async fn command(&self, call: &Call, key: &str) -> api_client::Result<Answer<v1::Peer>> {
        let (client, idempotency_key) = (&self.client, key.to_owned());
        match call.clone() {
            Call::Register(id) => {
                let request = v1::RegisterPeerRequest {
                    id,
                    cluster: CLUSTER.to_owned(),
                    endpoints: vec!["peer:443".to_owned()],
                    idempotency_key,
                    ..Default::default()
                };
                client.register_peer(request).await
            }
            Call::Write { peer, if_match } => {
                let request = v1::PatchPeerRequest {
                    id: peer,
                    labels: [(VALUE.to_owned(), key.to_owned())].into_iter().collect(),
                    if_match: if_match.unwrap_or_default(),
                    idempotency_key,
                    ..Default::default()
                };
                client.patch_peer(request).await
            }
            Call::Deregister(id) => {
                let request = v1::DeregisterPeerRequest {
                    id: id.clone(),
                    confirm: id,
                    idempotency_key,
                    ..Default::default()
                };
                client.deregister_peer(request).await
            }
            Call::Cordon(id) => {
                let request = v1::CordonPeerRequest {
                    id,
                    idempotency_key,
                    ..Default::default()
                };
                client.cordon_peer(request).await
            }
            Call::Uncordon(id) => {
                let request = v1::UncordonPeerRequest {
                    id,
                    idempotency_key,
                    ..Default::default()
                };
                client.uncordon_peer(request).await
            }
            Call::Drain(id) => {
                let request = v1::DrainPeerRequest {
                    id,
                    idempotency_key,
                    ..Default::default()
                };
                client.drain_peer(request).await
            }
            Call::Undrain(id) | Call::Read(id) | Call::ReadLocal(id) => {
                let request = v1::UndrainPeerRequest {
                    id,
                    idempotency_key,
                    ..Default::default()
                };
                client.undrain_peer(request).await
            }
        }
    }

    /// Reads from one node of its choice, and from no other.
    async fn read(&mut self, peer: &str, consistency: Consistency) -> Ended {
        let node = NodeId(self.rng.random_range(1..=self.machines));
        self.read_at(node, peer, consistency).await
    }

    /// Reads from this node, and from no other.
    pub async fn read_at(&mut self, node: NodeId, peer: &str, consistency: Consistency) -> Ended {
        let options = CallOptions {
            timeout: Some(READ),
            consistency: Some(consistency),
            only: endpoint(node),
            ..CallOptions::default()
        };
        let request = v1::GetPeerRequest { id: peer.to_owned() };
        match self.client.call::<api_client::methods::GetPeer>(request, options).await {
            Ok(Answer { message, meta }) => {
                let seen = PeerSeen {
                    version: message.version,
                    etag: message.etag.clone(),
                    value: message.labels.get(VALUE).cloned(),
                    status: format!("{:?}", message.status()),
                };
                let outcome = match meta.revision {
                    Some(revision) => Outcome::Seen(Revision(revision), None, Some(seen)),
                    None => Outcome::Failed("an answer without revision".to_owned()),
                };
                Ended {
                    outcome,
                    node: answered(&meta.endpoint),
                    attempts: meta.attempts,
                }
            }
            Err(error) => Ended {
                outcome: Outcome::Failed(told(&error)),
                node: Some(node),
                attempts: 1,
            },
        }
    }
}

fn commanded(result: api_client::Result<Answer<v1::Peer>>) -> Ended {
    match result {
        // A retry is answered with the revision of the first attempt, so that either way it took effect there.
        Ok(Answer { message: _, meta }) => {
            let outcome = match meta.revision {
                Some(revision) => Outcome::Applied(Revision(revision), None),
                None => Outcome::Unknown("an answer without revision".to_owned()),
            };
            Ended {
                outcome,
                node: answered(&meta.endpoint),
                attempts: meta.attempts,
            }
        }
        Err(error) => {
            let outcome = if error.outcome_unknown() {
                Outcome::Unknown(told(&error))
            } else if error.is_remote() && REJECTION_CODES.contains(&error.code()) {
                Outcome::Rejected(None, error.code().to_owned())
            } else {
                Outcome::Failed(told(&error))
            };
            Ended {
                outcome,
                node: None,
                attempts: 1,
            }
        }
    }
}

fn told(error: &api_client::Error) -> String {
    format!("{}: {}", error.code(), error.detail())
}

fn endpoint(node: NodeId) -> Option<Endpoint> {
    format!("https://{}:{API_PORT}", host(node)).parse().ok()
}

fn answered(endpoint: &str) -> Option<NodeId> {
    let endpoint: Endpoint = endpoint.parse().ok()?;
    node_of(endpoint.host())
}

struct SimConnect;

impl Connect for SimConnect {
    fn connect(&self, endpoint: &Endpoint) -> BoxFuture<'static, Result<BoxStream, ConnectError>> {
        let (host, port) = (endpoint.host().to_owned(), endpoint.port());
        async move {
            match TcpStream::connect((host, port)).await {
                Ok(stream) => Ok(Box::new(stream) as BoxStream),
                Err(error) => Err(ConnectError {
                    stage: Stage::Network,
                    detail: error.to_string(),
                }),
            }
        }
        .boxed()
    }
}

/// Randomness and time of the story.
struct SimEntropy {
    clock: SimClock,
    rng: Mutex<StdRng>,
}

impl Entropy for SimEntropy {
    fn random(&self) -> u64 {
        self.rng.lock().next_u64()
    }

    fn wall_ms(&self) -> u64 {
        self.clock.wall_ms()
    }
}
