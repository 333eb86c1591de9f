//! A mesh in memory with its rows, and commands for it.

use std::collections::BTreeMap;

use meshkit_statemachine::{
    self as sm, Answer, CheckpointAudit, ClusterId, Command, Conditions, Entry, FEATURE_LEVEL, Hash, Idempotency,
    InitMesh, LoadError, Loader, MeshId, NodeId, Origin, Outcome, PeerId, Proposal, Recorded, RegisterPeer, Rejection,
    Revision, Stamp, State, TimelineId,
    record::{Attributes, PeerSpec, Settings},
    rows::{Table, history_key},
};
use std::sync::Arc;

pub const START_MS: u64 = 1_700_000_000_000;

/// A state with the rows that a store would hold.
#[derive(Clone, Default)]
pub struct World {
    pub state: State,
    pub rows: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
    pub now_ms: u64,
}

pub fn peer_id(n: u8) -> PeerId {
    PeerId::new(&format!("p{n}")).unwrap()
}

pub fn register(n: u8) -> Command {
    let spec = PeerSpec {
        cluster: ClusterId::new("c1").unwrap(),
        role: "worker".into(),
        region: "eu".into(),
        zone: "a".into(),
        endpoints: vec!["127.0.0.1:9000".into()],
        labels: Attributes::from([("zone".into(), "a".into())]),
        metadata: Attributes::new(),
        weight: 100,
    };
    RegisterPeer { id: peer_id(n), spec }.into()
}

pub fn init() -> Command {
    init_with(Settings::default(), FEATURE_LEVEL)
}

fn init_with(settings: Settings, feature_level: u32) -> Command {
    InitMesh {
        mesh: MeshId::new("m1").unwrap(),
        cluster: ClusterId::new("c1").unwrap(),
        timeline: TimelineId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        settings: settings.overrides(),
        feature_level,
    }
    .into()
}

impl World {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        Self::begin(init_with(settings, FEATURE_LEVEL))
    }

    /// A mesh that was begun by a program of this level.
    pub fn at_level(level: u32) -> Self {
        Self::begin(init_with(Settings::default(), level))
    }

    fn begin(init: Command) -> Self {
        let mut world = Self {
            now_ms: START_MS,
            ..Self::default()
        };
        world.run(init).unwrap();
        world
    }

    pub fn proposal(&self, command: Command) -> Proposal {
        Proposal {
            stamp: Stamp {
                mesh_time_ms: self.now_ms,
                wall_ms: self.now_ms,
            },
            origin: Origin {
                actor: "alice".into(),
                node: NodeId(1),
                transport: "h2".into(),
                ..Origin::default()
            },
            conditions: Conditions::default(),
            command,
        }
    }

    pub fn apply(&mut self, entry: &Entry) -> Answer {
        let applied = sm::apply(&mut self.state, entry);
        for row in applied.rows {
            let table = self.rows.entry(row.table).or_default();
            match row.value {
                Some(value) => table.insert(row.key, value),
                None => table.remove(&row.key),
            };
        }
        applied.answer
    }

    pub fn propose(&mut self, proposal: Proposal) -> Arc<Recorded> {
        match self.apply(&Entry::Command(Box::new(proposal))) {
            Answer::Recorded(recorded) => recorded,
            answer => panic!("{answer:?}"),
        }
    }

    pub fn run(&mut self, command: Command) -> Result<Arc<Recorded>, Rejection> {
        let recorded = self.propose(self.proposal(command));
        match &recorded.unit.outcome {
            Outcome::Applied { .. } => Ok(recorded),
            Outcome::Rejected(rejection) => Err(rejection.clone()),
            other @ (Outcome::Replayed { .. } | Outcome::Staged { .. }) => panic!("{other:?}"),
        }
    }

    /// All of one revision.
    pub fn unit(&self, revision: Revision) -> Option<Recorded> {
        let row = self.rows.get(&Table::History)?.get(&history_key(revision)[..])?;
        Some(Recorded::decode(row).unwrap())
    }

    /// The command that signs the chain at a revision.
    pub fn checkpoint(&self, revision: Revision) -> Command {
        CheckpointAudit {
            revision,
            hash: self.unit(revision).unwrap().chain,
            node: NodeId(1),
            certificate: vec![1],
            signature: vec![2],
        }
        .into()
    }

    /// What a node has after a restart, which has let go of all history below the floor.
    pub fn reload(&self) -> State {
        self.try_reload().unwrap()
    }

    pub fn try_reload(&self) -> Result<State, LoadError> {
        let mut loader = Loader::new();
        let floor = history_key(self.state.mesh.floor());
        for (table, rows) in &self.rows {
            let kept = |key: &[u8]| *table != Table::History || *key >= floor[..];
            for (key, value) in rows.iter().filter(|(key, _)| kept(key)) {
                loader.row(*table, key, value)?;
            }
        }
        loader.finish(Some(&self.state.head_row()))
    }
}

pub fn key(text: &str, request: u8) -> Option<Idempotency> {
    Some(Idempotency {
        key: text.into(),
        request: Hash([request; 32]),
    })
}
