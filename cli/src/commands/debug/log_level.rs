//! `mesh debug log-level`

use std::time::Duration;

use proto::v1::{LogLevel, Node, SetLogLevelRequest};

use api_client::methods::SetLogLevel;

use crate::{
    app::App,
    failure::Failure,
    listing,
    nodes::{self, Answered},
    output::{Format, Show, clean, json, table},
    values,
};

/// What to log, where, and for how long.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "A filter is a level (off, error, warn, info, debug, trace), exceptions by part \
    (raft=debug, api_server=trace, access=off), or both: info,raft=debug. The change and who asked for it are in the node's log."
)]
pub struct Args {
    /// The filter: debug, or info,raft=debug
    #[arg(required_unless_present = "reset")]
    filter: Option<String>,
    /// Go back to the configured filter now
    #[arg(long, conflicts_with_all = ["filter", "for_"])]
    reset: bool,
    /// For how long, 1s to 24h; then the node goes back by itself [default: 10m]
    #[arg(long = "for", id = "for_", value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true)]
    for_: Option<Duration>,
    /// This node [default: whichever of the endpoints answers]
    #[arg(long, value_name = "ID", conflicts_with = "all", value_parser = clap::value_parser!(u64).range(1..))]
    node: Option<u64>,
    /// Every node of the cluster
    #[arg(long)]
    all: bool,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let request = SetLogLevelRequest {
        filter: args.filter.unwrap_or_default(),
        for_ms: args
            .for_
            .map_or(0, |within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX)),
    };
    let within = client.timeout();
    if args.all {
        let nodes = nodes::members(&client).await?;
        let answers = nodes::ask_all::<SetLogLevel>(&client, nodes, request, within).await;
        return show_all(app, answers);
    }
    let level = match args.node {
        Some(id) => {
            let node = nodes::member(&client, id).await?;
            nodes::ask::<SetLogLevel>(&client, &node, request, within).await?
        }
        None => client.set_log_level(request).await?.message,
    };
    listing::one(app, &level)
}

fn show_all(app: &mut App<'_>, answers: Vec<Answered<LogLevel>>) -> Result<(), Failure> {
    let (mut levels, mut failed): (Vec<LogLevel>, Vec<(Node, api_client::Error)>) = (Vec::new(), Vec::new());
    for (node, answer) in answers {
        match answer {
            Ok(level) => levels.push(level),
            Err(error) => failed.push((node, error)),
        }
    }
    if levels.is_empty()
        && let Some((_, error)) = failed.pop()
    {
        return Err(error.into());
    }
    let look = app.look();
    let text = match app.format() {
        Format::Json => json::document(&values(&levels)?)?,
        Format::Yaml => json::document_yaml(&values(&levels)?)?,
        Format::Jsonl => levels.iter().map(json::line).collect::<Result<String, _>>()?,
        Format::Name => levels.iter().map(|level| format!("{}\n", level.name())).collect(),
        Format::Table | Format::Wide => table::rows(
            &LogLevel::header(look.wide),
            levels.iter().map(|level| level.row(look)),
            look.colour,
        ),
    };
    app.text(&text)?;
    let Some((node, error)) = failed.first() else {
        return Ok(());
    };
    let also = match failed.len() {
        1 => String::new(),
        more => format!(", nor did {} more", more - 1),
    };
    Err(Failure::found(
        error.code(),
        format!("node {} did not do it{also}: {}", node.id, clean(error.detail())),
        "the nodes that are shown did; name one that did not with --node to try it again",
    ))
}

fn values(levels: &[LogLevel]) -> Result<Vec<serde_json::Value>, Failure> {
    let values = levels.iter().map(|level| {
        proto::json::to_value(level)
            .map_err(|error| Failure::found("internal", format!("the answer cannot be written: {error}"), ""))
    });
    values.collect()
}
