//! `mesh alarms disarm`

use api_client::methods::DisarmAlarm;
use proto::v1::DisarmAlarmRequest;

use crate::{app::App, change::ChangeArgs, failure::Failure, output::Format, output::clean};

/// Which alarm, and why.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's number
    #[arg(value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// The alarm: NOSPACE, CORRUPT or CLOCK
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    change: ChangeArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let request = DisarmAlarmRequest {
        node: args.node,
        name: args.name.clone(),
        reason: args.change.reason.clone(),
        ticket: args.change.ticket.clone(),
    };
    let options = args.change.options();
    let answer = app.client()?.call::<DisarmAlarm>(request, options).await?;
    match app.format() {
        Format::Table | Format::Wide => {
            let name = args.name.to_ascii_uppercase();
            let said = args.change.said(&answer, "disarmed", "would be disarmed");
            Ok(app.line(&format!("alarm {} of node {} {said}", clean(&name), args.node))?)
        }
        Format::Json | Format::Yaml | Format::Jsonl | Format::Name => super::show(app, &answer.message),
    }
}
