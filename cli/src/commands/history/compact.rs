//! `mesh history compact`

use std::time::Duration;

use proto::v1::CompactHistoryRequest;

use crate::{app::App, failure::Failure, listing, mutation::MutationArgs, output::Format, preview, prompt};

/// How much to keep.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("kept").required(true).args(["to", "keep"])))]
pub struct Args {
    /// The oldest revision that has to be kept
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
    /// How far back history has to be kept, such as 12h or 7d
    #[arg(long, value_name = "DURATION", value_parser = crate::values::duration)]
    keep: Option<Duration>,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let what = match (args.to, args.keep) {
        (Some(to), _) => format!("before revision {to}"),
        (None, keep) => format!("older than {}", api_client::duration::format(keep.unwrap_or_default())),
    };
    let question = format!("Let go of all history and audit {what}? It cannot be had back.");
    prompt::confirm(app, args.mutation.yes || args.mutation.dry_run, &question).await?;
    let mut request = CompactHistoryRequest {
        revision: args.to.unwrap_or_default(),
        keep_ms: args
            .keep
            .map_or(0, |keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX)),
        ..CompactHistoryRequest::default()
    };
    args.mutation.apply(&mut request);
    let answer = client.compact_history(request).await?;
    if args.mutation.dry_run && preview::document(app, &answer.message, &answer.meta)? {
        return Ok(());
    }
    if app.format() != Format::Table {
        return listing::one(app, &answer.message);
    }
    let (would, note) = match args.mutation.dry_run {
        true => ("would be", " (dry run, nothing was changed)"),
        false => ("is", ""),
    };
    let oldest = answer.message.oldest_revision;
    app.line(&format!("history {would} kept from revision {oldest} on{note}"))?;
    preview::checks(app, &answer.meta)
}
