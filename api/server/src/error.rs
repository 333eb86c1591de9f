//! Refusals, and the one place where they become gRPC statuses and problem documents.

mod membership;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use prost::{Message, Name};
use proto::{
    codes::Code,
    methods::Scope,
    v1::{Problem, problem},
};
use statemachine::Rejection;
use tonic::{Status, metadata::MetadataMap};
use tonic_types::pb;

pub use self::membership::{RULES, removed_for_good};

/// The domain of `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "meshkit";

/// Tells that an answer is a repetition of an earlier one.
pub const REPLAYED: &str = "mesh-replayed";
/// The code of a refusal, for callers that do not decode status details.
pub const CODE: &str = "mesh-code";

const PROBLEM_TYPE: &str = "type.googleapis.com/meshkit.v1.Problem";
const ERROR_INFO_TYPE: &str = "type.googleapis.com/google.rpc.ErrorInfo";

/// Why a request was refused: what a problem document says, free of any transport.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    code: Code,
    problem: Box<Problem>,
    replayed: bool,
}

impl Error {
    /// A refusal with one of the general codes.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self::named(code, code.as_str(), detail)
    }

    fn named(code: Code, name: &str, detail: impl Into<String>) -> Self {
        let problem = Problem {
            code: name.to_owned(),
            detail: detail.into(),
            retryable: code.is_retryable(),
            ..Problem::default()
        };
        Self {
            code,
            problem: Box::new(problem),
            replayed: false,
        }
    }

    /// A broken rule, by its own name. It is one of the contract's error pages.
    #[must_use]
    pub fn rule(name: &'static str, detail: impl Into<String>) -> Self {
        Self::named(Code::Rule, name, detail)
    }

    /// What it means that a record exists which was to be replaced without its ETag.
    #[must_use]
    pub fn if_match_required(self) -> Self {
        let current = self.problem.current_etag;
        let detail = format!("the record exists; replacing it takes its ETag, which is {current}");
        Self::new(Code::IfMatchRequired, detail)
            .with(|problem| problem.current_etag = current)
            .hint("read the record, check that the change makes sense, and send its ETag as If-Match (`--if-match`)")
    }

    /// `invalid_argument` about one field.
    #[must_use]
    pub fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, detail).with(|problem| {
            problem.field = field.to_owned();
            problem.hint = "correct the field and send the request again".to_owned();
        })
    }

    /// `not_found` for a record.
    #[must_use]
    pub fn not_found(kind: &str, id: &str) -> Self {
        Rejection::NotFound {
            kind: kind.to_owned(),
            id: id.to_owned(),
        }
        .into()
    }

    /// `scope_missing`, naming the scope.
    #[must_use]
    pub fn scope_missing(scope: Scope, held: &str) -> Self {
        let detail = format!("this call needs the scope {scope}, and {held}");
        Self::new(Code::ScopeMissing, detail).with(|problem| {
            problem.missing_scope = scope.as_str().to_owned();
            problem.hint =
                "use a credential that has the scope; `mesh auth can-i` shows what this one may do".to_owned();
        })
    }

    /// `not_leader`, naming the leader where there is one.
    #[must_use]
    pub fn not_leader(leader: Option<&raft::error::Leader>) -> Self {
        let Some(leader) = leader else {
            return Self::new(Code::Unavailable, "the cluster has no leader at the moment").with(|problem| {
                problem.hint = "try again in a moment; `mesh status` shows what the nodes see".to_owned();
                problem.retry_after_ms = 500;
            });
        };
        let detail = format!("only the leader changes state, and node {} leads", leader.node);
        Self::new(Code::NotLeader, detail).with(|problem| {
            problem.hint = "send the request to the leader's endpoint. Most HTTP clients drop `Authorization` when they \
                            follow a redirect to another host or port: send it again, or send `Mesh-Route: forward` and \
                            this node carries the request"
                .to_owned();
            problem.leader = Some(problem::Leader { id: leader.node.0, api: endpoint(&leader.api) });
        })
    }

    /// A fault of ours. The detail goes to the caller, so it names no secret.
    #[must_use]
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Code::Internal, detail)
            .with(|problem| problem.hint = "look for the request id in the node's log".to_owned())
    }

    /// Changes the document.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Problem)) -> Self {
        change(&mut self.problem);
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.with(|problem| problem.hint = hint.into())
    }

    /// Marks the refusal as the repetition of an earlier one.
    #[must_use]
    pub fn replayed(mut self) -> Self {
        self.replayed = true;
        self
    }

    /// The kind of refusal.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The code as it is written; rules have names of their own.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.problem.code
    }

    /// The document.
    #[must_use]
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.problem.retryable
    }

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
        ] {
            if !text.is_empty() {
                put(name, text.into());
            }
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

    /// The problem document as an HTTP response. `path` is the path and query of the request, for redirects.
    #[must_use]
    pub fn into_response(self, request_id: &str, path: &str) -> http::Response<tonic::body::Body> {
        let body = self.document(request_id).to_string();
        let mut response = http::Response::new(crate::body::full(body));
        *response.status_mut() =
            http::StatusCode::from_u16(self.code.http()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
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

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.problem.code, self.problem.detail)
    }
}

impl std::error::Error for Error {}

/// `https://host:port` of an API address that the cluster knows as `host:port`.
#[must_use]
pub fn endpoint(address: &str) -> String {
    if address.contains("://") {
        address.to_owned()
    } else {
        format!("https://{address}")
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

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let name = rejection.code();
        let mut error = Self::named(Code::of(name), name, rejection.detail());
        let problem = &mut error.problem;
        problem.hint = rejection.hint();
        problem.retryable = rejection.is_retryable();
        match rejection {
            Rejection::InvalidArgument { field, .. } => problem.field = field,
            Rejection::AlreadyExists { current, .. } => problem.current_etag = current.to_string(),
            Rejection::EtagMismatch { current, .. } => {
                problem.current_etag = current.map(|etag| etag.to_string()).unwrap_or_default();
            }
            Rejection::RevisionMismatch { current, .. } => problem.revision = current.0,
            Rejection::IdempotencyKeyReused { revision } => problem.revision = revision.0,
            Rejection::IdempotencyKeyExpired { age_ms, ttl_ms } => {
                (problem.measured, problem.limit) = (format!("{age_ms} ms"), format!("{ttl_ms} ms"));
            }
            Rejection::ResourceExhausted { measured, limit, .. } => {
                (problem.measured, problem.limit) = (measured.to_string(), limit.to_string());
                problem.retry_after_ms = 1_000;
            }
            Rejection::PeerOwnsShards { shards, .. } => {
                (problem.measured, problem.limit) = (shards.to_string(), "0".to_owned());
            }
            Rejection::OperationFinished { state, .. } => problem.measured = state.word().to_owned(),
            // Their detail says it all; a rule that is added later has one too.
            _ => {}
        }
        error
    }
}

impl From<raft::error::Error> for Error {
    fn from(error: raft::error::Error) -> Self {
        use raft::error::Error as Raft;
        let uncertain = "the request may have taken effect all the same: a retry with the same Idempotency-Key is safe, \
                         a retry without one may apply it twice";
        let certain = "nothing was changed; try again";
        let hint = if error.maybe_applied() { uncertain } else { certain };
        let text = error.to_string();
        match error {
            Raft::NotLeader { leader } => Self::not_leader(leader.as_ref()),
            Raft::Unavailable { .. } => Self::new(Code::Unavailable, text)
                .hint(hint)
                .with(|problem| problem.retry_after_ms = 200),
            Raft::DeadlineExceeded { .. } => Self::new(Code::DeadlineExceeded, text).hint(hint),
            Raft::Overloaded { .. } => Self::new(Code::ResourceExhausted, text)
                .hint(hint)
                .with(|problem| problem.retry_after_ms = 100),
            Raft::TooLarge { bytes, limit } => Self::new(Code::TooLarge, text).with(|problem| {
                problem.hint = "send less in one request".to_owned();
                (problem.measured, problem.limit) = (format!("{bytes} B"), format!("{limit} B"));
            }),
            Raft::Membership { refusal, .. } => membership::refused(refusal, text),
            Raft::Compacted { oldest } => Self::new(Code::Compacted, text)
                .with(|problem| problem.revision = oldest.0)
                .hint(format!(
                    "ask for revision {oldest} or a newer one; `mesh history show` tells what is kept"
                )),
            Raft::History(_) => Self::internal(text),
            Raft::Fatal(fatal) => Self::new(
                Code::Unavailable,
                format!("this node has stopped itself ({})", fatal.kind),
            )
            .hint("use another node; this node's log says what has to be done"),
        }
    }
}

/// The full name of the document's message, so that nobody spells it twice.
#[must_use]
pub fn problem_name() -> String {
    Problem::full_name()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_carries_the_whole_document() {
        let leader = raft::error::Leader {
            node: statemachine::NodeId(2),
            api: "127.0.0.1:7402".into(),
        };
        let error = Error::not_leader(Some(&leader));
        let status = error.clone().into_status("r1");
        assert_eq!(status.code(), tonic::Code::Unavailable);
        let back = Error::from_status(&status);
        assert_eq!(back.code(), Code::NotLeader);
        assert_eq!(
            back.problem().leader.as_ref().map(|leader| leader.api.as_str()),
            Some("https://127.0.0.1:7402")
        );
        let response = back.into_response("r1", "/meshkit/peers?x=1");
        assert_eq!(response.status(), 307);
        assert_eq!(
            response.headers()[header::LOCATION],
            "https://127.0.0.1:7402/meshkit/peers?x=1"
        );
        use tonic_types::StatusExt;
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("not_leader", "meshkit"));
    }

    #[test]
    fn rules_keep_their_names() {
        let peer = statemachine::PeerId::new("p1").unwrap();
        let error = Error::from(Rejection::PeerDraining { peer, operation: None });
        assert_eq!((error.code(), error.name()), (Code::Rule, "peer_draining"));
        let document = error.document("r");
        assert_eq!(document["status"], 409);
        assert!(document["hint"].as_str().unwrap().contains("undrain"));
        assert!(document.get("currentEtag").is_none());
    }

    #[test]
    fn a_foreign_status_becomes_the_nearest_code() {
        assert_eq!(Error::from_status(&Status::not_found("x")).code(), Code::NotFound);
        assert_eq!(Error::from_status(&Status::unknown("x")).code(), Code::Internal);
    }
}
