//! An operator's run with shards (S1, S5, S6, S8): create, list, drain and cancel, simulate, drain a zone, all of it watched
//! and with the leader killed on the way; it ends in the map that was simulated.

use std::{collections::BTreeMap, time::Duration};

use api_client::Client;
use node_harness::{Mesh, wait_for};
use proto::v1::{
    CreateNamespaceRequest, DiffShardsRequest, DrainPeersRequest, ListShardsRequest, Namespace, Operation,
    RegisterPeerRequest, Shard, ShardLoad, SimulateShardsRequest, namespace, operation, shard,
};

use super::{
    drains::Killer,
    views::History,
    watchers::{Form, Watcher},
    world::{SOON, agreed, client, drains_take, finished, unique, verify_audit, wait},
};

const ZONES: usize = 3;
const PEERS_OF_A_ZONE: usize = 4;
const SHARDS: u32 = 600;
/// How long a drain stays at a step: a leader can be killed in between.
const SETTLE: Duration = Duration::from_millis(400);

/// Shard by number: who owns it, and its epoch.
type Map = BTreeMap<u32, (String, u64)>;

struct Run<'a> {
    mesh: &'a mut Mesh,
    sdk: Client,
    killer: Killer,
    namespace: String,
}

impl Run<'_> {
    fn registers_peers(&self) {
        for number in 0..ZONES * PEERS_OF_A_ZONE {
            let zone = zone(number % ZONES);
            let request = RegisterPeerRequest {
                id: format!("{}-{number}", self.namespace),
                zone: zone.clone(),
                endpoints: vec!["127.0.0.1:9000".to_owned()],
                labels: BTreeMap::from([("zone".to_owned(), zone)]),
                ..RegisterPeerRequest::default()
            };
            wait(self.sdk.register_peer(request)).unwrap();
        }
    }

    fn creates(&self) -> Namespace {
        let request = CreateNamespaceRequest {
            id: self.namespace.clone(),
            shards: SHARDS,
            replicas: 1,
            strategy: namespace::Strategy::Locality.into(),
            ..CreateNamespaceRequest::default()
        };
        let made = wait(self.sdk.create_namespace(request)).unwrap().message;
        assert_eq!(made.phase(), namespace::Phase::Creating);
        let operation = finished(self.mesh, &made.operation);
        assert_eq!((operation.done, operation.total), (SHARDS, SHARDS), "{operation:?}");
        made
    }

    /// All shards, page by page, of one revision.
    fn lists(&self) -> (u64, Vec<Shard>) {
        let (mut shards, mut cursor, mut revision) = (Vec::new(), String::new(), None);
        loop {
            let request = ListShardsRequest {
                namespace: self.namespace.clone(),
                limit: 250,
                cursor,
                ..ListShardsRequest::default()
            };
            let page = wait(self.sdk.list_shards(request)).unwrap().message;
            assert_eq!(
                *revision.get_or_insert(page.revision),
                page.revision,
                "pages of one revision"
            );
            shards.extend(page.items);
            if page.next_cursor.is_empty() {
                return (page.revision, shards);
            }
            cursor = page.next_cursor;
        }
    }

    fn map(&self) -> (u64, Map) {
        let (revision, shards) = self.lists();
        let owned = shards.iter().map(|shard| {
            let epoch = shard.token.as_ref().unwrap().shard_epoch;
            (shard.shard, (shard.owner.clone(), epoch))
        });
        (revision, owned.collect())
    }

    fn drains(&self, zone: &str, at_once: usize) -> Operation {
        let request = DrainPeersRequest {
            selector: format!("zone={zone}"),
            at_once: u32::try_from(at_once).unwrap(),
            reason: "rack".into(),
            ..DrainPeersRequest::default()
        };
        wait(self.sdk.drain_peers(request)).unwrap().message
    }

    /// Drains a zone, a peer at a time, and changes its mind when the first is done: the leader dies meanwhile.
    fn drains_and_cancels(&mut self) {
        let (_, before) = self.map();
        let begun = self.drains(&zone(1), 1);
        let sdk = &self.sdk;
        let owned = |zone: usize| -> u32 {
            let request = ListShardsRequest {
                namespace: self.namespace.clone(),
                zone: self::zone(zone),
                limit: 1_000,
                ..ListShardsRequest::default()
            };
            wait(sdk.list_shards(request)).map_or(u32::MAX, |page| u32::try_from(page.message.items.len()).unwrap())
        };
        let all = owned(1);
        assert!(all > 0, "the zone owns nothing");
        wait_for(SOON, "some of the zone's shards have moved", || {
            (owned(1) < all).then_some(())
        })
        .unwrap();
        self.killer.kill_leader(self.mesh);
        let id = begun.id.clone();
        let cancelled = wait_for(SOON, "the drain is cancelled", || {
            let request = proto::v1::CancelOperationRequest {
                id: id.clone(),
                ..Default::default()
            };
            wait(self.sdk.cancel_operation(request)).ok()
        });
        drop(cancelled);
        let ended = finished(self.mesh, &begun.id);
        assert_eq!(ended.state(), operation::State::Cancelled, "{ended:?}");
        let (_, after) = self.map();
        let moved = after.iter().filter(|(shard, at)| before[shard] != **at).count();
        assert!(moved > 0 && moved < SHARDS as usize / ZONES, "{moved} shards moved");
        // Their peers are as they were, and nobody else was touched.
        for (shard, (owner, epoch)) in &after {
            let (owner_before, epoch_before) = &before[shard];
            assert_eq!(owner == owner_before, epoch == epoch_before, "shard {shard}");
        }
    }

    /// Loses a zone on paper, then in truth.
    fn ends_in_what_was_simulated(&mut self) {
        let (from, mut expected) = self.map();
        let request = SimulateShardsRequest {
            namespace: self.namespace.clone(),
            without_zones: vec![zone(2)],
            ..SimulateShardsRequest::default()
        };
        let simulated = wait(self.sdk.simulate_shards(request)).unwrap().message;
        assert_eq!((simulated.shards, simulated.unowned), (SHARDS, 0));
        assert!(
            simulated.moved > 0 && simulated.moved == simulated.unavoidable,
            "{}",
            simulated.moved
        );
        assert!(
            simulated.guardrails.iter().all(|rail| rail.passed),
            "{:?}",
            simulated.guardrails
        );
        assert!(!simulated.truncated && simulated.changes.len() == simulated.moved as usize);
        for change in &simulated.changes {
            let (owner, epoch) = expected.get_mut(&change.shard).unwrap();
            assert_eq!(*owner, change.owner_before);
            *owner = change.owner_after.clone();
            *epoch += 1;
        }
        let drain = self.drains(&zone(2), PEERS_OF_A_ZONE);
        self.killer.kill_leader(self.mesh);
        let ended = finished(self.mesh, &drain.id);
        assert_eq!(ended.state(), operation::State::Succeeded, "{ended:?}");
        let (to, map) = self.map();
        let differ: Vec<_> = map.iter().filter(|(shard, at)| expected[shard] != **at).collect();
        assert!(
            differ.is_empty() && map.len() == expected.len(),
            "not as simulated: {differ:?}"
        );
        let loads = self.difference(from, to, &simulated.changes.len());
        for load in simulated
            .loads
            .iter()
            .filter(|load| load.owned_before != load.owned_after)
        {
            let found = loads.iter().find(|found| found.peer == load.peer);
            assert_eq!(found.map(|found| found.owned_after), Some(load.owned_after), "{load:?}");
        }
    }

    /// What differs between two revisions is what was moved between them.
    fn difference(&self, from_revision: u64, to_revision: u64, moved: &usize) -> Vec<ShardLoad> {
        let request = DiffShardsRequest {
            namespace: self.namespace.clone(),
            from_revision,
            to_revision,
        };
        let diff = wait(self.sdk.diff_shards(request)).unwrap().message;
        assert_eq!((diff.changes.len(), diff.moved as usize), (*moved, *moved));
        assert!(
            diff.changes
                .iter()
                .all(|change| change.epoch_after == change.epoch_before + 1)
        );
        diff.loads
    }
}

fn zone(number: usize) -> String {
    format!("zone-{number}")
}

#[test]
fn an_operators_run_ends_in_the_map_that_was_simulated() {
    let mut mesh = Mesh::start(drains_take(SETTLE)).unwrap();
    let watchers = [
        Watcher::moves(&mesh, 1, Form::Grpc),
        Watcher::stays(&mesh, 2, Form::Sse2),
        Watcher::with_snapshot(&mesh, 3, Form::Sse3),
    ];
    let sdk = client(&mesh, "admin");
    let mut run = Run {
        mesh: &mut mesh,
        sdk,
        killer: Killer::default(),
        namespace: unique("orders"),
    };
    run.registers_peers();
    run.creates();
    let (_, shards) = run.lists();
    assert_eq!(shards.len(), SHARDS as usize);
    assert!(
        shards
            .iter()
            .all(|shard| shard.status() == shard::Status::Active && shard.replicas.len() == 1)
    );
    let mut owned: BTreeMap<&str, u32> = BTreeMap::new();
    for shard in &shards {
        *owned.entry(&shard.owner).or_default() += 1;
    }
    // 1.10 times the mean at the most.
    let most = SHARDS * 110 / 100 / u32::try_from(ZONES * PEERS_OF_A_ZONE).unwrap();
    assert!(
        owned.len() == ZONES * PEERS_OF_A_ZONE && owned.values().all(|owned| *owned <= most),
        "{owned:?}"
    );
    run.drains_and_cancels();
    run.ends_in_what_was_simulated();
    run.killer.all_are_back(run.mesh);
    assert_eq!(run.killer.kills, 2);
    let (revision, _) = agreed(&mesh);
    let history = History::read(&mesh);
    for watcher in &watchers {
        watcher.reaches(revision);
        assert_eq!(
            watcher.check(&history, revision),
            history.at(revision),
            "{}",
            watcher.name
        );
    }
    verify_audit(&mesh);
    mesh.stop().unwrap();
}
