//! How long a node takes to be back, and what it needs: restart, replay of the log, rebuilding by snapshot, memory.
//!
//! A mesh is filled, its memory is measured beside that of etcd, then a follower is made to come back. What is measured
//! is wall time from starting the process until the node has a vote and shows every revision that the others had when
//! it was killed. Each part can be measured alone.

mod fill;
mod report;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use node_harness::Options;
use tokio::runtime::Runtime;

pub use self::report::{Memory, Rebuilt, Report};
use crate::{Error, Result, load::Background, mesh::Mesh, usage::Usage};

/// How long a node may take to be back before the measurement is given up.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// How often a node that is to come back is asked how far it is.
const ASKED_EVERY: Duration = Duration::from_millis(20);
/// How long it is waited for an answer: after that the client would be in a long pause between two attempts.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);
/// How long nothing is done before memory is measured at rest.
const REST: Duration = Duration::from_secs(30);
/// Clients that write while a node is rebuilt, and how long their rate is measured before.
const WRITERS: usize = 64;
const BEFORE: Duration = Duration::from_secs(5);
/// Their rate meanwhile is taken over at least as long.
const MEANWHILE_MIN: Duration = Duration::from_secs(2);

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Memory of the nodes, beside etcd's.
    Memory,
    /// Restart of a node whose state is flushed.
    Restart,
    /// Restart of a node that has to apply its whole log again: on a mesh of its own, which flushes nothing.
    Replay,
    /// A wiped node that is filled by snapshot while writes go on.
    Rebuild,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Restart, Self::Replay, Self::Rebuild];
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Restart => "restart",
            Self::Replay => "replay",
            Self::Rebuild => "rebuild",
        })
    }
}

/// What to fill the mesh with.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Peers.
    pub peers: usize,
    /// Entries of the log and of the audit trail, registrations included.
    pub entries: usize,
    /// Whether etcd is filled with as many keys, for its memory.
    pub etcd: bool,
}

/// Measures `parts`, with these variables in the nodes' environment.
///
/// # Errors
/// Where the mesh cannot be started or filled, or a node does not come back.
pub fn run(
    plan: Plan,
    parts: &[Part],
    environment: &[(String, String)],
    mut progress: impl FnMut(String),
) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let mut report = Report::of(plan);
    if parts.contains(&Part::Replay) {
        progress("filling a mesh that flushes nothing".to_owned());
        report.replay = Some(replay(&runtime, plan, environment)?);
    }
    if parts.iter().all(|part| *part == Part::Replay) {
        return Ok(report);
    }
    progress("filling a mesh".to_owned());
    let mut mesh = Mesh::start_with(Options {
        environment: environment.to_vec(),
        ..Options::default()
    })?;
    let began = Instant::now();
    runtime.block_on(fill::mesh(&mesh, plan))?;
    report.filled = Some(began.elapsed());
    if parts.contains(&Part::Memory) {
        report.mesh = Some(memory(&mesh.pids(), &mut progress)?);
        if plan.etcd {
            progress("filling etcd".to_owned());
            let etcd = runtime.block_on(fill::etcd(&mesh, plan))?;
            report.etcd = Some(memory(&etcd.pids(), &mut progress)?);
        }
    }
    let follower = runtime.block_on(follower(&mesh))?;
    if parts.contains(&Part::Restart) {
        progress(format!("restarting node {follower}"));
        report.restart = Some(come_back(&runtime, &mut mesh, follower, false)?);
    }
    if parts.contains(&Part::Rebuild) {
        progress(format!("rebuilding node {follower} under load"));
        report.rebuilt = Some(rebuild(&runtime, &mut mesh, follower, plan)?);
    }
    Ok(report)
}

fn memory(pids: &[u32], progress: &mut impl FnMut(String)) -> Result<Memory> {
    let loaded = Usage::of(pids)?.rss_bytes;
    progress(format!("{} MiB now; resting for {} s", loaded >> 20, REST.as_secs()));
    std::thread::sleep(REST);
    let rested = Usage::of(pids)?.rss_bytes;
    Ok(Memory { loaded, rested })
}

/// A node whose state store never flushed has to apply its whole log again.
fn replay(runtime: &Runtime, plan: Plan, environment: &[(String, String)]) -> Result<Duration> {
    let never = [
        ("MESHKIT_STORAGE__STATE_FLUSH_BYTES", "4294967296"),
        ("MESHKIT_STORAGE__STATE_FLUSH_INTERVAL_MS", "3600000"),
        // The engine writes out what is larger on its own.
        ("MESHKIT_STORAGE__MEMTABLE_BYTES", "4294967296"),
        ("MESHKIT_RAFT__SNAPSHOT_ENTRIES", "100000000"),
    ];
    let never = never.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut mesh = Mesh::start_with(Options {
        environment: environment.iter().cloned().chain(never).collect(),
        ..Options::default()
    })?;
    runtime.block_on(fill::mesh(&mesh, plan))?;
    let follower = runtime.block_on(follower(&mesh))?;
    come_back(runtime, &mut mesh, follower, false)
}

/// Kills a node, starts it again, and waits until it has caught up with what there was before.
fn come_back(runtime: &Runtime, mesh: &mut Mesh, node: u64, wipe: bool) -> Result<Duration> {
    let data = PathBuf::from(&mesh.processes().node(node)?.data);
    let leader = runtime.block_on(mesh.leader())?.1;
    let there = runtime.block_on(mesh.revision(&leader, Duration::from_secs(5)))?;
    mesh.processes_mut().kill(node)?;
    if wipe {
        fs::remove_dir_all(&data).map_err(|error| Error::File { path: data, error })?;
    }
    let began = Instant::now();
    mesh.processes_mut().restart(node)?;
    let own = mesh.endpoint(node)?;
    // It does not answer at once: no answer is no error. Asking must cost next to nothing, since writes are counted meanwhile.
    while runtime.block_on(mesh.revision(&own, ANSWER_WITHIN)).ok().flatten() < there {
        if began.elapsed() > BACK_WITHIN {
            return Err(Error::Late {
                what: format!("node {node} to catch up"),
                seconds: BACK_WITHIN.as_secs(),
            });
        }
        std::thread::sleep(ASKED_EVERY);
    }
    Ok(began.elapsed())
}

/// Writes per second before and while a wiped node is rebuilt, and how long that takes.
fn rebuild(runtime: &Runtime, mesh: &mut Mesh, node: u64, plan: Plan) -> Result<Rebuilt> {
    let target = mesh.target()?;
    let leader = runtime.block_on(mesh.leader())?;
    let writers = runtime.block_on(Background::start(&target, &leader, WRITERS, plan.peers))?;
    std::thread::sleep(Duration::from_secs(1));
    let rate = |from: (u64, Instant), to: (u64, Instant)| {
        let answered = u32::try_from(to.0 - from.0).unwrap_or(u32::MAX);
        f64::from(answered) / to.1.duration_since(from.1).as_secs_f64().max(1e-3)
    };
    let now = || (writers.answered(), Instant::now());
    let first = now();
    std::thread::sleep(BEFORE);
    let second = now();
    let took = come_back(runtime, mesh, node, true)?;
    std::thread::sleep(MEANWHILE_MIN.saturating_sub(second.1.elapsed()));
    let third = now();
    let errors = runtime.block_on(writers.stop());
    Ok(Rebuilt {
        took,
        before: rate(first, second),
        meanwhile: rate(second, third),
        errors,
    })
}

async fn follower(mesh: &Mesh) -> Result<u64> {
    let (_, leader) = mesh.leader().await?;
    let leader = leader.to_string();
    let mut nodes = mesh
        .processes()
        .info()
        .clusters
        .iter()
        .flat_map(|cluster| &cluster.nodes);
    let found = nodes.find(|node| node.api.trim_end_matches('/') != leader.trim_end_matches('/'));
    found
        .map(|node| node.id)
        .ok_or_else(|| Error::Worthless("there is no follower".to_owned()))
}
