//! Who is a member, who votes, and who leads.

use std::collections::{BTreeMap, BTreeSet};

use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use statemachine::cluster::AlarmKind;
use statemachine::{NodeId, Stamp, cluster};
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Leader, MembershipRefusal};
use crate::handle::foresee::{Change, listed};
use crate::handle::{Endpoint, Handle};
use crate::health::unfit_to_lead;
use crate::net::join::{self, JoinError, JoinRequest};
use crate::node::leader_of;
use crate::status::Role;

/// A change of members or leadership that somebody asks for.
#[derive(Clone, Debug)]
pub enum MemberChange {
    /// A node becomes a learner.
    Add(NodeId, Endpoint),
    /// A learner becomes a voter.
    Promote(NodeId),
    /// A node goes for good.
    Remove {
        /// The node.
        node: NodeId,
        /// As of [`Handle::remove_node`].
        force: bool,
    },
    /// Another leads: this one, or whoever has most of the log.
    Transfer(Option<NodeId>),
}

/// Of a change's time, what is kept for saying how far it got.
const TO_SAY_SO: Duration = Duration::from_millis(250);

impl Handle {
    /// Looks at every rule that stands against a change, and does not make it. Leader only.
    ///
    /// # Errors
    /// What making it would be refused with.
    pub async fn check_change(&self, change: MemberChange, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        self.check_leads()?;
        match change {
            MemberChange::Add(node, endpoint) => {
                join::check_new(&self.node.raft, &self.node.publisher, node, &endpoint).map(|_| ())
            }
            MemberChange::Promote(node) => self.foresee(Change::Add(node), deadline).await,
            MemberChange::Remove { node, force } => self.check_removal(node, force, deadline).await.map(|_| ()),
            MemberChange::Transfer(to) => self.successor(to).map(|_| ()),
        }
    }

    fn check_leads(&self) -> Result<(), Error> {
        let status = self.status();
        if status.is_leader() {
            return Ok(());
        }
        Err(Error::NotLeader { leader: status.leader })
    }

    /// Adds a node that receives the log and does not vote. Leader only. Returns when the change
    /// is committed, not when the node has caught up: [`Status`] shows its lag. May be repeated.
    ///
    /// # Errors
    /// [`Error::Membership`]: it was removed for good, or there is a member with its id.
    pub async fn add_learner(&self, node: NodeId, endpoint: Endpoint, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        self.check_leads()?;
        if !join::check_new(&self.node.raft, &self.node.publisher, node, &endpoint)? {
            return Ok(());
        }
        let change = ChangeMembers::AddNodes(BTreeMap::from([(node.0, endpoint)]));
        self.change(change, true, deadline).await
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
    /// [`Error::Membership`]: it is not a member, or too few voters answer for it to be committed.
    pub async fn add_voter(&self, node: NodeId, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        self.foresee(Change::Add(node), deadline).await?;
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([node.0]));
        self.change(change, true, deadline).await
    }

    /// Makes exactly these members the voters; others that vote now become learners. Leader only.
    ///
    /// # Errors
    /// [`Error::Membership`]: one of them is not a member, or the set is empty.
    pub async fn change_membership(&self, voters: BTreeSet<NodeId>, deadline: Instant) -> Result<(), Error> {
        self.check_running()?;
        let voters: BTreeSet<u64> = voters.into_iter().map(|n| n.0).collect();
        self.change(ChangeMembers::ReplaceAllVoters(voters), true, deadline)
            .await
    }

    /// `retain`: voters that are none any more stay as learners.
    pub(super) async fn change(
        &self,
        change: ChangeMembers<u64, Endpoint>,
        retain: bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        let by = deadline.checked_sub(TO_SAY_SO).unwrap_or(deadline);
        match timeout_at(by, self.node.raft.change_membership(change, retain)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.node.proposer.explain(error)),
            Err(_) => Err(self.under_way()),
        }
    }

    /// What became of a change that was not through by its deadline.
    fn under_way(&self) -> Error {
        let Some(change) = self.status().change else {
            return Error::DeadlineExceeded { maybe_applied: true };
        };
        let reason = format!(
            "the change of the voters {} to {} is begun, and waits for a majority of both to answer, as every write does \
             now. Start those that do not: it is then completed by itself. `mesh members list --consistency local` shows how it stands",
            listed(&change.from),
            listed(&change.to)
        );
        Error::Unavailable {
            reason,
            maybe_applied: true,
        }
    }

    /// Takes a node out of the cluster for good: out of the membership, and onto the replicated
    /// list of removed nodes, whose connections are refused. Leader only; a leader asked to remove
    /// itself hands leadership over and answers [`Error::NotLeader`]. May be repeated.
    ///
    /// `force` takes it out also where each voter that stays and answers would be needed from then on, because another
    /// does not answer. What could not be committed is refused all the same.
    ///
    /// # Errors
    /// [`Error::Membership`]: it is not a member, or the last voter, or too few voters answer: nothing was changed.
    /// [`Error::Unavailable`] that may have been applied: voters died meanwhile, and the change waits for them.
    pub async fn remove_node(
        &self,
        node: NodeId,
        actor: String,
        reason: String,
        force: bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        self.check_running()?;
        self.check_leads()?;
        let standing = self.check_removal(node, force, deadline).await?;
        let gone = BTreeSet::from([node.0]);
        let change = match standing {
            Leaving::Gone => return Ok(()),
            Leaving::Unlisted => return self.list_removed(node, actor, reason, deadline).await,
            Leaving::Voter => ChangeMembers::RemoveVoters(gone),
            Leaving::Learner => ChangeMembers::RemoveNodes(gone),
        };
        if node == self.node() {
            self.transfer_leadership(None, deadline).await?;
            return Err(Error::NotLeader { leader: self.leader() });
        }
        self.change(change, false, deadline).await?;
        self.list_removed(node, actor, reason, deadline).await
    }

    /// What a node that is to be removed is now, where nothing stands against it.
    async fn check_removal(&self, node: NodeId, force: bool, deadline: Instant) -> Result<Leaving, Error> {
        let status = self.status();
        let Some(member) = status.members.iter().find(|member| member.node == node) else {
            let view = self.view();
            let cluster = &view.state().cluster;
            if cluster.is_removed(node) {
                return Ok(Leaving::Gone);
            }
            let known = cluster.node(node).is_some();
            return known.then_some(Leaving::Unlisted).ok_or_else(|| no_member(node));
        };
        self.foresee(Change::Remove { node, force }, deadline).await?;
        Ok(match member.voter {
            true => Leaving::Voter,
            false => Leaving::Learner,
        })
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
        let Some(target) = self.successor(to)? else {
            return Ok(());
        };
        let mut metrics = self.node.raft.metrics();
        let own = self.node().0;
        self.node
            .raft
            .trigger()
            .transfer_leader(target.0)
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

    /// Who is to lead; none where that is this node, as it does.
    fn successor(&self, to: Option<NodeId>) -> Result<Option<NodeId>, Error> {
        let status = self.status();
        if status.role != Role::Leader {
            return Err(Error::NotLeader { leader: status.leader });
        }
        if to == Some(self.node()) {
            return Ok(None);
        }
        let view = self.view();
        let alarm = |node| unfit_to_lead(&view.state().cluster, node);
        if let Some((node, alarm)) = to.and_then(|node| Some((node, alarm(node)?))) {
            let word = alarm.word();
            let reason = format!("node {node} has the alarm {word}, so it does not lead");
            let measure = (format!("the alarm {word}"), "no alarm");
            return Err(Error::membership(MembershipRefusal::Other, reason, measure));
        }
        let candidates = || status.members.iter().filter(|m| m.voter && m.node != self.node());
        let target = match to {
            Some(node) => candidates().find(|m| m.node == node),
            None => candidates()
                .filter(|m| alarm(m.node) != Some(AlarmKind::Corrupt))
                .max_by_key(|m| (alarm(m.node).is_none(), m.matched_index)),
        };
        if let Some(target) = target {
            return Ok(Some(target.node));
        }
        let is_member = |node: NodeId| status.members.iter().any(|m| m.node == node);
        Err(match to {
            Some(node) if is_member(node) => {
                let reason = format!("node {node} does not vote");
                Error::membership(MembershipRefusal::NotAVoter, reason, ("a learner", "a voter"))
            }
            Some(node) => no_member(node),
            None => {
                let measure = ("0 other voters", "1 other voter");
                Error::membership(MembershipRefusal::NoOtherVoter, "there is no other voter", measure)
            }
        })
    }
}

/// What a node that is to be removed is now.
enum Leaving {
    /// On the list of removed ones.
    Gone,
    /// Out of the membership by an attempt that got no further.
    Unlisted,
    Voter,
    Learner,
}

fn no_member(node: NodeId) -> Error {
    let reason = format!("node {node} is not a member");
    Error::membership(MembershipRefusal::NotAMember, reason, ("no member", "a member"))
}
