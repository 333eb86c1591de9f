//! Who is a member, who votes, and who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use statemachine::cluster::AlarmKind;
use statemachine::{NodeId, Stamp, cluster};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{Error, Leader, MembershipRefusal};
use crate::handle::{Endpoint, Handle};
use crate::health::unfit_to_lead;
use crate::net::join::{self, JoinError, JoinRequest};
use crate::node::leader_of;
use crate::status::{Role, Status};

/// Between two looks at who answers.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

impl Handle {
    /// Adds a node that receives the log and does not vote. Leader only. Returns when the change
    /// is committed, not when the node has caught up: [`Status`] shows its lag. May be repeated.
    ///
    /// # Errors
    /// [`Error::Membership`]: it was removed for good, or there is a member with its id.
    pub async fn add_learner(&self, node: NodeId, endpoint: Endpoint, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        let status = self.status();
        if !status.is_leader() {
            return Err(Error::NotLeader { leader: status.leader });
        }
        if !join::check_new(&self.node.raft, &self.node.publisher, node, &endpoint)? {
            return Ok(());
        }
        let change = ChangeMembers::AddNodes(BTreeMap::from([(node.0, endpoint)]));
        self.change(change, deadline).await
    }

    /// Asks the cluster to take this node in, as a token that was given for it says; goes from one member to the next
    /// until the leader answers. May be repeated, also after a crash. Returns when this node is a member, not when it
    /// has caught up.
    ///
    /// # Errors
    /// The cluster refuses, or nobody answered in time.
    pub async fn join(&self, request: &JoinRequest, deadline: Instant) -> Result<(), JoinError> {
        join::ask(
            &self.node.pool,
            &self.node.pins,
            request,
            deadline,
            self.node.fatal.wait(),
        )
        .await
    }

    /// Lets a member vote. Leader only. One that votes already stays as it is.
    ///
    /// # Errors
    /// [`Error::Membership`]: it is not a member.
    pub async fn add_voter(&self, node: NodeId, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node.0])), deadline)
            .await
    }

    /// Makes exactly these members the voters; others that vote now become learners. Leader only.
    ///
    /// # Errors
    /// [`Error::Membership`]: one of them is not a member, or the set is empty.
    pub async fn change_membership(&self, voters: BTreeSet<NodeId>, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        let voters: BTreeSet<u64> = voters.into_iter().map(|n| n.0).collect();
        self.change(ChangeMembers::ReplaceAllVoters(voters), deadline).await
    }

    async fn change(&self, change: ChangeMembers<u64, Endpoint>, deadline: Instant) -> Result<(), Error> {
        match timeout_at(deadline, self.node.raft.change_membership(change, true)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.node.proposer.explain(error)),
            Err(_) => Err(Error::DeadlineExceeded { maybe_applied: true }),
        }
    }

    /// Takes a node out of the cluster for good: out of the membership, and onto the replicated
    /// list of removed nodes, whose connections are refused. Leader only; a leader asked to remove
    /// itself hands leadership over and answers [`Error::NotLeader`]. May be repeated.
    ///
    /// `force` takes it out also where too few of the remaining voters answer: nothing is committed then, this change
    /// included, until enough do.
    ///
    /// # Errors
    /// [`Error::Membership`]: it is not a member, or the last voter, or too few of the remaining
    /// voters answer.
    pub async fn remove_node(
        &self,
        node: NodeId,
        actor: String,
        reason: String,
        force: bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.check_running()?;
        let status = self.status();
        if !status.is_leader() {
            return Err(Error::NotLeader { leader: status.leader });
        }
        let member = status.members.iter().find(|m| m.node == node);
        match member {
            None if self.view().state().cluster.is_removed(node) => return Ok(()),
            // Out of the membership by an attempt that got no further.
            None if self.view().state().cluster.node(node).is_some() => {
                return self.list_removed(node, actor, reason, deadline).await;
            }
            None => {
                let reason = format!("node {node} is not a member");
                return Err(Error::membership(MembershipRefusal::NotAMember, reason));
            }
            Some(member) if member.voter => self.check_removable(node, force, deadline).await?,
            Some(_) => {}
        }
        if node == self.node() {
            self.transfer_leadership(None, deadline).await?;
            return Err(Error::NotLeader { leader: self.leader() });
        }
        let gone = BTreeSet::from([node.0]);
        let change = match member {
            Some(member) if member.voter => ChangeMembers::RemoveVoters(gone),
            Some(_) | None => ChangeMembers::RemoveNodes(gone),
        };
        let changed = self.node.raft.change_membership(change, false);
        match timeout_at(deadline, changed).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(self.node.proposer.explain(error)),
            Err(_) => return Err(Error::DeadlineExceeded { maybe_applied: true }),
        }
        self.list_removed(node, actor, reason, deadline).await
    }

    /// Puts a node that is out of the membership onto the list of removed ones.
    async fn list_removed(&self, node: NodeId, actor: String, reason: String, deadline: Instant) -> Result<(), Error> {
        let stamp = Stamp::default();
        let command = cluster::Command::RemoveNode {
            stamp,
            node,
            actor,
            reason,
        };
        self.propose_cluster(command, deadline).await.map(|_| ())
    }

    /// Whether enough voters stay, and answer, without this one.
    async fn check_removable(&self, node: NodeId, force: bool, deadline: Instant) -> Result<(), Error> {
        // A leader that was only just elected has not heard of everybody yet, and a busy one hears late.
        let give_up = deadline.min(Instant::now() + self.node.config.election_timeout_max * 2);
        loop {
            match self.judge_removal(&self.status(), node, force) {
                Err(Error::Membership {
                    refusal: MembershipRefusal::QuorumAtRisk,
                    ..
                }) if Instant::now() + LOOK_AGAIN < give_up => sleep(LOOK_AGAIN).await,
                judged => return judged,
            }
        }
    }

    fn judge_removal(&self, status: &Status, node: NodeId, force: bool) -> Result<(), Error> {
        let lease = self.node.config.election_timeout_max;
        let staying = || status.members.iter().filter(|m| m.voter && m.node != node);
        let answering = staying()
            .filter(|m| m.last_contact.is_some_and(|since| since <= lease))
            .count();
        let staying = staying().count();
        if staying == 0 {
            let reason = format!("node {node} is the last voter");
            return Err(Error::membership(MembershipRefusal::LastVoter, reason));
        }
        if answering > staying / 2 || force {
            return Ok(());
        }
        let reason = format!("without node {node} {staying} voters stay, of which only {answering} answer");
        Err(Error::membership(MembershipRefusal::QuorumAtRisk, reason))
    }

    fn leader(&self) -> Option<Leader> {
        let (node, endpoint) = leader_of(&self.node.raft)?;
        Some(Leader {
            node: NodeId(node),
            api: endpoint.map(|e| e.api).unwrap_or_default(),
        })
    }

    /// Hands leadership to a voter, or to the most caught up one, rather to one without an alarm.
    /// Returns when another leads. Leader only.
    ///
    /// # Errors
    /// [`Error::Membership`]: it is not a voter, or has an alarm, or there is no other.
    pub async fn transfer_leadership(&self, to: Option<NodeId>, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        let status = self.status();
        if status.role != Role::Leader {
            return Err(Error::NotLeader { leader: status.leader });
        }
        let view = self.view();
        let alarm = |node| unfit_to_lead(&view.state().cluster, node);
        if let Some((node, alarm)) = to
            .filter(|to| *to != self.node())
            .and_then(|node| Some((node, alarm(node)?)))
        {
            let reason = format!("node {node} has the alarm {}, so it does not lead", alarm.word());
            return Err(Error::membership(MembershipRefusal::Other, reason));
        }
        let candidates = || status.members.iter().filter(|m| m.voter && m.node != self.node());
        let target = match to {
            Some(node) if node == self.node() => return Ok(()),
            Some(node) => candidates().find(|m| m.node == node),
            None => candidates()
                .filter(|m| alarm(m.node) != Some(AlarmKind::Corrupt))
                .max_by_key(|m| (alarm(m.node).is_none(), m.matched_index)),
        };
        let Some(target) = target else {
            let is_member = |node: NodeId| status.members.iter().any(|m| m.node == node);
            let (refusal, reason) = match to {
                Some(node) if is_member(node) => (MembershipRefusal::NotAVoter, format!("node {node} does not vote")),
                Some(node) => (MembershipRefusal::NotAMember, format!("node {node} is not a member")),
                None => (MembershipRefusal::NoOtherVoter, "there is no other voter".to_owned()),
            };
            return Err(Error::membership(refusal, reason));
        };
        let mut metrics = self.node.raft.metrics();
        let own = self.node().0;
        self.node
            .raft
            .trigger()
            .transfer_leader(target.node.0)
            .await
            .map_err(|e| self.stopped(e.to_string()))?;
        loop {
            let leader = metrics.borrow_and_update().current_leader;
            if leader.is_some_and(|leader| leader != own) {
                return Ok(());
            }
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Error::unavailable("this node is shutting down")),
                Err(_) => return Err(Error::DeadlineExceeded { maybe_applied: true }),
            }
        }
    }
}
