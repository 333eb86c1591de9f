//! What takes a second person: mass drains, and edits of clusters and settings. Asked by one operator, decided by others.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use api_client::{
    Answer, Error,
    methods::{ApplyCluster, ApproveApproval, DrainPeers, PatchConfig, RejectApproval},
};
use proto::v1::{
    ApplyClusterRequest, Approval, ApproveApprovalRequest, DrainPeersRequest, GetClusterRequest, PatchConfigRequest,
    RejectApprovalRequest, approval,
};
use rand::Rng as _;

use super::{
    stage::{self, Batch, EDITED, Pending},
    work::Operator,
};

/// Of a thousand things that an operator does, how many are requests that somebody else has to agree to.
const ASKED_PER_MILLE: u32 = 15;

/// Of a hundred times that somebody could decide, how often they do.
const DECIDED_PERCENT: u32 = 30;

/// The most peers of a mass drain that are drained at once.
pub const AT_ONCE: u32 = 5;

/// How many decide the same request, at the same time as it happens: one of them carries it out.
const DECIDERS: u32 = 2;

impl Operator {
    /// Asks for something or decides on something, where it is time for that. False where there was nothing to do.
    pub(super) async fn approvals(&mut self) -> bool {
        if !self.stage.full.load(std::sync::atomic::Ordering::Relaxed) {
            return false;
        }
        if self.rng.random_range(0..1_000) < ASKED_PER_MILLE {
            return self.request().await;
        }
        if self.rng.random_range(0..100) < DECIDED_PERCENT {
            return self.decide().await;
        }
        false
    }

    async fn request(&mut self) -> bool {
        match self.rng.random_range(0..100_u32) {
            0..40 if self.person.admin => self.edit_settings().await,
            40..80 if self.person.admin => self.edit_cluster().await,
            // Nobody decides on it: it runs out.
            80..90 if self.person.admin => self.announce_cluster().await,
            _ => return self.drain_many().await,
        }
        true
    }

    async fn drain_many(&mut self) -> bool {
        let from = self.rng.random_range(0..1_000);
        let Some(batch) = self.stage.take_batch(from) else {
            return false;
        };
        let selector = stage::selector(batch);
        let mut ask = self.ask("peers.drain_many", "peers/".to_owned() + &selector);
        ask.mark = Some(format!("drain/{}", ask.number));
        let request = DrainPeersRequest {
            selector,
            at_once: AT_ONCE,
            ..DrainPeersRequest::default()
        };
        let answer = self.send::<DrainPeers>(ask, request).await;
        if !self.waits(&answer, false, Some(batch)) {
            self.stage.put_batch(batch, Batch::Free);
        }
        true
    }

    async fn edit_settings(&mut self) {
        let value = self.stage.edit();
        let mut ask = self.ask("config.set", "config/mesh".to_owned());
        ask.mark = Some(format!("config/{value}"));
        let request = PatchConfigRequest {
            settings: BTreeMap::from([(EDITED.to_owned(), stage::value(&value.to_string()))]),
            ..PatchConfigRequest::default()
        };
        let answer = self.send::<PatchConfig>(ask, request).await;
        self.waits(&answer, true, None);
    }

    async fn edit_cluster(&mut self) {
        let index = self.rng.random_range(0..self.stage.clusters.len());
        let known = self.stage.clusters[index].lock().clone();
        let mut ask = self.ask("clusters.apply", format!("cluster/{}", known.id));
        ask.mark = Some(format!("cluster/{}", ask.number));
        let request = ApplyClusterRequest {
            id: known.id.clone(),
            region: known.region,
            owners: known.owners,
            annotations: BTreeMap::from([("by".to_owned(), ask.number.to_string())]),
            if_match: known.etag,
            ..ApplyClusterRequest::default()
        };
        let answer = self.send::<ApplyCluster>(ask, request).await;
        if !self.waits(&answer, true, None) {
            self.look_at_cluster(index).await;
        }
    }

    async fn announce_cluster(&mut self) {
        let mut ask = self.ask("clusters.apply", String::new());
        let id = format!("later-{}", ask.number);
        ask.target = format!("cluster/{id}");
        ask.mark = Some(format!("cluster/{}", ask.number));
        let request = ApplyClusterRequest {
            id,
            region: "r0".into(),
            owners: vec!["sre".into()],
            annotations: BTreeMap::from([("by".to_owned(), ask.number.to_string())]),
            ..ApplyClusterRequest::default()
        };
        // Not put on the board.
        let _ = self.send::<ApplyCluster>(ask, request).await;
    }

    async fn look_at_cluster(&self, index: usize) {
        let id = self.stage.clusters[index].lock().id.clone();
        if let Ok(answer) = self.person.client.get_cluster(GetClusterRequest { id }).await {
            let mut known = self.stage.clusters[index].lock();
            if answer.message.changed_revision > known.changed_revision {
                *known = answer.message;
            }
        }
    }

    /// Puts a request on the board where it waits; whether it does.
    fn waits<T>(&self, answer: &Result<Answer<T>, Error>, admin: bool, batch: Option<usize>) -> bool {
        let approval = answer.as_ref().err().and_then(Error::approval);
        if let Some(approval) = approval {
            self.stage.pending.lock().push_back(Pending {
                id: approval.id.clone(),
                requester: Arc::clone(&self.person.name),
                admin,
                batch,
                deciders: DECIDERS,
            });
        }
        approval.is_some()
    }

    /// Takes a request from the board and decides on it. Somebody else may be deciding on the same.
    async fn decide(&mut self) -> bool {
        let Some(mut pending) = self.stage.pending.lock().pop_front() else {
            return false;
        };
        // Now and then somebody tries what they may not.
        let tries = self.rng.random_range(0..50) == 0;
        let may = pending.requester != self.person.name && (self.person.admin || !pending.admin);
        if !may && !tries {
            self.stage.pending.lock().push_back(pending);
            return false;
        }
        if may {
            pending.deciders -= 1;
        }
        if pending.deciders > 0 {
            self.stage.pending.lock().push_front(pending.clone());
        }
        let agrees = self.rng.random_range(0..100) < 85;
        let answer = self.say(&pending, agrees || !may).await;
        if may && let Some(batch) = pending.batch {
            self.settle(batch, &answer);
        }
        if answer.is_ok()
            && let Some(index) = self.cluster_of(&answer)
        {
            self.look_at_cluster(index).await;
        }
        true
    }

    async fn say(&mut self, pending: &Pending, agrees: bool) -> Result<Answer<Approval>, Error> {
        let target = format!("approval/{}", pending.id);
        let id = pending.id.clone();
        if agrees {
            let ask = self.ask("approvals.approve", target);
            let request = ApproveApprovalRequest {
                id,
                ..ApproveApprovalRequest::default()
            };
            self.send::<ApproveApproval>(ask, request).await
        } else {
            let ask = self.ask("approvals.reject", target);
            let request = RejectApprovalRequest {
                id,
                ..RejectApprovalRequest::default()
            };
            self.send::<RejectApproval>(ask, request).await
        }
    }

    /// What a decision means for the batch that would be drained.
    fn settle(&self, batch: usize, answer: &Result<Answer<Approval>, Error>) {
        let now = match answer {
            Ok(answer) if answer.message.status() == approval::Status::Approved => Batch::Runs(Instant::now()),
            Ok(_) => Batch::Free,
            // Whoever decided first has said so already.
            Err(error) if error.code() == "approval_finished" => return,
            Err(_) => Batch::Free,
        };
        self.stage.put_batch(batch, now);
    }

    /// The cluster that was changed, among those of the board.
    fn cluster_of(&self, answer: &Result<Answer<Approval>, Error>) -> Option<usize> {
        let approval = &answer.as_ref().ok()?.message;
        let id = approval.target.strip_prefix("cluster/")?;
        self.stage.clusters.iter().position(|known| known.lock().id == id)
    }
}
