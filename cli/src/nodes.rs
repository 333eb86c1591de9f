//! Asking nodes one by one, each for itself.

use std::time::Duration;

use api_client::{CallOptions, Client, Consistency, Endpoint, Error, Method, methods};
use proto::v1::{ListMembersRequest, Node};
use tokio::task::JoinSet;

use crate::{failure::Failure, output::clean};

/// What one node answered, or why it did not.
pub type Answered<T> = (Node, Result<T, Error>);

/// The members, as whichever node answers knows them; needs no quorum.
pub async fn members(client: &Client) -> Result<Vec<Node>, Failure> {
    let options = CallOptions {
        consistency: Some(Consistency::Local),
        ..CallOptions::default()
    };
    let answer = client
        .call::<methods::ListMembers>(ListMembersRequest {}, options)
        .await?;
    Ok(answer.message.items)
}

/// The member with this id.
pub async fn member(client: &Client, id: u64) -> Result<Node, Failure> {
    let members = members(client).await?;
    let ids: Vec<String> = members.iter().map(|node| node.id.to_string()).collect();
    members.into_iter().find(|node| node.id == id).ok_or_else(|| {
        Failure::found(
            "not_found",
            format!("node {id} is not a member of the cluster"),
            format!("its nodes are {}", ids.join(", ")),
        )
    })
}

/// Asks one node, and no other, for what it knows itself.
///
/// # Errors
/// As the node answers; `unavailable` where it does not, or names no address to ask at.
pub async fn ask<M: Method>(
    client: &Client,
    node: &Node,
    request: M::Request,
    within: Duration,
) -> Result<M::Response, Error> {
    let endpoint: Endpoint = node.api.parse().map_err(|_| {
        Error::invalid(
            format!(
                "node {} is known at `{}`, which is no address",
                node.id,
                clean(&node.api)
            ),
            "",
        )
    })?;
    let options = CallOptions {
        only: Some(endpoint),
        timeout: Some(within),
        attempt_timeout: Some(within),
        stay: true,
        once: true,
        consistency: Some(Consistency::Local),
        ..CallOptions::default()
    };
    client.call::<M>(request, options).await.map(|answer| answer.message)
}

/// Asks all of these at once. Answers in their order.
pub async fn ask_all<M>(
    client: &Client,
    nodes: Vec<Node>,
    request: M::Request,
    within: Duration,
) -> Vec<Answered<M::Response>>
where
    M: Method + 'static,
{
    let mut asking = JoinSet::new();
    for (at, node) in nodes.iter().cloned().enumerate() {
        let (client, request) = (client.clone(), request.clone());
        asking.spawn(async move { (at, ask::<M>(&client, &node, request, within).await) });
    }
    let mut answers: Vec<(usize, Result<M::Response, Error>)> = Vec::with_capacity(nodes.len());
    while let Some(answer) = asking.join_next().await {
        answers.extend(answer.ok());
    }
    answers.sort_by_key(|(at, _)| *at);
    let answers = answers.into_iter();
    answers
        .filter_map(|(at, answer)| Some((nodes.get(at)?.clone(), answer)))
        .collect()
}
