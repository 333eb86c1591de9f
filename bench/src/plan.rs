//! What the pure parts take with a large shard map: they are timed alone, in this process, with nothing beside them.
//!
//! Applying an entry holds up every other one, on every node; planning holds up only the leader's own work.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use statemachine::{
    self as sm, Answer, ClusterId, Command, Conditions, CreateNamespace, DrainPeer, Entry, InitMesh, MeshId,
    NamespaceId, NodeId, Origin, Outcome, PeerId, Placement, Proposal, RegisterPeer, ShapeNamespace, Stamp, State,
    TimelineId,
    plan::{
        avoid::Avoid,
        reconcile,
        shards::{Members, Purpose, layout},
    },
    record::{Attributes, NamespacePolicy, NamespaceSpec, Overrides, PeerSpec, StrategyKind},
};

use crate::{Error, Result};

/// How large the map is.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Peers that own the shards.
    pub peers: usize,
    /// Namespaces.
    pub namespaces: usize,
    /// Shards of each.
    pub shards: u32,
}

/// The most of one command, as the controllers have it.
const BATCH: usize = 200;
/// How often a round is made.
const ROUNDS: usize = 10;
/// Where mesh time begins.
const START_MS: u64 = 1_700_000_000_000;

/// Runs it; answers a table.
///
/// # Errors
/// The state refuses what it should take.
pub fn run(plan: Plan, say: impl Fn(&str)) -> Result<String> {
    let mut world = World::default();
    world.run(init()?)?;
    say(&format!("{} peers", plan.peers));
    for number in 0..plan.peers {
        world.run(register(number)?)?;
    }
    say(&format!("{} namespaces of {} shards", plan.namespaces, plan.shards));
    let (mut laid, mut shaped) = (Vec::new(), Vec::new());
    for number in 0..plan.namespaces {
        make(&mut world, plan, number, &mut laid, &mut shaped)?;
    }
    say("one peer is drained");
    world.run(DrainPeer { id: peer(0)? }.into())?;
    let (mut rounds, mut begun) = (Vec::new(), Vec::new());
    let mut moves = 0;
    for _ in 0..ROUNDS {
        let round = timed(&mut rounds, || {
            reconcile::round(&world.state.mesh, START_MS, &Avoid::default())
        });
        let begin = round.moves(&world.state.mesh, BATCH);
        if begin.is_empty() {
            continue;
        }
        moves = begin.iter().map(|begin| begin.moves.len()).sum::<usize>();
        let mut took = Duration::ZERO;
        for begin in begin {
            took += world.run(begin.command().map_err(rejected)?)?;
        }
        begun.push(took);
    }
    Ok(table(
        plan,
        &[
            ("laying out a namespace".to_owned(), laid),
            (format!("applying {BATCH} shards of a new namespace"), shaped),
            ("a round, one peer drained".to_owned(), rounds),
            (format!("applying the {moves} moves that it begins"), begun),
        ],
    ))
}

/// Makes a namespace as the controllers do.
fn make(
    world: &mut World,
    plan: Plan,
    number: usize,
    laid: &mut Vec<Duration>,
    shaped: &mut Vec<Duration>,
) -> Result<()> {
    let id = NamespaceId::new(&format!("space-{number:03}")).map_err(refused)?;
    let spec = NamespaceSpec {
        strategy: StrategyKind::Rendezvous,
        region: String::new(),
        peers: String::new(),
        shards: plan.shards,
        replicas: 0,
        policy: NamespacePolicy::default(),
    };
    let create = CreateNamespace { id: id.clone(), spec };
    world.run(create.command().map_err(rejected)?)?;
    let mesh = &world.state.mesh;
    let made = mesh.namespace(&id).ok_or_else(|| refused("no namespace was made"))?;
    let operation = made
        .operation
        .clone()
        .ok_or_else(|| refused("nothing makes the namespace"))?;
    let layout = timed(laid, || {
        let members = Members::of(&made.spec, mesh.peers_after(None).map(|peer| &**peer));
        layout(mesh, &id, &made.spec, members, Purpose::Balance)
    });
    let shards: Vec<usize> = (0..plan.shards as usize).collect();
    for batch in shards.chunks(BATCH) {
        let place = |shard: &usize| Placement {
            owner: layout.owner(*shard).cloned(),
            replicas: layout.replicas(*shard).cloned().collect(),
        };
        let shape = ShapeNamespace {
            operation: operation.clone(),
            done: batch.first().map_or(0, |first| *first as u32),
            placements: batch.iter().map(place).collect(),
        };
        let took = world.run(shape.command().map_err(rejected)?)?;
        if batch.len() == BATCH {
            shaped.push(took);
        }
    }
    Ok(())
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    times.push(start.elapsed());
    done
}

/// A state and nothing else.
#[derive(Default)]
struct World {
    state: State,
}

impl World {
    /// How long applying a command took.
    fn run(&mut self, command: Command) -> Result<Duration> {
        let proposal = Proposal {
            stamp: Stamp {
                mesh_time_ms: START_MS,
                wall_ms: START_MS,
            },
            origin: Origin {
                actor: "bench".into(),
                node: NodeId(1),
                ..Origin::default()
            },
            conditions: Conditions::default(),
            command,
        };
        let entry = Entry::Command(Box::new(proposal));
        let start = Instant::now();
        let applied = sm::apply(&mut self.state, &entry);
        let took = start.elapsed();
        match applied.answer {
            Answer::Recorded(recorded) if matches!(recorded.unit.outcome, Outcome::Applied { .. }) => Ok(took),
            other => Err(refused(format!("{other:?}"))),
        }
    }
}

fn rejected(rejection: sm::Rejection) -> Error {
    refused(rejection.detail())
}

fn refused(why: impl ToString) -> Error {
    Error::Worthless(format!("the state refused: {}", why.to_string()))
}

fn init() -> Result<Command> {
    let init = InitMesh {
        mesh: MeshId::new("bench").map_err(refused)?,
        cluster: ClusterId::new("c1").map_err(refused)?,
        timeline: TimelineId(1),
        settings: Overrides::new(),
        feature_level: sm::FEATURE_LEVEL,
    };
    Ok(init.into())
}

fn peer(number: usize) -> Result<PeerId> {
    PeerId::new(&format!("peer-{number:05}")).map_err(refused)
}

fn register(number: usize) -> Result<Command> {
    let spec = PeerSpec {
        cluster: ClusterId::new("c1").map_err(refused)?,
        role: "worker".into(),
        region: "eu".into(),
        zone: format!("zone-{}", number % 3),
        endpoints: vec!["127.0.0.1:9000".into()],
        labels: Attributes::new(),
        metadata: Attributes::new(),
        weight: 100,
    };
    Ok(RegisterPeer {
        id: peer(number)?,
        spec,
    }
    .into())
}

fn table(plan: Plan, rows: &[(String, Vec<Duration>)]) -> String {
    let mut text = format!(
        "{} shards in {} namespaces on {} peers; the pure parts alone.\n\n| | times | median ms | longest ms |\n|---|---|---|---|\n",
        plan.namespaces * plan.shards as usize,
        plan.namespaces,
        plan.peers
    );
    for (what, times) in rows {
        let mut sorted = times.clone();
        sorted.sort_unstable();
        let ms = |time: Option<&Duration>| time.copied().unwrap_or_default().as_secs_f64() * 1e3;
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "| {what} | {} | {:.2} | {:.2} |",
            sorted.len(),
            ms(sorted.get(sorted.len() / 2)),
            ms(sorted.last())
        );
    }
    text
}
