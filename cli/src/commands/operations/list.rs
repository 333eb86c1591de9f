//! `mesh operations list`

use api_client::watch::WatchOperations;
use proto::v1::{ListOperationsRequest, WatchOperationsRequest, operation::State};

use crate::{
    app::App,
    failure::Failure,
    listing,
    watching::{self, ListWatch},
};

/// Which operations.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only operations in this state: running, succeeded, cancelled or failed
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<State>,
    /// Only operations on this record: peer/p1
    #[arg(long, value_name = "KIND/ID", default_value = "", hide_default_value = true)]
    target: String,
    #[command(flatten)]
    page: listing::Page,
    #[command(flatten)]
    watch: ListWatch,
}

fn state(text: &str) -> Result<State, String> {
    match State::from_str_name(&text.to_ascii_uppercase()) {
        Some(state) if state != State::Unspecified => Ok(state),
        _ => Err("write running, succeeded, cancelled or failed".to_owned()),
    }
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if args.watch.watch {
        args.page.unwatched()?;
        let request = WatchOperationsRequest {
            snapshot: true,
            state: args.state.unwrap_or_default().into(),
            target: args.target,
            ..WatchOperationsRequest::default()
        };
        return watching::follow::<WatchOperations>(app, request, &args.watch.args()).await;
    }
    let client = app.client()?;
    let request = |limit, cursor| ListOperationsRequest {
        limit,
        cursor,
        state: args.state.unwrap_or_default().into(),
        target: args.target.clone(),
    };
    listing::list(app, &args.page, |limit, cursor| {
        client.list_operations(request(limit, cursor))
    })
    .await
}
