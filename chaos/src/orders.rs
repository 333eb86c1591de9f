//! What an operator asks of a node, carried out by the node itself: changes of members and leader, compaction, backups.
//!
//! An order is given to one process and dies with it; whoever gave it sees that it is gone and gives it again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use raft::{Consistency, Endpoint, Error, Handle, JoinRequest};
use statemachine::{
    Answer, CompactHistory, Conditions, Hash, NodeId, Origin, Outcome, Request, Revision, Stamp, audit, cluster,
};
use tokio::time::{Instant, sleep};

use crate::{
    clock,
    network::{API_PORT, RAFT_PORT, host},
    plant::Plant,
    schedule::NODES,
};

/// How long carrying out one order may take.
pub const WITHIN: Duration = Duration::from_secs(5);
/// How often a node looks for orders.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What is younger than this is not compacted away: no client repeats what is older.
const KEPT_MS: u64 = 8_000;
/// The most entries that a learner may be behind to be made a voter.
const LAG_MAX: u64 = 200;
/// How old a backup is that is planted.
const STALE_BY: Duration = Duration::from_millis(1_500);
/// What an invited node proves it by.
const SECRET: &[u8] = b"an invitation";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Of the leader: let this node join.
    Invite(NodeId),
    /// Of a node that was invited: join.
    Join,
    /// Of the leader: let this learner vote, once it is close behind.
    Promote(NodeId),
    /// Of the leader: take this node out for good.
    Remove(NodeId),
    /// Of the leader: hand leadership to another.
    Transfer,
    /// Of the leader: let go of history that nobody asks for any more.
    Compact,
    /// Of any node: make a backup that holds everything acknowledged before.
    Backup,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    /// It is so now.
    Changed,
    /// History begins here now.
    Floor(Revision),
    /// A backup.
    Backup(Taken),
}

/// A backup, as it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Whose.
    pub node: NodeId,
    /// What it has to hold: a linearizable read saw this revision, and this audit chain, before it began.
    pub seen: (Revision, Hash),
    /// The file.
    pub bytes: Vec<u8>,
}

/// How an order ended.
pub type Ended = Result<Done, String>;

#[derive(Debug, Default)]
struct Queue {
    given: u64,
    waiting: VecDeque<(u64, Order)>,
    under_way: BTreeMap<u64, Option<Ended>>,
}

/// The orders of one machine. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Orders(Arc<Mutex<Queue>>);

impl Orders {
    /// Gives an order to the process that runs; answers its number.
    pub fn give(&self, order: Order) -> u64 {
        let mut queue = self.0.lock();
        queue.given += 1;
        let number = queue.given;
        queue.waiting.push_back((number, order));
        queue.under_way.insert(number, None);
        number
    }

    /// Whether there is nothing to wait for any more: it ended, or its process did.
    #[must_use]
    pub fn is_over(&self, number: u64) -> bool {
        self.0.lock().under_way.get(&number).is_none_or(Option::is_some)
    }

    /// How it ended; none where that is not known, and will not be.
    #[must_use]
    pub fn take(&self, number: u64) -> Option<Ended> {
        self.0.lock().under_way.remove(&number).flatten()
    }

    /// Forgets everything: the process that was asked is gone.
    pub fn clear(&self) {
        let mut queue = self.0.lock();
        queue.waiting.clear();
        queue.under_way.clear();
    }

    fn next(&self) -> Option<(u64, Order)> {
        self.0.lock().waiting.pop_front()
    }

    fn end(&self, number: u64, ended: Ended) {
        if let Some(place) = self.0.lock().under_way.get_mut(&number) {
            *place = Some(ended);
        }
    }
}

/// Carries orders out until it is dropped.
pub async fn serve(orders: Orders, handle: Handle, plant: Option<Plant>) {
    loop {
        while let Some((number, order)) = orders.next() {
            let (orders, handle) = (orders.clone(), handle.clone());
            tokio::spawn(async move {
                let ended = perform(&handle, order, plant).await;
                orders.end(number, ended);
            });
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Where a node is reached.
#[must_use]
pub fn endpoint(node: NodeId) -> Endpoint {
    Endpoint {
        raft: format!("{}:{RAFT_PORT}", host(node)),
        api: format!("{}:{API_PORT}", host(node)),
    }
}

async fn perform(handle: &Handle, order: Order, plant: Option<Plant>) -> Ended {
    let deadline = Instant::now() + WITHIN;
    let told = |error: Error| error.to_string();
    match order {
        Order::Invite(node) => invite(handle, node, deadline).await,
        Order::Join => {
            let request = JoinRequest {
                secret: SECRET.to_vec(),
                members: (1..=NODES)
                    .map(NodeId)
                    .map(|node| (node, endpoint(node).raft))
                    .collect(),
                own: endpoint(handle.node()),
            };
            let joined = handle.join(&request, deadline).await;
            joined.map(|()| Done::Changed).map_err(|error| error.to_string())
        }
        Order::Promote(node) => {
            let status = handle.status();
            let member = status.members.iter().find(|member| member.node == node);
            let lag = member.and_then(|member| member.lag_entries);
            if lag.is_none_or(|lag| lag > LAG_MAX) {
                return Err(format!("n{node} is behind by {lag:?}"));
            }
            let promoted = handle.add_voter(node, deadline).await;
            promoted.map(|()| Done::Changed).map_err(told)
        }
        Order::Remove(node) => {
            let (actor, reason) = ("operator".to_owned(), "simulation".to_owned());
            let removed = handle.remove_node(node, actor, reason, false, deadline).await;
            removed.map(|()| Done::Changed).map_err(told)
        }
        Order::Transfer => {
            let handed = handle.transfer_leadership(None, deadline).await;
            handed.map(|()| Done::Changed).map_err(told)
        }
        Order::Compact => compact(handle, deadline).await,
        Order::Backup => back_up(handle, plant, deadline).await.map_err(told),
    }
}

async fn invite(handle: &Handle, node: NodeId, deadline: Instant) -> Ended {
    let command = cluster::Command::InviteNode {
        stamp: Stamp::default(),
        node,
        secret: audit::fingerprint(SECRET),
        ttl_ms: 600_000,
        actor: "operator".to_owned(),
        reason: "simulation".to_owned(),
    };
    let committed = handle.propose_cluster(command, deadline).await;
    match committed.map_err(|error| error.to_string())?.answer {
        Answer::Cluster(cluster::Outcome::Applied | cluster::Outcome::Unchanged) => Ok(Done::Changed),
        other => Err(format!("{other:?}")),
    }
}

async fn compact(handle: &Handle, deadline: Instant) -> Ended {
    let view = handle.view();
    let mesh = &view.state().mesh;
    let Some(record) = mesh.mesh() else {
        return Err("there is no mesh yet".to_owned());
    };
    let kept = view.first_since(mesh.stamp().mesh_time_ms.saturating_sub(KEPT_MS));
    let command = CompactHistory {
        mesh: record.id.clone(),
        to: kept.map_err(|error| error.to_string())?,
        // In production keys are remembered for longer than a story lasts, and what they refer to is kept.
        to_mesh_time_ms: 0,
    };
    let request = Request {
        origin: Origin {
            actor: "operator".to_owned(),
            reason: "simulation".to_owned(),
            received_wall_ms: clock::EPOCH_MS,
            ..Origin::default()
        },
        conditions: Conditions::default(),
        command: command.command().map_err(|rejection| rejection.detail())?,
    };
    let committed = handle.propose(request, deadline).await;
    let committed = committed.map_err(|error| error.to_string())?;
    match committed.unit().map(|recorded| &recorded.unit.outcome) {
        Some(Outcome::Applied { .. }) => {}
        other => return Err(format!("{other:?}")),
    }
    let floor = handle.view().state().mesh.floor();
    if floor > record.floor {
        Ok(Done::Floor(floor))
    } else {
        Err(format!("history still begins at {floor}"))
    }
}

async fn back_up(handle: &Handle, plant: Option<Plant>, deadline: Instant) -> Result<Done, Error> {
    let stale = match plant {
        Some(Plant::StaleBackup) => Some(handle.backup().await?),
        _ => None,
    };
    if stale.is_some() {
        sleep(STALE_BY).await;
    }
    let view = handle.read(Consistency::Linearizable, deadline).await?;
    let mesh = &view.state().mesh;
    let seen = (mesh.position().revision, mesh.chain());
    let mut backup = match stale {
        Some(stale) => stale,
        None => handle.backup().await?,
    };
    let mut bytes = Vec::new();
    while let Some(piece) = backup.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(Done::Backup(Taken {
        node: handle.node(),
        seen,
        bytes,
    }))
}
