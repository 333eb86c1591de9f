//! `ClusterService`

use std::time::Duration;

use proto::v1::{self, cluster_service_server::ClusterService};
use raft::{Role, Status as RaftStatus, View, status::Member};
use statemachine::{MeshState, presence::Census, record::ShardStatus};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{convert, error::endpoint, ports::CertificateExpiry};

/// A member that has not answered its leader for so long counts as unreachable.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(3);

#[tonic::async_trait]
impl ClusterService for Api {
    async fn get_status(&self, request: Request<v1::GetStatusRequest>) -> Result<Response<v1::Status>, Status> {
        self.answer(request, async |_: Received<v1::GetStatusRequest>| Ok(self.status()))
            .await
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        self.answer(request, async |received: Received<v1::ListMembersRequest>| {
            let view = self.view(&received).await?;
            Ok(self.members(&view))
        })
        .await
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        self.answer(request, |received| self.remove(received)).await
    }

    async fn invite_member(
        &self,
        request: Request<v1::InviteMemberRequest>,
    ) -> Result<Response<v1::Invitation>, Status> {
        self.answer(request, |received| self.invite(received)).await
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        self.answer(request, |received| self.add(received)).await
    }

    async fn promote_member(
        &self,
        request: Request<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        self.answer(request, |received| self.promote(received)).await
    }

    async fn list_alarms(
        &self,
        request: Request<v1::ListAlarmsRequest>,
    ) -> Result<Response<v1::ListAlarmsResponse>, Status> {
        self.answer(request, async |received: Received<v1::ListAlarmsRequest>| {
            Ok(self.list_alarms_of(&self.view(&received).await?))
        })
        .await
    }

    async fn disarm_alarm(
        &self,
        request: Request<v1::DisarmAlarmRequest>,
    ) -> Result<Response<v1::ListAlarmsResponse>, Status> {
        self.answer(request, |received| self.disarm(received)).await
    }

    async fn get_history(&self, request: Request<v1::GetHistoryRequest>) -> Result<Response<v1::History>, Status> {
        self.answer(request, |received| self.history(received)).await
    }

    async fn compact_history(
        &self,
        request: Request<v1::CompactHistoryRequest>,
    ) -> Result<Response<v1::Compaction>, Status> {
        self.compact(request).await
    }

    async fn get_upgrade(&self, request: Request<v1::GetUpgradeRequest>) -> Result<Response<v1::Upgrade>, Status> {
        self.answer(request, async |received: Received<v1::GetUpgradeRequest>| {
            Ok(self.upgrade(&self.view(&received).await?))
        })
        .await
    }

    async fn finalize_upgrade(
        &self,
        request: Request<v1::FinalizeUpgradeRequest>,
    ) -> Result<Response<v1::FeatureLevel>, Status> {
        self.finalize(request).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::Status>, Status> {
        self.answer(request, |received| self.transfer(received)).await
    }
}

impl Api {
    pub(super) fn members(&self, view: &View) -> Response<v1::ListMembersResponse> {
        let status = self.core.handle.status();
        let answer = v1::ListMembersResponse {
            items: nodes(&status, view),
            removed: view.state().cluster.removed().map(|node| node.0).collect(),
            change: status.change.map(|change| v1::VoterChange {
                from: change.from.into_iter().collect(),
                to: change.to.into_iter().collect(),
            }),
        };
        self.at(view.position().revision, answer)
    }

    /// The cluster as this node sees it. Needs no quorum.
    pub(super) fn status(&self) -> Response<v1::Status> {
        let status = self.core.handle.status();
        let view = self.core.handle.view();
        let mesh = &view.state().mesh;
        let peers = mesh.peers_by_status();
        let census = self.census(mesh);
        let expiry = self.core.facts.nearest_certificate_expiry();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let answer = v1::Status {
            mesh: self.core.mesh().to_string(),
            cluster: self.core.cluster.to_string(),
            answered_by: status.node.0,
            quorum: status.quorum.ok,
            leader: status.leader.as_ref().map(|leader| v1::status::Leader {
                id: leader.node.0,
                api: endpoint(&leader.api),
            }),
            term: status.term,
            revision: mesh.position().revision.0,
            epoch: mesh.epoch().0,
            timeline: mesh.position().timeline.to_string(),
            version_vector: convert::version_vector(mesh),
            nodes: nodes(&status, &view),
            alarms: self.alarms(&view, &census),
            peers: Some(v1::status::PeersByStatus {
                active: peers.active,
                cordoned: peers.cordoned,
                draining: peers.draining,
                drained: peers.drained,
            }),
            operations_running: u32::try_from(mesh.operations_running()).unwrap_or(u32::MAX),
            digest: mesh.digest().to_string(),
            feature_level: mesh.mesh().map_or(0, |mesh| mesh.feature_level),
            node_version: self.core.facts.version(),
            voters_reachable: count(status.quorum.reachable),
            voters_needed: count(status.quorum.needed),
            oldest_revision: mesh.floor().0,
            certificate_expires_at: expiry
                .as_ref()
                .map(|expiry| convert::time(expiry.not_after_s.saturating_mul(1_000))),
            warnings: warnings(&status, expiry.as_ref(), self.core.clock.wall_ms()),
            peers_by_health: Some(v1::status::PeersByHealth {
                unknown: number(census.unknown),
                alive: number(census.alive),
                suspect: number(census.suspect),
                dead: number(census.dead),
            }),
            shards: Some(shards(mesh, &census)),
        };
        self.at(mesh.position().revision, answer)
    }
}

/// How shards are, and how many of them may be served by nobody.
fn shards(mesh: &MeshState, census: &Census) -> v1::status::ShardsByStatus {
    let of = |status| number(mesh.shards_of_status(status));
    v1::status::ShardsByStatus {
        active: of(ShardStatus::Active),
        moving: of(ShardStatus::Moving),
        paused: of(ShardStatus::Paused),
        disabled: of(ShardStatus::Disabled),
        unowned: number(mesh.unowned_count()),
        owned_by_silent: number(census.shards_of_silent),
    }
}

fn number(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// From how many days before its end on a certificate is warned of, and when that becomes urgent.
const CERTIFICATE_WARNING_DAYS: [u64; 2] = [7, 30];

/// What an operator should see to, as far as this node knows.
fn warnings(status: &RaftStatus, expiry: Option<&CertificateExpiry>, wall_ms: u64) -> Vec<String> {
    let voteless = status.recovering.then(|| {
        let node = status.node;
        format!("node {node} has no vote yet: its log is new, and it has to hold first what was acknowledged before")
    });
    let strange = (!status.introduced).then(|| {
        let node = status.node;
        format!("node {node} was only just started: its cluster does not know of this start yet")
    });
    voteless
        .into_iter()
        .chain(strange)
        .chain(expiry.and_then(|expiry| runs_out(expiry, wall_ms)))
        .collect()
}

/// Whether a certificate has to be renewed.
fn runs_out(expiry: &CertificateExpiry, wall_ms: u64) -> Option<String> {
    let left_s = expiry.not_after_s.saturating_sub(wall_ms / 1_000);
    let days = left_s / 86_400;
    let [urgent, soon] = CERTIFICATE_WARNING_DAYS;
    let (of, print) = (expiry.of, &expiry.fingerprint);
    match days {
        _ if left_s == 0 => Some(format!("the {of} certificate {print} has run out: renew it now")),
        days if days < urgent => Some(format!(
            "the {of} certificate {print} runs out in {days} days: renew it now"
        )),
        days if days < soon => Some(format!(
            "the {of} certificate {print} runs out in {days} days: plan to renew it"
        )),
        _ => None,
    }
}

fn nodes(status: &RaftStatus, view: &View) -> Vec<v1::Node> {
    let all = status.members.iter().map(|member| {
        let facts = view.state().cluster.node(member.node);
        v1::Node {
            version: facts.map(|facts| facts.version.clone()).unwrap_or_default(),
            feature_level: facts.map_or(0, |facts| facts.feature_level),
            ..node(status, member)
        }
    });
    all.collect()
}

fn node(status: &RaftStatus, member: &Member) -> v1::Node {
    use v1::node::Role as Shown;
    let leads = status.leader.as_ref().is_some_and(|leader| leader.node == member.node);
    let silent = status.is_leader() && !leads && member.last_contact.is_none_or(|ago| ago > UNREACHABLE_AFTER);
    let role = if leads {
        Shown::Leader
    } else if silent {
        Shown::Unreachable
    } else if member.node == status.node && status.role == Role::Candidate {
        Shown::Candidate
    } else if member.voter {
        Shown::Follower
    } else {
        Shown::Learner
    };
    v1::Node {
        id: member.node.0,
        api: endpoint(&member.api),
        raft: member.raft.clone(),
        voter: member.voter,
        role: role.into(),
        lag_entries: member.lag_entries,
        last_contact_ms: member
            .last_contact
            .map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        ..v1::Node::default()
    }
}
