//! The leader looks after its cluster: every few seconds it asks all members for clock, digest and disk, raises the
//! alarms that follow and takes them down again, and leaves leading to another node where it should not lead itself.

mod verdict;

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use raft::{Checkup as Asked, Error, unfit_to_lead};
use statemachine::{
    Hash, NodeId, Stamp,
    cluster::{AlarmKind, Command},
};
use tokio::time::Instant;

use self::verdict::{Answer, Digests, Offset};
use crate::controller::{Controller, Node, Pass};

/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// How long handing leadership over may take.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait before leadership is offered again to a node that did not take it.
const OFFER_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What the leader saw of a member at the last checkup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The member.
    pub node: NodeId,
    /// How far its clock is ahead of the median of the voters' clocks, in ms.
    pub offset_ms: i64,
    /// By how much that may be wrong.
    pub uncertainty_ms: u64,
    /// What is left on its disk, where it was measured.
    pub free_bytes: Option<u64>,
}

/// What the leader saw at the last checkup; nothing while this node does not lead.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sight(pub Arc<Mutex<Vec<Seen>>>);

/// Examines the cluster while this node leads it.
pub(crate) struct Checkup {
    interval: Duration,
    next: Instant,
    sight: Sight,
}

impl Checkup {
    pub fn new(interval: Duration, sight: Sight) -> Self {
        Self {
            interval,
            next: Instant::now(),
            sight,
        }
    }

    /// Asks everybody, and acts on what they say.
    async fn examine(&self, node: &Node) -> Result<(), Error> {
        let status = node.handle.status();
        let revision = node.handle.view().position().revision;
        let deadline = Instant::now() + ANSWER_WITHIN;
        let asked = status.members.iter().map(async |member| {
            let asked = node.handle.checkup(member.node, revision, deadline).await.ok()?;
            Some((member.node, member.voter, asked))
        });
        let answered: Vec<(NodeId, bool, Asked)> = join_all(asked).await.into_iter().flatten().collect();
        // Whose state is known to be wrong has no say in what is right.
        let view = node.handle.view();
        let sound = |node| !view.state().cluster.has_alarm(node, AlarmKind::Corrupt);
        let answers: Vec<Answer> = answered
            .iter()
            .map(|(node, voter, asked)| Answer {
                node: *node,
                voter: *voter,
                digest: asked.vitals.digest.filter(|_| sound(*node)),
                offset_ms: asked.offset_ms,
                uncertainty_ms: asked.uncertainty_ms,
            })
            .collect();
        let clocks = verdict::clocks(&answers);
        *self.sight.0.lock() = answered
            .iter()
            .zip(&clocks)
            .map(|((node, _, asked), clock)| Seen {
                node: *node,
                offset_ms: clock.offset_ms,
                uncertainty_ms: clock.uncertainty_ms,
                free_bytes: asked.vitals.free_bytes,
            })
            .collect();
        let voters = status.members.iter().filter(|member| member.voter).count();
        self.judge_digests(node, revision.0, verdict::digests(&answers, voters))
            .await?;
        for clock in clocks {
            self.judge_clock(node, clock).await?;
        }
        Ok(())
    }

    async fn judge_digests(&self, node: &Node, revision: u64, digests: Digests) -> Result<(), Error> {
        let divided = match digests {
            Digests::Same => None,
            Digests::Odd { nodes, majority } => {
                for (odd, digest) in nodes {
                    let detail = format!(
                        "its digest at revision {revision} is {}, that of the majority {}",
                        short(digest),
                        short(majority)
                    );
                    raise(node, odd, AlarmKind::Corrupt, detail).await?;
                }
                None
            }
            Digests::Divided(all) => {
                let all: Vec<_> = all
                    .iter()
                    .map(|(node, digest)| format!("node {node} has {}", short(*digest)))
                    .collect();
                Some(format!(
                    "no majority has the same digest at revision {revision}: {}",
                    all.join(", ")
                ))
            }
        };
        node.handle.health().set_divided(divided);
        Ok(())
    }

    async fn judge_clock(&self, node: &Node, clock: Offset) -> Result<(), Error> {
        let limit = node.handle.view().state().mesh.settings().clock_offset_max_ms;
        let up = node
            .handle
            .view()
            .state()
            .cluster
            .has_alarm(clock.node, AlarmKind::Clock);
        if !up && clock.is_over(limit) {
            let detail = format!(
                "its clock is {} ms {} the others' (± {} ms), over the limit of {limit} ms",
                clock.offset_ms.unsigned_abs(),
                if clock.offset_ms < 0 { "behind" } else { "ahead of" },
                clock.uncertainty_ms
            );
            raise(node, clock.node, AlarmKind::Clock, detail).await?;
        } else if up && clock.is_back(limit) {
            let reason = format!("its clock is within {limit} ms of the others' again");
            clear(node, clock.node, AlarmKind::Clock, reason).await?;
        }
        Ok(())
    }
}

impl Drop for Checkup {
    fn drop(&mut self) {
        self.sight.0.lock().clear();
    }
}

impl Controller for Checkup {
    fn name(&self) -> &'static str {
        "checkup"
    }

    fn period(&self) -> Duration {
        self.interval
    }

    async fn pass(&mut self, node: &Node) -> Result<Pass, Error> {
        let wait = self.next.saturating_duration_since(Instant::now());
        let examined = if wait.is_zero() {
            self.next = Instant::now() + self.interval;
            self.examine(node).await
        } else {
            Ok(())
        };
        // Also where the examination did not get through: a leader that cannot commit has all the more reason.
        let stays = hand_over(node).await;
        examined?;
        let wait = self.next.saturating_duration_since(Instant::now());
        Ok(Pass::Again(if stays { wait } else { wait.min(OFFER_AGAIN_AFTER) }))
    }
}

/// Hands leadership to a node that is fit for it, where this one is not. Answers whether this node may go on.
async fn hand_over(node: &Node) -> bool {
    let own = node.handle.node();
    let view = node.handle.view();
    let cluster = &view.state().cluster;
    let alarm = if node.handle.corrupt().is_some() {
        Some(AlarmKind::Corrupt)
    } else if node.handle.health().is_short() {
        Some(AlarmKind::NoSpace)
    } else {
        unfit_to_lead(cluster, own)
    };
    let Some(alarm) = alarm else { return true };
    let status = node.handle.status();
    let others = status
        .members
        .iter()
        .filter(|member| member.voter && member.node != own);
    let fit = others.filter(|member| {
        let answers = member.last_contact.is_some_and(|ago| ago <= ANSWER_WITHIN);
        answers && unfit_to_lead(cluster, member.node).is_none()
    });
    let fit = fit.max_by_key(|member| member.matched_index).map(|member| member.node);
    // With nobody better, one that is merely in the way goes on: reads, purging and recovery need a leader.
    if fit.is_none() && alarm != AlarmKind::Corrupt {
        return true;
    }
    tracing::warn!(alarm = alarm.word(), to = ?fit, "this node should not lead, and hands leadership over");
    let deadline = Instant::now() + HAND_OVER_WITHIN;
    if let Err(error) = node.handle.transfer_leadership(fit, deadline).await {
        tracing::warn!(%error, "leadership was not handed over");
    }
    false
}

/// Raises an alarm, unless it is up.
pub(crate) async fn raise(node: &Node, about: NodeId, kind: AlarmKind, detail: String) -> Result<(), Error> {
    if node.handle.view().state().cluster.has_alarm(about, kind) {
        return Ok(());
    }
    tracing::warn!(node = %about, alarm = kind.word(), detail, "an alarm is raised");
    let command = Command::RaiseAlarm {
        stamp: Stamp::default(),
        node: about,
        kind,
        detail,
    };
    node.handle
        .propose_cluster_anywhere(command, node.deadline())
        .await
        .map(drop)
}

/// Takes an alarm down, if it is up.
pub(crate) async fn clear(node: &Node, about: NodeId, kind: AlarmKind, reason: String) -> Result<(), Error> {
    if !node.handle.view().state().cluster.has_alarm(about, kind) {
        return Ok(());
    }
    tracing::info!(node = %about, alarm = kind.word(), reason, "an alarm is taken down");
    let command = Command::ClearAlarm {
        stamp: Stamp::default(),
        node: about,
        kind,
        actor: "system:checkup".to_owned(),
        reason,
    };
    node.handle
        .propose_cluster_anywhere(command, node.deadline())
        .await
        .map(drop)
}

/// Enough of a digest to tell two apart.
fn short(digest: Hash) -> String {
    digest.to_string().chars().take(16).collect()
}
