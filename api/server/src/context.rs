//! What is known of one request by the time a service sees it.

use std::sync::Arc;

use proto::methods::Method;
use raft::env::Standing;
use tokio::time::Instant;

use crate::{Error, auth::Principal};

/// What is known of one request. Travels in the request's extensions.
#[derive(Debug)]
pub(crate) struct Call {
    /// As in logs, traces and the audit trail.
    pub(crate) request_id: String,
    /// Who asks.
    pub(crate) principal: Arc<Principal>,
    /// Whether the certificate counts that the caller's connection began with, where it began with one.
    pub(crate) standing: Option<Standing>,
    /// `h3`, `h2` or `h1`, as the caller's own connection negotiated it.
    pub(crate) transport: &'static str,
    /// When the caller stops waiting.
    pub(crate) deadline: Instant,
    /// This node's wall clock when the request came in, ms since 1970.
    pub(crate) received_wall_ms: u64,
    /// The RPC.
    pub(crate) method: &'static Method,
}

impl Call {
    /// The call that a request belongs to.
    ///
    /// # Errors
    /// A request that did not come through the stack, which only a fault of ours can bring about.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Arc<Self>, tonic::Status> {
        let found = request.extensions().get::<Arc<Self>>().cloned();
        found.ok_or_else(|| Error::internal("a request without its context").into_status(""))
    }
}
