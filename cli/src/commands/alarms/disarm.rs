//! `mesh alarms disarm`

use proto::v1::DisarmAlarmRequest;

use crate::{app::App, failure::Failure, output::Format, output::clean};

/// Which alarm, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's number
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// The alarm: NOSPACE, CORRUPT or CLOCK
    #[arg(value_name = "NAME")]
    name: String,
    /// Why, for the cluster's audit chain
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    reason: String,
    /// Change ticket, for the cluster's audit chain
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    ticket: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = DisarmAlarmRequest {
        node: args.node,
        name: args.name.clone(),
        reason: args.reason,
        ticket: args.ticket,
    };
    let answer = app.client()?.disarm_alarm(request).await?.message;
    match app.format() {
        Format::Table | Format::Wide => {
            let name = args.name.to_ascii_uppercase();
            Ok(app.line(&format!("alarm {} of node {} disarmed", clean(&name), args.node))?)
        }
        Format::Json | Format::Yaml | Format::Jsonl | Format::Name => super::show(app, &answer),
    }
}
