//! Which shards a verb works on: one, or all of a namespace.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use api_client::{Answer, Client, Error};
use proto::v1::{GetNamespaceRequest, GetShardRequest, ListShardsRequest, ListShardsResponse, Shard, shard::Status};
use tokio::task::JoinSet;

use crate::{
    app::App,
    failure::Failure,
    listing,
    mutation::{self, MutationArgs},
    output::{Format, clean, count, json},
    progress, values,
};

/// How many requests are under way at once where all shards of a namespace are meant: the nodes commit them together.
const AT_ONCE: usize = 16;
/// How many refusals are said; the rest is counted.
const REFUSALS_SAID: usize = 10;

/// A shard on the command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    pub namespace: String,
    pub shard: u32,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.shard)
    }
}

impl Id {
    /// What to ask for to read it as it is.
    pub fn get(&self) -> GetShardRequest {
        GetShardRequest {
            namespace: self.namespace.clone(),
            shard: self.shard,
            at_revision: 0,
        }
    }
}

/// Parses `orders/12`.
pub fn id(text: &str) -> Result<Id, String> {
    let wrong = || "write NAMESPACE/NUMBER, such as orders/12".to_owned();
    let (namespace, number) = text.split_once('/').ok_or_else(wrong)?;
    let namespace = values::id(namespace).map_err(|why| format!("the namespace `{namespace}`: {why}"))?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let shard = number
        .parse()
        .map_err(|_| "shards are numbered from 0, to 65535 at the most".to_owned())?;
    Ok(Id { namespace, shard })
}

/// One shard, or all of a namespace.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The shard, such as orders/12; with --all a namespace
    #[arg(value_name = "NAMESPACE/NUMBER")]
    shard: String,
    /// Every shard of the namespace that this can be done to, a few at a time
    #[arg(long)]
    all: bool,
}

/// Which shards, of a verb that asks for nothing else.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub mutation: MutationArgs,
}

/// What was meant.
pub enum Meant {
    One(Id),
    All(String),
}

impl Which {
    /// One of the two.
    pub fn meant(self) -> Result<Meant, Failure> {
        let Self { shard, all } = self;
        match all {
            true => match values::id(&shard) {
                Ok(namespace) => Ok(Meant::All(namespace)),
                Err(_) => Err(Failure::usage(
                    format!("--all means every shard of a namespace, and `{shard}` is no namespace"),
                    "name a namespace, such as `orders --all`, or leave --all out",
                )),
            },
            false => id(&shard).map(Meant::One).map_err(|why| {
                Failure::usage(
                    format!("`{shard}` is no shard"),
                    format!("{why}; `{shard} --all` would be every shard of a namespace"),
                )
            }),
        }
    }
}

/// What a verb does to shards.
pub struct Act {
    /// "paused"
    pub done: &'static str,
    /// The status that shards have to have for it; any but that of `Act::there` where there is none.
    pub from: Option<Status>,
    /// The status that shards have after it.
    pub there: Status,
}

/// Does to one shard, or to each of a namespace, what `call` does to one.
pub async fn change<F>(
    app: &mut App<'_>,
    meant: Meant,
    args: &MutationArgs,
    act: Act,
    call: impl Fn(Client, Id) -> F + Send + Sync + 'static,
) -> Result<(), Failure>
where
    F: Future<Output = api_client::Result<Answer<Shard>>> + Send + 'static,
{
    let client = app.client()?;
    match meant {
        Meant::One(id) => {
            let now = || client.get_shard(id.get());
            let call = || call(client.clone(), id.clone());
            mutation::record(app, args, act.done, now, call).await?;
            Ok(())
        }
        Meant::All(namespace) => each(app, &client, &namespace, args, &act, call).await,
    }
}

async fn each<F>(
    app: &mut App<'_>,
    client: &Client,
    namespace: &str,
    args: &MutationArgs,
    act: &Act,
    call: impl Fn(Client, Id) -> F + Send + Sync + 'static,
) -> Result<(), Failure>
where
    F: Future<Output = api_client::Result<Answer<Shard>>> + Send + 'static,
{
    if !args.if_match.is_empty() || !args.idempotency_key.is_empty() || args.if_revision.is_some() {
        return Err(Failure::usage(
            "--if-match, --if-revision and --idempotency-key speak of one change, and --all means several",
            "leave them out, or name one shard",
        ));
    }
    let (meant, all) = selected(client, namespace, act).await?;
    let mut left = meant.iter();
    let (call, mut under_way) = (Arc::new(call), JoinSet::new());
    let mut answers: BTreeMap<Id, Answer<Shard>> = BTreeMap::new();
    let mut refused: Vec<(Id, Error)> = Vec::new();
    let bar = progress::line(app);
    loop {
        bar.set_message(format!(
            "{} of {}",
            answers.len() + refused.len(),
            count(meant.len() as u64, "shard")
        ));
        while under_way.len() < AT_ONCE
            && let Some(id) = left.next()
        {
            let (call, client, id) = (Arc::clone(&call), client.clone(), id.clone());
            under_way.spawn(async move { (id.clone(), call(client, id).await) });
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok((id, Ok(answer)))) => drop(answers.insert(id, answer)),
            Some(Ok((id, Err(error)))) => refused.push((id, error)),
            Some(Err(error)) => return Err(std::io::Error::other(error).into()),
        }
    }
    bar.finish_and_clear();
    show(
        app,
        namespace,
        &answers,
        all.saturating_sub(meant.len()),
        args.dry_run,
        act.done,
    )?;
    failed(app, refused, meant.len(), act.done)
}

/// The shards of a namespace that something can be done to, and how many it has.
async fn selected(client: &Client, namespace: &str, act: &Act) -> Result<(Vec<Id>, usize), Failure> {
    let get = GetNamespaceRequest {
        id: namespace.to_owned(),
    };
    let all = client.get_namespace(get).await?.message.shards;
    let list = |limit, cursor| {
        client.list_shards(ListShardsRequest {
            limit,
            cursor,
            namespace: namespace.to_owned(),
            status: act.from.unwrap_or_default().into(),
            ..ListShardsRequest::default()
        })
    };
    let mut found = Vec::new();
    listing::pages(list, |page: ListShardsResponse| {
        let items = page.items.into_iter().filter(|shard| shard.status() != act.there);
        found.extend(items.map(|shard| Id {
            namespace: shard.namespace,
            shard: shard.shard,
        }));
    })
    .await?;
    Ok((found, all as usize))
}

/// One line for people; the shards as they are now for programs.
fn show(
    app: &mut App<'_>,
    namespace: &str,
    answers: &BTreeMap<Id, Answer<Shard>>,
    others: usize,
    dry_run: bool,
    done: &str,
) -> Result<(), Failure> {
    let metas = || answers.values().map(|answer| &answer.meta);
    let list = ListShardsResponse {
        items: answers.values().map(|answer| answer.message.clone()).collect(),
        revision: metas().filter_map(|meta| meta.revision).max().unwrap_or_default(),
        epoch: metas().filter_map(|meta| meta.epoch).max().unwrap_or_default(),
        ..ListShardsResponse::default()
    };
    match app.format() {
        Format::Table => {
            let (would, note) = match dry_run {
                true => ("would be ", " (dry run, nothing was changed)"),
                false => ("", ""),
            };
            let others = match others {
                0 => String::new(),
                others => format!("; for {others} there was nothing to do"),
            };
            let line = format!(
                "namespace/{}: {} {would}{done}{others}{note}",
                clean(namespace),
                count(list.items.len() as u64, "shard"),
            );
            Ok(app.line(&line)?)
        }
        Format::Json => Ok(app.text(&json::pretty(&list)?)?),
        Format::Yaml => Ok(app.text(&json::yaml(&list)?)?),
        Format::Wide | Format::Jsonl | Format::Name => listing::write(app, &list.items),
    }
}

/// Says which shards were refused.
fn failed(app: &mut App<'_>, mut refused: Vec<(Id, Error)>, meant: usize, done: &str) -> Result<(), Failure> {
    refused.sort_by(|a, b| a.0.cmp(&b.0));
    // What waits for a second person is no failure.
    let (waiting, refused): (Vec<_>, Vec<_>) = refused.into_iter().partition(|(_, error)| error.approval().is_some());
    for (id, error) in waiting.iter().chain(&refused).take(REFUSALS_SAID) {
        app.streams.note(&format!(
            "shard/{id}: {} ({})",
            clean(error.detail()),
            clean(error.code())
        ));
    }
    let Some((first, error)) = refused.first() else {
        return Ok(());
    };
    let detail = format!(
        "{} of {} were not {done}; the first is {first}: {}",
        refused.len(),
        count(meant as u64, "shard"),
        error.detail()
    );
    Err(Error::local(error.code(), error.status(), detail, error.hint()).into())
}

/// [`change`] by a request that names a shard and nothing else: its type, and the SDK's call.
macro_rules! ask {
    ($app:expr, $meant:expr, $mutation:expr, $act:expr, $request:ident, $call:ident) => {{
        let mut request = $request::default();
        $mutation.apply(&mut request);
        let call = move |client: api_client::Client, id: which::Id| {
            let request = $request {
                namespace: id.namespace,
                shard: id.shard,
                ..request.clone()
            };
            async move { client.$call(request).await }
        };
        which::change($app, $meant, &$mutation, $act, call).await
    }};
}
pub(super) use ask;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_a_namespace_and_a_number() {
        let read = id("orders.v-2/12").unwrap();
        assert_eq!((read.namespace.as_str(), read.shard), ("orders.v-2", 12));
        assert_eq!(read.to_string(), "orders.v-2/12");
        for bad in [
            "",
            "orders",
            "orders/",
            "/1",
            "orders/+1",
            "orders/-1",
            "orders/1/2",
            "Orders/1",
            "orders/99999999999",
            "orders/1 ",
        ] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
