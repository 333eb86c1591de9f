//! One line in the log and one count per request, reads and refusals included. What every peer does all the time leaves its
//! line at debug level, unless it was refused: a large fleet would fill the log with heartbeats.

use std::{net::SocketAddr, sync::Arc};

use proto::{
    codes::Code,
    methods::{Form, Method},
};
use tokio::time::Instant;

use crate::{
    auth::Principal,
    error::CODE,
    metrics::{Metrics, RequestLabels},
    trace,
};

/// Which form the caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Grpc,
    Rest,
}

impl Api {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

/// What is known of a request so far. Filled on its way through the stack.
pub(crate) struct Exchange {
    pub(crate) started: Instant,
    pub(crate) api: Api,
    pub(crate) request_id: String,
    pub(crate) transport: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) method: Option<&'static Method>,
    /// What to call the request where it reached no method: `livez`, `health`.
    pub(crate) other: &'static str,
    pub(crate) principal: Option<Arc<Principal>>,
    pub(crate) forwarded: bool,
    /// For traces; disabled where none are made.
    pub(crate) span: tracing::Span,
}

impl Exchange {
    /// Whether the answer is a watch that has begun.
    pub(crate) fn watches<B>(&self, response: &http::Response<B>) -> bool {
        self.method.is_some_and(|method| method.form == Form::Events) && !response.headers().contains_key(CODE)
    }

    /// Logs and counts the answer.
    pub(crate) fn finish<B>(&self, response: &http::Response<B>, metrics: &Metrics) {
        let took = self.started.elapsed();
        let name = response.headers().get(CODE).and_then(|code| code.to_str().ok());
        let code = match name {
            Some(name) => Code::of(name).as_str(),
            None if response.status().is_client_error() || response.status().is_server_error() => "refused",
            None => "ok",
        };
        let action = self.method.map_or(self.other, |method| method.action.as_str());
        let labels = RequestLabels {
            action,
            api: self.api.as_str(),
            transport: self.transport,
            code,
        };
        metrics.request(labels, took);
        trace::answered(&self.span, action, code, response.status().is_server_error());
        // A line's level is part of what is compiled.
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    target: "meshkit::access",
                    $level,
                    request_id = %self.request_id,
                    action,
                    principal = self.principal.as_ref().map_or("", |principal| &principal.subject),
                    proof = self.principal.as_ref().map_or("", |principal| principal.proof.as_str()),
                    scope = self.method.map_or("", |method| method.scope.as_str()),
                    api = self.api.as_str(),
                    transport = self.transport,
                    address = %self.address,
                    forwarded = self.forwarded,
                    status = response.status().as_u16(),
                    code = name.unwrap_or("ok"),
                    latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                )
            };
        }
        match self.method.is_some_and(|method| method.routine) && code == "ok" {
            true => line!(tracing::Level::DEBUG),
            false => line!(tracing::Level::INFO),
        }
    }
}
