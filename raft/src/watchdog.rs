//! Watches over a node: keeps its status current, and notes when it cannot go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant as _, RaftMetrics, ServerState};
use statemachine::NodeId;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::campaign::Campaign;
use crate::error::{Fatal, FatalKind, Leader};
use crate::fatal::FatalLatch;
use crate::net::RefusalCode;
use crate::net::pool::{Pool, RefusedBy};
use crate::node::Raft;
use crate::propose::Proposer;
use crate::recovery::Recovery;
use crate::state::machine::StateMachine;
use crate::status::{Member, Quorum, Role, Status, VoterChange};
use crate::types::TypeConfig;

/// Status is made anew at most this often...
const PERIOD_MIN: Duration = Duration::from_millis(20);
/// ...and at least this often, for times since last contact.
const PERIOD_MAX: Duration = Duration::from_millis(500);

/// A node that has heard from no leader for so many leases cannot believe that its cluster commits. More than one, since a
/// heartbeat may be late on a busy machine.
const SILENT_LEASES: u32 = 3;

/// For how long a node looks for a leader before it believes few that say it was removed.
const REMOVED_AFTER: Duration = Duration::from_secs(10);

/// What is watched.
pub(crate) struct Watched {
    pub own: NodeId,
    pub raft: Raft,
    pub proposer: Arc<Proposer>,
    pub machine: StateMachine,
    pub pool: Pool,
    pub fatal: FatalLatch,
    pub refused_by: RefusedBy,
    pub recovery: Arc<Recovery>,
    pub campaign: Campaign,
    /// A voter that did not answer the leader for longer is not counted as reachable.
    pub lease: Duration,
}

impl Watched {
    /// Runs until the task is ended.
    pub(crate) async fn run(self: Arc<Self>, sender: watch::Sender<Status>) {
        let mut metrics = self.raft.metrics();
        let mut refused_by = self.refused_by.watch();
        let mut members = BTreeSet::new();
        loop {
            let status = self.status();
            if status.is_leader() {
                self.proposer.take_over_clock();
            }
            self.campaign.update(&status);
            let current: BTreeSet<u64> = status.members.iter().map(|m| m.node.0).collect();
            if current != members {
                self.pool.retain(&current);
                members = current;
            }
            self.judge(&status, &refused_by.borrow_and_update());
            sender.send_if_modified(|old| {
                let changed = *old != status;
                *old = status;
                changed
            });
            sleep(PERIOD_MIN).await;
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() {
                    // openraft is gone: shut down, or stopped by an error that `judge` has seen.
                    sleep(PERIOD_MAX).await;
                },
                _ = refused_by.changed() => {}
                () = sleep(PERIOD_MAX) => {}
            }
        }
    }

    /// Whether the word of fewer than a majority is to be believed: nobody has led this node for a while.
    ///
    /// So it is after a recovery: most of those that the node knew are gone, and its cluster goes on without it. Why this
    /// is safe: each of those who said so has proven by its certificate to be a member that this node knows, and tells
    /// what its cluster has committed; nothing takes a node off the list of removed ones, so no old copy says it by
    /// mistake. One that recovered alone although a majority was there is wrong, and does not stop that majority: it has
    /// a leader. And a node that stops loses nothing: its disk is as it was.
    fn nobody_leads(&self) -> bool {
        self.campaign.heard.silence() > REMOVED_AFTER
    }

    /// Notes a reason to stop, if there is one.
    fn judge(&self, status: &Status, refused_by: &BTreeMap<u64, RefusalCode>) {
        if self.machine.publisher().view().state().cluster.is_removed(self.own) {
            let detail = "the cluster has removed this node".to_owned();
            self.fatal.set(Fatal::new(FatalKind::Removed, detail));
        }
        // One node may be behind; a majority cannot have made it up.
        let by = |code| refused_by.values().filter(|found| **found == code).count();
        let is_majority = |count: usize| count > 0 && count >= status.quorum.needed.max(1);
        let removed = by(RefusalCode::Removed);
        if is_majority(removed) || (removed > 0 && self.nobody_leads()) {
            self.fatal
                .set(Fatal::new(FatalKind::Removed, told(refused_by, self.own)));
        }
        let stale = by(RefusalCode::StaleDirectory);
        if is_majority(stale) {
            let detail = format!(
                "{stale} nodes say that this data directory is an old copy, or not that of node {}: what the node \
                 acknowledged since is not in it. Empty the directory and start the node again; the others rebuild it",
                self.own
            );
            self.fatal.set(Fatal::new(FatalKind::Foreign, detail));
        }
        if let Err(error) = &self.raft.metrics().borrow_watched().running_state
            && !matches!(error, openraft::errors::Fatal::Stopped)
        {
            self.fatal.set(Fatal::new(FatalKind::Internal, error.to_string()));
        }
    }

    /// What is known now.
    pub(crate) fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = members(&metrics);
        // openraft goes on naming a leader that is gone.
        let hears = self.campaign.heard.silence() <= self.lease.saturating_mul(SILENT_LEASES);
        let quorum = quorum(&metrics, &members, self.lease, hears);
        let leader = metrics.current_leader.map(|leader| {
            let endpoint = metrics.membership_config.get_node(&leader);
            Leader {
                node: NodeId(leader),
                api: endpoint.map(|e| e.api.clone()).unwrap_or_default(),
            }
        });
        let (applied, durable) = {
            let view = self.machine.publisher().view();
            (view.applied_index(), self.machine.shared.durable().map(|id| id.index))
        };
        Status {
            node: self.own,
            role: role(&metrics),
            term: metrics.current_term,
            leader,
            last_log_index: metrics.last_log_index,
            committed_index: metrics.cluster_committed.map(|id| id.index),
            applied_index: applied,
            durable_index: durable,
            purged_index: metrics.purged.map(|id| id.index),
            initialized: !members.is_empty(),
            members,
            quorum,
            change: change(&metrics),
            recovering: self.recovery.is_recovering(),
            introduced: self.recovery.is_introduced(self.machine.publisher()),
            fatal: self.fatal.get(),
        }
    }
}

/// Who said that this node was removed, and what to do.
fn told(refused_by: &BTreeMap<u64, RefusalCode>, own: NodeId) -> String {
    let by = refused_by.iter().filter(|(_, code)| **code == RefusalCode::Removed);
    let by: Vec<String> = by.map(|(node, _)| node.to_string()).collect();
    format!(
        "node {} says that node {own} was removed from the cluster, by an operator or when the cluster was recovered \
         without it. Its number cannot be used again. To use this machine: keep or empty the data directory, and have it \
         join with a new number (`mesh members invite`)",
        by.join(", ")
    )
}

fn role(metrics: &RaftMetrics<TypeConfig>) -> Role {
    if metrics.running_state.is_err() {
        return Role::Stopped;
    }
    match metrics.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}

fn members(metrics: &RaftMetrics<TypeConfig>) -> Vec<Member> {
    let membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let leads = metrics.state == ServerState::Leader;
    let members = membership.nodes().map(|(id, endpoint)| {
        let own = *id == metrics.id;
        let matched = metrics.replication.as_ref().and_then(|r| r.get(id)).copied().flatten();
        let matched_index = if own {
            metrics.last_log_index
        } else {
            matched.map(|m| m.index)
        };
        let lag_entries = match (leads, metrics.last_log_index, matched_index) {
            (true, Some(last), Some(matched)) => Some(last.saturating_sub(matched)),
            _ => None,
        };
        let heard = metrics.heartbeat.as_ref().and_then(|h| h.get(id)).copied().flatten();
        let last_contact = if leads && own {
            Some(Duration::ZERO)
        } else {
            heard.map(|at| at.elapsed())
        };
        Member {
            node: NodeId(*id),
            raft: endpoint.raft.clone(),
            api: endpoint.api.clone(),
            voter: voters.contains(id),
            matched_index: matched_index.filter(|_| leads || own),
            lag_entries,
            last_contact,
        }
    });
    members.collect()
}

fn change(metrics: &RaftMetrics<TypeConfig>) -> Option<VoterChange> {
    match metrics.membership_config.membership().get_joint_config().as_slice() {
        [from, .., to] => Some(VoterChange {
            from: from.clone(),
            to: to.clone(),
        }),
        [_] | [] => None,
    }
}

/// `hears`: whether a leader was heard from lately.
fn quorum(metrics: &RaftMetrics<TypeConfig>, members: &[Member], lease: Duration, hears: bool) -> Quorum {
    let fresh: BTreeSet<u64> = members
        .iter()
        .filter(|m| m.last_contact.is_some_and(|since| since <= lease))
        .map(|m| m.node.0)
        .collect();
    let configs = metrics.membership_config.membership().get_joint_config();
    // While a change is under way a majority of each set is needed.
    let ok_in_all = !configs.is_empty()
        && configs
            .iter()
            .all(|set| set.intersection(&fresh).count() > set.len() / 2);
    let voters = members.iter().filter(|m| m.voter).count();
    let leads = metrics.state == ServerState::Leader;
    let follows = metrics.current_leader.is_some() && hears;
    Quorum {
        voters,
        needed: if voters == 0 { 0 } else { voters / 2 + 1 },
        reachable: members.iter().filter(|m| m.voter && fresh.contains(&m.node.0)).count(),
        ok: if leads { ok_in_all } else { follows },
    }
}
