//! Three nodes in one process, and what is proposed to them.

use std::collections::BTreeMap;
use std::time::Duration;

use meshkit_raft::testing::{self, Disks, Network};
use meshkit_raft::{Config, Consistency, Error, Handle};
use statemachine::{
    ClusterId, Command, Conditions, InitMesh, MeshId, NodeId, Origin, PeerId, RegisterPeer, Request, TimelineId,
    record::{Attributes, Overrides, PeerSpec},
};
use tokio::time::Instant;

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub fn request(command: Command) -> Request {
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

pub fn init() -> Request {
    let command = InitMesh {
        mesh: MeshId::new("m1").unwrap(),
        cluster: ClusterId::new("c1").unwrap(),
        timeline: TimelineId(7),
        settings: Overrides::new(),
        feature_level: statemachine::FEATURE_LEVEL,
    };
    request(command.into())
}

pub fn peer(n: usize) -> PeerId {
    PeerId::new(&format!("p{n}")).unwrap()
}

pub fn register(n: usize) -> Request {
    let spec = PeerSpec {
        cluster: ClusterId::new("c1").unwrap(),
        role: "worker".into(),
        region: "eu".into(),
        zone: "a".into(),
        endpoints: vec!["127.0.0.1:9000".into()],
        labels: Attributes::new(),
        metadata: Attributes::new(),
        weight: 100,
    };
    request(RegisterPeer { id: peer(n), spec }.into())
}

pub struct World {
    pub network: Network,
    pub config: Config,
    pub disks: Vec<Disks>,
    pub nodes: BTreeMap<u64, Handle>,
}

impl World {
    /// `n` voters, one of which leads; the mesh is initialized.
    pub async fn start(n: u64, config: Config) -> Self {
        let disks: Vec<Disks> = (0..n).map(|_| Disks::default()).collect();
        let mut world = Self {
            network: Network::default(),
            config,
            disks,
            nodes: BTreeMap::new(),
        };
        for node in 1..=n {
            world.boot(node).await;
        }
        let members = (1..=n).map(|node| (NodeId(node), testing::endpoint(node))).collect();
        world.nodes[&1].initialize(members, soon()).await.unwrap();
        world.propose(init()).await;
        world
    }

    pub async fn boot(&mut self, node: u64) {
        let engines = self.disks[node as usize - 1].open();
        let handle = testing::start_node(&self.network, node, engines, self.config.clone())
            .await
            .unwrap();
        self.nodes.insert(node, handle);
    }

    /// Adds an empty node that is no member yet.
    pub async fn boot_new(&mut self) -> u64 {
        self.disks.push(Disks::default());
        let node = self.disks.len() as u64;
        self.boot(node).await;
        node
    }

    pub async fn stop(&mut self, node: u64) {
        let handle = self.nodes.remove(&node).unwrap();
        handle.shutdown(Duration::from_secs(10)).await.unwrap();
    }

    pub async fn leader(&self) -> Handle {
        loop {
            for handle in self.nodes.values() {
                let status = handle.status();
                if status.is_leader() && status.quorum.ok {
                    return handle.clone();
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn followers(&self, leader: &Handle) -> Vec<Handle> {
        self.nodes
            .values()
            .filter(|h| h.node() != leader.node())
            .cloned()
            .collect()
    }

    /// Proposes to whoever leads, until it is committed.
    pub async fn propose(&self, request: Request) -> u64 {
        let deadline = soon();
        loop {
            match self.leader().await.propose(request.clone(), deadline).await {
                Ok(committed) => return committed.unit().unwrap().unit.position.revision.0,
                Err(Error::NotLeader { .. } | Error::Unavailable { .. }) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Every node has applied what the leader has, and they agree.
    pub async fn agree(&self) {
        let leader = self.leader().await;
        let want = leader.read(Consistency::Linearizable, soon()).await.unwrap();
        for node in self.nodes.values() {
            let view = node.read(Consistency::Linearizable, soon()).await.unwrap();
            assert!(view.applied_index() >= want.applied_index());
            assert_eq!(view.state().mesh.digest(), want.state().mesh.digest());
            assert_eq!(view.state().mesh.chain(), want.state().mesh.chain());
        }
    }
}
