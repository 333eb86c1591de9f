//! The one way of a mutation: options, dry run or commit, and the answer rebuilt from what was committed.

use http::{HeaderMap, HeaderValue, header};
use proto::{codes::Code, methods::HttpVerb, v1};
use raft::Consistency;
use statemachine::{
    Answer, Command, Conditions, Idempotency, Origin, Outcome, Record, Recorded, Request, Revision, Stamp,
    audit::request_hash, record::Kind,
};
use tonic::metadata::MetadataMap;

use crate::{
    Error,
    context::Call,
    convert::FromRecord,
    core::Core,
    error::REPLAYED,
    headers::{self, DRY_RUN, IDEMPOTENCY_KEY, REASON, TICKET},
    history::{self, Wanted},
};

/// What every mutation of the mesh can say beside what it changes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    reason: String,
    ticket: String,
    dry_run: bool,
    confirm: String,
    if_match: String,
    idempotency_key: String,
    if_revision: u64,
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
    UndrainPeerRequest,
    CancelOperationRequest,
    ApplyClusterRequest,
    PromoteClusterRequest,
    DemoteClusterRequest,
    PatchConfigRequest,
    RollbackConfigRequest,
    CompactHistoryRequest,
    FinalizeUpgradeRequest,
}

/// What is so hard to take back that its target has to be named again.
const SEVERE: &[&str] = &["clusters.promote", "clusters.demote"];

/// What a mutation is to be answered with, and where it left the mesh.
struct Answered {
    record: Record,
    revision: Revision,
    replayed: bool,
}

impl Core {
    /// Carries a mutation out, or says what it would come to.
    pub(crate) async fn mutate<R: Mutation, A: FromRecord>(
        &self,
        request: tonic::Request<R>,
        command: impl FnOnce(R) -> Result<Command, Error>,
    ) -> Result<tonic::Response<A>, tonic::Status> {
        let call = Call::of(&request)?;
        let (metadata, _, message) = request.into_parts();
        let answer = self.mutate_inner(&call, metadata.as_ref(), message, command).await;
        answer.map_err(|error| {
            if let Code::RateLimited | Code::ResourceExhausted | Code::Internal = error.code() {
                tracing::warn!(request_id = %call.request_id, %error, "a mutation was refused");
            }
            error.into_status(&call.request_id)
        })
    }

    async fn mutate_inner<R: Mutation, A: FromRecord>(
        &self,
        call: &Call,
        headers: &HeaderMap,
        mut message: R,
        command: impl FnOnce(R) -> Result<Command, Error>,
    ) -> Result<tonic::Response<A>, Error> {
        let options = message.take_options().merge(headers)?;
        let mut conditions = options.conditions(headers)?;
        // Replacing a record whole asks for the ETag of what was looked at; without one it may only be created.
        let creates = call.method.http.verb == HttpVerb::Put && conditions.if_match.is_none();
        let asked = !conditions.if_absent;
        conditions.if_absent |= creates;
        let key = options.idempotency_key.clone();
        let idempotency = (!key.is_empty() && !options.dry_run).then(|| {
            let body = message.encode_to_vec();
            Idempotency {
                key,
                request: options.request_hash(call, &body, &conditions),
            }
        });
        let command = command(message)?;
        let Some((kind, id)) = command.handler().target() else {
            return Err(Error::internal("a mutation without a target"));
        };
        options.check_confirmation(&id, SEVERE.contains(&command.handler().action()))?;
        let origin = Origin {
            actor: call.principal.subject.clone(),
            reason: options.reason,
            ticket: options.ticket,
            request_id: call.request_id.clone(),
            transport: call.transport.to_owned(),
            node: self.handle.node(),
            received_wall_ms: call.received_wall_ms,
            idempotency,
        };
        let request = Request {
            origin,
            conditions,
            command,
        };
        let answered = match options.dry_run {
            true => self.preview(call, request, kind, &id).await,
            false => self.commit(call, request, kind, &id).await,
        };
        let answered = answered.map_err(|error| match error.code() {
            Code::AlreadyExists if creates && asked => error.if_match_required(),
            _ => error,
        })?;
        let body = A::from_record(&answered.record)
            .ok_or_else(|| Error::internal("a record of another kind than the answer's"))?;
        let mut metadata = self.position_headers(answered.revision);
        headers::put_etag(&mut metadata, answered.record.meta().etag());
        if options.dry_run {
            metadata.insert(DRY_RUN, HeaderValue::from_static("true"));
        }
        if answered.replayed {
            self.metrics.replayed.inc();
            metadata.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(tonic::Response::from_parts(
            MetadataMap::from_headers(metadata),
            body,
            http::Extensions::new(),
        ))
    }

    /// Commits and rebuilds the answer.
    async fn commit(&self, call: &Call, request: Request, kind: Kind, id: &str) -> Result<Answered, Error> {
        let committed = self.handle.propose(request, call.deadline).await?;
        let recorded = match committed.answer {
            Answer::Recorded(recorded) => recorded,
            Answer::Refused(rejection) => return Err(rejection.into()),
            Answer::AlreadyHere | Answer::ReplicationRefused(_) | Answer::Cluster(_) => {
                return Err(Error::internal("a command was answered as something else"));
            }
        };
        let revision = recorded.unit.position.revision;
        match &recorded.unit.outcome {
            Outcome::Applied { .. } => {
                let record = self.record_of(call, &recorded, kind, id).await?;
                Ok(Answered {
                    record,
                    revision,
                    replayed: false,
                })
            }
            Outcome::Rejected(rejection) => Err(rejection.clone().into()),
            Outcome::Replayed { of } => self.replay(call, *of, kind, id).await,
        }
    }

    /// The answer that the first attempt was given, from its own revision.
    async fn replay(&self, call: &Call, of: Revision, kind: Kind, id: &str) -> Result<Answered, Error> {
        let view = self.handle.view();
        let read = {
            let view = view.clone();
            move |_: &Wanted| Ok(view.unit(of)?)
        };
        let first = self.history.read(&call.request_id, call.deadline, read).await?;
        let Some(first) = first else {
            let detail = format!("the first attempt was answered at revision {of}, whose history is gone");
            return Err(Error::new(Code::Compacted, detail)
                .with(|problem| problem.revision = view.oldest().0)
                .hint("read the record to see what it is now"));
        };
        match &first.unit.outcome {
            Outcome::Applied { .. } => {
                let record = self.record_of(call, &first, kind, id).await?;
                Ok(Answered {
                    record,
                    revision: of,
                    replayed: true,
                })
            }
            Outcome::Rejected(rejection) => Err(Error::from(rejection.clone()).replayed()),
            Outcome::Replayed { .. } => Err(Error::internal("a retry leads to another retry")),
        }
    }

    /// The target as an applied unit left it: changed by it, or as it was where nothing had to change.
    async fn record_of(&self, call: &Call, recorded: &Recorded, kind: Kind, id: &str) -> Result<Record, Error> {
        if let Some(record) = history::changed(recorded, kind, id) {
            return Ok(record);
        }
        let (view, revision) = (self.handle.view(), recorded.unit.position.revision);
        let current = view.state().mesh.record(kind, id);
        if let Some(record) = current.filter(|record| record.meta().changed.revision <= revision) {
            return Ok(record);
        }
        let target = id.to_owned();
        let read = move |_: &Wanted| Ok(view.record_at(kind, &target, revision)?);
        let found = self.history.read(&call.request_id, call.deadline, read).await?;
        found.ok_or_else(|| Error::not_found(kind.word(), id))
    }

    /// What the request would come to at the mesh's position now.
    async fn preview(&self, call: &Call, request: Request, kind: Kind, id: &str) -> Result<Answered, Error> {
        let view = self.handle.read(Consistency::Linearizable, call.deadline).await?;
        let state = view.state();
        let stamp = Stamp {
            mesh_time_ms: state.mesh.stamp().mesh_time_ms,
            wall_ms: self.clock.wall_ms(),
        };
        let revision = state.mesh.position().revision;
        let recorded = match statemachine::dry_run(state, &request.stamp(stamp)) {
            Answer::Recorded(recorded) => recorded,
            Answer::Refused(rejection) => return Err(rejection.into()),
            Answer::AlreadyHere | Answer::ReplicationRefused(_) | Answer::Cluster(_) => {
                return Err(Error::internal("a preview was answered as something else"));
            }
        };
        if let Outcome::Rejected(rejection) = &recorded.unit.outcome {
            return Err(rejection.clone().into());
        }
        let record = history::changed(&recorded, kind, id).or_else(|| state.mesh.record(kind, id));
        let record = record.ok_or_else(|| Error::not_found(kind.word(), id))?;
        Ok(Answered {
            record,
            revision,
            replayed: false,
        })
    }

    /// `Mesh-Revision`, `Mesh-Epoch` and `Mesh-Leader` of an answer.
    pub(crate) fn position_headers(&self, revision: Revision) -> HeaderMap {
        let mut metadata = HeaderMap::with_capacity(6);
        metadata.insert(headers::REVISION, headers::number(revision.0));
        metadata.insert(
            headers::EPOCH,
            headers::number(self.handle.view().state().mesh.epoch().0),
        );
        if let Some(leader) = self.leader_header() {
            metadata.insert(headers::LEADER, leader);
        }
        metadata
    }
}

impl Options {
    /// Adds what the headers say.
    fn merge(self, headers: &HeaderMap) -> Result<Self, Error> {
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

    fn conditions(&self, headers: &HeaderMap) -> Result<Conditions, Error> {
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
    fn request_hash(&self, call: &Call, body: &[u8], conditions: &Conditions) -> statemachine::Hash {
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

    /// A confirmation has to name the target, where one is given.
    fn check_confirmation(&self, target: &str, severe: bool) -> Result<(), Error> {
        if self.confirm == target || self.confirm.is_empty() && (!severe || self.dry_run) {
            return Ok(());
        }
        if self.confirm.is_empty() {
            let detail = format!("this is hard to take back: `confirm` has to name `{target}`");
            let hint = format!(
                "look at it with a dry run first, then send `\"confirm\": \"{target}\"` (`--confirm {target}`)"
            );
            return Err(Error::new(Code::ConfirmationRequired, detail).hint(hint));
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
