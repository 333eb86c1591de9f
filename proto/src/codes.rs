//! Every error code of the contract with what HTTP, gRPC and the `mesh` program make of it.

/// What kind of refusal a code is. The codes themselves are [`Code::as_str`]; the names of broken rules
/// (`peer_draining`, `last_active_cluster` and so on) are all of the kind [`Code::Rule`] and carry their own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A field or header is not of the right form.
    InvalidArgument,
    /// A cursor or resume token of another mesh, another filter, or not one of ours.
    TokenMismatch,
    /// The body is over the limit.
    TooLarge,
    /// The body's type is none that is understood.
    UnsupportedMediaType,
    /// No credential, or one that proves nothing.
    Unauthenticated,
    /// The credential was good once.
    CredentialExpired,
    /// The caller is known and may not do this.
    ScopeMissing,
    /// There is no such record or path.
    NotFound,
    /// The path does not take this HTTP method.
    MethodNotAllowed,
    /// The caller takes no form that the answer has.
    NotAcceptable,
    /// There is such a record.
    AlreadyExists,
    /// The record is not as the caller last saw it.
    EtagMismatch,
    /// The mesh is not at the revision that the caller named.
    RevisionMismatch,
    /// The request waits for a second person. Not a failure: it was taken, and nothing of it has taken effect.
    PendingApproval,
    /// What was approved is not what would happen now.
    ApprovalStale,
    /// The key was used for another request.
    IdempotencyKeyReused,
    /// The key is older than what is remembered.
    IdempotencyKeyExpired,
    /// A rule of the domain, by its own name.
    Rule,
    /// The action asks for the target's name again.
    ConfirmationRequired,
    /// Replacing a record asks for its ETag.
    IfMatchRequired,
    /// Too many requests of one principal.
    RateLimited,
    /// A quota or a queue is full.
    ResourceExhausted,
    /// A watch that cannot keep up with what happens.
    WatchTooSlow,
    /// Another node leads.
    NotLeader,
    /// Not at the moment.
    Unavailable,
    /// This cluster is passive.
    NotActive,
    /// The revision has not happened yet.
    Future,
    /// No answer in time.
    DeadlineExceeded,
    /// The revision is older than what is kept.
    Compacted,
    /// The revision is on a timeline that was cut off.
    Diverged,
    /// The disk is nearly full.
    NoSpace,
    /// There is no such RPC.
    Unimplemented,
    /// A fault of the server.
    Internal,
}

impl Code {
    /// Every kind.
    pub const ALL: [Self; 33] = [
        Self::InvalidArgument,
        Self::TokenMismatch,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Unauthenticated,
        Self::CredentialExpired,
        Self::ScopeMissing,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::AlreadyExists,
        Self::EtagMismatch,
        Self::RevisionMismatch,
        Self::PendingApproval,
        Self::ApprovalStale,
        Self::IdempotencyKeyReused,
        Self::IdempotencyKeyExpired,
        Self::Rule,
        Self::ConfirmationRequired,
        Self::IfMatchRequired,
        Self::RateLimited,
        Self::ResourceExhausted,
        Self::WatchTooSlow,
        Self::NotLeader,
        Self::Unavailable,
        Self::NotActive,
        Self::Future,
        Self::DeadlineExceeded,
        Self::Compacted,
        Self::Diverged,
        Self::NoSpace,
        Self::Unimplemented,
        Self::Internal,
    ];

    /// The kind of a code as it is written. A name that is none of the general codes is a rule's.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let general = Self::ALL
            .into_iter()
            .find(|code| *code != Self::Rule && code.as_str() == name);
        general.unwrap_or(Self::Rule)
    }

    /// The code as it is written; `rule` for the kind whose members have names of their own.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::TokenMismatch => "token_mismatch",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unauthenticated => "unauthenticated",
            Self::CredentialExpired => "credential_expired",
            Self::ScopeMissing => "scope_missing",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotAcceptable => "not_acceptable",
            Self::AlreadyExists => "already_exists",
            Self::EtagMismatch => "etag_mismatch",
            Self::RevisionMismatch => "revision_mismatch",
            Self::PendingApproval => "pending_approval",
            Self::ApprovalStale => "approval_stale",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::IdempotencyKeyExpired => "idempotency_key_expired",
            Self::Rule => "rule",
            Self::ConfirmationRequired => "confirmation_required",
            Self::IfMatchRequired => "if_match_required",
            Self::RateLimited => "rate_limited",
            Self::ResourceExhausted => "resource_exhausted",
            Self::WatchTooSlow => "watch_too_slow",
            Self::NotLeader => "not_leader",
            Self::Unavailable => "unavailable",
            Self::NotActive => "not_active",
            Self::Future => "future",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Compacted => "compacted",
            Self::Diverged => "diverged",
            Self::NoSpace => "no_space",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn http(self) -> u16 {
        match self {
            Self::InvalidArgument | Self::TokenMismatch => 400,
            Self::PendingApproval => 202,
            Self::Unauthenticated | Self::CredentialExpired => 401,
            Self::ScopeMissing => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Rule => 409,
            Self::Compacted | Self::Diverged => 410,
            Self::EtagMismatch | Self::RevisionMismatch | Self::ApprovalStale => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::IdempotencyKeyReused | Self::IdempotencyKeyExpired => 422,
            Self::ConfirmationRequired | Self::IfMatchRequired => 428,
            Self::RateLimited | Self::ResourceExhausted | Self::WatchTooSlow => 429,
            Self::NotLeader => 307,
            Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::Unavailable | Self::NotActive | Self::Future => 503,
            Self::DeadlineExceeded => 504,
            Self::NoSpace => 507,
        }
    }

    /// The gRPC status code.
    #[must_use]
    pub const fn grpc(self) -> tonic::Code {
        match self {
            Self::InvalidArgument
            | Self::TokenMismatch
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::NotAcceptable => tonic::Code::InvalidArgument,
            Self::Unauthenticated | Self::CredentialExpired => tonic::Code::Unauthenticated,
            Self::ScopeMissing => tonic::Code::PermissionDenied,
            Self::NotFound => tonic::Code::NotFound,
            Self::AlreadyExists => tonic::Code::AlreadyExists,
            Self::EtagMismatch | Self::RevisionMismatch | Self::ApprovalStale => tonic::Code::Aborted,
            Self::PendingApproval
            | Self::IdempotencyKeyReused
            | Self::IdempotencyKeyExpired
            | Self::Rule
            | Self::ConfirmationRequired
            | Self::IfMatchRequired => tonic::Code::FailedPrecondition,
            Self::RateLimited | Self::ResourceExhausted | Self::WatchTooSlow | Self::NoSpace => {
                tonic::Code::ResourceExhausted
            }
            Self::NotLeader | Self::Unavailable | Self::NotActive | Self::Future => tonic::Code::Unavailable,
            Self::DeadlineExceeded => tonic::Code::DeadlineExceeded,
            Self::Compacted | Self::Diverged => tonic::Code::OutOfRange,
            Self::MethodNotAllowed | Self::Unimplemented => tonic::Code::Unimplemented,
            Self::Internal => tonic::Code::Internal,
        }
    }

    /// The exit code of `mesh`: 0 taken, 1 denied or not found, 2 usage, 3 cannot connect or no leader, 4 authentication or
    /// scope, 5 conflict, 6 precondition, guardrail or limit, 7 timeout.
    #[must_use]
    pub const fn exit(self) -> u8 {
        match self {
            Self::PendingApproval => 0,
            Self::NotFound => 1,
            Self::InvalidArgument
            | Self::TokenMismatch
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::MethodNotAllowed
            | Self::NotAcceptable
            | Self::Unimplemented => 2,
            Self::NotLeader | Self::Unavailable | Self::NotActive | Self::Future | Self::Internal => 3,
            Self::Unauthenticated | Self::CredentialExpired | Self::ScopeMissing => 4,
            Self::AlreadyExists
            | Self::EtagMismatch
            | Self::RevisionMismatch
            | Self::ApprovalStale
            | Self::IdempotencyKeyReused
            | Self::IdempotencyKeyExpired => 5,
            Self::Rule
            | Self::ConfirmationRequired
            | Self::IfMatchRequired
            | Self::RateLimited
            | Self::ResourceExhausted
            | Self::WatchTooSlow
            | Self::Compacted
            | Self::Diverged
            | Self::NoSpace => 6,
            Self::DeadlineExceeded => 7,
        }
    }

    /// Whether the same request may succeed later without anybody changing it.
    #[must_use]
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::RateLimited
            | Self::ResourceExhausted
            | Self::WatchTooSlow
            | Self::NotLeader
            | Self::Unavailable
            | Self::NotActive
            | Self::Future
            | Self::DeadlineExceeded
            | Self::NoSpace => true,
            Self::InvalidArgument
            | Self::TokenMismatch
            | Self::TooLarge
            | Self::UnsupportedMediaType
            | Self::Unauthenticated
            | Self::CredentialExpired
            | Self::ScopeMissing
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::NotAcceptable
            | Self::AlreadyExists
            | Self::EtagMismatch
            | Self::RevisionMismatch
            | Self::PendingApproval
            | Self::ApprovalStale
            | Self::IdempotencyKeyReused
            | Self::IdempotencyKeyExpired
            | Self::Rule
            | Self::ConfirmationRequired
            | Self::IfMatchRequired
            | Self::Compacted
            | Self::Diverged
            | Self::Unimplemented
            | Self::Internal => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn names_lead_back_to_their_codes() {
        for code in Code::ALL {
            assert_eq!(Code::of(code.as_str()), code);
        }
        assert_eq!(Code::of("peer_draining"), Code::Rule);
    }
}
