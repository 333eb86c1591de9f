//! The services of the contract. Each RPC is here once; REST calls the same code.

mod alarms;
mod audit;
mod auth;
mod backup;
mod cluster;
mod clusters;
mod config;
mod health;
mod levels;
mod members;
mod node;
mod operations;
mod peers;

use std::{future::Future, sync::Arc};

use http::{Extensions, HeaderMap};
use raft::View;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{Error, context::Call, core::Core, headers};

/// All services of one node.
pub(crate) struct Api {
    core: Arc<Core>,
    /// Reports of this node that are being put together: each reads the disk.
    reports: Arc<Semaphore>,
}

/// A request that has been taken apart.
struct Received<T> {
    call: Arc<Call>,
    headers: HeaderMap,
    message: T,
}

impl Api {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            reports: Arc::new(Semaphore::new(node::REPORTS_AT_ONCE)),
        }
    }

    /// Answers a read, giving its refusals their form.
    async fn answer<T, A, F: Future<Output = Result<Response<A>, Error>>>(
        &self,
        request: Request<T>,
        read: impl FnOnce(Received<T>) -> F,
    ) -> Result<Response<A>, Status> {
        let call = Call::of(&request)?;
        let (metadata, _, message) = request.into_parts();
        let received = Received {
            call: Arc::clone(&call),
            headers: metadata.into_headers(),
            message,
        };
        read(received)
            .await
            .map_err(|error| error.into_status(&call.request_id))
    }

    /// The state as fresh as the request asks for.
    async fn view<T>(&self, received: &Received<T>) -> Result<View, Error> {
        let consistency = headers::consistency(&received.headers)?;
        Ok(self.core.handle.read(consistency, received.call.deadline).await?)
    }

    /// An answer with the revision that it shows.
    fn at<A>(&self, revision: statemachine::Revision, message: A) -> Response<A> {
        let metadata = MetadataMap::from_headers(self.core.position_headers(revision));
        Response::from_parts(metadata, message, Extensions::new())
    }

    /// The same for one record, with its ETag.
    fn record<A>(&self, revision: statemachine::Revision, etag: statemachine::Etag, message: A) -> Response<A> {
        let mut metadata = self.core.position_headers(revision);
        headers::put_etag(&mut metadata, etag);
        Response::from_parts(MetadataMap::from_headers(metadata), message, Extensions::new())
    }
}
