//! What operators work on, and what they know of it: shared, as a team shares a board.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Instant,
};

use api_client::Client;
use futures::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use prost_types::value::Kind;
use proto::v1::{ApplyClusterRequest, Cluster, PatchConfigRequest, Peer, RegisterPeerRequest, peer};

use crate::{Result, error::Doing as _};

/// The peers that one mass drain selects.
const BATCH: usize = 25;

/// Calls under way at once while the mesh is filled.
const WIDTH: usize = 32;

/// The setting that operators edit: it has no effect on a cluster whose members stay as they are.
pub const EDITED: &str = "policy.learner_lag";

/// What is known of a peer: as it was at a revision.
#[derive(Debug, Clone)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// The batch whose mass drains select it; the others are drained one by one.
    pub batch: Option<usize>,
    /// Its ETag.
    pub etag: String,
    /// Its status.
    pub status: peer::Status,
    /// The label `count`.
    pub count: u64,
    /// When it was so.
    pub revision: u64,
}

impl Known {
    fn of(peer: &Peer, batch: Option<usize>) -> Self {
        Self {
            id: peer.id.clone(),
            batch,
            etag: peer.etag.clone(),
            status: peer.status(),
            count: count(peer),
            revision: peer.changed_revision,
        }
    }

    /// Takes what is newer.
    pub fn learn(&mut self, peer: &Peer) {
        if peer.id == self.id && peer.changed_revision > self.revision {
            *self = Self::of(peer, self.batch);
        }
    }
}

/// The label that changes under `If-Match` count up.
pub fn count(peer: &Peer) -> u64 {
    peer.labels
        .get("count")
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

/// What becomes of the peers that one selector selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// Nothing.
    Free,
    /// Somebody asked for their drain.
    Asked,
    /// It was approved at this time.
    Runs(Instant),
}

/// A request that waits for somebody else.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its id.
    pub id: String,
    /// Who asked.
    pub requester: std::sync::Arc<str>,
    /// Whether it takes an admin.
    pub admin: bool,
    /// The batch that it would drain.
    pub batch: Option<usize>,
    /// How many more will decide, at the same time.
    pub deciders: u32,
}

/// The board.
pub struct Stage {
    /// The peers.
    pub peers: Vec<Mutex<Known>>,
    /// The clusters' descriptors, and their ETags.
    pub clusters: Vec<Mutex<Cluster>>,
    /// The batches.
    pub batches: Mutex<Vec<Batch>>,
    /// How many of them are drained at once.
    pub batches_at_once: usize,
    /// What waits.
    pub pending: Mutex<VecDeque<Pending>>,
    /// Whether there are approvals and mass drains now.
    pub full: AtomicBool,
    /// Set once everybody is to finish what they do.
    pub stop: AtomicBool,
    /// What was acknowledged since the beginning.
    pub acknowledged: AtomicU64,
    next: AtomicU64,
    edits: AtomicU64,
}

impl Stage {
    /// Fills a mesh: clusters, and peers in them, and the rules on approvals last.
    ///
    /// # Errors
    /// Where the mesh refuses any of it.
    pub async fn set(root: &Client, peers: usize, clusters: usize, batches_at_once: usize) -> Result<Self> {
        settings(root, &[("limits.clusters", "1000"), ("approvals.ttl", "60000")]).await?;
        let made = (0..clusters).map(|index| async move {
            let request = ApplyClusterRequest {
                id: format!("region-{index}"),
                region: format!("r{}", index % 6),
                owners: vec!["sre".into()],
                ..ApplyClusterRequest::default()
            };
            let applied = root.apply_cluster(request).await;
            applied
                .doing("adding a cluster")
                .map(|answer| Mutex::new(answer.message))
        });
        let clusters: Vec<_> = futures::stream::iter(made).buffered(WIDTH).try_collect().await?;
        // Two fifths of them, in whole batches.
        let batches = (peers * 2 / 5 / BATCH).max(1);
        let cluster_count = clusters.len().max(1);
        let made = (0..peers).map(|index| async move {
            let batch = Some(index / BATCH).filter(|batch| *batch < batches);
            let mut labels = BTreeMap::from([("count".to_owned(), "0".to_owned())]);
            if let Some(batch) = batch {
                labels.insert("batch".to_owned(), batch.to_string());
            }
            let request = RegisterPeerRequest {
                id: format!("p{index}"),
                cluster: format!("region-{}", index % cluster_count),
                endpoints: vec!["127.0.0.1:9000".into()],
                weight: u32::try_from(1 + index % 10_000).unwrap_or(100),
                labels,
                ..RegisterPeerRequest::default()
            };
            let registered = root.register_peer(request).await.doing("registering a peer")?;
            Ok::<_, crate::Error>(Mutex::new(Known::of(&registered.message, batch)))
        });
        let peers = futures::stream::iter(made).buffered(WIDTH).try_collect().await?;
        let rules = [
            ("approvals.peers.drain_many", "operator"),
            ("approvals.clusters.apply", "admin"),
            ("approvals.config.set", "admin"),
        ];
        settings(root, &rules).await?;
        Ok(Self {
            peers,
            clusters,
            batches: Mutex::new(vec![Batch::Free; batches]),
            batches_at_once,
            pending: Mutex::default(),
            full: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            next: AtomicU64::new(1),
            edits: AtomicU64::new(1),
        })
    }

    /// A number that nobody had.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A value of [`EDITED`] that nobody gave it before.
    pub fn edit(&self) -> u64 {
        self.edits.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether everybody is to stop.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes what is newer of a peer; others than those of the board are not followed.
    pub fn learn(&self, peer: &Peer) {
        let index = peer.id.strip_prefix('p').and_then(|index| index.parse::<usize>().ok());
        if let Some(known) = index.and_then(|index| self.peers.get(index)) {
            known.lock().learn(peer);
        }
    }

    /// A batch that nobody drains, taken, where not as many are drained as may be: the first one from `from` on.
    pub fn take_batch(&self, from: usize) -> Option<usize> {
        let mut batches = self.batches.lock();
        let busy = batches.iter().filter(|batch| **batch != Batch::Free).count();
        let all = batches.len();
        let mut turns = (0..all).map(|turn| (from + turn) % all);
        let free = turns.find(|index| batches.get(*index) == Some(&Batch::Free))?;
        if busy >= self.batches_at_once {
            return None;
        }
        *batches.get_mut(free)? = Batch::Asked;
        Some(free)
    }

    /// Whether nobody drains the batch that a peer is in, or it is in none.
    pub fn is_free(&self, known: &Known) -> bool {
        let batches = self.batches.lock();
        known.batch.is_none_or(|batch| batches.get(batch) == Some(&Batch::Free))
    }

    /// Says what became of a batch.
    pub fn put_batch(&self, index: usize, now: Batch) {
        if let Some(batch) = self.batches.lock().get_mut(index) {
            *batch = now;
        }
    }
}

/// The selector of a batch.
pub fn selector(batch: usize) -> String {
    format!("batch={batch}")
}

/// A value of a setting.
pub fn value(text: &str) -> prost_types::Value {
    prost_types::Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    }
}

async fn settings(root: &Client, wanted: &[(&str, &str)]) -> Result<()> {
    let settings = wanted
        .iter()
        .map(|(name, to)| ((*name).to_owned(), value(to)))
        .collect();
    let request = PatchConfigRequest {
        settings,
        ..PatchConfigRequest::default()
    };
    root.patch_config(request)
        .await
        .doing("setting what the run needs")
        .map(drop)
}
