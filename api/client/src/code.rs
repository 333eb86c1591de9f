//! The table of error codes, as far as a caller needs it: which process exit code each becomes.

use tonic::Code;

/// The exit code of `mesh` for an error code of the contract.
///
/// 0 taken, and waiting for a second person · 1 differs, denied, not found, unhealthy · 2 usage · 3 cannot connect or no leader · 4 authentication or scope ·
/// 5 conflict · 6 precondition, guardrail, limit · 7 timeout · 130 interrupted. Rule names (`peer_draining`, …) are an
/// open set, so a code that is not in the table is judged by the gRPC status that came with it.
pub fn exit_code(code: &str, status: Code) -> u8 {
    match code {
        "pending_approval" => 0,
        "invalid_argument" | "token_mismatch" | "too_large" | "unsupported_media_type" => 2,
        "unauthenticated" | "credential_expired" | "scope_missing" => 4,
        "not_found"
        | "unhealthy"
        | "denied"
        | "declined"
        | "differs"
        | "operation_failed"
        | "operation_cancelled"
        | "audit_broken"
        | "backup_damaged" => 1,
        "already_exists"
        | "etag_mismatch"
        | "approval_stale"
        | "idempotency_key_reused"
        | "idempotency_key_expired" => 5,
        "confirmation_required"
        | "if_match_required"
        | "rate_limited"
        | "resource_exhausted"
        | "compacted"
        | "diverged"
        | "no_space" => 6,
        "not_leader" | "unavailable" | "not_active" | "future" | "internal" => 3,
        "deadline_exceeded" => 7,
        "interrupted" => 130,
        _ => exit_code_of_status(status),
    }
}

fn exit_code_of_status(status: Code) -> u8 {
    match status {
        Code::Ok => 0,
        Code::InvalidArgument | Code::Unimplemented => 2,
        Code::Unauthenticated | Code::PermissionDenied => 4,
        Code::NotFound => 1,
        Code::AlreadyExists | Code::Aborted => 5,
        Code::FailedPrecondition | Code::ResourceExhausted | Code::OutOfRange => 6,
        Code::DeadlineExceeded => 7,
        Code::Cancelled => 130,
        Code::Unavailable | Code::Internal | Code::Unknown | Code::DataLoss => 3,
    }
}

/// The code of the contract for a gRPC status that came without a problem: from a proxy, or from gRPC itself.
pub(crate) fn of_status(status: Code) -> &'static str {
    match status {
        Code::Ok | Code::Internal | Code::Unknown | Code::DataLoss => "internal",
        Code::InvalidArgument | Code::OutOfRange => "invalid_argument",
        Code::Unimplemented => "unimplemented",
        Code::Unauthenticated => "unauthenticated",
        Code::PermissionDenied => "scope_missing",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::Aborted => "etag_mismatch",
        Code::FailedPrecondition => "failed_precondition",
        Code::ResourceExhausted => "resource_exhausted",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::Cancelled => "interrupted",
        Code::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_contract_has_its_exit_code() {
        let table: &[(&str, Code, u8)] = &[
            ("invalid_argument", Code::InvalidArgument, 2),
            ("token_mismatch", Code::InvalidArgument, 2),
            ("too_large", Code::InvalidArgument, 2),
            ("unsupported_media_type", Code::InvalidArgument, 2),
            ("unauthenticated", Code::Unauthenticated, 4),
            ("credential_expired", Code::Unauthenticated, 4),
            ("scope_missing", Code::PermissionDenied, 4),
            ("not_found", Code::NotFound, 1),
            ("already_exists", Code::AlreadyExists, 5),
            ("etag_mismatch", Code::Aborted, 5),
            ("approval_stale", Code::Aborted, 5),
            ("idempotency_key_reused", Code::FailedPrecondition, 5),
            ("idempotency_key_expired", Code::FailedPrecondition, 5),
            ("peer_draining", Code::FailedPrecondition, 6),
            ("last_active_cluster", Code::FailedPrecondition, 6),
            ("confirmation_required", Code::FailedPrecondition, 6),
            ("if_match_required", Code::FailedPrecondition, 6),
            ("rate_limited", Code::ResourceExhausted, 6),
            ("resource_exhausted", Code::ResourceExhausted, 6),
            ("not_leader", Code::Unavailable, 3),
            ("unavailable", Code::Unavailable, 3),
            ("not_active", Code::Unavailable, 3),
            ("future", Code::Unavailable, 3),
            ("deadline_exceeded", Code::DeadlineExceeded, 7),
            ("compacted", Code::OutOfRange, 6),
            ("diverged", Code::OutOfRange, 6),
            ("no_space", Code::ResourceExhausted, 6),
            ("internal", Code::Internal, 3),
            ("interrupted", Code::Cancelled, 130),
            ("pending_approval", Code::FailedPrecondition, 0),
        ];
        for (code, status, exit) in table {
            assert_eq!(exit_code(code, *status), *exit, "{code}");
        }
    }

    #[test]
    fn a_status_without_a_problem_maps_to_the_same_exit_code() {
        for status in [
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::NotFound,
            Code::Unavailable,
            Code::Aborted,
        ] {
            assert_eq!(exit_code(of_status(status), status), exit_code_of_status(status));
        }
    }
}
