//! `AuthService`

use proto::{
    methods::{self, Scope},
    v1::{self, auth_service_server::AuthService},
};
use tonic::{Request, Response, Status};

use super::{Api, Received};
use crate::Error;

#[tonic::async_trait]
impl AuthService for Api {
    async fn can_i(&self, request: Request<v1::CanIRequest>) -> Result<Response<v1::CanIResponse>, Status> {
        self.answer(request, async |received: Received<v1::CanIRequest>| {
            let what = received.message.what.as_str();
            let needed = Scope::parse(what).or_else(|| methods::by_action(what).map(|method| method.scope));
            let needed = needed.ok_or_else(|| {
                let detail = "neither a scope such as `mesh.operate` nor an action such as `peers.drain`";
                Error::invalid("what", detail)
            })?;
            let principal = &received.call.principal;
            let answer = v1::CanIResponse {
                allowed: principal.holds(needed),
                principal: principal.subject.clone(),
                scopes: principal.scopes().into_iter().map(str::to_owned).collect(),
                needed: needed.as_str().to_owned(),
                method: principal.proof.as_str().to_owned(),
            };
            Ok(self.at(self.core.handle.view().position().revision, answer))
        })
        .await
    }
}
