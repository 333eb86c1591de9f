//! A mesh in memory with its rows, and commands for it.

use std::collections::BTreeMap;

use meshkit_statemachine::{
    self as sm, Answer, ClusterId, Command, Conditions, Entry, Hash, Idempotency, InitMesh, LoadError, Loader, MeshId,
    NodeId, Origin, Outcome, PeerId, Proposal, Recorded, RegisterPeer, Rejection, Stamp, State, TimelineId,
    record::{PeerSpec, Settings},
    rows::Table,
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
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        metadata: BTreeMap::new(),
        weight: 100,
    };
    RegisterPeer { id: peer_id(n), spec }.into()
}

pub fn init() -> Command {
    init_with(Settings::default())
}

fn init_with(settings: Settings) -> Command {
    InitMesh {
        mesh: MeshId::new("m1").unwrap(),
        cluster: ClusterId::new("c1").unwrap(),
        timeline: TimelineId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        settings: settings.overrides(),
    }
    .into()
}

impl World {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let mut world = Self {
            now_ms: START_MS,
            ..Self::default()
        };
        world.run(init_with(settings)).unwrap();
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
            Outcome::Replayed { .. } => panic!("replayed"),
        }
    }

    /// What a node has after a restart.
    pub fn reload(&self) -> State {
        self.try_reload().unwrap()
    }

    pub fn try_reload(&self) -> Result<State, LoadError> {
        let mut loader = Loader::new();
        for (table, rows) in &self.rows {
            for (key, value) in rows {
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
