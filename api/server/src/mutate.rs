//! The one way of a mutation: options, dry run or commit, and the answer rebuilt from what was committed.

mod options;

use http::{HeaderMap, HeaderValue};
use proto::{codes::Code, methods::HttpVerb, v1};
use raft::Consistency;
use statemachine::{
    Answer, ApprovalId, Command, Idempotency, OperationId, Origin, Outcome, Position, Record, Recorded, Request,
    Revision, Stamp,
    record::{Approvers, Kind},
};
use tonic::metadata::MetadataMap;

use crate::{
    Error,
    context::Call,
    convert::FromRecord,
    core::Core,
    error::REPLAYED,
    headers::{self, DRY_RUN},
    history::{self, Wanted},
    preview,
};

use options::Mutation;

/// What is so hard to take back that its target has to be named again.
const SEVERE: &[&str] = &[
    "clusters.promote",
    "clusters.demote",
    "peers.drain_forced",
    "peers.drain_many_forced",
    "namespaces.delete_forced",
];

/// What a mutation is to be answered with, and where it left the mesh.
struct Answered {
    record: Record,
    revision: Revision,
    replayed: bool,
    /// With a dry run: who would have to agree before it takes effect.
    approvers: Approvers,
    /// With a dry run: what it looked at.
    preview: Option<v1::Preview>,
}

/// The record that a mutation is answered with.
enum Named {
    /// The one that it speaks of.
    Target(Kind, String),
    /// The operation that it begins.
    Begun,
}

impl Named {
    fn of(command: &Command) -> Self {
        match command.handler().target() {
            Some((kind, id)) => Self::Target(kind, id),
            None => Self::Begun,
        }
    }

    /// Kind and id, as a unit that was applied has made them known.
    fn at(&self, position: Position) -> (Kind, String) {
        match self {
            Self::Target(kind, id) => (*kind, id.clone()),
            Self::Begun => (Kind::Operation, OperationId::at(position).to_string()),
        }
    }
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
        let command = command(message).inspect_err(|error| {
            // A rule that is looked at before apply, which therefore cannot tell the trail of it.
            if error.code() == Code::Rule && !options.dry_run {
                self.note_refusal(call, &call.method.action, String::new(), error);
            }
        })?;
        let named = Named::of(&command);
        let confirms = match &named {
            Named::Target(_, id) => id.clone(),
            Named::Begun => {
                options.check_no_etag(&conditions)?;
                let subject = command.handler().subject();
                subject
                    .split_once('/')
                    .map(|(_, rest)| rest.to_owned())
                    .unwrap_or_default()
            }
        };
        let severe = SEVERE.contains(&command.handler().action());
        options.check_confirmation(&confirms, severe)?;
        let confirms = if severe { confirms } else { String::new() };
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
            true => self.preview(call, request, &named, &confirms).await,
            false => self.commit(call, request, &named).await,
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
        let mut extensions = http::Extensions::new();
        if let Some(preview) = answered.preview {
            preview::put(&mut metadata, &preview);
            extensions.insert(preview::Whole(preview));
        }
        if answered.approvers != Approvers::None {
            metadata.insert(
                headers::APPROVAL_NEEDED,
                HeaderValue::from_static(answered.approvers.word()),
            );
        }
        if answered.replayed {
            self.metrics.replayed.inc();
            metadata.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(tonic::Response::from_parts(
            MetadataMap::from_headers(metadata),
            body,
            extensions,
        ))
    }

    /// Commits and rebuilds the answer.
    async fn commit(&self, call: &Call, request: Request, named: &Named) -> Result<Answered, Error> {
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
                let (kind, id) = named.at(recorded.unit.position);
                let record = self.record_of(call, &recorded, kind, &id).await?;
                Ok(Answered {
                    record,
                    revision,
                    replayed: false,
                    approvers: Approvers::None,
                    preview: None,
                })
            }
            Outcome::Rejected(rejection) => Err(rejection.clone().into()),
            Outcome::Staged { approval, .. } => Err(self.staged(call, &recorded, approval).await),
            Outcome::Replayed { of } => self.replay(call, *of, named).await,
        }
    }

    /// The answer that the first attempt was given, from its own revision.
    async fn replay(&self, call: &Call, of: Revision, named: &Named) -> Result<Answered, Error> {
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
                let (kind, id) = named.at(first.unit.position);
                let record = self.record_of(call, &first, kind, &id).await?;
                Ok(Answered {
                    record,
                    revision: of,
                    replayed: true,
                    approvers: Approvers::None,
                    preview: None,
                })
            }
            Outcome::Rejected(rejection) => Err(Error::from(rejection.clone()).replayed()),
            Outcome::Staged { approval, .. } => Err(self.staged(call, &first, approval).await.replayed()),
            Outcome::Replayed { .. } => Err(Error::internal("a retry leads to another retry")),
        }
    }

    /// The answer to a request that waits for a second person.
    async fn staged(&self, call: &Call, recorded: &Recorded, id: &ApprovalId) -> Error {
        match self.record_of(call, recorded, Kind::Approval, id.as_str()).await {
            Ok(record) => v1::Approval::from_record(&record).map_or_else(
                || Error::internal("a request for approval of another kind"),
                Error::pending_approval,
            ),
            Err(error) => error,
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
    async fn preview(&self, call: &Call, request: Request, named: &Named, confirms: &str) -> Result<Answered, Error> {
        let view = self.handle.read(Consistency::Linearizable, call.deadline).await?;
        let state = view.state();
        let stamp = Stamp {
            mesh_time_ms: state.mesh.stamp().mesh_time_ms,
            wall_ms: self.clock.wall_ms(),
        };
        let revision = state.mesh.position().revision;
        let preview = statemachine::preview(state, &request.stamp(stamp));
        let recorded = match &preview.answer {
            Answer::Recorded(recorded) => recorded,
            Answer::Refused(rejection) => return Err(rejection.clone().into()),
            Answer::AlreadyHere | Answer::ReplicationRefused(_) | Answer::Cluster(_) => {
                return Err(Error::internal("a preview was answered as something else"));
            }
        };
        let needs = if preview.approvers == Approvers::None {
            ""
        } else {
            preview.approvers.word()
        };
        let shown = preview::of(&preview, &recorded.unit.outcome, revision, confirms, needs);
        if let Outcome::Rejected(rejection) = &recorded.unit.outcome {
            let shown = preview::bounded(&shown);
            return Err(Error::from(rejection.clone()).with(|problem| problem.preview = Some(shown)));
        }
        let (kind, id) = named.at(recorded.unit.position);
        let record = history::changed(recorded, kind, &id).or_else(|| state.mesh.record(kind, &id));
        let record = record.ok_or_else(|| Error::not_found(kind.word(), &id))?;
        // Nobody has to agree to what changes nothing.
        let changes = !recorded.unit.changes().is_empty();
        Ok(Answered {
            record,
            revision,
            replayed: false,
            approvers: if changes { preview.approvers } else { Approvers::None },
            preview: Some(shown),
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
