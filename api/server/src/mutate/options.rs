//! What every mutation can say beside what it changes, from the message and from headers.

use http::{HeaderMap, header};
use proto::{codes::Code, v1};
use statemachine::{Conditions, Revision, audit::request_hash};

use crate::{
    Error,
    context::Call,
    headers::{self, IDEMPOTENCY_KEY, REASON, TICKET},
};

/// What every mutation of the mesh can say beside what it changes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(super) reason: String,
    pub(super) ticket: String,
    pub(super) dry_run: bool,
    pub(super) confirm: String,
    pub(super) if_match: String,
    pub(super) idempotency_key: String,
    pub(super) if_revision: u64,
}

/// A request that carries [`Options`].
pub(crate) trait Mutation: prost::Message + Default {
    /// Takes the options out of the message.
    fn take_options(&mut self) -> Options;
}

macro_rules! mutations {
    ($($name:ident),* $(,)?) => {
        $(
            impl Mutation for v1::$name {
                fn take_options(&mut self) -> Options {
                    Options {
                        reason: std::mem::take(&mut self.reason),
                        ticket: std::mem::take(&mut self.ticket),
                        dry_run: std::mem::take(&mut self.dry_run),
                        confirm: std::mem::take(&mut self.confirm),
                        if_match: std::mem::take(&mut self.if_match),
                        idempotency_key: std::mem::take(&mut self.idempotency_key),
                        if_revision: std::mem::take(&mut self.if_revision),
                    }
                }
            }
        )*
    };
}

mutations! {
    RegisterPeerRequest,
    PatchPeerRequest,
    DeregisterPeerRequest,
    CordonPeerRequest,
    UncordonPeerRequest,
    DrainPeerRequest,
    DrainPeersRequest,
    UndrainPeerRequest,
    CancelOperationRequest,
    ApplyClusterRequest,
    PromoteClusterRequest,
    DemoteClusterRequest,
    PatchConfigRequest,
    RollbackConfigRequest,
    CompactHistoryRequest,
    FinalizeUpgradeRequest,
    ApproveApprovalRequest,
    RejectApprovalRequest,
    CreateNamespaceRequest,
    ReshapeNamespaceRequest,
    SetNamespacePolicyRequest,
    DeleteNamespaceRequest,
    MoveShardRequest,
    CancelMoveRequest,
    AcknowledgeMoveRequest,
    PauseShardRequest,
    ResumeShardRequest,
    DisableShardRequest,
    EnableShardRequest,
}

impl Options {
    /// Adds what the headers say.
    pub(super) fn merge(self, headers: &HeaderMap) -> Result<Self, Error> {
        let given = headers::etag(headers, header::IF_MATCH.as_str())?.unwrap_or_default();
        let body = self.if_match.trim_matches('"');
        if !given.is_empty() && !body.is_empty() && given != body {
            return Err(Error::invalid(
                "ifMatch",
                "the header `If-Match` and the field `ifMatch` disagree",
            ));
        }
        Ok(Self {
            reason: headers::words(headers, REASON, "reason", &self.reason)?.into_owned(),
            ticket: headers::words(headers, TICKET, "ticket", &self.ticket)?.into_owned(),
            dry_run: headers::dry_run(headers, self.dry_run)?,
            if_match: if given.is_empty() { body } else { given }.to_owned(),
            idempotency_key: headers::agree(headers, IDEMPOTENCY_KEY, "idempotencyKey", &self.idempotency_key)?
                .into_owned(),
            confirm: self.confirm,
            if_revision: self.if_revision,
        })
    }

    pub(super) fn conditions(&self, headers: &HeaderMap) -> Result<Conditions, Error> {
        let if_absent = match headers::etag(headers, header::IF_NONE_MATCH.as_str())? {
            None => false,
            Some("*") => true,
            Some(_) => {
                return Err(Error::invalid(
                    "if-none-match",
                    "a mutation takes `If-None-Match: *` only",
                ));
            }
        };
        Ok(Conditions {
            if_match: (!self.if_match.is_empty()).then(|| self.if_match.clone()),
            if_absent,
            if_revision: (self.if_revision != 0).then_some(Revision(self.if_revision)),
        })
    }

    /// Hash over method, target, body and conditions: the same request over REST and gRPC has the same.
    pub(super) fn request_hash(&self, call: &Call, body: &[u8], conditions: &Conditions) -> statemachine::Hash {
        let revision = self.if_revision.to_be_bytes();
        let absent = [u8::from(conditions.if_absent)];
        request_hash(&[
            call.method.path.as_bytes(),
            body,
            self.if_match.as_bytes(),
            &absent,
            &revision,
            self.reason.as_bytes(),
            self.ticket.as_bytes(),
        ])
    }

    /// What makes an operation is no change of one record, so no ETag can be meant.
    pub(super) fn check_no_etag(&self, conditions: &Conditions) -> Result<(), Error> {
        if conditions.if_match.is_none() && !conditions.if_absent {
            return Ok(());
        }
        let why =
            "this changes several records, so no one ETag can be meant: use `ifRevision`, or name what is expected";
        Err(Error::invalid("ifMatch", why))
    }

    /// A confirmation has to name the target, where one is given.
    pub(super) fn check_confirmation(&self, target: &str, severe: bool) -> Result<(), Error> {
        if self.confirm == target || self.confirm.is_empty() && (!severe || self.dry_run) {
            return Ok(());
        }
        if self.confirm.is_empty() {
            let detail = format!("this is hard to take back: `confirm` has to name `{target}`");
            let hint = format!(
                "look at it with a dry run first, then send `\"confirm\": \"{target}\"` (`--confirm {target}`)"
            );
            let needed = format!("confirm: {target}");
            return Err(Error::new(Code::ConfirmationRequired, detail)
                .measured("no confirmation", needed)
                .hint(hint));
        }
        Err(Error::invalid(
            "confirm",
            format!("the confirmation does not name the target `{target}`"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::DRY_RUN;

    #[test]
    fn options_come_from_body_and_headers() {
        let mut message = v1::DrainPeerRequest {
            id: "p".into(),
            reason: "why".into(),
            ..Default::default()
        };
        let options = message.take_options();
        assert_eq!(
            message,
            v1::DrainPeerRequest {
                id: "p".into(),
                ..Default::default()
            }
        );
        let headers: HeaderMap = [
            (header::IF_MATCH, "\"e-1\"".parse().unwrap()),
            (http::HeaderName::from_static(TICKET), "CHG-1".parse().unwrap()),
            (http::HeaderName::from_static(DRY_RUN), "true".parse().unwrap()),
        ]
        .into_iter()
        .collect();
        let merged = options.clone().merge(&headers).unwrap();
        assert_eq!(
            (merged.reason.as_str(), merged.ticket.as_str(), merged.if_match.as_str()),
            ("why", "CHG-1", "e-1")
        );
        assert!(merged.dry_run);
        assert_eq!(merged.conditions(&headers).unwrap().if_match.as_deref(), Some("e-1"));
        let other = Options {
            if_match: "e-2".into(),
            ..options
        };
        assert_eq!(other.merge(&headers).unwrap_err().problem().field, "ifMatch");
    }

    #[test]
    fn a_confirmation_has_to_fit() {
        let options = Options {
            confirm: "p2".into(),
            ..Options::default()
        };
        for severe in [false, true] {
            options.check_confirmation("p2", severe).unwrap();
            options.check_confirmation("p1", severe).unwrap_err();
        }
        Options::default().check_confirmation("p1", false).unwrap();
        let missing = Options::default().check_confirmation("p1", true).unwrap_err();
        assert_eq!(missing.code(), Code::ConfirmationRequired);
    }
}
