//! Growing a cluster.

use proto::v1;
use raft::{Endpoint, Error as RaftError, Status, status::Member};
use statemachine::{Answer, NodeId, Stamp, audit, cluster};
use tonic::Response;

use super::{Api, Received};
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
        let why = self.why(&received.headers, &message.reason, &message.ticket)?;
        let node = numbered(message.id)?;
        address("api", &message.api)?;
        address("raft", &message.raft)?;
        self.leading()?;
        let endpoint = Endpoint {
            api: message.api.clone(),
            raft: message.raft.clone(),
        };
        tracing::info!(actor = %call.principal.subject, %why, %node, "a node is added by request");
        self.core.handle.add_learner(node, endpoint, call.deadline).await?;
        Ok(self.members(&self.core.handle.view()))
    }

    pub(super) async fn promote(
        &self,
        received: Received<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let why = self.why(&received.headers, &message.reason, &message.ticket)?;
        let node = numbered(message.id)?;
        let status = self.leading()?;
        let Some(member) = status.members.iter().find(|member| member.node == node) else {
            return Err(Error::not_found("member", &node.to_string()));
        };
        if member.voter {
            return Ok(self.members(&self.core.handle.view()));
        }
        let limit = self.core.handle.view().state().mesh.settings().learner_lag_max;
        caught_up(member, limit)?;
        tracing::info!(actor = %call.principal.subject, %why, %node, "a node is made a voter by request");
        self.core.handle.add_voter(node, call.deadline).await?;
        Ok(self.members(&self.core.handle.view()))
    }

    pub(super) async fn remove(
        &self,
        received: Received<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let node = numbered(message.id)?;
        let actor = call.principal.subject.clone();
        let reason = self.why(&received.headers, &message.reason, &message.ticket)?;
        let handle = &self.core.handle;
        handle
            .remove_node(node, actor, reason, message.force, call.deadline)
            .await?;
        Ok(self.members(&handle.view()))
    }

    pub(super) async fn invite(
        &self,
        received: Received<v1::InviteMemberRequest>,
    ) -> Result<Response<v1::Invitation>, Error> {
        let (call, message) = (&received.call, &received.message);
        let reason = self.why(&received.headers, &message.reason, &message.ticket)?;
        let ttl_ms = match message.ttl_ms {
            0 => TTL_MS_DEFAULT,
            ttl_ms if (TTL_MS_MIN..=TTL_MS_MAX).contains(&ttl_ms) => ttl_ms,
            other => {
                let why = format!("an invitation lasts {TTL_MS_MIN} ms to {TTL_MS_MAX} ms, not {other} ms");
                return Err(Error::invalid("ttlMs", why));
            }
        };
        let status = self.leading()?;
        let node = self.invitee(message.id, &status)?;
        let mut secret = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| Error::internal("the operating system gives no randomness"))?;
        let command = cluster::Command::InviteNode {
            stamp: Stamp::default(),
            node,
            secret: audit::fingerprint(&secret),
            ttl_ms,
            actor: call.principal.subject.clone(),
            reason,
        };
        let expires_ms = self.core.clock.wall_ms().saturating_add(ttl_ms);
        let committed = self.core.handle.propose_cluster(command, call.deadline).await?;
        if let Answer::Cluster(cluster::Outcome::NodeRemoved) = committed.answer {
            return Err(removed_for_good(node));
        }
        let token = self.token(node, &status, &secret, expires_ms);
        tracing::info!(actor = %call.principal.subject, %node, ttl_ms, "a node is invited");
        let answer = v1::Invitation {
            node: node.0,
            expires_at: Some(convert::time(expires_ms)),
            token: token.encode().map_err(|error| Error::internal(error.to_string()))?,
        };
        Ok(self.at(self.core.handle.view().position().revision, answer))
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
            return Err(Error::rule("member_exists", format!("node {node} is a member"))
                .hint("choose an id that was never used, or let the mesh choose one by naming none"));
        }
        Ok(node)
    }

    /// How the cluster is, by the word of its leader.
    fn leading(&self) -> Result<Status, Error> {
        let status = self.core.handle.status();
        if status.is_leader() {
            return Ok(status);
        }
        Err(RaftError::NotLeader { leader: status.leader }.into())
    }
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
    Err(Error::rule("learner_lagging", detail)
        .hint("wait until `mesh members list` shows that it has caught up, and try again")
        .with(|problem| {
            (problem.measured, problem.limit) = (format!("{lag} entries"), format!("{limit} entries"));
        }))
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
