//! `mesh namespaces policy`

use proto::v1::{GetNamespaceRequest, SetNamespacePolicyRequest, namespace::Policy};

use super::PolicyArgs;
use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    values,
};

/// Which namespace, and what its moves are held to from now on. What is not said stays as it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The namespace's id
    #[arg(value_parser = values::id)]
    id: String,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, mut args: Args) -> Result<(), Failure> {
    if args.policy.over(Policy::default()).is_none() {
        return Err(Failure::usage(
            "nothing is said of what moves are held to",
            "give --hand-off, --moves-max, --step or --max-moved; `mesh namespaces get` shows what they are",
        ));
    }
    let client = app.client()?;
    let get = || GetNamespaceRequest { id: args.id.clone() };
    let mut policy = Policy::default();
    if !args.policy.is_whole() {
        // The mesh takes a policy whole: the rest is what it is now, on the condition that it still is.
        let namespace = client.get_namespace(get()).await?.message;
        policy = namespace.policy.unwrap_or_default();
        if args.mutation.if_match.is_empty() {
            args.mutation.if_match = namespace.etag;
        }
    }
    let mut request = SetNamespacePolicyRequest {
        id: args.id.clone(),
        policy: args.policy.over(policy),
        ..SetNamespacePolicyRequest::default()
    };
    args.mutation.apply(&mut request);
    let now = || client.get_namespace(get());
    let call = || client.set_namespace_policy(request.clone());
    mutation::record(app, &args.mutation, "changed", now, call).await?;
    Ok(())
}
