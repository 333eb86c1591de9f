//! `grpc.health.v1`: serving means that there is a leader and this node has a state to show. Anonymous, and says no
//! more than that.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};

use super::Api;
use crate::core::Core;

fn serving(core: &Core) -> ServingStatus {
    if core.ready() && !core.stop.is_cancelled() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

/// Every service of the node is served or none, so its name only has to be right.
fn known(service: &str) -> bool {
    service.is_empty() || crate::grpc::served().contains(&service)
}

#[tonic::async_trait]
impl Health for Api {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        if !known(&request.get_ref().service) {
            return Err(Status::not_found("there is no such service"));
        }
        Ok(Response::new(HealthCheckResponse {
            status: serving(&self.core).into(),
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let known = known(&request.get_ref().service);
        let core = Arc::clone(&self.core);
        let status = core.status.clone();
        let answers = stream::unfold((core, status, None), move |(core, mut status, told)| async move {
            loop {
                let now = if known {
                    serving(&core)
                } else {
                    ServingStatus::ServiceUnknown
                };
                if told != Some(now) {
                    let answer = HealthCheckResponse { status: now.into() };
                    return Some((Ok(answer), (core, status, Some(now))));
                }
                tokio::select! {
                    changed = status.changed() => changed.ok()?,
                    () = core.stop.cancelled() => return None,
                }
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
