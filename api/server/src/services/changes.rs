//! Changes of the nodes themselves: members, leadership, alarms. They are no commands of the mesh, so what apply does for
//! those is done here: the rules are looked at, a dry run ends, a retry is known, and the audit trail is told, all before
//! the change is made.

use std::time::Duration;

use proto::codes::Code;
use statemachine::{
    Answer, Conditions, Idempotency, NodeAction, Origin, Outcome, RecordChange, Request, Stamp, audit::request_hash,
};
use tokio::time::Instant;
use tonic::Response;

use super::{Api, Received};
use crate::{
    Error,
    error::REPLAYED,
    headers::{self, DRY_RUN, IDEMPOTENCY_KEY, REASON, TICKET},
};

/// How long the trail is tried to be told of what is done to one node alone.
const NOTE_WITHIN: Duration = Duration::from_secs(3);
/// The feature level from which on the trail has these changes.
const LEVEL: u32 = 2;

/// A change that somebody asks for.
pub(super) struct Change {
    action: NodeAction,
    subject: String,
    reason: String,
    ticket: String,
    dry_run: bool,
    idempotency: Option<Idempotency>,
}

/// What is to become of a change whose rules have been looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is only looked at.
    DryRun,
    /// It is made.
    New,
    /// It is made if it is not there yet: it was asked for before, under the same key.
    Again,
}

impl Change {
    /// What a request says of a change beside what it changes.
    pub(super) fn of<T: prost::Message>(
        received: &Received<T>,
        action: NodeAction,
        subject: String,
        (reason, ticket): (&str, &str),
    ) -> Result<Self, Error> {
        let given = &received.headers;
        headers::no_etag(given)?;
        let dry_run = headers::dry_run(given, false)?;
        let reason = headers::words(given, REASON, "reason", reason)?.into_owned();
        let ticket = headers::words(given, TICKET, "ticket", ticket)?.into_owned();
        for (field, text, limit) in [
            ("reason", &reason, Origin::REASON_BYTES_MAX),
            ("ticket", &ticket, Origin::TICKET_BYTES_MAX),
        ] {
            if text.len() > limit {
                return Err(Error::invalid(field, format!("at most {limit} bytes are kept")));
            }
        }
        let key = headers::text(given, IDEMPOTENCY_KEY)?.unwrap_or_default();
        let idempotency = (!key.is_empty() && !dry_run).then(|| {
            let path = received.call.method.path.as_bytes();
            let body = received.message.encode_to_vec();
            let parts = [path, &body, reason.as_bytes(), ticket.as_bytes()];
            Idempotency {
                key: key.to_owned(),
                request: request_hash(&parts),
            }
        });
        Ok(Self {
            action,
            subject,
            reason,
            ticket,
            dry_run,
            idempotency,
        })
    }

    pub(super) fn dry_run(&self) -> bool {
        self.dry_run
    }

    /// Reason and ticket in one line.
    pub(super) fn why(&self) -> String {
        match self.ticket.is_empty() {
            true => self.reason.clone(),
            false => format!("[{}] {}", self.ticket, self.reason),
        }
    }
}

impl Way {
    /// Whether anything is done.
    pub(super) fn makes(self) -> bool {
        match self {
            Self::DryRun => false,
            Self::New | Self::Again => true,
        }
    }

    /// Says in an answer what it is.
    pub(super) fn mark<A>(self, mut answer: Response<A>) -> Response<A> {
        let name = match self {
            Self::DryRun => DRY_RUN,
            Self::New => return answer,
            Self::Again => REPLAYED,
        };
        let told = answer.metadata_mut();
        told.insert(name, tonic::metadata::MetadataValue::from_static("true"));
        answer
    }
}

impl Api {
    /// What is to become of a change, given what the rules say of it. Where it is to be made, the audit trail has it now.
    pub(super) async fn decide<T>(
        &self,
        received: &Received<T>,
        change: &Change,
        rules: Result<(), Error>,
    ) -> Result<Way, Error> {
        if change.dry_run {
            return rules.map(|()| Way::DryRun);
        }
        if let Err(error) = rules
            && !self.asked_before(received, change)?
        {
            return Err(self.refused(received, change, error));
        }
        if self.core.handle.view().state().mesh.feature_level() < LEVEL {
            return Ok(Way::New);
        }
        let request = self.noted(received, change)?;
        let committed = self.core.handle.propose(request, received.call.deadline).await?;
        way(&committed.answer)
    }

    /// Whether the same change was asked for under the same key.
    fn asked_before<T>(&self, received: &Received<T>, change: &Change) -> Result<bool, Error> {
        let view = self.core.handle.view();
        let mesh = &view.state().mesh;
        if change.idempotency.is_none() || mesh.feature_level() < LEVEL {
            return Ok(false);
        }
        let stamp = Stamp {
            mesh_time_ms: mesh.stamp().mesh_time_ms,
            wall_ms: self.core.clock.wall_ms(),
        };
        let preview = statemachine::preview(view.state(), &self.noted(received, change)?.stamp(stamp));
        way(&preview.answer).map(|way| way == Way::Again)
    }

    /// A change that was noted could not be made, or was refused before it was: the trail is told of it.
    pub(super) fn refused<T>(&self, received: &Received<T>, change: &Change, error: Error) -> Error {
        match error.code() {
            Code::Rule | Code::NotFound => {}
            _ => return error,
        }
        let (call, action) = (&received.call, change.action.word());
        self.core.note_refusal(call, action, change.subject.clone(), &error);
        error
    }

    /// Tells the trail of what was done to this node alone, as well as that can be done soon: the node is looked into
    /// where things are not as they should be.
    pub(super) async fn tell<T>(&self, received: &Received<T>, change: &Change) -> Result<(), Error> {
        let handle = &self.core.handle;
        if handle.view().state().mesh.feature_level() < LEVEL || !handle.status().quorum.ok {
            return Ok(());
        }
        let deadline = received.call.deadline.min(Instant::now() + NOTE_WITHIN);
        let told = handle.propose_anywhere(self.noted(received, change)?, deadline).await;
        if let Err(error) = told {
            tracing::warn!(request_id = %received.call.request_id, %error, "the audit trail could not be told of a change");
        }
        Ok(())
    }

    fn noted<T>(&self, received: &Received<T>, change: &Change) -> Result<Request, Error> {
        let call = &received.call;
        let command = RecordChange {
            action: change.action,
            subject: change.subject.clone(),
        };
        Ok(Request {
            origin: Origin {
                actor: call.principal.subject.clone(),
                reason: change.reason.clone(),
                ticket: change.ticket.clone(),
                request_id: call.request_id.clone(),
                transport: call.transport.to_owned(),
                node: self.core.handle.node(),
                received_wall_ms: call.received_wall_ms,
                idempotency: change.idempotency.clone(),
            },
            conditions: Conditions::default(),
            command: command.command()?,
        })
    }
}

/// What the trail's answer means for the change.
fn way(answer: &Answer) -> Result<Way, Error> {
    match answer {
        Answer::Recorded(recorded) => match &recorded.unit.outcome {
            Outcome::Applied { .. } => Ok(Way::New),
            Outcome::Replayed { .. } => Ok(Way::Again),
            Outcome::Rejected(rejection) => Err(Error::from(rejection.clone())),
            Outcome::Staged { .. } => Err(Error::internal("a note was staged")),
        },
        Answer::Refused(rejection) => Err(Error::from(rejection.clone())),
        Answer::AlreadyHere | Answer::ReplicationRefused(_) | Answer::Cluster(_) => {
            Err(Error::internal("a note was answered as something else"))
        }
    }
}
