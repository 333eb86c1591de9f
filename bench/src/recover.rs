//! How long a node takes to be back, and what it needs: restart, replay of the log, rebuilding by snapshot, memory.
//!
//! One mesh is filled, then one follower after the other is made to come back. What is measured is wall time from
//! starting the process until `/readyz` answers 200, or until a wiped node has every entry that the others have.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use node_harness::Options;
use tokio::runtime::Runtime;

use crate::{
    Error, Result, etcd,
    link::Link,
    load::{self, Kind, Target},
    mesh::Mesh,
    usage::Usage,
};

/// Writes under way at once while the mesh is filled, and the connections that they share.
const FILL_WIDTH: usize = 256;
const FILL_LINKS: usize = 16;
/// How long a node may take to be back before the measurement is given up.
const BACK_WITHIN: Duration = Duration::from_secs(120);

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

/// What came of it.
#[derive(Debug)]
pub struct Report {
    plan: Plan,
    rss_bytes: u64,
    etcd_rss_bytes: Option<u64>,
    restart: Duration,
    replay: Duration,
    rebuilt: Duration,
    writes_before: f64,
    writes_meanwhile: f64,
}

impl Report {
    /// As a table for people.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub fn markdown(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let etcd = self.etcd_rss_bytes.map_or_else(
            || "not measured".to_owned(),
            |bytes| {
                format!(
                    "{:.0} MiB, ratio {:.2}",
                    mib(bytes),
                    self.rss_bytes as f64 / bytes as f64
                )
            },
        );
        let Plan { peers, entries, .. } = self.plan;
        format!(
            "| {peers} peers, {entries} entries | |\n|---|---|\n\
             | memory of the three nodes | {:.0} MiB |\n\
             | memory of three etcd members with {} keys | {etcd} |\n\
             | restart, what it knows being flushed: ready after | {:.2} s |\n\
             | restart, every entry replayed from the log: ready after | {:.2} s |\n\
             | wiped node, rebuilt by snapshot under load: has caught up after | {:.2} s |\n\
             | writes per second meanwhile, and before | {:.0} of {:.0} ({:.0} %) |\n",
            mib(self.rss_bytes),
            peers + entries,
            self.restart.as_secs_f64(),
            self.replay.as_secs_f64(),
            self.rebuilt.as_secs_f64(),
            self.writes_meanwhile,
            self.writes_before,
            100.0 * self.writes_meanwhile / self.writes_before.max(1.0),
        )
    }
}

/// Measures.
///
/// # Errors
/// Where the mesh cannot be started or filled, or a node does not come back.
pub fn run(plan: Plan, mut progress: impl FnMut(String)) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    progress("replay: a mesh that flushes nothing".to_owned());
    let replay = replay(&runtime, plan)?;
    progress(format!("replayed after {:.2} s; filling another", replay.as_secs_f64()));
    let mut mesh = Mesh::start()?;
    runtime.block_on(fill_mesh(&mesh, plan))?;
    let rss_bytes = Usage::of(&mesh.pids())?.rss_bytes;
    let etcd_rss_bytes = if plan.etcd {
        progress("filling etcd".to_owned());
        Some(runtime.block_on(fill_etcd(&mesh, plan))?)
    } else {
        None
    };
    let follower = runtime.block_on(follower(&mesh))?;
    progress(format!("restarting node {follower}"));
    let restart = come_back(&mut mesh, follower, false)?;
    progress(format!("rebuilding node {follower} under load"));
    let (writes_before, writes_meanwhile, rebuilt) = rebuild(&runtime, &mut mesh, follower, plan)?;
    Ok(Report {
        plan,
        rss_bytes,
        etcd_rss_bytes,
        restart,
        replay,
        rebuilt,
        writes_before,
        writes_meanwhile,
    })
}

/// A node whose state store never flushed has to apply its whole log again.
fn replay(runtime: &Runtime, plan: Plan) -> Result<Duration> {
    let never = [
        ("MESHKIT_STORAGE__STATE_FLUSH_BYTES", "4294967296"),
        ("MESHKIT_STORAGE__STATE_FLUSH_INTERVAL_MS", "3600000"),
        ("MESHKIT_RAFT__SNAPSHOT_ENTRIES", "100000000"),
    ];
    let environment = never.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut mesh = Mesh::start_with(Options {
        environment,
        ..Options::default()
    })?;
    runtime.block_on(fill_mesh(&mesh, plan))?;
    let follower = runtime.block_on(follower(&mesh))?;
    come_back(&mut mesh, follower, false)
}

/// Kills a node, starts it again, and waits until it is ready.
fn come_back(mesh: &mut Mesh, node: u64, wipe: bool) -> Result<Duration> {
    let data = PathBuf::from(&mesh.processes().node(node)?.data);
    mesh.processes_mut().kill(node)?;
    if wipe {
        fs::remove_dir_all(&data).map_err(|error| Error::File { path: data, error })?;
    }
    let began = Instant::now();
    mesh.processes_mut().restart(node)?;
    mesh.processes_mut().wait_ready(node, BACK_WITHIN)?;
    Ok(began.elapsed())
}

/// Writes per second before and while a wiped node is rebuilt, and how long that takes.
fn rebuild(runtime: &Runtime, mesh: &mut Mesh, node: u64, plan: Plan) -> Result<(f64, f64, Duration)> {
    let target = mesh.target()?;
    let leader = runtime.block_on(mesh.leader())?;
    let pids = [std::process::id()];
    let load = move |seconds| load::Plan {
        kind: Kind::Put,
        clients: 64,
        keys: plan.peers,
        warmup: Duration::from_millis(500),
        window: Duration::from_secs(seconds),
    };
    let before = runtime.block_on(load::measure(&target, &leader, &pids, load(5)))?;
    let meanwhile = runtime.spawn(async move { load::measure(&target, &leader, &pids, load(8)).await });
    let rebuilt = come_back(mesh, node, true)?;
    let meanwhile = runtime
        .block_on(meanwhile)
        .map_err(|error| Error::Worthless(error.to_string()))??;
    Ok((before.per_second, meanwhile.per_second, rebuilt))
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

async fn fill_mesh(mesh: &Mesh, plan: Plan) -> Result<()> {
    mesh.limit_peers(plan.peers).await?;
    mesh.register(plan.peers).await?;
    let (tls, leader) = mesh.leader().await?;
    let links = open(&tls, &leader).await?;
    fill(
        &mesh.target()?,
        &links,
        plan.peers,
        plan.entries.saturating_sub(plan.peers),
    )
    .await
}

async fn fill_etcd(mesh: &Mesh, plan: Plan) -> Result<u64> {
    let directory = mesh.processes().scratch().join("etcd");
    let cluster = etcd::Cluster::start(mesh.processes().programs(), &directory).await?;
    let (tls, leader) = cluster.leader().await?;
    let links = open(&tls, &leader).await?;
    let keys = plan.peers + plan.entries;
    fill(&etcd::Etcd, &links, keys, keys).await?;
    Ok(Usage::of(&cluster.pids())?.rss_bytes)
}

async fn open(tls: &Arc<api_client::TlsConnect>, leader: &api_client::Endpoint) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for _ in 0..FILL_LINKS {
        links.push(Link::open(tls, leader).await?);
    }
    Ok(links)
}

/// Writes `writes` values of 256 bytes, over `keys` in turns.
async fn fill<T: Target>(target: &T, links: &[Link], keys: usize, writes: usize) -> Result<()> {
    let write = |(number, link): (usize, &Link)| {
        let (target, link) = (target.clone(), link.clone());
        async move {
            let value = format!("{number:016x}{}", "x".repeat(240));
            target
                .put(&link, number % keys, value)
                .await
                .map_err(|error| Error::Grpc {
                    doing: "filling".to_owned(),
                    error: Box::new(error),
                })
        }
    };
    futures::stream::iter((0..writes).zip(links.iter().cycle()).map(write))
        .buffer_unordered(FILL_WIDTH)
        .try_for_each(|()| async { Ok(()) })
        .await
}
