//! Which node answers a request: this one, or the leader by way of this one.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, request::Parts as Head};
use proto::methods::{HttpVerb, Method};
use tokio::time::Instant;
use tonic::body::Body;

use crate::{
    Error,
    access::Exchange,
    auth::{Proof, forwarded},
    body::{self, RequestBody},
    deadlines::late,
    headers,
    stack::{Caller, Stack},
};

/// How long a follower waits for the leader's view of the cluster before it shows its own.
const LEADER_WITHIN: Duration = Duration::from_secs(1);

/// Where a request is answered.
pub(crate) enum Way {
    Here,
    /// By the leader alone.
    Leader,
    /// By the leader, and here where it does not answer.
    LeaderIfItAnswers,
}

impl Stack {
    /// Where a request is answered.
    pub(crate) fn way(&self, method: &Method, caller: &Caller, head: &Head) -> Result<Way, Error> {
        let forward = headers::forward(&head.headers)?;
        // Who asks how things are is told, also by a node that has nothing else to say.
        let about_nodes = matches!(method.action.as_str(), "status.get" | "alarms.list" | "members.list");
        if !about_nodes && (self.core.leads() || !method.mutation) {
            self.core.check_serves()?;
        }
        if method.mutation {
            self.core.check_accepts_mutations()?;
        }
        // One hop: what a member carried here goes no further.
        if caller.hop || self.core.leads() {
            return Ok(Way::Here);
        }
        // What the leader alone can tell is fetched from it. What is said to it goes there by itself, unless asked.
        if method.leader && (forward || method.http.verb == HttpVerb::Get) {
            return Ok(Way::Leader);
        }
        // A browser's cookie is for this node's address, and its page follows no redirect to another.
        if method.mutation && (forward || caller.principal.proof == Proof::Session) {
            return Ok(Way::Leader);
        }
        // The leader alone knows how far the others are behind.
        let wanted = headers::consistency(&head.headers)? == raft::Consistency::Linearizable;
        Ok(if method.action == "status.get" && wanted {
            Way::LeaderIfItAnswers
        } else {
            Way::Here
        })
    }

    pub(crate) async fn collect(&self, body: RequestBody, deadline: Instant) -> Result<Bytes, Error> {
        tokio::time::timeout_at(deadline, body::collect(body))
            .await
            .map_err(|_| late())?
    }

    pub(crate) async fn forward(
        &self,
        exchange: &Exchange,
        caller: &Caller,
        head: &Head,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Body>, Error> {
        let Some(leader) = self.core.leader() else {
            return Err(Error::not_leader(None));
        };
        let on_behalf = forwarded::Forwarded {
            principal: Arc::clone(&caller.principal),
            transport: exchange.transport,
            address: exchange.address,
        };
        self.core.metrics.forwarded.inc();
        tracing::debug!(request_id = %exchange.request_id, leader = %leader.node, "carried on");
        self.core
            .forwarder
            .send(&leader, head, body, &on_behalf, &exchange.request_id, deadline)
            .await
    }

    /// The leader's answer, where it gives one soon.
    pub(crate) async fn ask_leader(
        &self,
        exchange: &Exchange,
        caller: &Caller,
        head: &Head,
        body: Bytes,
        deadline: Instant,
    ) -> Option<Response<Body>> {
        self.core.leader()?;
        let until = deadline.min(Instant::now() + LEADER_WITHIN);
        let answer = self.forward(exchange, caller, head, body, until).await.ok()?;
        let good = answer.status().is_success() && !answer.headers().contains_key(crate::error::CODE);
        good.then_some(answer)
    }
}
