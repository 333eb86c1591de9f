//! Growing a cluster.

use proto::v1;
use raft::{Endpoint, Error as RaftError};
use statemachine::NodeId;
use tonic::Response;

use super::{Api, Received};
use crate::Error;

impl Api {
    pub(super) async fn add(
        &self,
        received: Received<v1::AddMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Error> {
        let (call, message) = (&received.call, &received.message);
        let why = self.why(&received.headers, &message.reason, &message.ticket)?;
        if message.id == 0 {
            return Err(Error::invalid("id", "node ids are given out from 1"));
        }
        let node = NodeId(message.id);
        let members = self.core.handle.status().members;
        if let Some(member) = members.iter().find(|member| member.node == node) {
            if member.api == message.api && member.raft == message.raft {
                return Ok(self.members(&self.core.handle.view()));
            }
            let detail = format!(
                "node {node} is a member, with API {} and Raft {}",
                member.api, member.raft
            );
            return Err(Error::rule("member_exists", detail)
                .hint("choose an id that was never used, or remove the member first"));
        }
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
        let node = NodeId(message.id);
        let status = self.core.handle.status();
        if !status.is_leader() {
            return Err(RaftError::NotLeader { leader: status.leader }.into());
        }
        let Some(member) = status.members.iter().find(|member| member.node == node) else {
            return Err(Error::not_found("member", &node.to_string()));
        };
        if member.voter {
            return Ok(self.members(&self.core.handle.view()));
        }
        let limit = self.core.handle.view().state().mesh.settings().learner_lag_max;
        if member.lag_entries.is_none_or(|lag| lag > limit) {
            let lag = member
                .lag_entries
                .map_or("an unknown number of".to_owned(), |lag| lag.to_string());
            let detail = format!("node {node} is {lag} log entries behind; at most {limit} may be missing");
            return Err(Error::rule("learner_lagging", detail)
                .hint("wait until `mesh members list` shows that it has caught up, and try again"));
        }
        let voters = status
            .members
            .iter()
            .filter(|member| member.voter)
            .map(|member| member.node);
        let voters = voters.chain([node]).collect();
        tracing::info!(actor = %call.principal.subject, %why, %node, "a node is made a voter by request");
        self.core.handle.change_membership(voters, call.deadline).await?;
        Ok(self.members(&self.core.handle.view()))
    }

    pub(super) async fn invite(
        &self,
        received: Received<v1::InviteMemberRequest>,
    ) -> Result<Response<v1::Invitation>, Error> {
        let message = &received.message;
        self.why(&received.headers, &message.reason, &message.ticket)?;
        Err(Error::new(
            proto::codes::Code::Unimplemented,
            "invitations are not served yet",
        ))
    }
}
