//! Pages that are no RPCs: liveness, readiness, metrics, OpenAPI.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use tonic::body::Body;

use crate::{Error, body::full, core::Core, metrics};

/// A page that is no RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// Whether the process answers.
    Live,
    /// Whether there is a leader and a state to show.
    Ready,
    /// Prometheus' text form.
    Metrics,
    /// The OpenAPI document.
    OpenApi,
}

impl Page {
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "/livez" => Some(Self::Live),
            "/readyz" => Some(Self::Ready),
            "/metrics" => Some(Self::Metrics),
            "/openapi.json" => Some(Self::OpenApi),
            _ => None,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "livez",
            Self::Ready => "readyz",
            Self::Metrics => "metrics",
            Self::OpenApi => "openapi",
        }
    }
}

/// Answers a page. Who may see it was decided before.
pub(crate) fn answer(page: Page, core: &Core, openapi: &Bytes) -> Result<Response<Body>, Error> {
    let plain = "text/plain; charset=utf-8";
    let (status, kind, body) = match page {
        Page::Live => (StatusCode::OK, plain, Bytes::from_static(b"ok\n")),
        Page::Ready if core.ready() && !core.stop.is_cancelled() => {
            (StatusCode::OK, plain, Bytes::from_static(b"ok\n"))
        }
        Page::Ready => (
            StatusCode::SERVICE_UNAVAILABLE,
            plain,
            Bytes::from_static(b"not ready\n"),
        ),
        Page::Metrics => {
            let text = metrics::render(&core.registry.lock());
            let text = text.map_err(|_| Error::internal("the metrics could not be written"))?;
            (
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                Bytes::from(text),
            )
        }
        Page::OpenApi => (StatusCode::OK, "application/json", openapi.clone()),
    };
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
