//! `mesh upgrade finalize`

use api_client::{Answer, Meta};
use proto::v1::{FeatureLevel, FinalizeUpgradeRequest, GetUpgradeRequest};

use crate::{
    app::App,
    failure::Failure,
    mutation::MutationArgs,
    output::{Format, json, upgrade},
    preview, prompt,
};

/// Which level.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The feature level to raise to [default: the highest that a node's program can follow]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(1..))]
    to: Option<u32>,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let sure = args.mutation.yes || args.mutation.dry_run;
    let mut to = args.to;
    if !sure && app.streams.can_ask {
        // What is asked about is what will be asked for: a level that comes up meanwhile is another question.
        let seen = client.get_upgrade(GetUpgradeRequest {}).await?.message;
        to = to.or_else(|| seen.nodes.iter().map(|node| node.feature_level).max());
        // Nothing is raised where it is there already; the node says so.
        let raises = to.is_none_or(|to| to > seen.feature_level);
        prompt::confirm(app, !raises, &question(to, Some(seen.feature_level))).await?;
    } else {
        prompt::confirm(app, sure, &question(to, None)).await?;
    }
    let mut request = FinalizeUpgradeRequest {
        to: to.unwrap_or(0),
        ..FinalizeUpgradeRequest::default()
    };
    args.mutation.apply(&mut request);
    let answer = client.finalize_upgrade(request).await?;
    if args.mutation.dry_run && preview::document(app, &answer.message, &answer.meta)? {
        return Ok(());
    }
    show(app, &answer, args.mutation.dry_run)?;
    preview::checks(app, &answer.meta)
}

/// Names the level, and what raising it means.
fn question(to: Option<u32>, from: Option<u32>) -> String {
    let to = to.map_or_else(|| "the newest program's".to_owned(), |level| level.to_string());
    let from = from.map_or_else(String::new, |level| format!(" from {level}"));
    format!(
        "Raise the feature level{from} to {to}? There is no way back: from then on no older program can run on any node, \
         and a downgrade takes a restore from a backup."
    )
}

fn show(app: &mut App<'_>, answer: &Answer<FeatureLevel>, dry_run: bool) -> Result<(), Failure> {
    let message = &answer.message;
    let text = match app.format() {
        Format::Json => json::pretty(message)?,
        Format::Jsonl => json::line(message)?,
        Format::Yaml => json::yaml(message)?,
        Format::Name => upgrade::name(message.feature_level),
        Format::Table | Format::Wide => format!("{}\n", said(message.feature_level, &answer.meta, dry_run)),
    };
    Ok(app.text(&text)?)
}

fn said(level: u32, meta: &Meta, dry_run: bool) -> String {
    let at = meta
        .revision
        .map_or_else(String::new, |revision| format!(" (revision {revision})"));
    if dry_run {
        format!("the feature level would be {level}{at} (dry run, nothing was changed)")
    } else if meta.replayed {
        format!("the feature level is {level} (an earlier attempt with this key had done it)")
    } else {
        format!("the feature level is {level}{at}")
    }
}
