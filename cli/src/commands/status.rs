//! `mesh status`

use std::time::Duration;

use api_client::{CallOptions, Client, methods::GetStatus};
use proto::v1::{GetStatusRequest, Status, node::Role};

use crate::{
    app::App,
    failure::Failure,
    nodes,
    output::{Format, clean, json, status},
};

/// How long the other nodes have to tell of their warnings.
const WARNINGS_WITHIN: Duration = Duration::from_secs(1);

/// Shows the status, as the leader knows it where it answers, or as the node that is asked knows it by itself; and fails with exit code 1 where there is no quorum or no leader.
pub async fn run(app: &mut App<'_>) -> Result<(), Failure> {
    let client = app.client()?;
    let options = CallOptions {
        consistency: Some(app.freshness().into()),
        ..CallOptions::default()
    };
    let answer = client.call::<GetStatus>(GetStatusRequest {}, options).await?;
    let over = match answer.meta.downgrade {
        None => answer.meta.transport.to_owned(),
        Some(why) => format!(
            "{}, because HTTP/3 could not be had: {}",
            answer.meta.transport,
            why.describe()
        ),
    };
    let answer = answer.message;
    let look = app.look();
    let text = match app.format() {
        Format::Json => json::pretty(&answer)?,
        Format::Jsonl => json::line(&answer)?,
        Format::Yaml => json::yaml(&answer)?,
        Format::Name => format!("mesh/{}\n", clean(&answer.mesh)),
        Format::Table | Format::Wide => {
            let warnings = warnings(&client, &answer).await;
            status::screen(&answer, &warnings, &over, look)
        }
    };
    app.text(&text)?;
    match status::unhealthy(&answer) {
        None => Ok(()),
        Some(why) => Err(Failure::found(
            "unhealthy",
            format!("the mesh is unhealthy: {why}"),
            "start the missing nodes; ask another node with --endpoints to see whether this one is cut off",
        )),
    }
}

/// What an operator should see to, on every node that answers soon: only a node itself knows its certificates. Those
/// that do not answer are on the screen as such.
async fn warnings(client: &Client, answer: &Status) -> Vec<(u64, String)> {
    let others = answer.nodes.iter().filter(|node| node.id != answer.answered_by);
    let others = others
        .filter(|node| node.role() != Role::Unreachable)
        .cloned()
        .collect();
    let told = nodes::ask_all::<GetStatus>(client, others, GetStatusRequest {}, WARNINGS_WITHIN).await;
    let told = told
        .into_iter()
        .filter_map(|(node, status)| Some((node.id, status.ok()?.warnings)));
    let own = (answer.answered_by, answer.warnings.clone());
    let mut warnings: Vec<(u64, String)> = std::iter::once(own)
        .chain(told)
        .flat_map(|(node, lines)| lines.into_iter().map(move |line| (node, line)))
        .collect();
    warnings.sort();
    warnings
}
