//! `OperationService`

use std::time::Duration;

use proto::v1::{self, operation_service_server::OperationService};
use raft::View;
use statemachine::{CancelOperation, OperationId, record::OperationState};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, convert, cursor::Filter, filter, listing::Page, operation_hub::LOOK_AGAIN};

/// How long before its caller's deadline a long poll answers.
const ANSWER_BEFORE: Duration = Duration::from_millis(200);

fn operation_id(text: &str) -> Result<OperationId, Error> {
    OperationId::new(text).map_err(|error| Error::invalid("id", error.to_string()))
}

#[tonic::async_trait]
impl OperationService for Api {
    async fn list_operations(
        &self,
        request: Request<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Status> {
        self.answer(request, |received| self.list_operations_page(received))
            .await
    }

    async fn get_operation(
        &self,
        request: Request<v1::GetOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        self.answer(request, |received| self.get(received)).await
    }

    async fn cancel_operation(
        &self,
        request: Request<v1::CancelOperationRequest>,
    ) -> Result<Response<v1::Operation>, Status> {
        let command = |message: v1::CancelOperationRequest| {
            Ok(CancelOperation {
                id: operation_id(&message.id)?,
            }
            .into())
        };
        self.core.mutate(request, command).await
    }
}

impl Api {
    async fn get(&self, received: Received<v1::GetOperationRequest>) -> Result<Response<v1::Operation>, Error> {
        let id = operation_id(&received.message.id)?;
        let Some(seen) = received.message.wait_version else {
            return self.operation(&self.view(&received).await?, &id);
        };
        let until = self.poll_until(&received)?;
        let place = self.core.places.long_poll(&received.call.principal.subject)?;
        let waiter = self.core.hub.wait(&id);
        let mut view = self.view(&received).await?;
        loop {
            // Made before the state is looked at, so that no change falls in between.
            let changed = waiter.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let news = match view.state().mesh.operation(&id) {
                None => true,
                Some(operation) => operation.meta.version > seen || operation.state != OperationState::Running,
            };
            let now = Instant::now();
            if news || now >= until || self.core.stop.is_cancelled() {
                drop(place);
                return self.operation(&view, &id);
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until.min(now + LOOK_AGAIN)) => {}
                () = self.core.stop.cancelled() => {}
            }
            view = self.core.handle.view();
        }
    }

    /// When a long poll answers in any case.
    fn poll_until(&self, received: &Received<v1::GetOperationRequest>) -> Result<Instant, Error> {
        let deadlines = &self.core.config.deadlines;
        let most = Duration::from_millis(deadlines.long_poll_max_ms);
        let wait = match received.message.timeout {
            None => Duration::from_millis(deadlines.long_poll_default_ms),
            // Looked at before it is converted: the conversion negates, which the smallest number does not survive.
            Some(timeout) if timeout.seconds < 0 || timeout.nanos < 0 => {
                return Err(Error::invalid("timeout", "a wait cannot be negative"));
            }
            Some(timeout) => {
                Duration::try_from(timeout).map_err(|_| Error::invalid("timeout", "not a length of time"))?
            }
        };
        if wait > most {
            return Err(Error::invalid("timeout", format!("at most {} s", most.as_secs())));
        }
        let deadline = received.call.deadline;
        Ok((Instant::now() + wait).min(deadline.checked_sub(ANSWER_BEFORE).unwrap_or(deadline)))
    }

    fn operation(&self, view: &View, id: &OperationId) -> Result<Response<v1::Operation>, Error> {
        let mesh = &view.state().mesh;
        let operation = mesh
            .operation(id)
            .ok_or_else(|| Error::not_found("operation", id.as_str()))?;
        Ok(self.record(
            mesh.position().revision,
            operation.meta.etag(),
            convert::operation(operation),
        ))
    }

    async fn list_operations_page(
        &self,
        received: Received<v1::ListOperationsRequest>,
    ) -> Result<Response<v1::ListOperationsResponse>, Error> {
        let v1::ListOperationsRequest {
            limit,
            cursor,
            state,
            target,
        } = &received.message;
        let wanted = filter::Operations::new(*state, target)?;
        let filter = Filter::new("ListOperations", &[&state.to_string(), target]);
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let before = page.after.as_deref().map(operation_id).transpose()?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let matching = mesh
            .operations_before(before.as_ref())
            .filter(|operation| wanted.selects(operation));
        let records = matching.map(|operation| convert::operation(operation));
        let (items, next_cursor) = page.fill(&self.core, Some(&mesh), records, |last| last.id.clone());
        let answer = v1::ListOperationsResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
        };
        Ok(self.page(&page, answer))
    }
}
