//! The node-to-node port as another node, or somebody who is none, meets it: messages by hand.

mod senders;
mod snapshots;
mod votes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use statemachine::{
    ClusterId, Command, Conditions, InitMesh, MeshId, NodeId, Origin, PeerId, RegisterPeer, Request, TimelineId,
    record::{Attributes, PeerSpec},
};
use tokio::time::Instant;

use crate::net::NetError;
use crate::net::life::Lives;
use crate::net::link::{Dialer, Link};
use crate::net::message::{Lane, Message};
use crate::net::pool::RefusedBy;
use crate::testing::{Disks, Network, SystemClock, endpoint, identity, start_node};
use crate::types::{LogIdRow, VoteRow};
use crate::{Config, Endpoint, Error, Handle};

/// For whatever takes an election and a slow machine.
const SOON: Duration = Duration::from_secs(20);

fn soon() -> Instant {
    Instant::now() + SOON
}

fn request(command: Command) -> Request {
    let origin = Origin {
        actor: "alice".into(),
        node: NodeId(1),
        ..Origin::default()
    };
    Request {
        origin,
        conditions: Conditions::default(),
        command,
    }
}

fn cluster() -> ClusterId {
    ClusterId::new("c1").unwrap()
}

fn register(n: usize) -> Request {
    let spec = PeerSpec {
        cluster: cluster(),
        role: "worker".into(),
        region: "eu".into(),
        zone: "a".into(),
        endpoints: vec!["127.0.0.1:9000".into()],
        labels: Attributes::new(),
        metadata: Attributes::new(),
        weight: 100,
    };
    let id = PeerId::new(&format!("p{n}")).unwrap();
    request(RegisterPeer { id, spec }.into())
}

/// Nodes in this process.
struct World {
    network: Network,
    config: Config,
    disks: BTreeMap<u64, Disks>,
    nodes: BTreeMap<u64, Handle>,
}

impl World {
    /// `n` voters, one of which leads; the mesh is initialized.
    async fn start(n: u64, config: Config) -> Self {
        let mut world = Self {
            network: Network::default(),
            config,
            disks: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        for node in 1..=n {
            world.boot(node).await;
        }
        let members = (1..=n).map(|node| (NodeId(node), endpoint(node))).collect();
        world.nodes[&1].initialize(members, soon()).await.unwrap();
        let init = InitMesh {
            mesh: MeshId::new("m1").unwrap(),
            cluster: cluster(),
            timeline: TimelineId(7),
            settings: BTreeMap::new(),
            feature_level: statemachine::FEATURE_LEVEL,
        };
        world.propose(request(init.into())).await;
        world
    }

    /// Starts a node, on the disks it has.
    async fn boot(&mut self, node: u64) {
        let engines = self.disks.entry(node).or_default().open();
        let handle = start_node(&self.network, node, engines, self.config.clone()).await;
        self.nodes.insert(node, handle.unwrap());
    }

    async fn stop(&mut self, node: u64) {
        let handle = self.nodes.remove(&node).unwrap();
        handle.shutdown(Duration::from_secs(10)).await.unwrap();
    }

    async fn leader(&self) -> Handle {
        let deadline = soon();
        loop {
            let leads = |handle: &&Handle| handle.status().is_leader() && handle.status().quorum.ok;
            if let Some(leader) = self.nodes.values().find(leads) {
                return leader.clone();
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The others, by number.
    fn besides(&self, leader: &Handle) -> Vec<u64> {
        let all = self.nodes.keys().copied();
        all.filter(|node| *node != leader.node().0).collect()
    }

    async fn propose(&self, request: Request) {
        let deadline = soon();
        loop {
            match self.leader().await.propose(request.clone(), deadline).await {
                Ok(_) => return,
                Err(Error::NotLeader { .. } | Error::Unavailable { .. }) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Messages from node `from`, with its certificate, to node `to` where it listens.
    fn speak(&self, from: u64, to: u64, lane: Lane) -> Line {
        Line::new(&self.network, from, to, &endpoint(to), lane)
    }
}

/// A connection of one node to another, beside those that the nodes themselves keep.
struct Line(Link);

impl Line {
    fn new(network: &Network, from: u64, to: u64, at: &Endpoint, lane: Lane) -> Self {
        let own = identity(from);
        let dialer = Dialer {
            dial: network.dialer(Some(&own.uri_of(own.node))),
            own,
            clock: Arc::new(SystemClock::default()),
            limits: crate::net::Limits::default(),
            refused_by: RefusedBy::new(),
            lives: Lives {
                own: Default::default(),
                known: None,
            },
        };
        Self(Link::new(Arc::new(dialer), to, at.clone(), lane))
    }

    async fn ask(&self, message: Message, parts: Vec<Bytes>) -> Result<Message, NetError> {
        let conn = self.0.conn(soon()).await?;
        conn.request(message, parts, soon()).await
    }

    /// Whether it gets a vote, or a promise of one.
    async fn gets_vote(&self, pre: bool, vote: VoteRow, last: Option<LogIdRow>) -> bool {
        let transfer = false;
        let ask = Message::Vote {
            pre,
            vote,
            last,
            transfer,
        };
        match self.ask(ask, Vec::new()).await.unwrap() {
            Message::Voted { granted, .. } => granted,
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until something is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = soon();
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
