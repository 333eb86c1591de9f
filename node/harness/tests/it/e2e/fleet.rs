//! Shards under peers that act (S10, S11, M11): `meshkit-fleet` plays them over real connections, and looks at every moment
//! who would serve what. No two ever serve one shard, whatever dies.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{ChildStdin, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use api_client::{
    Client,
    shards::{Options as MapOptions, ShardMap, Token},
};
use node_harness::{DevFile, Mesh, Options, Programs, Running, wait_for, wait_until};
use proto::v1::{self, ListShardsRequest, MoveShardRequest};
use rustix::process::Signal;
use serde_json::Value;

use super::{
    wire::Wire,
    world::{SOON, caller, client, drains_take, leader, wait},
};

/// Until a fleet of a few hundred peers is served, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Until a silent peer's shards are served by others: suspected after 5 s, dead 12 s later, then moved.
const DEATH_WITHIN: u64 = 60;
/// The default lease and drift: after that nobody serves by a lease of before.
const LEASES_OVER: Duration = Duration::from_secs(11);
/// How long a dead peer's shards may be served by nobody: what it takes until it has surely stopped, and as much again.
const UNSERVED_MAX: Duration = Duration::from_secs(36);
/// The drain of 100 shards with the default limits.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// Peers that are played.
struct Fleet {
    running: Running,
    orders: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Fleet {
    fn start(mesh: &Mesh, peers: u32, shards: u32, more: &[&str]) -> Self {
        let root = mesh.scratch().join("mesh");
        let mut command = mesh.programs().command("meshkit-fleet");
        command
            .args([
                "--orders",
                "--unserved-max",
                "60s",
                "--ready-within",
                "110s",
                "--log",
                "warn",
            ])
            .args([
                "--mesh",
                &mesh.info().mesh,
                "--peers",
                &peers.to_string(),
                "--shards",
                &shards.to_string(),
            ])
            .arg("--context")
            .arg(&mesh.info().context)
            .arg("--jwt-key")
            .arg(root.join("jwt.key"))
            .arg("--die-with-parent")
            .arg(std::process::id().to_string())
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(mesh.scratch().join("fleet.log")).unwrap());
        let mut running = Running::start(command).unwrap();
        let (orders, out) = running.pipes().unwrap();
        let (tell, answers) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let fleet = Self {
            running,
            orders,
            answers,
        };
        let ready = fleet.answers.recv_timeout(READY_WITHIN);
        let log = || std::fs::read_to_string(mesh.scratch().join("fleet.log")).unwrap_or_default();
        assert!(
            ready.is_ok(),
            "the fleet did not become ready: {}\n{}",
            log(),
            mesh.logs()
        );
        fleet
    }

    fn send(&mut self, order: &str) {
        writeln!(self.orders, "{order}").unwrap();
        self.orders.flush().unwrap();
    }

    fn answer(&self, order: &str, within: Duration) -> Value {
        let line = self
            .answers
            .recv_timeout(within)
            .unwrap_or_else(|error| panic!("`{order}`: {error}"));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("`{order}`: {error} in {line}"))
    }

    fn order(&mut self, order: &str, within: Duration) -> Value {
        self.send(order);
        let answer = self.answer(order, within);
        assert_eq!(answer["ok"], true, "`{order}`: {answer}");
        answer
    }

    /// Waits until every shard is served.
    fn served(&mut self, seconds: u64) -> Value {
        self.order(&format!("served {seconds}"), Duration::from_secs(seconds + 10))
    }

    /// How many shards each peer serves.
    fn serves(&mut self, peer: &str) -> usize {
        let who = self.order("who", SOON);
        who["who"]
            .as_object()
            .unwrap()
            .values()
            .filter(|owner| *owner == peer)
            .count()
    }

    /// Its report, and whether nothing was violated.
    fn end(mut self) -> (Value, bool) {
        self.send("end");
        let report = self.answer("end", SOON);
        let status = self.running.wait(SOON).unwrap();
        println!("{report}");
        (report, status.success())
    }

    fn ends_well(self) -> Value {
        let (report, held) = self.end();
        assert!(held, "{report:#}");
        assert_eq!(report["violations"], 0, "{report:#}");
        report
    }
}

/// All shards of the namespace, as the mesh lists them, and the revision of that.
async fn listed(client: &Client) -> (u64, Vec<v1::Shard>) {
    let mut request = ListShardsRequest {
        limit: 1_000,
        namespace: "demo".to_owned(),
        ..ListShardsRequest::default()
    };
    let mut shards = Vec::new();
    loop {
        let page = client.list_shards(request.clone()).await.unwrap().message;
        shards.extend(page.items);
        if page.next_cursor.is_empty() {
            return (page.revision, shards);
        }
        request.cursor = page.next_cursor;
    }
}

fn owned_by(mesh: &Mesh, peer: &str) -> usize {
    let shards = wait(listed(&client(mesh, "observe"))).1;
    shards.iter().filter(|shard| shard.owner == peer).count()
}

fn drain(mesh: &Mesh, peer: &str) -> Duration {
    drain_within(mesh, peer, "90s")
}

fn drain_within(mesh: &Mesh, peer: &str, timeout: &str) -> Duration {
    let began = Instant::now();
    let arguments = [
        "peers",
        "drain",
        peer,
        "--reason",
        "kernel update",
        "--yes",
        "--wait",
        "--timeout",
        timeout,
    ];
    mesh.mesh(arguments).ok().unwrap();
    began.elapsed()
}

#[test]
fn a_drain_of_a_hundred_shards_moves_each_and_takes_less_than_30_s() {
    let mesh = Mesh::start(drains_take(Duration::from_millis(500))).unwrap();
    let mut fleet = Fleet::start(&mesh, 3, 300, &[]);
    let before = owned_by(&mesh, "peer-0001");
    assert!((80..=120).contains(&before), "{before}");
    let observer = client(&mesh, "observe");
    let shards = wait(listed(&observer)).1;
    let one = shards.iter().find(|shard| shard.owner == "peer-0001").unwrap().shard;
    let took = drain(&mesh, "peer-0001");
    println!("{before} shards drained in {took:?}");
    // Whose reason it was is found from any shard that moved.
    let drained = mesh.mesh(["peers", "get", "peer-0001", "-o", "json"]).ok().unwrap();
    let operation = drained.json().unwrap()["operation"].as_str().unwrap().to_owned();
    let request = v1::ListShardHistoryRequest {
        namespace: "demo".to_owned(),
        shard: one,
        ..v1::ListShardHistoryRequest::default()
    };
    let told = wait(observer.list_shard_history(request)).unwrap().message.items;
    let of_the_drain: Vec<_> = told.iter().filter(|entry| entry.operation == operation).collect();
    assert!(of_the_drain.len() >= 2 && !operation.is_empty(), "{told:?}");
    for entry in of_the_drain {
        assert!(
            !entry.asked_by.is_empty() && entry.reason == "kernel update",
            "{entry:?}"
        );
    }
    assert_eq!((owned_by(&mesh, "peer-0001"), fleet.serves("peer-0001")), (0, 0));
    fleet.served(20);
    let report = fleet.ends_well();
    assert!(report["handed_over"].as_u64().unwrap() >= before as u64, "{report}");
    assert!(
        took < DRAIN_MAX * u32::try_from(before).unwrap() / 100,
        "{before} shards took {took:?}"
    );
}

/// Drains a peer while another does as it was told: all of it goes to the third, in a number of revisions that the shards bound.
fn drain_past(order: &str, timeout: &str) {
    let mesh = Mesh::start(drains_take(Duration::from_millis(200))).unwrap();
    let mut fleet = Fleet::start(&mesh, 3, 90, &[]);
    let before = (owned_by(&mesh, "peer-0001"), owned_by(&mesh, "peer-0002"));
    fleet.order(&format!("{order} peer-0002"), SOON);
    let revision = wait(listed(&client(&mesh, "observe"))).0;
    let took = drain_within(&mesh, "peer-0001", timeout);
    let revisions = wait(listed(&client(&mesh, "observe"))).0 - revision;
    println!("{order}: {before:?} drained in {took:?}, {revisions} revisions");
    assert_eq!((owned_by(&mesh, "peer-0001"), fleet.serves("peer-0001")), (0, 0));
    assert_eq!(owned_by(&mesh, "peer-0002"), before.1);
    assert!(
        revisions < 10 * before.0 as u64 + 200,
        "{} shards, {revisions} revisions",
        before.0
    );
    fleet.served(20);
    fleet.ends_well();
}

#[test]
fn a_drain_ends_although_a_peer_refuses_what_it_is_given() {
    drain_past("refuse", "90s");
}

#[test]
fn a_drain_ends_although_a_peer_never_answers() {
    // One step's time, which is 60 s, for those that were begun before that was known, and one for the shard that it is tried with.
    drain_past("mute", "300s");
}

#[test]
fn a_peer_that_goes_on_serving_after_it_said_that_it_stopped_is_found() {
    let mesh = Mesh::start(drains_take(Duration::from_millis(200))).unwrap();
    let mut fleet = Fleet::start(&mesh, 3, 12, &["--plant", "peer-0001"]);
    assert!(fleet.serves("peer-0001") > 0);
    drain(&mesh, "peer-0001");
    let (report, held) = fleet.end();
    assert!(!held && report["violations"].as_u64().unwrap() > 0, "{report}");
    let first = &report["told"][0];
    assert_eq!(first["violation"], "served-twice", "{report}");
    assert!(first["first"].as_str().unwrap().starts_with("peer-0001 "), "{report}");
}

#[test]
fn the_shards_of_dead_and_silent_peers_are_served_by_others_and_nobody_serves_twice() {
    let mesh = Mesh::start(Options::default()).unwrap();
    let mut fleet = Fleet::start(&mesh, 9, 90, &[]);
    fleet.order("crash peer-0001", SOON);
    fleet.order("cut peer-0002", SOON);
    wait_until(
        Duration::from_secs(5),
        "nobody serves what was the crashed peer's",
        || fleet.serves("peer-0001") == 0,
    )
    .unwrap();
    fleet.served(DEATH_WITHIN);
    assert_eq!((fleet.serves("peer-0001"), fleet.serves("peer-0002")), (0, 0));
    assert_eq!((owned_by(&mesh, "peer-0001"), owned_by(&mesh, "peer-0002")), (0, 0));
    // They come back, with a view of long ago and with none, and take nothing that is another's.
    fleet.order("mend peer-0002", SOON);
    fleet.order("start peer-0001", SOON);
    wait_until(SOON, "both are alive", || {
        ["peer-0001", "peer-0002"].iter().all(|peer| {
            let shown = mesh
                .mesh(["peers", "get", peer, "-o", "json"])
                .ok()
                .unwrap()
                .json()
                .unwrap();
            shown["health"] == "ALIVE"
        })
    })
    .unwrap();
    fleet.served(20);
    let report = fleet.ends_well();
    let unserved = Duration::from_millis(report["unserved_longest_ms"].as_u64().unwrap());
    println!("the longest that a shard was served by nobody: {unserved:?}");
    assert!(unserved < UNSERVED_MAX, "{report:#}");
}

/// S3: neither a peer that does not hear of it nor a token of before outlives a namespace of the same name.
#[test]
fn a_namespace_that_is_made_again_is_served_by_nobody_twice() {
    let mesh = Mesh::start(Options::default()).unwrap();
    let mut fleet = Fleet::start(&mesh, 4, 40, &[]);
    // It has what a namespace that is made anew gives to somebody else, and under later tokens than the first.
    let shards = wait(listed(&client(&mesh, "observe"))).1;
    for shard in shards.iter().filter(|shard| shard.owner == "peer-0001").take(4) {
        let id = format!("demo/{}", shard.shard);
        mesh.mesh(["shards", "move", &id, "--to", "peer-0002", "--wait"])
            .ok()
            .unwrap();
    }
    fleet.order("cut peer-0002", SOON);
    let deleted = [
        "namespaces",
        "delete",
        "demo",
        "--force",
        "--confirm",
        "demo",
        "--wait",
        "--timeout",
        "60s",
    ];
    mesh.mesh(deleted).ok().unwrap();
    let made = [
        "namespaces",
        "create",
        "demo",
        "--shards",
        "40",
        "--wait",
        "--timeout",
        "60s",
    ];
    mesh.mesh(made).ok().unwrap();
    fleet.served(DEATH_WITHIN);
    fleet.order("mend peer-0002", SOON);
    fleet.served(20);
    fleet.ends_well();
}

/// How many heartbeats a node has answered, with a lease or without.
fn heartbeats(mesh: &Mesh, node: u64, lease: &str) -> u64 {
    let text = caller(mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
    let line = format!("meshkit_api_heartbeats_total{{lease=\"{lease}\"}} ");
    let count = text.lines().find_map(|found| found.strip_prefix(&line));
    count.map_or(0, |count| count.parse().unwrap())
}

/// What was lost may have given shards to others, whose leases this history knows nothing of.
#[test]
fn after_a_recovery_nobody_serves_before_the_leases_of_what_was_lost_are_over() {
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let mut fleet = Fleet::start(&mesh, 4, 20, &[]);
    mesh.kill_all().unwrap();
    let config = mesh.node(1).unwrap().config.to_str().unwrap().to_owned();
    let cluster = mesh.info().clusters[0].id.clone();
    let recover = ["recover", "--force-single", "--config", &config, "--confirm", &cluster];
    mesh.programs().node(recover).ok().unwrap();
    let began = Instant::now();
    mesh.restart(1).unwrap();
    for node in [2, 3] {
        mesh.forget(node).unwrap();
    }
    mesh.wait_ready(1, SOON).unwrap();
    wait_until(Duration::from_secs(60), "a lease is given", || {
        heartbeats(&mesh, 1, "renewed") > 0
    })
    .unwrap();
    let waited = began.elapsed();
    println!("the first lease was given after {waited:?}");
    assert!(waited >= LEASES_OVER, "{waited:?}");
    assert!(heartbeats(&mesh, 1, "none") > 0, "nobody asked before");
    fleet.served(20);
    fleet.ends_well();
}

#[test]
fn a_drain_goes_on_under_another_leader() {
    let mut mesh = Mesh::start(drains_take(Duration::from_millis(500))).unwrap();
    let mut fleet = Fleet::start(&mesh, 4, 160, &[]);
    mesh.mesh(["peers", "drain", "peer-0002", "--reason", "kernel update", "--yes"])
        .ok()
        .unwrap();
    wait_until(SOON, "the drain has moved some", || owned_by(&mesh, "peer-0002") < 35).unwrap();
    let led = leader(&mesh);
    mesh.kill(led).unwrap();
    wait_until(Duration::from_secs(60), "the drain has moved all", || {
        owned_by(&mesh, "peer-0002") == 0
    })
    .unwrap();
    mesh.restart(led).unwrap();
    mesh.wait_ready(led, SOON).unwrap();
    fleet.served(20);
    assert_eq!(fleet.serves("peer-0002"), 0);
    fleet.ends_well();
}

#[test]
fn a_move_waits_for_slow_peers_and_is_given_up_where_one_cannot() {
    let mesh = Mesh::start(Options::default()).unwrap();
    let mut fleet = Fleet::start(&mesh, 3, 9, &[]);
    let client = client(&mesh, "admin");
    let shard = |client: &Client| {
        wait(client.get_shard(v1::GetShardRequest {
            namespace: "demo".to_owned(),
            ..Default::default()
        }))
        .unwrap()
        .message
    };
    let before = shard(&client);
    let to = ["peer-0001", "peer-0002", "peer-0003"]
        .into_iter()
        .find(|peer| *peer != before.owner)
        .unwrap();
    let move_it = |client: &Client| {
        let to = to.to_owned();
        let request = MoveShardRequest {
            namespace: "demo".to_owned(),
            to,
            ..MoveShardRequest::default()
        };
        wait(client.move_shard(request)).unwrap();
    };
    fleet.order(&format!("refuse {to}"), SOON);
    move_it(&client);
    wait_until(SOON, "the move is given up", || shard(&client).moving.is_none()).unwrap();
    assert_eq!(
        (shard(&client).owner, shard(&client).token),
        (before.owner.clone(), before.token)
    );
    fleet.order(&format!("accept {to}"), SOON);
    fleet.order(&format!("delay {to} 1500"), SOON);
    fleet.order(&format!("delay {} 1500", before.owner), SOON);
    let began = Instant::now();
    move_it(&client);
    wait_until(SOON, "the move is over", || shard(&client).owner == to).unwrap();
    assert!(
        began.elapsed() >= Duration::from_secs(3),
        "neither was waited for: {:?}",
        began.elapsed()
    );
    assert!(Token::from(shard(&client).token) > Token::from(before.token));
    fleet.served(20);
    fleet.ends_well();
}

/// Peers, shards and watchers: `MESHKIT_FLEET` names others; `scripts/hyperscale.sh` does.
fn size() -> (u32, u32, usize) {
    let text = std::env::var("MESHKIT_FLEET").unwrap_or_else(|_| "50,1000,20".to_owned());
    let numbers: Vec<u32> = text.split(',').map(|number| number.trim().parse().unwrap()).collect();
    let [peers, shards, watchers] = numbers[..] else {
        panic!("MESHKIT_FLEET={text}: give peers, shards and watchers");
    };
    (peers, shards, watchers as usize)
}

#[test]
fn a_rolling_restart_leaves_every_watcher_with_the_exact_map() {
    let (peers, shards, watchers) = size();
    let mesh = Mesh::start(drains_take(Duration::from_millis(200))).unwrap();
    let mut fleet = Fleet::start(&mesh, peers, shards, &[]);
    let cache = mesh.scratch().join("map");
    let observer = client(&mesh, "observe");
    let maps: Vec<ShardMap> = wait(async {
        let mut maps = Vec::new();
        for at in 0..watchers {
            let options = MapOptions {
                namespace: Some("demo".to_owned()),
                cache: (at == 0).then(|| cache.clone()),
            };
            maps.push(ShardMap::start(&observer, options).await);
        }
        for map in &maps {
            map.wait(SOON).await.unwrap();
        }
        maps
    });
    let at_once = (peers / 10).max(1);
    let rolled = fleet.order(&format!("roll {at_once} 300"), Duration::from_secs(600));
    println!("a rolling restart: {rolled}");
    drain(&mesh, "peer-0001");
    fleet.served(30);

    wait(async {
        let (revision, shards) = listed(&observer).await;
        for map in &maps {
            map.reach(revision, SOON).await.unwrap();
            let cells = map.shards().1;
            assert_eq!(cells.len(), shards.len());
            for (cell, shard) in cells.iter().zip(&shards) {
                let held = (
                    cell.shard,
                    cell.owner.as_deref().unwrap_or_default(),
                    cell.token,
                    cell.status,
                );
                assert_eq!(
                    held,
                    (
                        shard.shard,
                        shard.owner.as_str(),
                        Token::from(shard.token),
                        shard.status()
                    )
                );
            }
            let standing = map.standing();
            assert_eq!(
                (standing.refused_older, standing.stale_since_ms),
                (0, None),
                "{standing:?}"
            );
        }
    });
    fleet.ends_well();
    routes_on_without_the_mesh(mesh, maps, &cache);
}

/// What a map does when the control plane is away, and what the next process begins with.
fn routes_on_without_the_mesh(mut mesh: Mesh, maps: Vec<ShardMap>, cache: &std::path::Path) {
    let observer = client(&mesh, "observe");
    let key = b"customer-17";
    let located = maps[0].locate("demo", key).unwrap();
    mesh.kill_all().unwrap();
    wait_until(SOON, "the map says that it is out of date", || {
        let standing = maps[0].standing();
        standing.stale_since_ms.is_some() && standing.trouble.is_some()
    })
    .unwrap();
    assert_eq!(maps[0].locate("demo", key).unwrap(), located);
    wait(async {
        for map in maps {
            map.close().await;
        }
    });
    let open = || {
        let options = MapOptions {
            namespace: Some("demo".to_owned()),
            cache: Some(cache.to_owned()),
        };
        wait(ShardMap::start(&observer, options))
    };
    let map = open();
    assert_eq!(map.locate("demo", key).unwrap(), located, "from the file alone");
    let standing = map.standing();
    assert!(!standing.confirmed && standing.stale_since_ms.is_some(), "{standing:?}");
    wait(map.close());

    let mut bytes = std::fs::read(cache).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(cache, bytes).unwrap();
    let map = open();
    assert!(map.standing().cache_refused.is_some_and(|why| why.contains("checksum")));
    assert!(map.locate("demo", key).is_err());
    for node in mesh.ids() {
        mesh.restart(node).unwrap();
    }
    wait(map.wait(Duration::from_secs(60))).unwrap();
    assert_eq!(map.locate("demo", key).unwrap(), located, "fetched again");
    wait(map.close());
}

#[test]
fn dev_plays_peers_and_is_ready_when_every_shard_is_served() {
    let programs = Programs::find().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("mesh");
    let mut command = programs.command("meshkit-node");
    command
        .args([
            "dev",
            "--base-port",
            "0",
            "--peers",
            "6",
            "--shards",
            "60",
            "--data-dir",
        ])
        .arg(&data)
        .args(["--die-with-parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(directory.path().join("log")).unwrap());
    let mut dev = Running::start(command).unwrap();
    let file = wait_for(Duration::from_secs(75), "dev.json", || {
        DevFile::read(&data.join("dev.json")).ok()
    });
    let said = || std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
    let file = file.unwrap_or_else(|error| panic!("{error}\n{}", said()));
    let mesh = |arguments: &[&str]| {
        let context = [("MESH_CONTEXT", file.context.as_os_str())];
        let output = programs.run("mesh", arguments, &context, directory.path());
        output.ok().unwrap().json().unwrap()
    };
    let peers = mesh(&["peers", "list", "-o", "json"]);
    let peers = peers["items"].as_array().unwrap();
    let zones: std::collections::BTreeSet<_> = peers.iter().map(|peer| peer["zone"].as_str().unwrap()).collect();
    assert_eq!((peers.len(), zones.len()), (6, 3));
    assert!(peers.iter().all(|peer| peer["health"] == "ALIVE"), "{peers:?}");
    let api = file.clusters[0].nodes[0].api.parse().unwrap();
    let builder = Client::builder(
        vec![api],
        std::sync::Arc::new(api_client::TlsConnect::new(Some(&std::fs::read(&file.ca).unwrap()), None).unwrap()),
    );
    let shards = wait(listed(&builder.token(file.tokens.read.clone().into()).build().unwrap())).1;
    assert_eq!(shards.len(), 60);
    assert!(shards.iter().all(|shard| !shard.owner.is_empty()));
    dev.signal(Signal::TERM).unwrap();
    assert!(dev.wait(Duration::from_secs(30)).unwrap().success(), "{}", said());
}
