//! `mesh shards pause`

use proto::v1::{PauseShardRequest, shard::Status};

use super::which::{self, Act, Args};
use crate::{app::App, failure::Failure};

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let act = Act {
        done: "paused",
        from: Some(Status::Active),
        there: Status::Paused,
    };
    which::ask!(
        app,
        args.which.meant()?,
        args.mutation,
        act,
        PauseShardRequest,
        pause_shard
    )
}
