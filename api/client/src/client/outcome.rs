//! What a failure says about the mutation that was sent: the one place that decides whether its outcome is known.

use proto::codes;
use tonic::Code;

use crate::Error;

/// What one failed attempt says about the mutation that it carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This attempt may have been applied.
    Open,
    /// This attempt was not applied. Of earlier ones the answer knows nothing: it was decided before the key was
    /// looked up, or the key is forgotten.
    Refused,
    /// Neither this attempt nor an earlier one under the same key was applied, nor will be: the state machine
    /// looked the key up, and remembers this answer under it.
    Settled,
}

/// Judges a failure. `broke` is true where the connection ended before an answer came.
pub(super) fn verdict(error: &Error, broke: bool) -> Verdict {
    if broke {
        return Verdict::Open;
    }
    if !error.is_remote() {
        return of_status(error.status());
    }
    if error.replayed() {
        return Verdict::Settled;
    }
    match codes::Code::of(error.code()) {
        codes::Code::Unavailable | codes::Code::DeadlineExceeded | codes::Code::Internal => Verdict::Open,
        codes::Code::NotFound
        | codes::Code::AlreadyExists
        | codes::Code::EtagMismatch
        | codes::Code::RevisionMismatch
        | codes::Code::PendingApproval
        | codes::Code::IdempotencyKeyReused => Verdict::Settled,
        // A name that this program does not know is a rule's only where its status is that of rules.
        codes::Code::Rule if error.status() == Code::FailedPrecondition => Verdict::Settled,
        codes::Code::Rule
        // The state machine answers these two as well, but so does the way to it, and nothing tells them apart.
        | codes::Code::InvalidArgument
        | codes::Code::ResourceExhausted
        // An earlier attempt may be what is forgotten, or what is known to have been answered, though not how.
        | codes::Code::IdempotencyKeyExpired
        | codes::Code::Compacted
        | codes::Code::TokenMismatch
        | codes::Code::TooLarge
        | codes::Code::UnsupportedMediaType
        | codes::Code::Unauthenticated
        | codes::Code::CredentialExpired
        | codes::Code::ScopeMissing
        | codes::Code::MethodNotAllowed
        | codes::Code::NotAcceptable
        | codes::Code::ApprovalStale
        | codes::Code::ConfirmationRequired
        | codes::Code::IfMatchRequired
        | codes::Code::RateLimited
        | codes::Code::WatchTooSlow
        | codes::Code::NotLeader
        | codes::Code::NotActive
        | codes::Code::Future
        | codes::Code::Diverged
        | codes::Code::NoSpace
        | codes::Code::Unimplemented => Verdict::Refused,
    }
}

/// A status that no node of the mesh gave: a proxy's, or this side's own. Only those that are given before a request
/// is passed on say that it was not.
fn of_status(status: Code) -> Verdict {
    match status {
        Code::InvalidArgument
        | Code::NotFound
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Verdict::Refused,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::Problem;

    use super::*;

    fn answer(code: &str, status: Code, replayed: bool) -> Error {
        let problem = Problem {
            code: code.into(),
            ..Problem::default()
        };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/meshkit.v1.Problem".into(),
            value: prost::Message::encode_to_vec(&problem),
        };
        let rich = tonic_types::pb::Status {
            code: status.into(),
            message: String::new(),
            details: vec![any],
        };
        let bytes = prost::Message::encode_to_vec(&rich);
        let mut status = tonic::Status::with_details(status, "", bytes.into());
        if replayed {
            status
                .metadata_mut()
                .insert("mesh-replayed", tonic::metadata::MetadataValue::from_static("true"));
        }
        Error::from_status(&status)
    }

    /// The codes that only the state machine gives, under the key; all others leave an earlier attempt open.
    #[test]
    fn only_what_the_state_machine_answers_settles() {
        let settled: Vec<&str> = codes::Code::ALL
            .into_iter()
            .filter(|code| verdict(&answer(code.as_str(), code.grpc(), false), false) == Verdict::Settled)
            .map(codes::Code::as_str)
            .collect();
        assert_eq!(
            settled,
            [
                "not_found",
                "already_exists",
                "etag_mismatch",
                "revision_mismatch",
                "pending_approval",
                "idempotency_key_reused",
                "rule"
            ]
        );
        for rule in ["peer_draining", "peer_owns_shards", "operation_finished"] {
            assert_eq!(
                verdict(&answer(rule, Code::FailedPrecondition, false), false),
                Verdict::Settled
            );
        }
        assert_eq!(
            verdict(&answer("not_known_yet", Code::PermissionDenied, false), false),
            Verdict::Refused
        );
    }

    #[test]
    fn a_replay_settles_whatever_it_says_and_a_broken_connection_never_does() {
        for code in codes::Code::ALL {
            let replayed = answer(code.as_str(), code.grpc(), true);
            assert_eq!(verdict(&replayed, false), Verdict::Settled, "{code:?}");
            assert_eq!(verdict(&replayed, true), Verdict::Open, "{code:?}");
        }
    }

    /// Somebody between us and the mesh does not know what became of the mutation.
    #[test]
    fn what_no_node_answered_never_settles() {
        for status in (0..=16).map(Code::from_i32) {
            let error = Error::from_status(&tonic::Status::new(status, "a proxy"));
            assert_ne!(verdict(&error, false), Verdict::Settled, "{status:?}");
        }
        let proxy = |status| verdict(&Error::from_status(&tonic::Status::new(status, "a proxy")), false);
        assert_eq!(proxy(Code::Unavailable), Verdict::Open);
        assert_eq!(proxy(Code::PermissionDenied), Verdict::Refused);
    }
}
