//! The mesh as it comes: three nodes, TLS, authentication, audit, history, idempotency and fsync all on.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use api_client::{
    CallOptions, Client, Consistency, Context, Endpoint, TlsConnect,
    context::{Environment, Flags},
    methods::GetStatus,
};
use futures::{StreamExt as _, TryStreamExt as _};
use proto::v1::{GetPeerRequest, GetStatusRequest, PatchConfigRequest, PatchPeerRequest, Peer, RegisterPeerRequest};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
};

use crate::{Error, Result, link::Link, load::Target};

/// The label that is patched.
const LABEL: &str = "payload";

/// Registrations under way at once.
const REGISTER_WIDTH: usize = 128;

const LEADER_WITHIN: Duration = Duration::from_secs(30);

/// The running nodes. Dropping it kills them.
pub struct Mesh {
    processes: node_harness::Mesh,
    client: Client,
    tls: Arc<TlsConnect>,
}

impl Mesh {
    /// Starts three nodes in real processes.
    ///
    /// # Errors
    /// Where they do not become ready.
    pub fn start() -> Result<Self> {
        Self::start_with(node_harness::Options::default())
    }

    /// The same with settings of the nodes.
    ///
    /// # Errors
    /// Where they do not become ready.
    pub fn start_with(options: node_harness::Options) -> Result<Self> {
        let processes = node_harness::Mesh::start(options)?;
        let call = |doing: &str| {
            let doing = doing.to_owned();
            move |error| Error::Call { doing, error }
        };
        let flags = Flags {
            context: Some(processes.context("admin")),
            ..Flags::default()
        };
        let environment: Environment = std::iter::empty().collect();
        let context = Context::load(&flags, &environment).map_err(call("reading the context"))?;
        let ca = context.read_ca().map_err(call("reading the CA"))?;
        let tls = TlsConnect::new(ca.as_deref(), None).map_err(call("TLS"))?;
        let client = Client::new(&context).map_err(call("making a client"))?;
        Ok(Self {
            processes,
            client,
            tls: Arc::new(tls),
        })
    }

    /// The processes.
    pub fn processes(&self) -> &node_harness::Mesh {
        &self.processes
    }

    /// The processes, to be killed and started again.
    pub fn processes_mut(&mut self) -> &mut node_harness::Mesh {
        &mut self.processes
    }

    /// Makes room for so many peers.
    ///
    /// # Errors
    /// Where that is refused.
    pub async fn limit_peers(&self, peers: usize) -> Result<()> {
        let value = prost_types::Value {
            kind: Some(prost_types::value::Kind::StringValue(peers.max(10_000).to_string())),
        };
        let request = PatchConfigRequest {
            settings: BTreeMap::from([("limits.peers".to_owned(), value)])
                .into_iter()
                .collect(),
            ..Default::default()
        };
        let patched = self.client.patch_config(request).await;
        patched.map(drop).map_err(|error| Error::Call {
            doing: "making room for the peers".to_owned(),
            error,
        })
    }

    /// The nodes' process ids.
    pub fn pids(&self) -> Vec<u32> {
        let nodes = self.processes.info().clusters.iter().flat_map(|cluster| &cluster.nodes);
        nodes.map(|node| node.pid).collect()
    }

    /// Registers the peers whose labels are patched.
    ///
    /// # Errors
    /// Where one is refused.
    pub async fn register(&self, peers: usize) -> Result<()> {
        let register = |key: usize| async move {
            let request = RegisterPeerRequest {
                id: id(key),
                endpoints: vec!["127.0.0.1:1".into()],
                ..Default::default()
            };
            let registered = self.client.register_peer(request).await;
            registered.map_err(|error| Error::Call {
                doing: format!("registering {}", id(key)),
                error,
            })
        };
        futures::stream::iter((0..peers).map(register))
            .buffer_unordered(REGISTER_WIDTH)
            .try_for_each(|_| async { Ok(()) })
            .await
    }

    /// The endpoint of the node that leads, and what is needed to connect.
    ///
    /// # Errors
    /// Where there is none within 30 s.
    pub async fn leader(&self) -> Result<(Arc<TlsConnect>, Endpoint)> {
        let start = Instant::now();
        while start.elapsed() < LEADER_WITHIN {
            for node in self.client.endpoints() {
                let options = CallOptions {
                    only: Some(node.clone()),
                    timeout: Some(Duration::from_secs(1)),
                    consistency: Some(Consistency::Local),
                    ..Default::default()
                };
                let answer = self.client.call::<GetStatus>(GetStatusRequest {}, options).await;
                let Some(status) = answer.ok().map(|answer| answer.message) else {
                    continue;
                };
                if status.quorum && status.leader.is_some_and(|leader| leader.id == status.answered_by) {
                    return Ok((Arc::clone(&self.tls), node.clone()));
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(Error::Late {
            what: "a node to lead".into(),
            seconds: LEADER_WITHIN.as_secs(),
        })
    }

    /// A node's own endpoint.
    ///
    /// # Errors
    /// Where there is no such node.
    pub fn endpoint(&self, node: u64) -> Result<Endpoint> {
        let api = &self.processes.node(node)?.api;
        api.parse()
            .map_err(|error| Error::Worthless(format!("the endpoint {api} of node {node} is none: {error}")))
    }

    /// The newest revision that a node shows of itself, once it has a vote.
    ///
    /// # Errors
    /// Where it does not answer in time.
    pub async fn revision(&self, node: &Endpoint, within: Duration) -> Result<Option<u64>> {
        let options = CallOptions {
            only: Some(node.clone()),
            timeout: Some(within),
            consistency: Some(Consistency::Local),
            ..Default::default()
        };
        let answer = self.client.call::<GetStatus>(GetStatusRequest {}, options).await;
        let answer = answer.map_err(|error| Error::Call {
            doing: "asking for the newest revision".to_owned(),
            error,
        })?;
        let status = answer.message;
        let voteless = status
            .warnings
            .iter()
            .any(|warning| warning.contains("has no vote yet"));
        Ok((!voteless).then_some(status.revision))
    }

    /// The load, as the mesh takes it, with an operator's token.
    ///
    /// # Errors
    /// Where the token cannot be sent.
    pub fn target(&self) -> Result<Patches> {
        self.with(&self.processes.info().tokens.operate)
    }

    /// The same with an admin's token.
    ///
    /// # Errors
    /// Where the token cannot be sent.
    pub fn admin(&self) -> Result<Patches> {
        self.with(&self.processes.info().tokens.admin)
    }

    fn with(&self, token: &str) -> Result<Patches> {
        let authorization = format!("Bearer {token}")
            .parse()
            .map_err(|_| Error::Worthless("the token cannot be sent".to_owned()))?;
        Ok(Patches { authorization })
    }

    /// The endpoint of a node other than this one.
    ///
    /// # Errors
    /// Where there is no other.
    pub fn other_than(&self, endpoint: &Endpoint) -> Result<Endpoint> {
        let other = self.client.endpoints().iter().find(|other| *other != endpoint);
        other
            .cloned()
            .ok_or_else(|| Error::Worthless("there is one node only".to_owned()))
    }
}

/// The load, as the mesh takes it: each write with a token and an idempotency key of its own, each read with a token.
#[derive(Debug, Clone)]
pub struct Patches {
    authorization: MetadataValue<Ascii>,
}

impl Patches {
    /// A message with the token.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.authorization.clone());
        request
    }
}

impl Target for Patches {
    async fn put(&self, link: &Link, key: usize, value: String) -> std::result::Result<(), Status> {
        let request = PatchPeerRequest {
            id: id(key),
            labels: BTreeMap::from([(LABEL.to_owned(), value)]).into_iter().collect(),
            idempotency_key: ulid(),
            ..Default::default()
        };
        let _: Peer = link
            .unary("/meshkit.v1.PeerService/PatchPeer", self.request(request))
            .await?;
        Ok(())
    }

    async fn get(&self, link: &Link, key: usize) -> std::result::Result<(), Status> {
        let peer: Peer = link
            .unary(
                "/meshkit.v1.PeerService/GetPeer",
                self.request(GetPeerRequest { id: id(key) }),
            )
            .await?;
        if peer.labels.contains_key(LABEL) {
            Ok(())
        } else {
            Err(Status::not_found("no value"))
        }
    }
}

pub(crate) fn id(key: usize) -> String {
    format!("bench-{key}")
}

/// A fresh idempotency key.
fn ulid() -> String {
    let wall_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    ulid::Ulid::from_parts(u64::try_from(wall_ms).unwrap_or(u64::MAX), rand::random()).to_string()
}
