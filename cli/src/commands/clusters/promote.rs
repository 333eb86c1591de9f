//! `mesh clusters promote`

use proto::v1::{GetClusterRequest, PromoteClusterRequest};

use crate::{
    app::App,
    failure::Failure,
    mutation::{self, MutationArgs},
};

/// Which cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The cluster's id
    id: String,
    /// The cluster's id once more: this is hard to take back
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    confirm: String,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = PromoteClusterRequest {
        id: args.id.clone(),
        confirm: args.confirm,
        ..PromoteClusterRequest::default()
    };
    args.mutation.apply(&mut request);
    let now = || client.get_cluster(GetClusterRequest { id: args.id.clone() });
    let call = || client.promote_cluster(request.clone());
    mutation::record(app, &args.mutation, "promoted", now, call).await?;
    Ok(())
}
