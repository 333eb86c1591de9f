//! `mesh shards cancel-move`

use proto::v1::{CancelMoveRequest, shard::Status};

use super::which::{self, Act, Args};
use crate::{app::App, failure::Failure};

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let act = Act {
        done: "no longer moving",
        from: Some(Status::Moving),
        there: Status::Active,
    };
    which::ask!(
        app,
        args.which.meant()?,
        args.mutation,
        act,
        CancelMoveRequest,
        cancel_move
    )
}
