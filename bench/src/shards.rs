//! Queries and simulations of a large shard map, beside etcd's ranges of as many keys.
//!
//! Both sides answer linearizably, over TLS, to the same number of clients, each of which asks again when it is answered; a
//! key of etcd holds as many bytes as a shard's record has in JSON. Clients share the machine with what they measure.
//! Before all of it, how long the SDK's map takes to find a key, which asks nobody.

use std::{
    fmt::Write as _,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use api_client::ShardMap;
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use node_harness::Options;
use proto::v1::{
    CreateNamespaceRequest, FencingToken, GetOperationRequest, ListShardsRequest, ListShardsResponse, Namespace,
    Operation, Shard, SimulateShardsRequest, SimulateShardsResponse,
};
use tokio::task::JoinSet;

use crate::{
    Error, Result,
    etcd::{self, messages::RangeRequest, messages::RangeResponse},
    link::Link,
    load::Target as _,
    mesh::{self, Mesh, Patches},
};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Peers that own the shards.
    pub peers: usize,
    /// Namespaces.
    pub namespaces: usize,
    /// Shards of each: a page of a list.
    pub shards: u32,
    /// Who ask at once.
    pub clients: usize,
    /// How long a client rests before it asks again.
    pub rest: Duration,
    /// How long each measurement takes.
    pub window: Duration,
    /// Whether etcd is measured beside it.
    pub etcd: bool,
}

/// How long clients rest that do not ask again as soon as they are answered.
const REST: Duration = Duration::from_millis(100);
/// Namespaces that are made at once.
const MAKING: usize = 4;
/// Connections that the clients share.
const LINKS: usize = 4;
/// How many bytes one shard has in JSON, as etcd's values have.
const RECORD_BYTES: usize = 420;
/// How long making one namespace may take.
const MADE_WITHIN: Duration = Duration::from_secs(60);
/// Shards of the map in which keys are looked up.
const LOOKED_UP_IN: u32 = 65_536;
/// How often that many keys are looked up: one time each.
const LOOKUP_ROUNDS: usize = 2_000;
/// A clock takes too long to be asked for every single one.
const LOOKUPS_IN_ROUND: u32 = 1_000;

struct Row {
    what: String,
    /// Sorted.
    times: Vec<Duration>,
    window: Duration,
}

/// Runs it; answers a table.
///
/// # Errors
/// A side does not start, or a call fails.
pub fn run(plan: Plan, say: impl Fn(&str)) -> Result<String> {
    let runtime = tokio::runtime::Runtime::new().map_err(Error::Runtime)?;
    say("lookups in the SDK's map");
    let lookups = lookups(plan.peers)?;
    runtime.block_on(async {
        let mesh = Mesh::start_with(Options::default())?;
        let (tls, leader) = mesh.leader().await?;
        say(&format!("{} peers", plan.peers));
        mesh.register(plan.peers).await?;
        let asks = Asks {
            target: mesh.admin()?,
            bearer: format!("Bearer {}", mesh.processes().info().tokens.admin),
        };
        say(&format!("{} namespaces of {} shards", plan.namespaces, plan.shards));
        make(plan, &asks, &Link::open(&tls, &leader).await?).await?;
        // A node closes connections on which nothing is asked for a while.
        let links = open(&tls, &leader).await?;
        let mut rows = Vec::new();
        for plan in [plan, Plan { rest: REST, ..plan }] {
            say("lists of one namespace, gRPC");
            let page = |link, number: usize| {
                let request = ListShardsRequest {
                    namespace: namespace(number % plan.namespaces),
                    limit: plan.shards,
                    ..Default::default()
                };
                asks.clone().lists(link, request, Some(plan.shards as usize))
            };
            rows.push(timed(plan, &links, "mesh, a namespace's shards, gRPC", page).await?);
            say("lists of one namespace, JSON");
            let page = |link, number: usize| {
                let limit = plan.shards;
                let path = format!(
                    "/meshkit/shards?namespace={}&limit={limit}",
                    namespace(number % plan.namespaces)
                );
                asks.clone().reads(link, path)
            };
            rows.push(timed(plan, &links, "mesh, the same, JSON", page).await?);
        }
        say("lists of one owner");
        rows.push(
            timed(
                plan,
                &links,
                "mesh, one owner's shards of all namespaces, gRPC",
                |link, number| {
                    let request = ListShardsRequest {
                        owner: mesh::id(number % plan.peers),
                        limit: 1_000,
                        ..Default::default()
                    };
                    asks.clone().lists(link, request, None)
                },
            )
            .await?,
        );
        if plan.etcd {
            say("etcd");
            rows.extend(beside(plan, &mesh).await?);
        }
        say("simulations");
        let (simulated, writes) = simulations(plan, &mesh, &asks).await?;
        rows.push(simulated);
        Ok(table(plan, &rows, writes) + &lookups)
    })
}

/// A table of how long a key takes in the SDK's own map of one large namespace.
fn lookups(peers: usize) -> Result<String> {
    let shards = (0..LOOKED_UP_IN).map(|shard| Shard {
        namespace: namespace(0),
        shard,
        owner: mesh::id(shard as usize % peers.max(1)),
        token: Some(FencingToken {
            mesh_epoch: 1,
            shard_epoch: 1,
        }),
        ..Shard::default()
    });
    let map = ShardMap::fixed(1, shards.collect());
    let (space, keys) = (namespace(0), LOOKUP_ROUNDS * LOOKUPS_IN_ROUND as usize);
    let keys: Vec<String> = (0..keys).map(|key| format!("customer-{key}")).collect();
    let mut times = Vec::with_capacity(LOOKUP_ROUNDS);
    for keys in keys.chunks(LOOKUPS_IN_ROUND as usize) {
        let start = Instant::now();
        let found = keys
            .iter()
            .filter(|key| black_box(map.locate(&space, key.as_bytes())).is_ok());
        let found = found.count();
        times.push(start.elapsed() / LOOKUPS_IN_ROUND);
        if found != keys.len() {
            return Err(Error::Worthless(format!("{found} of {} keys were found", keys.len())));
        }
    }
    times.sort_unstable();
    let at = |percent: usize| {
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).copied().unwrap_or_default().as_nanos()
    };
    Ok(format!(
        "\n| {} lookups, in rounds of {LOOKUPS_IN_ROUND} | p50 ns | p95 ns | p99 ns |\n|---|---|---|---|\n| SDK lookup of a key, 65,536 shards | {} | {} | {} |\n",
        keys.len(),
        at(50),
        at(95),
        at(99)
    ))
}

/// Calls with an admin's token.
#[derive(Clone)]
struct Asks {
    target: Patches,
    bearer: String,
}

impl Asks {
    async fn lists(self, link: Link, request: ListShardsRequest, count: Option<usize>) -> Result<()> {
        let path = "/meshkit.v1.ShardService/ListShards";
        let answer: ListShardsResponse = link.unary(path, self.target.request(request)).await.map_err(refused)?;
        match count.is_none_or(|count| answer.items.len() == count) && !answer.items.is_empty() {
            true => Ok(()),
            false => Err(Error::Worthless(format!("{} shards were listed", answer.items.len()))),
        }
    }

    async fn reads(self, link: Link, path: String) -> Result<()> {
        let response = link.get(&path, &self.bearer).await.map_err(refused)?;
        let status = response.status();
        let body = response.into_body().collect().await;
        let bytes = body.map_err(|error| Error::Worthless(format!("an answer broke off: {error}")))?;
        match status.is_success() && bytes.to_bytes().len() > RECORD_BYTES {
            true => Ok(()),
            false => Err(Error::Worthless(format!("a list was answered {status}"))),
        }
    }

    async fn simulates(self, link: Link, peer: String) -> Result<()> {
        let request = SimulateShardsRequest {
            without: vec![peer],
            ..Default::default()
        };
        let path = "/meshkit.v1.ShardService/SimulateShards";
        let answer: SimulateShardsResponse = link.unary(path, self.target.request(request)).await.map_err(refused)?;
        match answer.moved > 0 && answer.unowned == 0 {
            true => Ok(()),
            false => Err(Error::Worthless("a simulation moved nothing".to_owned())),
        }
    }
}

fn namespace(number: usize) -> String {
    format!("space-{number:03}")
}

async fn open(tls: &Arc<api_client::TlsConnect>, endpoint: &api_client::Endpoint) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for _ in 0..LINKS {
        links.push(Link::open(tls, endpoint).await?);
    }
    Ok(links)
}

/// Makes the namespaces, and waits until each has all its shards.
async fn make(plan: Plan, asks: &Asks, link: &Link) -> Result<()> {
    let make = |number: usize| async move {
        let request = CreateNamespaceRequest {
            id: namespace(number),
            shards: plan.shards,
            ..Default::default()
        };
        let path = "/meshkit.v1.NamespaceService/CreateNamespace";
        let made: Namespace = link.unary(path, asks.target.request(request)).await.map_err(refused)?;
        let (start, mut version) = (Instant::now(), 0);
        loop {
            let request = GetOperationRequest {
                id: made.operation.clone(),
                wait_version: Some(version),
                timeout: Some(prost_types::Duration { seconds: 5, nanos: 0 }),
            };
            let path = "/meshkit.v1.OperationService/GetOperation";
            let operation: Operation = link.unary(path, asks.target.request(request)).await.map_err(refused)?;
            if operation.finished_at.is_some() {
                return Ok(());
            }
            version = operation.version;
            if start.elapsed() > MADE_WITHIN {
                let seconds = MADE_WITHIN.as_secs();
                let what = format!("namespace {} to be made", made.id);
                return Err(Error::Late { what, seconds });
            }
        }
    };
    futures::stream::iter((0..plan.namespaces).map(make))
        .buffer_unordered(MAKING)
        .try_for_each(|()| async { Ok(()) })
        .await
}

/// Lets the clients ask again and again for a while.
async fn timed<F: Future<Output = Result<()>> + Send + 'static>(
    plan: Plan,
    links: &[Link],
    what: &str,
    ask: impl Fn(Link, usize) -> F,
) -> Result<Row> {
    let mut times = Vec::new();
    let mut asking = JoinSet::new();
    let start = Instant::now();
    let mut number = 0;
    let mut next = |asking: &mut JoinSet<Result<Duration>>| {
        if let Some(link) = links.get(number % links.len().max(1)) {
            let asked = ask(link.clone(), number);
            // The first of each are spread over a rest, or all would ask at once each time.
            let rest = match number < plan.clients {
                true => {
                    plan.rest * u32::try_from(number).unwrap_or_default() / u32::try_from(plan.clients).unwrap_or(1)
                }
                false => plan.rest,
            };
            number += 1;
            asking.spawn(async move {
                tokio::time::sleep(rest).await;
                let start = Instant::now();
                asked.await.map(|()| start.elapsed())
            });
        }
    };
    (0..plan.clients).for_each(|_| next(&mut asking));
    while let Some(done) = asking.join_next().await {
        let took = done.map_err(|error| Error::Worthless(format!("a client died: {error}")))?;
        times.push(took?);
        if start.elapsed() < plan.window {
            next(&mut asking);
        }
    }
    times.sort_unstable();
    let what = match plan.rest.is_zero() {
        true => what.to_owned(),
        false => format!("{what}, {} ms of rest between", plan.rest.as_millis()),
    };
    Ok(Row {
        what,
        times,
        window: start.elapsed(),
    })
}

/// Ranges of as many keys of etcd.
async fn beside(plan: Plan, mesh: &Mesh) -> Result<Vec<Row>> {
    let directory = mesh.processes().scratch().join("etcd");
    let cluster = etcd::Cluster::start(mesh.processes().programs(), &directory).await?;
    let (tls, leader) = cluster.leader().await?;
    let links = open(&tls, &leader).await?;
    let keys = plan.namespaces * plan.shards as usize;
    let put = |key: usize| {
        let link = links.get(key % links.len()).cloned();
        async move {
            let link = link.ok_or_else(|| Error::Worthless("no connection".to_owned()))?;
            etcd::put_at(&link, key_of(key, plan).into(), "x".repeat(RECORD_BYTES))
                .await
                .map_err(refused)
        }
    };
    futures::stream::iter((0..keys).map(put))
        .buffer_unordered(256)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    let range = |link: Link, number: usize| {
        let space = namespace(number % plan.namespaces);
        async move {
            let request = RangeRequest {
                key: format!("{space}/").into(),
                // What comes after every key with that beginning.
                range_end: format!("{space}0").into(),
            };
            let path = "/etcdserverpb.KV/Range";
            let answer: RangeResponse = link.unary(path, tonic::Request::new(request)).await.map_err(refused)?;
            match answer.kvs.len() == plan.shards as usize {
                true => Ok(()),
                false => Err(Error::Worthless(format!("{} keys were found", answer.kvs.len()))),
            }
        }
    };
    let mut rows = Vec::new();
    for plan in [plan, Plan { rest: REST, ..plan }] {
        rows.push(timed(plan, &links, "etcd, a range of as many keys", range).await?);
    }
    Ok(rows)
}

fn key_of(key: usize, plan: Plan) -> String {
    let shards = plan.shards as usize;
    format!("{}/{:05}", namespace(key / shards), key % shards)
}

/// One simulation after the other on a node that does not lead, and the rate of writes before and meanwhile.
async fn simulations(plan: Plan, mesh: &Mesh, asks: &Asks) -> Result<(Row, (f64, f64))> {
    let (tls, leader) = mesh.leader().await?;
    let follower = mesh.other_than(&leader)?;
    let links = open(&tls, &leader).await?;
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = JoinSet::new();
    for (client, link) in (0..plan.clients).zip(links.iter().cycle()) {
        let (target, link, stop, written) = (
            asks.target.clone(),
            link.clone(),
            Arc::clone(&stop),
            Arc::clone(&written),
        );
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                target.put(&link, client, "x".repeat(200)).await?;
                written.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, tonic::Status>(())
        });
    }
    let rate =
        |from: u64, start: Instant| (written.load(Ordering::Relaxed) - from) as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    tokio::time::sleep(plan.window).await;
    let before = rate(0, start);
    // A node closes connections on which nothing is asked for a while.
    let elsewhere = open(&tls, &follower).await?;
    let (from, start) = (written.load(Ordering::Relaxed), Instant::now());
    let one = Plan { clients: 1, ..plan };
    let row = timed(
        one,
        &elsewhere,
        "mesh, losing one peer simulated over all shards, while writing",
        |link, number| asks.clone().simulates(link, mesh::id(number % plan.peers)),
    )
    .await?;
    let meanwhile = rate(from, start);
    stop.store(true, Ordering::Relaxed);
    while let Some(done) = writers.join_next().await {
        done.map_err(|error| Error::Worthless(format!("a writer died: {error}")))?
            .map_err(refused)?;
    }
    Ok((row, (before, meanwhile)))
}

fn refused(status: tonic::Status) -> Error {
    Error::Worthless(format!("a call failed: {status}"))
}

fn table(plan: Plan, rows: &[Row], writes: (f64, f64)) -> String {
    let at = |row: &Row, percent: usize| {
        let at = (row.times.len() * percent / 100).min(row.times.len().saturating_sub(1));
        row.times.get(at).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let mut text = format!(
        "{} shards in {} namespaces on {} peers, {} clients.\n\n| | p50 ms | p95 ms | p99 ms | per second |\n|---|---|---|---|---|\n",
        plan.namespaces * plan.shards as usize,
        plan.namespaces,
        plan.peers,
        plan.clients
    );
    for row in rows {
        let rate = row.times.len() as f64 / row.window.as_secs_f64();
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {rate:.0} |",
            row.what,
            at(row, 50),
            at(row, 95),
            at(row, 99)
        );
    }
    let etcd = rows.iter().find(|row| row.what.starts_with("etcd"));
    if let (Some(etcd), Some(own)) = (etcd, rows.first()) {
        let _ = writeln!(
            text,
            "\nA namespace's shards take **{:.2}** of the time that etcd takes for as many keys, at p95.",
            at(own, 95) / at(etcd, 95)
        );
    }
    let (before, meanwhile) = writes;
    let _ = writeln!(
        text,
        "\nWrites while simulating: {meanwhile:.0} of {before:.0} per second, **{:.0} %**.",
        meanwhile / before * 100.0
    );
    text
}
