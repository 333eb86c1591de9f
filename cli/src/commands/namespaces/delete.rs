//! `mesh namespaces delete`

use proto::v1::{DeleteNamespaceRequest, GetNamespaceRequest};

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
    output::clean,
    prompt, values,
    wait::WaitArgs,
};

/// Which namespace.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The namespace's id
    #[arg(value_parser = values::id)]
    id: String,
    /// Although shards are served (needs --confirm)
    #[arg(long)]
    force: bool,
    /// With --force: the namespace's id once more
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    confirm: String,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    // Whoever forces it names it, which the mesh looks at; that is more than a yes.
    let sure = args.mutation.yes || args.mutation.dry_run || args.force;
    let question = format!(
        "Delete namespace {}? Who owns which of its shards is forgotten, and no key of it is served.",
        clean(&args.id)
    );
    prompt::confirm(app, sure, &question).await?;
    let mut request = DeleteNamespaceRequest {
        id: args.id.clone(),
        force: args.force,
        confirm: args.confirm,
        ..DeleteNamespaceRequest::default()
    };
    args.mutation.apply(&mut request);
    if args.wait.wait && !args.mutation.dry_run {
        let changed = client.delete_namespace(request).await?.message;
        return super::settled(app, &client, &changed, &args.wait).await;
    }
    let now = || client.get_namespace(GetNamespaceRequest { id: args.id.clone() });
    let call = || client.delete_namespace(request.clone());
    let answer = mutation::record(app, &args.mutation, "deleting", now, call).await?;
    super::tell_operation(app, &answer);
    Ok(())
}
