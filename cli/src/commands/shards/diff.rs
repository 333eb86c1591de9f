//! `mesh shards diff`

use proto::v1::DiffShardsRequest;

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, count, json, moves},
    values,
};

/// Which shards, and between which revisions.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only shards of this namespace
    #[arg(long, value_name = "ID", value_parser = values::id)]
    namespace: Option<String>,
    /// The earlier revision
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// The later revision [default: now]
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if let Some(to) = args.to
        && to < args.from
    {
        return Err(Failure::usage(
            format!("--from {} is later than --to {to}", args.from),
            "name the earlier revision with --from",
        ));
    }
    let request = DiffShardsRequest {
        namespace: args.namespace.unwrap_or_default(),
        from_revision: args.from,
        to_revision: args.to.unwrap_or_default(),
    };
    let answer = app.client()?.diff_shards(request).await?.message;
    let look = app.look();
    match app.format() {
        Format::Json => app.text(&json::pretty(&answer)?)?,
        Format::Yaml => app.text(&json::yaml(&answer)?)?,
        Format::Jsonl | Format::Name => listing::write(app, &answer.changes)?,
        Format::Table | Format::Wide => app.text(&moves::difference(&answer, look))?,
    }
    if answer.changes.is_empty() {
        return Ok(());
    }
    let more = if answer.truncated { " at least" } else { "" };
    Err(Failure::found(
        "differs",
        format!(
            "{more}{} between revision {} and {}",
            match answer.changes.len() {
                1 => " 1 shard differs".to_owned(),
                _ => format!(" {} differ", count(answer.changes.len() as u64, "shard")),
            },
            answer.from_revision,
            answer.to_revision
        )
        .trim_start(),
        "`mesh shards history` shows who changed a shard, and why",
    ))
}
