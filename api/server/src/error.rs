//! Refusals, and the one place where they become gRPC statuses and problem documents.

mod membership;
mod wire;

use prost::Name;
use proto::{
    codes::Code,
    methods::Scope,
    v1::{self, Problem, problem},
};
use statemachine::Rejection;

pub use self::membership::{RULES, removed_for_good};

/// The domain of `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "meshkit";

/// Tells that an answer is a repetition of an earlier one.
pub const REPLAYED: &str = "mesh-replayed";
/// The code of a refusal, for callers that do not decode status details.
pub const CODE: &str = "mesh-code";

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

    /// A broken rule, by its own name, which is one of the contract's error pages; what was measured, and the limit.
    #[must_use]
    pub fn rule(
        name: &'static str,
        detail: impl Into<String>,
        (measured, limit): (impl Into<String>, impl Into<String>),
    ) -> Self {
        Self::named(Code::Rule, name, detail).measured(measured, limit)
    }

    /// Sets what was measured, and what it was held against.
    #[must_use]
    pub fn measured(self, measured: impl Into<String>, limit: impl Into<String>) -> Self {
        self.with(|problem| (problem.measured, problem.limit) = (measured.into(), limit.into()))
    }

    /// `pending_approval`: the request was taken and waits for a second person.
    #[must_use]
    pub fn pending_approval(approval: v1::Approval) -> Self {
        let v1::Approval {
            id,
            action,
            target,
            hint,
            ..
        } = &approval;
        let detail = format!("{action} {target} waits for approval as `{id}`; nothing has been changed");
        let hint = hint.clone();
        Self::new(Code::PendingApproval, detail)
            .hint(hint)
            .with(|problem| problem.approval = Some(approval))
    }

    /// What it means that a record exists which was to be replaced without its ETag.
    #[must_use]
    pub fn if_match_required(self) -> Self {
        let current = self.problem.current_etag;
        let detail = format!("the record exists; replacing it takes its ETag, which is {current}");
        Self::new(Code::IfMatchRequired, detail)
            .measured("no If-Match", format!("If-Match: \"{current}\""))
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

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        let name = rejection.code();
        let mut error = Self::named(Code::of(name), name, rejection.detail());
        let problem = &mut error.problem;
        problem.hint = rejection.hint();
        problem.retryable = rejection.is_retryable();
        (problem.measured, problem.limit) = rejection.measure();
        match rejection {
            Rejection::InvalidArgument { field, .. } => problem.field = field,
            Rejection::AlreadyExists { current, .. } => problem.current_etag = current.to_string(),
            Rejection::EtagMismatch { current, .. } => {
                problem.current_etag = current.map(|etag| etag.to_string()).unwrap_or_default();
            }
            Rejection::RevisionMismatch { current, .. } => problem.revision = current.0,
            Rejection::IdempotencyKeyReused { revision } => problem.revision = revision.0,
            Rejection::ResourceExhausted { .. } => problem.retry_after_ms = 1_000,
            Rejection::ScopeMissing { needed, .. } => problem.missing_scope = needed.word().to_owned(),
            // Detail, measure and hint say it all.
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
            Raft::Membership {
                refusal,
                reason,
                measured,
                limit,
            } => membership::refused(refusal, reason, (measured, limit)),
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
    use http::header;
    use tonic::Status;

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
