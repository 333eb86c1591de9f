//! `mesh shards enable`

use proto::v1::{EnableShardRequest, shard::Status};

use super::which::{self, Act, Args};
use crate::{app::App, failure::Failure};

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let act = Act {
        done: "enabled",
        from: Some(Status::Disabled),
        there: Status::Active,
    };
    which::ask!(
        app,
        args.which.meant()?,
        args.mutation,
        act,
        EnableShardRequest,
        enable_shard
    )
}
