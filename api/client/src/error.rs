//! The one error of the SDK: what the contract calls a problem, wherever it arose.

use std::fmt;

use prost::Message as _;
use proto::v1::Problem;
use tonic::Code;

use crate::code;

const PROBLEM_TYPE: &str = "meshkit.v1.Problem";
const ERROR_DOMAIN: &str = "meshkit";

/// Why a call failed: the mesh's own answer, or what the SDK found out while it tried.
///
/// Both have the same shape, so that a caller handles one thing: a documented [`code`](Self::code), a
/// [`detail`](Self::detail) with names and values, a [`hint`](Self::hint) of what to do next. It never holds a token.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    problem: Problem,
    status: Code,
    attempts: Vec<Attempt>,
    remote: bool,
    replayed: bool,
    outcome_unknown: bool,
    idempotency_key: String,
}

/// One endpoint that was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The endpoint, as `https://host:port`.
    pub endpoint: String,
    /// Why it did not answer.
    pub why: String,
}

impl Inner {
    fn new(problem: Problem, status: Code, remote: bool) -> Self {
        Self {
            problem,
            status,
            attempts: Vec::new(),
            remote,
            replayed: false,
            outcome_unknown: false,
            idempotency_key: String::new(),
        }
    }
}

impl Error {
    /// An error that the caller's side found: `code` is of the contract's table, `status` the gRPC status beside it.
    pub fn local(code: &str, status: Code, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let problem = Problem {
            code: code.to_owned(),
            detail: detail.into(),
            hint: hint.into(),
            ..Problem::default()
        };
        Self(Box::new(Inner::new(problem, status, false)))
    }

    /// `invalid_argument`: the caller gave something that cannot be used.
    pub fn invalid(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::local("invalid_argument", Code::InvalidArgument, detail, hint)
    }

    /// `deadline_exceeded`, found on this side.
    pub fn deadline(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        let mut error = Self::local("deadline_exceeded", Code::DeadlineExceeded, detail, hint);
        error.0.problem.retryable = true;
        error
    }

    /// `unavailable`: no endpoint could be reached. Names each that was tried, and why it failed.
    pub fn cannot_connect(attempts: Vec<Attempt>) -> Self {
        let tried: Vec<String> = attempts.iter().map(|a| format!("{}: {}", a.endpoint, a.why)).collect();
        let detail = format!("cannot connect: {}", tried.join("; "));
        let hint = "check that a node runs there, and the `endpoints` and `ca` of the context (`mesh context show --show-origin`)";
        let mut error = Self::local("unavailable", Code::Unavailable, detail, hint);
        error.0.problem.retryable = true;
        error.0.attempts = attempts;
        error
    }

    /// Reads what a server answered: the `meshkit.v1.Problem` among the status details; without one the
    /// `ErrorInfo` of MeshKit; without either, the gRPC status itself.
    pub fn from_status(status: &tonic::Status) -> Self {
        let (problem, info) = details(status.details());
        let remote = problem.is_some() || info.is_some();
        let mut problem = problem.unwrap_or_default();
        if problem.code.is_empty() {
            problem.retryable = status.code() == Code::Unavailable;
            problem.code = info.unwrap_or_else(|| code::of_status(status.code()).to_owned());
        }
        if problem.detail.is_empty() {
            problem.detail = match status.message() {
                "" => format!("the server answered {:?} without a word", status.code()),
                message => message.to_owned(),
            };
        }
        let mut inner = Inner::new(problem, status.code(), remote);
        inner.replayed = status
            .metadata()
            .get("mesh-replayed")
            .is_some_and(|value| value == "true");
        Self(Box::new(inner))
    }

    /// The stable code: `etag_mismatch`, `peer_draining`, `unavailable` …
    pub fn code(&self) -> &str {
        &self.0.problem.code
    }

    /// What happened, with names and values.
    pub fn detail(&self) -> &str {
        &self.0.problem.detail
    }

    /// What to do next; may be empty.
    pub fn hint(&self) -> &str {
        &self.0.problem.hint
    }

    /// True where the same request may succeed later.
    pub fn retryable(&self) -> bool {
        self.0.problem.retryable
    }

    /// The whole problem document, with the members that only some codes have.
    pub fn problem(&self) -> &Problem {
        &self.0.problem
    }

    /// The request for approval that a change waits as: with `pending_approval`, which is no failure. The change was taken
    /// and remembered under its idempotency key, and takes effect once everybody agrees who has to.
    pub fn approval(&self) -> Option<&proto::v1::Approval> {
        let waits = self.code() == "pending_approval";
        self.0.problem.approval.as_ref().filter(|_| waits)
    }

    /// The gRPC status that came with the problem, or that fits it.
    pub fn status(&self) -> Code {
        self.0.status
    }

    /// The endpoints that were tried and did not answer; empty where one answered.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.attempts
    }

    /// True where a node of the mesh gave this answer, false where this side or something in between did.
    pub fn is_remote(&self) -> bool {
        self.0.remote
    }

    /// True where this is the stored answer of an earlier attempt with the same idempotency key.
    pub fn replayed(&self) -> bool {
        self.0.replayed
    }

    /// True where a mutation was sent and it is not known whether it was applied. Repeating it with the same
    /// [`idempotency_key`](Self::idempotency_key) finds out; where there is none, only looking does.
    ///
    /// This is about all attempts of the call: a refusal that was decided before the mutation was looked at
    /// (`unauthenticated`, `rate_limited` …) says nothing about an attempt before it whose answer was lost.
    pub fn outcome_unknown(&self) -> bool {
        self.0.outcome_unknown
    }

    /// The idempotency key that the failed mutation carried; empty for reads, and for changes that the mesh keeps no
    /// key of.
    pub fn idempotency_key(&self) -> &str {
        &self.0.idempotency_key
    }

    /// The process exit code of `mesh` for this error; see [`crate::exit_code`].
    pub fn exit_code(&self) -> u8 {
        code::exit_code(self.code(), self.0.status)
    }

    /// The API endpoint of the leader, where a `not_leader` answer names one.
    pub fn leader(&self) -> Option<&str> {
        self.0
            .problem
            .leader
            .as_ref()
            .map(|leader| leader.api.as_str())
            .filter(|api| !api.is_empty())
    }

    pub(crate) fn into_retryable(mut self) -> Self {
        self.0.problem.retryable = true;
        self
    }

    /// Notes what is known of the mutation's outcome, and what the caller can do where that is nothing. `itself` is
    /// true where this very error leaves it open: then a hint of the server's own says which it is.
    pub(crate) fn with_outcome(mut self, unknown: bool, itself: bool, key: &str) -> Self {
        key.clone_into(&mut self.0.idempotency_key);
        self.0.outcome_unknown = unknown;
        if !unknown {
            return self;
        }
        let find_out = if key.is_empty() {
            "see `mesh status` for who leads and which nodes are members before you ask again".to_owned()
        } else {
            format!("repeat it with --idempotency-key {key} to find out, within 60s")
        };
        let hint = &mut self.0.problem.hint;
        if hint.is_empty() {
            *hint = format!("it may have been applied: {find_out}");
        } else if !itself {
            hint.push_str(&format!("; an earlier attempt may have been applied: {find_out}"));
        }
        self
    }

    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.0.problem.hint);
        self
    }

    /// The same error with `hint` in place of an empty one.
    #[must_use]
    pub fn or_hint(mut self, hint: impl Into<String>) -> Self {
        if self.0.problem.hint.is_empty() {
            self.0.problem.hint = hint.into();
        }
        self
    }

    /// The same error with `more` at the end of its detail.
    #[must_use]
    pub fn with_detail(mut self, more: &str) -> Self {
        self.0.problem.detail.push_str(more);
        self
    }
}

/// Problem and `ErrorInfo` reason of a `google.rpc.Status`, as far as they are there and decode.
fn details(bytes: &[u8]) -> (Option<Problem>, Option<String>) {
    let mut problem = None;
    let mut info = None;
    if bytes.is_empty() {
        return (problem, info);
    }
    let Ok(status) = tonic_types::pb::Status::decode(bytes) else {
        return (problem, info);
    };
    for any in status.details {
        match any.type_url.rsplit('/').next() {
            Some(PROBLEM_TYPE) => problem = Problem::decode(any.value.as_slice()).ok().or(problem),
            Some("google.rpc.ErrorInfo") => {
                info = tonic_types::pb::ErrorInfo::decode(any.value.as_slice())
                    .ok()
                    .filter(|info| info.domain == ERROR_DOMAIN && !info.reason.is_empty())
                    .map(|info| info.reason)
                    .or(info);
            }
            _ => {}
        }
    }
    (problem, info)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.detail())?;
        if !self.hint().is_empty() {
            write!(f, " ({})", self.hint())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.code())
            .field("detail", &self.detail())
            .field("hint", &self.hint())
            .field("retryable", &self.retryable())
            .field("status", &self.0.status)
            .finish()
    }
}

impl std::error::Error for Error {}
