//! What a refusal is on the wire: a gRPC status, a problem document, an HTTP response.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use prost::Message;
use proto::{codes::Code, v1::Problem};
use tonic::{Status, metadata::MetadataMap};
use tonic_types::pb;

use super::{CODE, DOMAIN, Error, REPLAYED};

const PROBLEM_TYPE: &str = "type.googleapis.com/meshkit.v1.Problem";
const ERROR_INFO_TYPE: &str = "type.googleapis.com/google.rpc.ErrorInfo";

impl Error {
    /// The gRPC status, with `google.rpc.ErrorInfo` and the document as details.
    #[must_use]
    pub fn into_status(mut self, request_id: &str) -> Status {
        self.problem.request_id = request_id.to_owned();
        let grpc = self.code.grpc();
        let info = pb::ErrorInfo {
            reason: self.problem.code.clone(),
            domain: DOMAIN.to_owned(),
            metadata: [("requestId".to_owned(), request_id.to_owned())].into(),
        };
        let details = vec![
            prost_types::Any {
                type_url: ERROR_INFO_TYPE.to_owned(),
                value: info.encode_to_vec(),
            },
            prost_types::Any {
                type_url: PROBLEM_TYPE.to_owned(),
                value: self.problem.encode_to_vec(),
            },
        ];
        let rich = pb::Status {
            code: grpc as i32,
            message: self.problem.detail.clone(),
            details,
        };
        let mut headers = HeaderMap::with_capacity(2);
        if let Ok(code) = HeaderValue::from_str(&self.problem.code) {
            headers.insert(CODE, code);
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Status::with_details_and_metadata(
            grpc,
            self.problem.detail,
            Bytes::from(rich.encode_to_vec()),
            MetadataMap::from_headers(headers),
        )
    }

    /// The refusal that a status carries. A status that is not one of ours becomes the nearest general code.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let replayed = status.metadata().get(REPLAYED).is_some();
        let rich = pb::Status::decode(status.details()).unwrap_or_default();
        let problem = rich.details.iter().find(|any| any.type_url == PROBLEM_TYPE);
        match problem.and_then(|any| Problem::decode(any.value.as_slice()).ok()) {
            Some(problem) => Self {
                code: Code::of(&problem.code),
                problem: Box::new(problem),
                replayed,
            },
            None => Self::new(nearest(status.code()), status.message()),
        }
    }

    /// The RFC 9457 document. Empty members are left out.
    #[must_use]
    pub fn document(&self, request_id: &str) -> serde_json::Value {
        let problem = &*self.problem;
        let mut map = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| {
            map.insert(name.to_owned(), value);
        };
        put("type", format!("urn:meshkit:error:{}", problem.code).into());
        put("title", problem.code.replace('_', " ").into());
        put("status", self.code.http().into());
        put("code", problem.code.as_str().into());
        put("detail", problem.detail.as_str().into());
        put("retryable", problem.retryable.into());
        let request_id = if problem.request_id.is_empty() {
            request_id
        } else {
            &problem.request_id
        };
        for (name, text) in [
            ("hint", problem.hint.as_str()),
            ("requestId", request_id),
            ("currentEtag", &problem.current_etag),
            ("missingScope", &problem.missing_scope),
            ("measured", &problem.measured),
            ("limit", &problem.limit),
            ("field", &problem.field),
            ("token", &problem.token),
        ] {
            if !text.is_empty() {
                put(name, text.into());
            }
        }
        if let Some(preview) = &problem.preview
            && let Ok(preview) = proto::json::to_value(preview)
        {
            put("preview", preview);
        }
        if let Some(leader) = &problem.leader {
            put("leader", serde_json::json!({ "id": leader.id, "api": leader.api }));
        }
        if problem.revision != 0 {
            put("revision", problem.revision.into());
        }
        if problem.retry_after_ms != 0 {
            put("retryAfterMs", problem.retry_after_ms.into());
        }
        map.into()
    }

    /// What the answer is in REST where the request was taken, and is no problem: the request for approval.
    fn taken(&self) -> Option<String> {
        let approval = self.problem.approval.as_ref()?;
        proto::json::to_string(approval).ok()
    }

    /// The problem document as an HTTP response. `path` is the path and query of the request, for redirects.
    #[must_use]
    pub fn into_response(self, request_id: &str, path: &str) -> http::Response<tonic::body::Body> {
        let taken = self.taken();
        let is_problem = taken.is_none();
        let body = taken.unwrap_or_else(|| self.document(request_id).to_string());
        let mut response = http::Response::new(crate::body::full(body));
        *response.status_mut() =
            http::StatusCode::from_u16(self.code.http()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(match is_problem {
                true => "application/problem+json",
                false => "application/json",
            }),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(code) = HeaderValue::from_str(&self.problem.code) {
            headers.insert(CODE, code);
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if self.code.http() == 401 {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.code == Code::MethodNotAllowed
            && let Ok(allowed) = HeaderValue::from_str(&self.problem.limit)
        {
            headers.insert(header::ALLOW, allowed);
        }
        if self.problem.retry_after_ms != 0 {
            headers.insert(header::RETRY_AFTER, self.problem.retry_after_ms.div_ceil(1000).into());
        }
        if let Some(leader) = &self.problem.leader
            && let Ok(location) = HeaderValue::from_str(&format!("{}{path}", leader.api))
        {
            headers.insert(header::LOCATION, location);
        }
        response
    }
}

/// The nearest general code to a gRPC code that came without a document.
fn nearest(code: tonic::Code) -> Code {
    match code {
        tonic::Code::InvalidArgument => Code::InvalidArgument,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::PermissionDenied => Code::ScopeMissing,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::DeadlineExceeded => Code::DeadlineExceeded,
        tonic::Code::ResourceExhausted => Code::ResourceExhausted,
        tonic::Code::Unavailable => Code::Unavailable,
        tonic::Code::Unimplemented => Code::Unimplemented,
        tonic::Code::FailedPrecondition => Code::Rule,
        tonic::Code::Ok
        | tonic::Code::Cancelled
        | tonic::Code::Unknown
        | tonic::Code::Aborted
        | tonic::Code::OutOfRange
        | tonic::Code::Internal
        | tonic::Code::DataLoss => Code::Internal,
    }
}
