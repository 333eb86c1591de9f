//! A mesh in memory, for tests of what loops find to do in it.

use statemachine::{
    Answer, ClusterId, Command, Conditions, CreateNamespace, Entry, FEATURE_LEVEL, InitMesh, MeshId, MeshState,
    NamespaceId, Origin, Outcome, PeerId, Proposal, RegisterPeer, Stamp, State, TimelineId, apply,
    record::{Attributes, NamespacePolicy, NamespaceSpec, PeerSpec, Settings, StrategyKind},
};

/// When the mesh began.
const START_MS: u64 = 1_700_000_000_000;

/// A mesh without nodes.
pub(crate) struct World(State);

/// The peer of a number.
pub(crate) fn peer(n: u8) -> PeerId {
    PeerId::new(&format!("p{n}")).expect("an id")
}

/// The namespace of a number.
pub(crate) fn namespace(n: u8) -> NamespaceId {
    NamespaceId::new(&format!("n{n}")).expect("an id")
}

/// What is said of a namespace.
pub(crate) fn spec(shards: u32, replicas: u32) -> NamespaceSpec {
    NamespaceSpec {
        strategy: StrategyKind::Rendezvous,
        region: String::new(),
        peers: String::new(),
        shards,
        replicas,
        policy: NamespacePolicy::default(),
    }
}

impl World {
    /// With so many peers.
    pub fn of(peers: u8) -> Self {
        let mut world = Self(State::default());
        let init = InitMesh {
            mesh: MeshId::new("m1").expect("an id"),
            cluster: ClusterId::new("c1").expect("an id"),
            timeline: TimelineId(7),
            settings: Settings::default().overrides(),
            feature_level: FEATURE_LEVEL,
        };
        assert!(world.run(init.into()));
        for n in 0..peers {
            world.register(n);
        }
        world
    }

    /// The mesh as it is.
    pub fn mesh(&self) -> &MeshState {
        &self.0.mesh
    }

    /// Whether a command is applied.
    pub fn run(&mut self, command: Command) -> bool {
        let stamp = Stamp {
            mesh_time_ms: START_MS,
            wall_ms: START_MS,
        };
        let proposal = Proposal {
            stamp,
            origin: Origin::default(),
            conditions: Conditions::default(),
            command,
        };
        match apply(&mut self.0, &Entry::Command(Box::new(proposal))).answer {
            Answer::Recorded(recorded) => matches!(recorded.unit.outcome, Outcome::Applied { .. }),
            _ => false,
        }
    }

    /// One peer more.
    pub fn register(&mut self, n: u8) {
        let spec = PeerSpec {
            cluster: ClusterId::new("c1").expect("an id"),
            role: String::new(),
            region: String::new(),
            zone: String::new(),
            endpoints: vec!["127.0.0.1:9000".to_owned()],
            labels: Attributes::new(),
            metadata: Attributes::new(),
            weight: 100,
        };
        assert!(self.run(RegisterPeer { id: peer(n), spec }.into()));
    }

    /// Begins to make a namespace.
    pub fn create(&mut self, n: u8, shards: u32, replicas: u32) {
        let (id, spec) = (namespace(n), spec(shards, replicas));
        let create = CreateNamespace { id, spec }.command().expect("of this level");
        assert!(self.run(create));
    }
}
