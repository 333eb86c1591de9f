//! Peers that act (S1, S11): they heartbeat, serve under leases and hand shards over, while peers leave, die and fall silent
//! together, and while leaders are killed. Never do two serve one shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use api_client::Client;
use node_harness::{Mesh, Options, wait_for};
use proto::v1::{
    AcknowledgeMoveRequest, CreateNamespaceRequest, DeleteNamespaceRequest, DrainPeerRequest, GetNamespaceRequest,
    GetPeerRequest, GetShardRequest, HeartbeatRequest, HeartbeatResponse, ListPresenceRequest, ListPresenceResponse,
    ListShardsRequest, MoveShardRequest, Shard, UndrainPeerRequest, namespace, operation,
    peer::Health,
    shard::{Status, r#move::Step},
};
use serde_json::{Value, json};

use super::{
    drains::Killer,
    wire::{Caller, Wire},
    world::{
        SOON, agreed, caller, client, dev_file, drains_take, finished, follower, register, tls, unique, verify_audit,
        wait,
    },
};

/// Longer than any lease that was ever given, silence and drift included.
const DEATH: Duration = Duration::from_secs(60);

/// A peer's own token, as `certs token --peer` writes it.
fn peer_token(mesh: &Mesh, peer: &str) -> String {
    let out = mesh.scratch().join(format!("{peer}.jwt"));
    let key = dev_file(mesh, "jwt.key");
    let words = ["certs", "token", "--mesh", "dev", "--peer", peer, "--force", "--key"];
    let words = words
        .iter()
        .map(Into::into)
        .chain([key.into_os_string(), "--out".into(), out.clone().into()]);
    let made: Vec<std::ffi::OsString> = words.collect();
    mesh.programs().node(made).ok().unwrap();
    std::fs::read_to_string(out).unwrap()
}

/// The SDK as a peer.
fn as_peer(mesh: &Mesh, peer: &str) -> Client {
    client(mesh, "read").with_token(&peer_token(mesh, peer).into()).unwrap()
}

fn code<T: std::fmt::Debug>(answer: Result<T, api_client::Error>) -> String {
    answer.unwrap_err().code().to_owned()
}

/// Makes a namespace and answers when all of its shards are there.
fn create(mesh: &Mesh, shards: u32) -> String {
    let id = unique("acts");
    let sdk = client(mesh, "admin");
    let request = CreateNamespaceRequest {
        id: id.clone(),
        shards,
        ..CreateNamespaceRequest::default()
    };
    wait(sdk.create_namespace(request)).unwrap();
    let request = GetNamespaceRequest { id: id.clone() };
    wait_for(SOON, "all of the namespace's shards", || {
        let answer = wait(sdk.get_namespace(request.clone())).ok()?.message;
        (answer.phase() == namespace::Phase::Active).then_some(())
    })
    .unwrap();
    id
}

fn shards(sdk: &Client, namespace: &str) -> Result<(u64, Vec<Shard>), api_client::Error> {
    let request = ListShardsRequest {
        namespace: namespace.to_owned(),
        limit: 1_000,
        ..ListShardsRequest::default()
    };
    let answer = wait(sdk.list_shards(request))?.message;
    Ok((answer.revision, answer.items))
}

fn owned_by(mesh: &Mesh, namespace: &str, peer: &str) -> usize {
    let (_, all) = shards(&client(mesh, "read"), namespace).unwrap();
    all.iter().filter(|shard| shard.owner == peer).count()
}

fn shard(mesh: &Mesh, namespace: &str, number: u32) -> Shard {
    let request = GetShardRequest {
        namespace: namespace.to_owned(),
        shard: number,
        ..GetShardRequest::default()
    };
    wait(client(mesh, "read").get_shard(request)).unwrap().message
}

/// Waits until a shard is so, and answers it.
fn until(mesh: &Mesh, namespace: &str, number: u32, what: &str, is_so: impl Fn(&Shard) -> bool) -> Shard {
    let found = wait_for(SOON, what, || {
        let found = shard(mesh, namespace, number);
        is_so(&found).then_some(found)
    });
    found.unwrap()
}

fn is_at(step: Step) -> impl Fn(&Shard) -> bool {
    move |shard| shard.moving.as_ref().is_some_and(|moving| moving.step() == step)
}

fn health(mesh: &Mesh, peer: &str) -> Health {
    let request = GetPeerRequest { id: peer.to_owned() };
    let answer = wait(client(mesh, "read").get_peer(request)).unwrap();
    answer.message.health()
}

fn presence(mesh: &Mesh) -> ListPresenceResponse {
    let request = ListPresenceRequest::default();
    wait(client(mesh, "read").list_presence(request)).unwrap().message
}

fn wait_health(mesh: &Mesh, peer: &str, wanted: Health, within: Duration) {
    wait_for(within, &format!("{peer} is {wanted:?}"), || {
        (health(mesh, peer) == wanted).then_some(())
    })
    .unwrap();
}

fn acknowledgement(shard: &Shard) -> AcknowledgeMoveRequest {
    let moving = shard.moving.as_ref().unwrap();
    AcknowledgeMoveRequest {
        namespace: shard.namespace.clone(),
        shard: shard.shard,
        begun: moving.begun,
        step: moving.step,
        token: shard.token,
        ..AcknowledgeMoveRequest::default()
    }
}

/// Who serves which shard until when, as far as the peers themselves know. Found twice, a shard is the end of the test.
#[derive(Default)]
struct Served {
    until: Mutex<BTreeMap<u32, BTreeMap<String, Instant>>>,
    overlaps: Mutex<Vec<String>>,
    /// How often a shard was begun to be served.
    begun: Mutex<u64>,
}

impl Served {
    /// From now on a peer serves just these, until its lease ends.
    fn serves(&self, peer: &str, shards: &BTreeSet<u32>, until: Instant) {
        let now = Instant::now();
        let mut all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, servers) in all.iter_mut().filter(|(shard, _)| !shards.contains(shard)) {
            servers.remove(peer);
        }
        for shard in shards.iter().filter(|_| until > now) {
            let servers = all.entry(*shard).or_default();
            let others = servers.iter().filter(|(other, end)| *other != peer && **end > now);
            let others: Vec<_> = others.map(|(other, _)| other.clone()).collect();
            if !others.is_empty() {
                let found = format!("shard {shard} is served by {peer} and {others:?}");
                self.overlaps.lock().unwrap_or_else(PoisonError::into_inner).push(found);
            }
            if servers.insert(peer.to_owned(), until).is_none_or(|end| end <= now) {
                *self.begun.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            }
        }
    }

    fn check(&self, begun_min: u64) {
        let overlaps = self.overlaps.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(overlaps.is_empty(), "{overlaps:?}");
        let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            begun >= begun_min,
            "only {begun} times did a peer begin to serve a shard"
        );
    }
}

/// A peer that acts, on a thread of its own.
struct Acting {
    id: String,
    speaks: Arc<AtomicBool>,
    acknowledges: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acting {
    fn start(mesh: &Mesh, id: &str, namespace: &str, served: &Arc<Served>) -> Self {
        let flag = |value| Arc::new(AtomicBool::new(value));
        let acting = Self {
            id: id.to_owned(),
            speaks: flag(true),
            acknowledges: flag(true),
            stop: flag(false),
            thread: None,
        };
        let mut life = Life {
            sdk: as_peer(mesh, id),
            id: id.to_owned(),
            namespace: namespace.to_owned(),
            served: Arc::clone(served),
            lease_end: Instant::now(),
            needs_revision: u64::MAX,
            next_beat: Instant::now(),
        };
        let (speaks, acknowledges, stop) = (acting.speaks.clone(), acting.acknowledges.clone(), acting.stop.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if speaks.load(Ordering::Relaxed) {
                    life.beats();
                }
                life.looks(acknowledges.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self {
            thread: Some(thread),
            ..acting
        }
    }

    fn speaks(&self, speaks: bool) {
        self.speaks.store(speaks, Ordering::Relaxed);
    }

    fn acknowledges(&self, acknowledges: bool) {
        self.acknowledges.store(acknowledges, Ordering::Relaxed);
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// What a peer knows.
struct Life {
    sdk: Client,
    id: String,
    namespace: String,
    served: Arc<Served>,
    lease_end: Instant,
    /// Its view has to be at this revision to serve anything.
    needs_revision: u64,
    next_beat: Instant,
}

impl Life {
    fn beats(&mut self) {
        let sent = Instant::now();
        if sent < self.next_beat {
            return;
        }
        let request = HeartbeatRequest {
            id: self.id.clone(),
            capacity: 100,
            load: 7,
            telemetry: BTreeMap::from([("queue".to_owned(), 3)]),
            ..HeartbeatRequest::default()
        };
        // While there is no leader, nobody answers: then the lease runs out.
        let Ok(answer) = wait(self.sdk.heartbeat(request)) else {
            return;
        };
        let HeartbeatResponse {
            lease,
            view_revision,
            next,
            ..
        } = answer.message;
        self.next_beat = sent + Duration::try_from(next.unwrap()).unwrap();
        let lease = Duration::try_from(lease.unwrap()).unwrap();
        if lease.is_zero() {
            return;
        }
        if self.lease_end <= Instant::now() {
            // Whatever was known before may have been given to others since.
            self.needs_revision = view_revision;
        }
        self.lease_end = self.lease_end.max(sent + lease);
    }

    fn looks(&mut self, acknowledges: bool) {
        if self.lease_end <= Instant::now() {
            self.served.serves(&self.id, &BTreeSet::new(), self.lease_end);
        }
        let Ok((revision, all)) = shards(&self.sdk, &self.namespace) else {
            return;
        };
        if revision < self.needs_revision {
            return;
        }
        let serves = |shard: &&Shard| {
            shard.owner == self.id
                && match shard.status() {
                    Status::Active | Status::Paused => true,
                    Status::Moving => is_at(Step::Preparing)(shard),
                    Status::Disabled | Status::Unspecified => false,
                }
        };
        let serving = all.iter().filter(serves).map(|shard| shard.shard).collect();
        self.served.serves(&self.id, &serving, self.lease_end);
        for shard in all.iter().filter(|_| acknowledges) {
            let Some(moving) = &shard.moving else { continue };
            let waits_for = match moving.step() {
                Step::Preparing => &moving.to,
                Step::Stopping => &shard.owner,
                Step::Unspecified => continue,
            };
            if *waits_for == self.id {
                // Refused where it was ended meanwhile.
                wait(self.sdk.acknowledge_move(acknowledgement(shard))).ok();
            }
        }
    }
}

/// A fleet, and what it serves.
struct Fleet {
    namespace: String,
    peers: Vec<Acting>,
    served: Arc<Served>,
}

impl Fleet {
    fn start(mesh: &Mesh, ids: &[String], shards: u32) -> Self {
        let namespace = create(mesh, shards);
        let served = Arc::new(Served::default());
        let peers = ids
            .iter()
            .map(|id| Acting::start(mesh, id, &namespace, &served))
            .collect();
        for id in ids {
            wait_health(mesh, id, Health::Alive, SOON);
        }
        Self {
            namespace,
            peers,
            served,
        }
    }

    fn peer(&self, id: &str) -> &Acting {
        self.peers.iter().find(|peer| peer.id == id).unwrap()
    }

    /// A peer that does not own the shard.
    fn another(&self, than: &str) -> &Acting {
        self.peers.iter().find(|peer| peer.id != than).unwrap()
    }

    fn stop(self) -> Arc<Served> {
        self.peers.into_iter().for_each(Acting::stop);
        self.served
    }
}

fn registered(mesh: &Mesh, count: usize) -> Vec<String> {
    let prefix = unique("actor");
    let ids: Vec<String> = (0..count).map(|number| format!("{prefix}-{number}")).collect();
    for id in &ids {
        register(mesh, id);
    }
    ids
}

fn move_to(mesh: &Mesh, shard: &Shard, to: &str) {
    let request = MoveShardRequest {
        namespace: shard.namespace.clone(),
        shard: shard.shard,
        to: to.to_owned(),
        ..MoveShardRequest::default()
    };
    wait(client(mesh, "operate").move_shard(request)).unwrap();
}

/// Peers that never speak are given shards at once, and taken them at once; their namespace goes as it came.
fn the_silent_are_placed(mesh: &Mesh, peers: &[String]) {
    let namespace = create(mesh, 30);
    for peer in peers {
        let owned = owned_by(mesh, &namespace, peer);
        assert!((9..=11).contains(&owned), "{peer} owns {owned} of 30");
        assert_eq!(health(mesh, peer), Health::Unknown);
    }
    let request = DeleteNamespaceRequest {
        id: namespace.clone(),
        force: true,
        confirm: namespace.clone(),
        ..DeleteNamespaceRequest::default()
    };
    wait(client(mesh, "admin").delete_namespace(request)).unwrap();
    wait_for(SOON, "the namespace is gone", || {
        let request = GetNamespaceRequest { id: namespace.clone() };
        let gone = wait(client(mesh, "read").get_namespace(request)).is_err_and(|error| error.code() == "not_found");
        gone.then_some(())
    })
    .unwrap();
}

/// A heartbeat is a registered peer's own, and the leader's to answer.
fn a_heartbeat_is_the_peers_own(mesh: &Mesh, peers: &[String]) {
    let beat = |id: &str| HeartbeatRequest {
        id: id.to_owned(),
        ..HeartbeatRequest::default()
    };
    let sdk = as_peer(mesh, &peers[0]);
    assert_eq!(code(wait(sdk.heartbeat(beat(&peers[1])))), "scope_missing");
    assert_eq!(
        code(wait(client(mesh, "admin").heartbeat(beat(&peers[0])))),
        "scope_missing"
    );
    let stranger = as_peer(mesh, "nobody-knows-it");
    assert_eq!(code(wait(stranger.heartbeat(beat("nobody-knows-it")))), "not_found");
    let loud = HeartbeatRequest {
        telemetry: (0..33).map(|figure| (format!("f{figure}"), 1)).collect(),
        ..beat(&peers[0])
    };
    assert_eq!(code(wait(sdk.heartbeat(loud))), "invalid_argument");
    for wire in Wire::ALL {
        let at = &mesh.node(follower(mesh)).unwrap().api;
        let at = Caller::new(at, wire, tls(mesh)).bearer(&peer_token(mesh, &peers[0]));
        at.call("Heartbeat", json!({ "id": peers[0] })).refused("not_leader");
        // Whoever asks who is there is answered by any node.
        at.call("ListPresence", json!({})).ok();
    }
    assert_eq!(health(mesh, &peers[0]), Health::Unknown);
}

/// A move goes from step to step as those say whom it waits for, and nobody else.
fn a_move_waits_for_the_right_peer(mesh: &Mesh, fleet: &Fleet) {
    let before = shard(mesh, &fleet.namespace, 0);
    let (source, target) = (fleet.peer(&before.owner), fleet.another(&before.owner));
    for peer in [source, target] {
        peer.acknowledges(false);
    }
    move_to(mesh, &before, &target.id);
    let preparing = until(mesh, &fleet.namespace, 0, "preparing", is_at(Step::Preparing));
    assert_eq!(preparing.token, before.token);
    let says = |peer: &Acting, request| wait(as_peer(mesh, &peer.id).acknowledge_move(request));
    assert_eq!(code(says(source, acknowledgement(&preparing))), "not_waited_for");
    let mut stale = acknowledgement(&preparing);
    stale.token.as_mut().unwrap().shard_epoch += 1;
    assert_eq!(code(says(target, stale)), "stale_token");
    says(target, acknowledgement(&preparing)).unwrap();
    let stopping = until(mesh, &fleet.namespace, 0, "stopping", is_at(Step::Stopping));
    assert_eq!(code(says(target, acknowledgement(&preparing))), "move_over");
    assert_eq!(code(says(target, acknowledgement(&stopping))), "not_waited_for");
    for peer in [source, target] {
        peer.acknowledges(true);
    }
    let moved = until(mesh, &fleet.namespace, 0, "moved", |shard| {
        shard.status() == Status::Active
    });
    assert_eq!(moved.owner, target.id);
    let epoch = |shard: &Shard| shard.token.as_ref().unwrap().shard_epoch;
    assert_eq!(epoch(&moved), epoch(&before) + 1);
}

/// A drain moves what its peer owns, and says how far it is.
fn a_drain_moves_shards(mesh: &Mesh, fleet: &Fleet, peer: &str) {
    let owned = owned_by(mesh, &fleet.namespace, peer);
    assert!(owned > 0);
    let request = DrainPeerRequest {
        id: peer.to_owned(),
        ..DrainPeerRequest::default()
    };
    let begun = wait(client(mesh, "admin").drain_peer(request)).unwrap().message;
    let ended = finished(mesh, &begun.operation);
    assert_eq!(ended.state(), operation::State::Succeeded, "{ended:?}");
    assert_eq!((ended.done, ended.total as usize), (ended.total, owned), "{ended:?}");
    assert_eq!(owned_by(mesh, &fleet.namespace, peer), 0);
    let request = UndrainPeerRequest {
        id: peer.to_owned(),
        ..UndrainPeerRequest::default()
    };
    wait(client(mesh, "admin").undrain_peer(request)).unwrap();
}

/// A peer that falls silent is suspected, then dead; its shards go to the others, and it comes back to none.
fn a_silent_peer_dies(mesh: &Mesh, fleet: &Fleet, peer: &str) {
    assert!(owned_by(mesh, &fleet.namespace, peer) > 0);
    fleet.peer(peer).speaks(false);
    wait_health(mesh, peer, Health::Suspect, SOON);
    assert!(
        owned_by(mesh, &fleet.namespace, peer) > 0,
        "a suspect keeps what it has"
    );
    wait_health(mesh, peer, Health::Dead, DEATH);
    wait_for(SOON, "its shards are with others", || {
        (owned_by(mesh, &fleet.namespace, peer) == 0).then_some(())
    })
    .unwrap();
    fleet.peer(peer).speaks(true);
    wait_health(mesh, peer, Health::Alive, SOON);
}

/// When all fall silent, it is the network: nobody dies of it, and it is said why.
fn nobody_dies_of_a_mass_silence(mesh: &Mesh, fleet: &Fleet) {
    let count = fleet.peers.len();
    fleet.peers.iter().for_each(|peer| peer.speaks(false));
    for peer in &fleet.peers {
        wait_health(mesh, &peer.id, Health::Suspect, SOON);
    }
    let shown = presence(mesh);
    assert!(shown.held_back.contains(&format!("{count} of {count}")), "{shown:?}");
    every_node_says_how_many_are_silent(mesh, count);
    // Longer than a lease and the drift; that nothing happens can only be waited for.
    let end = Instant::now() + Duration::from_secs(14);
    while Instant::now() < end {
        for peer in &fleet.peers {
            assert_eq!(health(mesh, &peer.id), Health::Suspect);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    fleet.peers.iter().for_each(|peer| peer.speaks(true));
    for peer in &fleet.peers {
        wait_health(mesh, &peer.id, Health::Alive, SOON);
    }
    wait_for(SOON, "nothing holds the mesh back", || {
        presence(mesh).held_back.is_empty().then_some(())
    })
    .unwrap();
    wait_for(SOON, "no alarm is left", || {
        let mut alarms = mass_silences(mesh).into_iter().flat_map(|said| said.alarms);
        alarms.all(|alarm| alarm.is_none()).then_some(())
    })
    .unwrap();
}

/// What a node says of a mass silence.
struct Said {
    /// The alarm, as the node's status shows it and as its list of alarms does, one moment after the other.
    alarms: [Option<Value>; 2],
    /// What the node says of the mesh.
    status: Value,
}

/// What each node says of a mass silence.
fn mass_silences(mesh: &Mesh) -> Vec<Said> {
    let ask = |node: u64| {
        let status = caller(mesh, node, Wire::H2, "read")
            .call("GetStatus", json!({}))
            .ok()
            .json;
        let listed = caller(mesh, node, Wire::H2, "read")
            .call("ListAlarms", json!({}))
            .ok()
            .json;
        let of = |alarms: &Value| {
            let mut alarms = alarms.as_array().unwrap().iter();
            alarms.find(|alarm| alarm["name"] == "MASS_SILENCE").cloned()
        };
        let alarms = [of(&status["alarms"]), of(&listed["items"])];
        Said { alarms, status }
    };
    (1..=3).map(ask).collect()
}

/// The alarm is up on every node, and says what to look at.
fn every_node_says_how_many_are_silent(mesh: &Mesh, count: usize) {
    let said = wait_for(SOON, "every node says so", || {
        let said = mass_silences(mesh);
        let mut alarms = said.iter().flat_map(|said| &said.alarms);
        alarms.all(Option::is_some).then_some(said)
    });
    for Said { alarms, status } in said.unwrap() {
        for alarm in alarms.iter().flatten() {
            assert_eq!(alarm["node"], json!(0), "{alarm}");
            let detail = alarm["detail"].as_str().unwrap();
            assert!(
                detail.starts_with(&format!("{count} of {count} peers are silent")),
                "{detail}"
            );
            assert!(
                detail.contains("mesh presence list") && detail.contains("mass-silence"),
                "{detail}"
            );
        }
        let seen = &status["peersByHealth"];
        assert_eq!(
            (&seen["suspect"], &seen["alive"]),
            (&json!(count), &json!(0)),
            "{status}"
        );
        assert_eq!(status["shards"]["ownedBySilent"], json!(12), "{status}");
    }
}

/// While so many are silent that nobody is declared dead, a peer that is drained is given up: its shards go to whoever is
/// heard, without its help, and nobody else's do.
fn a_silent_peer_that_is_drained_is_given_up(mesh: &Mesh, fleet: &mut Fleet) {
    let silent: Vec<String> = fleet.peers.iter().map(|peer| peer.id.clone()).collect();
    let [drained, others @ ..] = silent.as_slice() else {
        panic!("a fleet without peers");
    };
    let newcomer = registered(mesh, 1).remove(0);
    let acting = Acting::start(mesh, &newcomer, &fleet.namespace, &fleet.served);
    wait_health(mesh, &newcomer, Health::Alive, SOON);
    for peer in &fleet.peers {
        peer.speaks(false);
    }
    fleet.peers.push(acting);
    for peer in &silent {
        wait_health(mesh, peer, Health::Suspect, SOON);
    }
    assert!(presence(mesh).held_back.contains("3 of 4"));
    let before: Vec<usize> = others
        .iter()
        .map(|peer| owned_by(mesh, &fleet.namespace, peer))
        .collect();
    let request = DrainPeerRequest {
        id: drained.clone(),
        ..DrainPeerRequest::default()
    };
    let begun = wait(client(mesh, "admin").drain_peer(request)).unwrap().message;
    wait_health(mesh, drained, Health::Dead, DEATH);
    let ended = finished(mesh, &begun.operation);
    assert_eq!(ended.state(), operation::State::Succeeded, "{ended:?}");
    assert_eq!(owned_by(mesh, &fleet.namespace, drained), 0);
    assert!(presence(mesh).held_back.contains("2 of 3"));
    for (peer, owned) in others.iter().zip(before) {
        assert_eq!(health(mesh, peer), Health::Suspect);
        assert_eq!(
            owned_by(mesh, &fleet.namespace, peer),
            owned,
            "{peer} keeps what it has"
        );
    }
    for peer in &fleet.peers {
        peer.speaks(true);
        wait_health(mesh, &peer.id, Health::Alive, SOON);
    }
}

#[test]
fn peers_that_act_serve_and_hand_over() {
    let mesh = Mesh::start(Options::default()).unwrap();
    let set = ["presence.lease=3s", "presence.suspect_after=2s", "presence.drift=200ms"];
    mesh.mesh(["config", "set", "--yes"].into_iter().chain(set))
        .ok()
        .unwrap();
    let peers = registered(&mesh, 3);
    the_silent_are_placed(&mesh, &peers);
    a_heartbeat_is_the_peers_own(&mesh, &peers);
    let mut fleet = Fleet::start(&mesh, &peers, 12);
    let shown = presence(&mesh);
    assert_eq!(shown.items.len(), 3);
    for item in &shown.items {
        assert_eq!(
            (item.capacity, item.load, item.telemetry["queue"]),
            (100, 7, 3),
            "{item:?}"
        );
        assert!(item.heard_at.is_some(), "{item:?}");
    }
    a_move_waits_for_the_right_peer(&mesh, &fleet);
    a_drain_moves_shards(&mesh, &fleet, &peers[2]);
    a_silent_peer_dies(&mesh, &fleet, &peers[1]);
    nobody_dies_of_a_mass_silence(&mesh, &fleet);
    a_silent_peer_that_is_drained_is_given_up(&mesh, &mut fleet);
    fleet.stop().check(12);
    agreed(&mesh);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

/// X1: the leader dies at each step of moves and in the middle of a drain. Each move ends, one way or the other.
#[test]
fn moves_outlive_their_leader_at_each_step() {
    let mut mesh = Mesh::start(drains_take(Duration::from_millis(200))).unwrap();
    let peers = registered(&mesh, 3);
    let fleet = Fleet::start(&mesh, &peers, 12);
    let mut killer = Killer::default();
    for number in 0..2 {
        let before = shard(&mesh, &fleet.namespace, number);
        let (source, target) = (fleet.peer(&before.owner), fleet.another(&before.owner));
        for peer in [source, target] {
            peer.acknowledges(false);
        }
        move_to(&mesh, &before, &target.id);
        until(&mesh, &fleet.namespace, number, "preparing", is_at(Step::Preparing));
        killer.kill_leader(&mut mesh);
        target.acknowledges(true);
        until(&mesh, &fleet.namespace, number, "stopping", is_at(Step::Stopping));
        killer.kill_leader(&mut mesh);
        source.acknowledges(true);
        killer.kill_leader(&mut mesh);
        let moved = until(&mesh, &fleet.namespace, number, "moved", |shard| {
            shard.status() == Status::Active
        });
        assert_eq!(moved.owner, target.id, "its step was not over yet");
    }
    let request = DrainPeerRequest {
        id: peers[0].clone(),
        ..DrainPeerRequest::default()
    };
    let begun = wait(client(&mesh, "admin").drain_peer(request)).unwrap().message;
    killer.kill_leader(&mut mesh);
    killer.kill_leader(&mut mesh);
    let ended = finished(&mesh, &begun.operation);
    assert_eq!(ended.state(), operation::State::Succeeded, "{ended:?}");
    assert_eq!(owned_by(&mesh, &fleet.namespace, &peers[0]), 0);
    assert!(killer.kills >= 8);
    fleet.stop().check(12);
    agreed(&mesh);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}
