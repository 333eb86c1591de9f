//! `BackupService`: the whole mesh as a stream.

use std::{pin::Pin, time::Duration};

use futures::Stream;
use proto::{
    codes::Code,
    v1::{self, backup_service_server::BackupService},
};
use raft::Consistency;
use statemachine::{Conditions, Origin, Outcome, RecordBackup, Rejection};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{
    Error, headers,
    metrics::{BackupLabels, Metrics},
};

/// How long the audit trail is tried to be told of a backup that is taken without a quorum if need be.
const NOTE_WITHIN: Duration = Duration::from_secs(3);

/// How long the disk may take for the next piece.
const PIECE_WITHIN: Duration = Duration::from_secs(30);

type Chunks = Pin<Box<dyn Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

#[tonic::async_trait]
impl BackupService for Api {
    type SaveBackupStream = Chunks;

    async fn save_backup(&self, request: Request<v1::SaveBackupRequest>) -> Result<Response<Chunks>, Status> {
        self.answer(request, |received| self.begin_backup(received)).await
    }
}

/// A backup on its way to a caller.
struct Sending {
    backup: raft::Backup,
    request_id: String,
    actor: String,
    metrics: Metrics,
    bytes: u64,
    /// How it ended; by the caller's leaving until it is known better.
    end: &'static str,
    _permit: OwnedSemaphorePermit,
}

impl Api {
    async fn begin_backup(&self, received: Received<v1::SaveBackupRequest>) -> Result<Response<Chunks>, Error> {
        headers::no_dry_run(&received.headers)?;
        let limit = self.core.config.limits.backups_max;
        let permit = self.core.backups.clone().try_acquire_owned().map_err(|_| {
            Error::new(Code::ResourceExhausted, "this node is busy with other backups")
                .with(|problem| {
                    problem.limit = format!("{limit} at once");
                    problem.retry_after_ms = 1_000;
                })
                .hint("ask another node, or wait for one to end")
        })?;
        self.note_backup(&received).await?;
        let call = &received.call;
        let backup = tokio::time::timeout_at(call.deadline, self.core.handle.backup())
            .await
            .map_err(|_| Error::new(Code::DeadlineExceeded, "the backup could not be begun in time"))??;
        let revision = backup.header().position.revision;
        let sending = Sending {
            backup,
            request_id: call.request_id.clone(),
            actor: call.principal.subject.clone(),
            metrics: self.core.metrics.clone(),
            bytes: 0,
            end: "left",
            _permit: permit,
        };
        let chunks: Chunks = Box::pin(futures::stream::unfold(Some(sending), |sending| async {
            let mut sending = sending?;
            match sending.next().await {
                Ok(Some(data)) => Some((Ok(v1::BackupChunk { data }), Some(sending))),
                Ok(None) => None,
                Err(error) => Some((Err(error.into_status(&sending.request_id)), None)),
            }
        }));
        Ok(self.at(revision, chunks))
    }

    /// Records in the audit trail who takes the mesh away. Once this node has applied that, it has applied everything
    /// that was acknowledged before the backup was asked for.
    ///
    /// Without a quorum a backup is all that is left to be taken; then the node's log alone says so.
    async fn note_backup(&self, received: &Received<v1::SaveBackupRequest>) -> Result<(), Error> {
        let (call, handle) = (&received.call, &self.core.handle);
        let v1::SaveBackupRequest { reason, ticket } = received.message.clone();
        let request = statemachine::Request {
            origin: Origin {
                actor: call.principal.subject.clone(),
                reason,
                ticket,
                request_id: call.request_id.clone(),
                transport: call.transport.to_owned(),
                node: handle.node(),
                received_wall_ms: call.received_wall_ms,
                idempotency: None,
            },
            conditions: Conditions::default(),
            command: RecordBackup {
                mesh: self.core.mesh().clone(),
                node: handle.node(),
            }
            .into(),
        };
        let local = headers::consistency(&received.headers)? == Consistency::Local;
        let deadline = if local {
            // A leader that is gone may just not answer; then there has to be time left for the backup.
            call.deadline.min(Instant::now() + NOTE_WITHIN)
        } else {
            call.deadline
        };
        let carried = match handle.propose_anywhere(request, deadline).await {
            Err(error) if local && error.is_retryable() => {
                tracing::warn!(request_id = %call.request_id, actor = %call.principal.subject, %error, "a backup is \
                    taken that the audit trail cannot be told of");
                return Ok(());
            }
            carried => carried?,
        };
        let unit = match carried.revision {
            Some(revision) => handle.view().unit(revision)?,
            None => return Err(Rejection::MeshNotInitialized.into()),
        };
        match unit.map(|unit| unit.unit.outcome.clone()) {
            Some(Outcome::Rejected(rejection)) => Err(rejection.into()),
            Some(Outcome::Applied { .. } | Outcome::Staged { .. } | Outcome::Replayed { .. }) | None => Ok(()),
        }
    }
}

impl Sending {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let piece = tokio::time::timeout(PIECE_WITHIN, self.backup.next()).await;
        let piece = piece
            .map_err(|_| Error::new(Code::Unavailable, "this node's disk does not answer").hint("ask another node"))
            .and_then(|piece| Ok(piece?));
        match &piece {
            Ok(Some(data)) => {
                self.bytes += data.len() as u64;
                self.metrics.backup_bytes.inc_by(data.len() as u64);
            }
            Ok(None) => self.end = "whole",
            Err(_) => self.end = "failed",
        }
        Ok(piece?.map(Into::into))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.metrics
            .backups
            .get_or_create(&BackupLabels { end: self.end })
            .inc();
        let revision = self.backup.header().position.revision;
        tracing::info!(
            request_id = %self.request_id, actor = %self.actor, %revision, bytes = self.bytes, end = self.end,
            "a backup has ended"
        );
    }
}
