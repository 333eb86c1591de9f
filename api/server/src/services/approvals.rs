//! `ApprovalService`

use proto::{
    methods,
    v1::{self, approval_service_server::ApprovalService},
};
use statemachine::{ApprovalId, ApproveStaged, RejectStaged, record::Scope};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::{Error, context::Call, convert, cursor::Filter, effects, filter::Approvals, listing::Page};

fn approval_id(text: &str) -> Result<ApprovalId, Error> {
    ApprovalId::new(text).map_err(|error| Error::invalid("id", error.to_string()))
}

/// What whoever decides may do.
fn scope<T>(request: &Request<T>) -> Result<Scope, Status> {
    let call = Call::of(request)?;
    Ok(match call.principal.holds(methods::Scope::Admin) {
        true => Scope::Admin,
        false => Scope::Operate,
    })
}

#[tonic::async_trait]
impl ApprovalService for Api {
    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        self.answer(request, |received| self.list_approvals_page(received))
            .await
    }

    async fn get_approval(&self, request: Request<v1::GetApprovalRequest>) -> Result<Response<v1::Approval>, Status> {
        self.answer(request, async |received: Received<v1::GetApprovalRequest>| {
            let id = approval_id(&received.message.id)?;
            let view = self.view(&received).await?;
            let mesh = &view.state().mesh;
            let found = mesh
                .approval(&id)
                .ok_or_else(|| Error::not_found("approval", id.as_str()))?;
            let shown = effects::approval(mesh, found);
            Ok(self.record(mesh.position().revision, found.meta.etag(), shown))
        })
        .await
    }

    async fn approve_approval(
        &self,
        request: Request<v1::ApproveApprovalRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let scope = scope(&request)?;
        let command = move |message: v1::ApproveApprovalRequest| {
            let id = approval_id(&message.id)?;
            Ok(ApproveStaged { id, scope }.command()?)
        };
        self.core.mutate(request, command).await
    }

    async fn reject_approval(
        &self,
        request: Request<v1::RejectApprovalRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let scope = scope(&request)?;
        let command = move |message: v1::RejectApprovalRequest| {
            let id = approval_id(&message.id)?;
            Ok(RejectStaged { id, scope }.command()?)
        };
        self.core.mutate(request, command).await
    }
}

impl Api {
    async fn list_approvals_page(
        &self,
        received: Received<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Error> {
        let v1::ListApprovalsRequest {
            limit,
            cursor,
            status,
            target,
            requester,
            action,
        } = &received.message;
        let wanted = Approvals::new(*status, target, requester, action)?;
        let filter = Filter::new("ListApprovals", &[&status.to_string(), target, requester, action]);
        let view = self.view(&received).await?;
        let page = Page::begin(&self.core, view, *limit, cursor, filter)?;
        let before = page.after.as_deref().map(approval_id).transpose()?;
        let mesh = page.mesh(&self.core, &received.call).await?;
        let matching = mesh
            .approvals_before(before.as_ref())
            .filter(|approval| wanted.selects(approval));
        let records = matching.map(|approval| convert::approval(approval));
        let (items, next_cursor) = page.fill(&self.core, Some(&mesh), records, |last| last.id.clone());
        let answer = v1::ListApprovalsResponse {
            items,
            next_cursor,
            revision: page.revision().0,
            epoch: mesh.epoch().0,
            version_vector: convert::version_vector(&mesh),
        };
        Ok(self.at(page.revision(), answer))
    }
}
