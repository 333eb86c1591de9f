//! History and its floor; feature levels.

use proto::v1;
use raft::{Consistency, View};
use statemachine::{CompactHistory, FinalizeUpgrade, Rejection, Revision};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, context::Call, convert, history::Wanted};

impl Api {
    pub(super) async fn history(
        &self,
        received: Received<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::History>, Error> {
        let view = self.view(&received).await?;
        let state = &view.state().mesh;
        let mesh = state.mesh().ok_or_else(|| Error::from(Rejection::MeshNotInitialized))?;
        let answer = v1::History {
            revision: state.position().revision.0,
            last_checkpoint: state.last_checkpoint().map_or(0, |checkpoint| checkpoint.revision.0),
            checkpoints: state.checkpoint_count(),
            ..convert::history(mesh)
        };
        Ok(self.record(state.position().revision, mesh.meta.etag(), answer))
    }

    pub(super) async fn compact(
        &self,
        request: Request<v1::CompactHistoryRequest>,
    ) -> Result<Response<v1::History>, Status> {
        let call = Call::of(&request)?;
        let to = Revision(request.get_ref().revision);
        let to_mesh_time_ms = self.mesh_time_of(&call, to).await;
        let to_mesh_time_ms = to_mesh_time_ms.map_err(|error| error.into_status(&call.request_id))?;
        let command = CompactHistory {
            mesh: self.core.mesh().clone(),
            to,
            to_mesh_time_ms,
        };
        self.core
            .mutate(request, |_| command.command().map_err(Error::from))
            .await
    }

    /// The mesh time of a revision; 0 where its history is gone, which needs no looking after.
    async fn mesh_time_of(&self, call: &Call, to: Revision) -> Result<u64, Error> {
        if to.0 == 0 {
            return Err(Error::invalid(
                "revision",
                "name the oldest revision that has to be kept",
            ));
        }
        let view = self.core.handle.view();
        let read = move |_: &Wanted| Ok(view.unit(to)?);
        let unit = self.core.history.read(&call.request_id, call.deadline, read).await?;
        Ok(unit.map_or(0, |unit| unit.unit.stamp.mesh_time_ms))
    }

    pub(super) fn upgrade(&self, view: &View) -> Response<v1::Upgrade> {
        let (levels, blockers) = self.levels(view);
        let answer = v1::Upgrade {
            feature_level: view.state().mesh.feature_level(),
            possible: levels.iter().map(|node| node.feature_level).min().unwrap_or_default(),
            nodes: levels,
            blockers,
        };
        self.at(view.position().revision, answer)
    }

    /// What each member can follow, and what is in the way of raising the level.
    fn levels(&self, view: &View) -> (Vec<v1::upgrade::NodeLevel>, Vec<String>) {
        let (state, current) = (view.state(), view.state().mesh.feature_level());
        let mut blockers = Vec::new();
        let members = self.core.handle.status().members;
        let levels = members.iter().map(|member| {
            let facts = state.cluster.node(member.node);
            if facts.is_none() {
                blockers.push(format!("node {} has not told yet what it runs", member.node));
            }
            v1::upgrade::NodeLevel {
                node: member.node.0,
                version: facts.map(|facts| facts.version.clone()).unwrap_or_default(),
                feature_level: facts.map_or(0, |facts| facts.feature_level),
            }
        });
        let levels: Vec<_> = levels.collect();
        let highest = levels.iter().map(|node| node.feature_level).max().unwrap_or_default();
        for node in levels
            .iter()
            .filter(|node| node.feature_level != 0 && node.feature_level < highest)
        {
            let (id, version, level) = (node.node, &node.version, node.feature_level);
            blockers.push(format!(
                "node {id} runs {version}, which goes up to feature level {level}; others go up to {highest}"
            ));
        }
        if blockers.is_empty() && highest <= current {
            blockers.push(format!("feature level {current} is the highest that the nodes know"));
        }
        (levels, blockers)
    }

    pub(super) async fn finalize(
        &self,
        request: Request<v1::FinalizeUpgradeRequest>,
    ) -> Result<Response<v1::FeatureLevel>, Status> {
        let call = Call::of(&request)?;
        let to = self.target_level(&call, request.get_ref().to).await;
        let to = to.map_err(|error| error.into_status(&call.request_id))?;
        let mesh = self.core.mesh().clone();
        self.core
            .mutate(request, |_| Ok(FinalizeUpgrade { mesh, to }.into()))
            .await
    }

    /// The level to raise to, once every member is seen to follow it.
    async fn target_level(&self, call: &Call, asked: u32) -> Result<u32, Error> {
        let view = self.core.handle.read(Consistency::Linearizable, call.deadline).await?;
        let current = view.state().mesh.feature_level();
        let (levels, blockers) = self.levels(&view);
        let possible = levels.iter().map(|node| node.feature_level).min().unwrap_or_default();
        let to = if asked == 0 { possible.max(current) } else { asked };
        if to <= current || to <= possible {
            return Ok(to);
        }
        Err(Error::rule("upgrade_incomplete", blockers.join("; "))
            .hint("run the newer program on every node first; `mesh upgrade status` shows which is left"))
    }
}
