//! History and its floor; feature levels.

use proto::v1;
use raft::{Consistency, View};
use statemachine::{Command, CompactHistory, FinalizeUpgrade, Rejection, Revision};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, context::Call, history::Wanted};

impl Api {
    pub(super) async fn history(
        &self,
        received: Received<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::History>, Error> {
        let view = self.view(&received).await?;
        let state = &view.state().mesh;
        let mesh = state.mesh().ok_or_else(|| Error::from(Rejection::MeshNotInitialized))?;
        let answer = v1::History {
            oldest_revision: mesh.floor.0,
            etag: mesh.meta.etag().to_string(),
            revision: state.position().revision.0,
            last_checkpoint: state.last_checkpoint().map_or(0, |checkpoint| checkpoint.revision.0),
            checkpoints: state.checkpoint_count(),
        };
        Ok(self.record(state.position().revision, mesh.meta.etag(), answer))
    }

    pub(super) async fn compact(
        &self,
        request: Request<v1::CompactHistoryRequest>,
    ) -> Result<Response<v1::Compaction>, Status> {
        let call = Call::of(&request)?;
        let command = self.compaction(&call, request.get_ref()).await;
        let command = command.map_err(|error| error.into_status(&call.request_id))?;
        self.core.mutate(request, |_| Ok(command)).await
    }

    /// The command for a request: which revision it comes to, and when that was.
    async fn compaction(&self, call: &Call, request: &v1::CompactHistoryRequest) -> Result<Command, Error> {
        let mesh = self.core.mesh().clone();
        let asked = match (request.revision, request.keep_ms) {
            (0, 0) | (1.., 1..) => {
                let why = "name one of the oldest revision that has to be kept and the time for which history has to be \
                           kept (`keepMs`)";
                return Err(Error::invalid("revision", why));
            }
            (revision, keep_ms) => (Revision(revision), keep_ms),
        };
        let view = self.core.handle.read(Consistency::Linearizable, call.deadline).await?;
        let read = move |_: &Wanted| {
            let (to, keep_ms) = asked;
            if keep_ms == 0 {
                // 0 where its history is gone, which needs no looking after; apply refuses what is yet to come.
                let unit = view.unit(to)?;
                return Ok((to, unit.map_or(0, |unit| unit.unit.stamp.mesh_time_ms)));
            }
            let since = view.state().mesh.stamp().mesh_time_ms.saturating_sub(keep_ms);
            let to = view.first_since(since)?.min(view.position().revision);
            let unit = view.unit(to)?;
            Ok((to, unit.map_or(0, |unit| unit.unit.stamp.mesh_time_ms)))
        };
        let (to, to_mesh_time_ms) = self.core.history.read(&call.request_id, call.deadline, read).await?;
        let command = CompactHistory {
            mesh,
            to,
            to_mesh_time_ms,
        };
        Ok(command.command()?)
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
        let mesh = self.core.mesh().clone();
        self.core
            .mutate(request, |_| Ok(FinalizeUpgrade { mesh, to: to? }.into()))
            .await
    }

    /// The level to raise to, once every member is seen to follow it.
    async fn target_level(&self, call: &Call, asked: u32) -> Result<u32, Error> {
        let view = self.core.handle.read(Consistency::Linearizable, call.deadline).await?;
        let current = view.state().mesh.feature_level();
        let (levels, blockers) = self.levels(&view);
        let possible = levels.iter().map(|node| node.feature_level).min().unwrap_or_default();
        let highest = levels.iter().map(|node| node.feature_level).max().unwrap_or_default();
        // Asked for no level in particular, whoever upgrades means the newest program's, not what an old one allows.
        let to = if asked == 0 { highest.max(current) } else { asked };
        if to <= current || to <= possible {
            return Ok(to);
        }
        if to > highest {
            return Err(Error::from(Rejection::FeatureLevelUnknown {
                asked,
                current,
                known: highest,
            }));
        }
        let measure = (format!("feature level {possible}"), format!("feature level {to}"));
        Err(Error::rule("upgrade_incomplete", blockers.join("; "), measure)
            .hint("run the newer program on every node first; `mesh upgrade status` shows which is left"))
    }
}
