//! Who is a member, who votes, and who leads.

use proto::v1;
use raft::{Endpoint, Error as RaftError, MemberChange, Status, status::Member};
use statemachine::{Answer, NodeAction, NodeId, Stamp, audit, cluster};
use tokio::time::Instant;
use tonic::Response;

use super::{
    Api, Received,
    changes::{Change, Way},
};
use crate::{
    Error, convert,
    error::removed_for_good,
    join_token::{Contact, JoinToken, SECRET_BYTES},
};

/// How long an invitation lasts where nothing is said.
const TTL_MS_DEFAULT: u64 = 3_600_000;
/// The shortest invitation.
const TTL_MS_MIN: u64 = 1_000;
/// The longest invitation: 7 days.
const TTL_MS_MAX: u64 = 604_800_000;
/// The longest address that is taken, a name and a port.
const ADDRESS_BYTES_MAX: usize = 261;

impl Api {
    pub(super) async fn add(
        &self,
        received: Received<v1::AddMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let node = numbered(message.id)?;
        let change = asked(&received, NodeAction::Add, node, &message.reason, &message.ticket)?;
        address("api", &message.api)?;
        address("raft", &message.raft)?;
        self.leading()?;
        let endpoint = Endpoint {
            api: message.api.clone(),
            raft: message.raft.clone(),
        };
        let handle = &self.core.handle;
        let rules = handle.check_change(MemberChange::Add(node, endpoint.clone()), call.deadline);
        let way = self
            .decide(&received, &change, rules.await.map_err(Error::from))
            .await?;
        if way.makes() {
            tracing::info!(actor = %call.principal.subject, why = %change.why(), %node, "a node is added by request");
            let added = handle.add_learner(node, endpoint, call.deadline).await;
            added.map_err(|error| self.refused(&received, &change, error.into()))?;
        }
        Ok(way.mark(self.members(&handle.view())))
    }

    pub(super) async fn promote(
        &self,
        received: Received<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let node = numbered(message.id)?;
        let change = asked(&received, NodeAction::Promote, node, &message.reason, &message.ticket)?;
        let status = self.leading()?;
        let way = self
            .decide(&received, &change, self.may_vote(node, &status, call.deadline).await)
            .await?;
        let votes = |member: &Member| member.node == node && member.voter;
        if way.makes() && !status.members.iter().any(votes) {
            tracing::info!(actor = %call.principal.subject, why = %change.why(), %node, "a node is made a voter by request");
            let promoted = self.core.handle.add_voter(node, call.deadline).await;
            promoted.map_err(|error| self.refused(&received, &change, error.into()))?;
        }
        Ok(way.mark(self.members(&self.core.handle.view())))
    }

    /// Whether a node may become a voter, or is one.
    async fn may_vote(&self, node: NodeId, status: &Status, deadline: Instant) -> Result<(), Error> {
        let Some(member) = status.members.iter().find(|member| member.node == node) else {
            return Err(Error::not_found("member", &node.to_string()));
        };
        if member.voter {
            return Ok(());
        }
        let limit = self.core.handle.view().state().mesh.settings().learner_lag_max;
        caught_up(member, limit)?;
        let handle = &self.core.handle;
        Ok(handle.check_change(MemberChange::Promote(node), deadline).await?)
    }

    pub(super) async fn remove(
        &self,
        received: Received<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let (node, force) = (numbered(message.id)?, message.force);
        let change = asked(&received, NodeAction::Remove, node, &message.reason, &message.ticket)?;
        let handle = &self.core.handle;
        let rules = handle.check_change(MemberChange::Remove { node, force }, call.deadline);
        let rules = rules.await.map_err(Error::from);
        let remove = || handle.remove_node(node, call.principal.subject.clone(), change.why(), force, call.deadline);
        // The leader hands leadership over first; the one after it removes the node, and notes it.
        if node == handle.node() && rules.is_ok() && !change.dry_run() {
            remove().await?;
        }
        let way = self.decide(&received, &change, rules).await?;
        if way.makes() {
            let removed = remove().await;
            removed.map_err(|error| self.refused(&received, &change, error.into()))?;
        }
        Ok(way.mark(self.members(&handle.view())))
    }

    pub(super) async fn transfer(
        &self,
        received: Received<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::Status>, Error> {
        let (call, message) = (&received.call, &received.message);
        let to = (message.to != 0).then_some(NodeId(message.to));
        let subject = to.map_or_else(|| "leader".to_owned(), |node| format!("member/{node}"));
        let words = (message.reason.as_str(), message.ticket.as_str());
        let change = Change::of(&received, NodeAction::TransferLeadership, subject, words)?;
        let handle = &self.core.handle;
        let rules = handle.check_change(MemberChange::Transfer(to), call.deadline).await;
        let way = self.decide(&received, &change, rules.map_err(Error::from)).await?;
        // Whoever leads after the first attempt is as good as any other.
        let done = way == Way::Again && to.is_none();
        if way.makes() && !done {
            tracing::info!(actor = %call.principal.subject, why = %change.why(), ?to, "leadership is handed over by request");
            let handed = handle.transfer_leadership(to, call.deadline).await;
            handed.map_err(|error| self.refused(&received, &change, error.into()))?;
        }
        Ok(way.mark(self.status()))
    }

    pub(super) async fn invite(
        &self,
        received: Received<v1::InviteMemberRequest>,
    ) -> Result<Response<v1::Invitation>, Error> {
        let (call, message) = (&received.call, &received.message);
        let ttl_ms = match message.ttl_ms {
            0 => TTL_MS_DEFAULT,
            ttl_ms if (TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl_ms) => ttl_ms,
            other => {
                let why = format!("an invitation lasts {TTL_MS_MIN} ms to {TTL_MS_MAX} ms, not {other} ms");
                return Err(Error::invalid("ttlMs", why));
            }
        };
        let status = self.leading()?;
        let invitee = self.invitee(message.id, &status);
        let node = invitee.as_ref().map_or(NodeId(message.id), |node| *node);
        let change = asked(&received, NodeAction::Invite, node, &message.reason, &message.ticket)?;
        let way = self.decide(&received, &change, invitee.map(drop)).await?;
        let expires_ms = self.core.clock.wall_ms().saturating_add(ttl_ms);
        let token = match way.makes() {
            true => {
                self.invited(&received, &change, node, ttl_ms, &status, expires_ms)
                    .await?
            }
            false => String::new(),
        };
        tracing::info!(actor = %call.principal.subject, %node, ttl_ms, dry_run = !way.makes(), "a node is invited");
        let answer = v1::Invitation {
            node: node.0,
            expires_at: Some(convert::time(expires_ms)),
            token,
        };
        Ok(way.mark(self.at(self.core.handle.view().position().revision, answer)))
    }

    /// Invites a node, and answers the token that it needs.
    async fn invited(
        &self,
        received: &Received<v1::InviteMemberRequest>,
        change: &Change,
        node: NodeId,
        ttl_ms: u64,
        status: &Status,
        expires_ms: u64,
    ) -> Result<String, Error> {
        let call = &received.call;
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::internal("the operating system gives no randomness"))?;
        let command = cluster::Command::InviteNode {
            stamp: Stamp::default(),
            node,
            secret: audit::fingerprint(&secret),
            ttl_ms,
            actor: call.principal.subject.clone(),
            reason: change.why(),
        };
        let committed = self.core.handle.propose_cluster(command, call.deadline).await?;
        if let Answer::Cluster(cluster::Outcome::NodeRemoved) = committed.answer {
            return Err(self.refused(received, change, removed_for_good(node)));
        }
        let token = self.token(node, status, &secret, expires_ms);
        token.encode().map_err(|error| Error::internal(error.to_string()))
    }

    fn token(&self, node: NodeId, status: &Status, secret: &[u8], expires_ms: u64) -> JoinToken {
        let contact = |member: &Member| Contact {
            node: member.node.0,
            raft: member.raft.clone(),
        };
        JoinToken {
            mesh: self.core.mesh().to_string(),
            cluster: self.core.cluster.to_string(),
            node: node.0,
            members: status.members.iter().map(contact).collect(),
            authorities: self.core.facts.authorities(),
            secret: secret.iter().map(|byte| format!("{byte:02x}")).collect(),
            expires_ms,
        }
    }

    /// The node to invite: the one that is asked for, or the lowest id that nobody has, had or was promised.
    fn invitee(&self, asked: u64, status: &Status) -> Result<NodeId, Error> {
        let view = self.core.handle.view();
        let cluster = &view.state().cluster;
        let is_member = |node: NodeId| status.members.iter().any(|member| member.node == node);
        if asked == 0 {
            let invited = |node: NodeId| cluster.invitations().any(|(invited, _)| invited == node);
            let free = |node: &NodeId| {
                !is_member(*node) && !cluster.is_removed(*node) && cluster.node(*node).is_none() && !invited(*node)
            };
            let found = (1..=NODE_IDS).map(NodeId).find(free);
            return found.ok_or_else(|| Error::invalid("id", "name the node's id: the low ones are all used"));
        }
        let node = numbered(asked)?;
        if cluster.is_removed(node) {
            return Err(removed_for_good(node));
        }
        if is_member(node) {
            let measure = ("a member", "no member");
            return Err(
                Error::rule("member_exists", format!("node {node} is a member"), measure)
                    .hint("choose an id that was never used, or let the mesh choose one by naming none"),
            );
        }
        Ok(node)
    }

    /// How the cluster is, by the word of its leader.
    pub(super) fn leading(&self) -> Result<Status, Error> {
        let status = self.core.handle.status();
        if status.is_leader() {
            return Ok(status);
        }
        Err(RaftError::NotLeader { leader: status.leader }.into())
    }
}

fn asked<T: prost::Message>(
    received: &Received<T>,
    action: NodeAction,
    node: NodeId,
    reason: &str,
    ticket: &str,
) -> Result<Change, Error> {
    Change::of(received, action, format!("member/{node}"), (reason, ticket))
}

/// How many ids are looked through for a free one: a cluster that replaced a node every day would take 27 years.
const NODE_IDS: u64 = 10_000;

fn numbered(id: u64) -> Result<NodeId, Error> {
    /// The largest id that JSON carries exactly.
    const MAX: u64 = (1 << 53) - 1;
    match id {
        0 => Err(Error::invalid("id", "node ids are given out from 1")),
        1..=MAX => Ok(NodeId(id)),
        _ => Err(Error::invalid("id", format!("node ids go up to {MAX}"))),
    }
}

fn address(field: &'static str, text: &str) -> Result<(), Error> {
    let port = text.rsplit_once(':').and_then(|(host, port)| {
        let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && c != '/');
        is_host.then(|| port.parse::<u16>().ok()).flatten()
    });
    if text.len() <= ADDRESS_BYTES_MAX && port.is_some_and(|port| port != 0) {
        return Ok(());
    }
    Err(Error::invalid(
        field,
        "write host:port, as the node's configuration has it",
    ))
}

fn caught_up(member: &Member, limit: u64) -> Result<(), Error> {
    let lag = match member.lag_entries {
        Some(lag) if lag <= limit => return Ok(()),
        Some(lag) => lag.to_string(),
        None => "an unknown number of".to_owned(),
    };
    let node = member.node;
    let detail = format!("node {node} is {lag} log entries behind; at most {limit} may be missing");
    let measure = (format!("{lag} entries"), format!("{limit} entries"));
    Err(Error::rule("learner_lagging", detail, measure)
        .hint("wait until `mesh members list` shows that it has caught up, and try again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names_with_ports() {
        for good in ["127.0.0.1:7501", "node-4.example:1", "[::1]:65535"] {
            assert!(address("raft", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "host",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "https://h:1",
            "a b:1",
            &format!("{}:1", "h".repeat(300)),
        ] {
            assert_eq!(address("raft", bad).unwrap_err().problem().field, "raft", "{bad}");
        }
    }
}
