//! `mesh shards disable`

use proto::v1::{DisableShardRequest, GetNamespaceRequest, shard::Status};

use super::which::{self, Act, Args, Meant};
use crate::{
    app::App,
    failure::Failure,
    output::{clean, count},
    prompt,
};

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let meant = args.which.meant()?;
    let sure = args.mutation.yes || args.mutation.dry_run;
    let question = question(app, &meant, !sure).await?;
    prompt::confirm(app, sure, &question).await?;
    let act = Act {
        done: "disabled",
        from: None,
        there: Status::Disabled,
    };
    which::ask!(app, meant, args.mutation, act, DisableShardRequest, disable_shard)
}

/// Says how many shards it is about, where somebody can be asked.
async fn question(app: &App<'_>, meant: &Meant, asks: bool) -> Result<String, Failure> {
    Ok(match meant {
        Meant::One(id) => format!("Disable shard {id}? Nobody serves it until it is enabled."),
        Meant::All(namespace) if asks && app.streams.can_ask => {
            let request = GetNamespaceRequest { id: namespace.clone() };
            let shards = app.client()?.get_namespace(request).await?.message.shards;
            let shards = count(shards.into(), "shard");
            format!(
                "Disable all {shards} of namespace {}? Nobody serves them until they are enabled.",
                clean(namespace)
            )
        }
        Meant::All(namespace) => format!(
            "Disable all shards of namespace {}? Nobody serves them until they are enabled.",
            clean(namespace)
        ),
    })
}
