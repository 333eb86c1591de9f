//! `mesh shards resume`

use proto::v1::{ResumeShardRequest, shard::Status};

use super::which::{self, Act, Args};
use crate::{app::App, failure::Failure};

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let act = Act {
        done: "resumed",
        from: Some(Status::Paused),
        there: Status::Active,
    };
    which::ask!(
        app,
        args.which.meant()?,
        args.mutation,
        act,
        ResumeShardRequest,
        resume_shard
    )
}
