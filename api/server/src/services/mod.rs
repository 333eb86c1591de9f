//! The services of the contract. Each RPC is here once; REST calls the same code.

mod alarms;
mod approvals;
mod audit;
mod auth;
mod backup;
mod changes;
mod cluster;
mod clusters;
mod config;
mod health;
mod levels;
mod members;
mod namespaces;
mod node;
mod operations;
mod peers;
mod presence;
mod shards;

use std::{future::Future, sync::Arc, time::Duration};

use http::{Extensions, HeaderMap};
use raft::View;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, metadata::MetadataMap};

use crate::{Error, context::Call, core::Core, headers, listing::Page, shares::Shares};

/// All services of one node.
pub(crate) struct Api {
    core: Arc<Core>,
    /// Pages of shards as they were sent.
    pages: shards::Pages,
    /// Reports of this node that are being put together: each reads the disk.
    reports: Arc<Semaphore>,
    /// Simulations and reshapings that are being computed: each keeps a processor busy.
    simulations: Arc<Semaphore>,
    /// What each principal has of them, those that wait for a place among them.
    simulated_for: Arc<Shares<String>>,
}

/// How many simulations are computed at once.
const SIMULATIONS_AT_ONCE: usize = 2;
/// How many simulations of one principal may be computed or wait: whoever asks for many gets no more than a turn beside others.
const SIMULATIONS_EACH: usize = 2;

/// A length of time in ms, rounded up; its range is the state machine's to judge.
fn length_ms(field: &str, given: Option<prost_types::Duration>) -> Result<Option<u64>, Error> {
    let Some(given) = given else {
        return Ok(None);
    };
    // Looked at before it is converted: the conversion negates, which the smallest number does not survive.
    let negative = given.seconds < 0 || given.nanos < 0;
    let time = (!negative).then(|| Duration::try_from(given).ok()).flatten();
    let time = time.ok_or_else(|| Error::invalid(field, "not a length of time"))?;
    let ms = time.as_nanos().div_ceil(1_000_000);
    Ok(Some(u64::try_from(ms).unwrap_or(u64::MAX)))
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
            pages: shards::Pages::new(core.config.limits.kept_pages_bytes_max),
            core,
            reports: Arc::new(Semaphore::new(node::REPORTS_AT_ONCE)),
            simulations: Arc::new(Semaphore::new(SIMULATIONS_AT_ONCE)),
            simulated_for: Shares::new(SIMULATIONS_EACH),
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
        self.viewed(&received.headers, &received.call).await
    }

    /// The same of a request that was taken apart.
    async fn viewed(&self, headers: &HeaderMap, call: &Call) -> Result<View, Error> {
        let consistency = headers::consistency(headers)?;
        Ok(self.core.handle.read(consistency, call.deadline).await?)
    }

    /// An answer with the revision that it shows.
    fn at<A>(&self, revision: statemachine::Revision, message: A) -> Response<A> {
        let metadata = MetadataMap::from_headers(self.core.position_headers(revision));
        Response::from_parts(metadata, message, Extensions::new())
    }

    /// The same for a page of a list, with an ETag that stands for the revision, the question and the place in the list.
    fn page<A>(&self, page: &Page, message: A) -> Response<A> {
        let mut metadata = self.core.position_headers(page.revision());
        headers::put_page_etag(&mut metadata, &page.etag());
        Response::from_parts(MetadataMap::from_headers(metadata), message, Extensions::new())
    }

    /// The same for one record, with its ETag.
    fn record<A>(&self, revision: statemachine::Revision, etag: statemachine::Etag, message: A) -> Response<A> {
        let mut metadata = self.core.position_headers(revision);
        headers::put_etag(&mut metadata, etag);
        Response::from_parts(MetadataMap::from_headers(metadata), message, Extensions::new())
    }
}
