//! `mesh namespaces …`

mod create;
mod delete;
mod get;
mod list;
mod policy;
mod reshape;

use std::time::Duration;

use api_client::{Answer, Client};
use clap::Subcommand;
use proto::v1::{
    GetNamespaceRequest, Namespace,
    namespace::{HandOff, Policy, Strategy},
};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, clean, count, namespaces, word},
    values,
    wait::{self, WaitArgs},
};

/// The verbs of namespaces.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List namespaces
    List(list::Args),
    /// Show one namespace, and how its shards are spread over peers
    Get(get::Args),
    /// Make a namespace: its shards are placed by an operation
    Create(create::Args),
    /// Place its shards anew: by another preference, in more or fewer copies, onto peers that came (asks)
    Reshape(reshape::Args),
    /// Change what its moves are held to
    Policy(policy::Args),
    /// Take a namespace away (asks)
    Delete(delete::Args),
}

/// Runs one verb.
pub async fn run(app: &mut App<'_>, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::List(args) => list::run(app, args).await,
        Verb::Get(args) => get::run(app, args).await,
        Verb::Create(args) => create::run(app, args).await,
        Verb::Reshape(args) => reshape::run(app, args).await,
        Verb::Policy(args) => policy::run(app, args).await,
        Verb::Delete(args) => delete::run(app, args).await,
    }
}

/// What moves are held to.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Moves")]
pub struct PolicyArgs {
    /// How a shard goes from one owner to the next: exclusive (the old one has stopped before the new one begins), or
    /// overlap (for data planes that check the fencing token on every write) [default: exclusive]
    #[arg(long, value_name = "HOW", value_parser = hand_off)]
    hand_off: Option<HandOff>,
    /// The most of its shards that move at the same time, 1 to 10000 [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    moves_max: Option<u32>,
    /// How long one step of a move may take, 1s to 24h [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = step)]
    step: Option<Duration>,
    /// The largest share of its shards that one change may move beyond what has to [default: 10%]
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    max_moved: Option<u32>,
}

impl PolicyArgs {
    /// The policy that they make of another; none where they say nothing.
    fn over(&self, policy: Policy) -> Option<Policy> {
        let Self {
            hand_off,
            moves_max,
            step,
            max_moved,
        } = self;
        if hand_off.is_none() && moves_max.is_none() && step.is_none() && max_moved.is_none() {
            return None;
        }
        Some(Policy {
            hand_off: hand_off.map_or(policy.hand_off, i32::from),
            moves_max: moves_max.or(policy.moves_max),
            step: step.map(values::proto_duration).or(policy.step),
            moved_permille_max: max_moved.or(policy.moved_permille_max),
        })
    }

    /// Whether nothing is left to what there is.
    fn is_whole(&self) -> bool {
        self.hand_off.is_some() && self.moves_max.is_some() && self.step.is_some() && self.max_moved.is_some()
    }
}

fn hand_off(text: &str) -> Result<HandOff, String> {
    match HandOff::from_str_name(&text.to_ascii_uppercase()) {
        Some(hand_off) if hand_off != HandOff::Unspecified => Ok(hand_off),
        _ => Err("write exclusive or overlap".to_owned()),
    }
}

/// A strategy by its word.
pub(super) fn strategy(text: &str) -> Result<Strategy, String> {
    match Strategy::from_str_name(&text.to_ascii_uppercase()) {
        Some(strategy) if strategy != Strategy::Unspecified => Ok(strategy),
        _ => Err("write ring, rendezvous or locality".to_owned()),
    }
}

fn step(text: &str) -> Result<Duration, String> {
    let step = values::duration(text)?;
    match step.as_secs() {
        1..86_400 => Ok(step),
        86_400 if step.subsec_nanos() == 0 => Ok(step),
        _ => Err("a step takes 1s to 24h".to_owned()),
    }
}

/// Follows the operation that a change began, where it is to be waited for, and shows the namespace as it is then.
async fn settled(app: &mut App<'_>, client: &Client, changed: &Namespace, wait: &WaitArgs) -> Result<(), Failure> {
    if !changed.operation.is_empty() {
        let phase = word(changed.phase().as_str_name());
        app.tell(&format!("{} is {phase}, operation {}", changed.id, changed.operation));
        let ended = wait::until_ended(app, client, &changed.operation, wait.timeout, |_, _| Ok(())).await?;
        wait::goal(&ended)?;
    }
    let request = GetNamespaceRequest { id: changed.id.clone() };
    let now = match client.get_namespace(request).await {
        Ok(answer) => answer.message,
        Err(error) if error.code() == "not_found" => {
            return match app.format() {
                Format::Table => Ok(app.line(&format!("namespace/{} deleted", clean(&changed.id)))?),
                // As it was last.
                _ => listing::one(app, changed),
            };
        }
        Err(error) => return Err(error.into()),
    };
    match app.format() {
        Format::Table => {
            let phase = namespaces::phase(now.phase()).paint(app.streams.colour);
            let line = format!(
                "namespace/{} {phase}, {} (version {}, revision {})",
                clean(&now.id),
                count(now.shards.into(), "shard"),
                now.version,
                now.changed_revision
            );
            Ok(app.line(&line)?)
        }
        _ => listing::one(app, &now),
    }
}

/// Says how to follow what a change began.
fn tell_operation(app: &mut App<'_>, answer: &Answer<Namespace>) {
    let operation = &answer.message.operation;
    if !operation.is_empty() && !answer.meta.dry_run {
        app.tell(&format!("follow it with `mesh operations watch {operation}`"));
    }
}
