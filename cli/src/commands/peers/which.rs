//! Which peers a verb works on: one by its id, or all that a selector selects.

use std::future::Future;

use api_client::{Answer, Client, Error};
use proto::v1::{ListPeersRequest, ListPeersResponse, Peer};
use tonic::Code;

use crate::{
    app::App,
    failure::Failure,
    listing,
    mutation::{self, MutationArgs},
    output::{Format, clean, json},
};

/// The most peers that one command works on: a page of the list.
const PEERS_MAX: u32 = 1_000;

/// One peer, or several.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The peer's id
    id: Option<String>,
    /// All peers whose labels match: zone=a,tier!=test,gpu,!legacy,region in (eu,us). Labels only: `zone=a` is not the zone
    /// that a peer was registered with
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

/// What was meant.
pub enum Meant {
    One(String),
    Several(String),
}

impl Which {
    /// One of the two; the parser has seen to it that there is one.
    pub fn meant(self) -> Meant {
        match (self.id, self.selector) {
            (Some(id), _) => Meant::One(id),
            (None, selector) => Meant::Several(selector.unwrap_or_default()),
        }
    }
}

/// Does to every selected peer, one after the other, what `call` does to one; goes on where one is refused. The peers are
/// those of one revision.
pub async fn each<F>(
    app: &mut App<'_>,
    client: &Client,
    selector: &str,
    args: &MutationArgs,
    done: &str,
    call: impl Fn(String) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = api_client::Result<Answer<Peer>>>,
{
    if !args.if_match.is_empty() || !args.idempotency_key.is_empty() || args.if_revision.is_some() {
        return Err(Failure::usage(
            "--if-match, --if-revision and --idempotency-key speak of one change, and a selector means several",
            "leave them out, or name one peer",
        ));
    }
    let peers = selected(client, selector).await?;
    let mut answers: Vec<Answer<Peer>> = Vec::new();
    let mut refused: Option<(String, Error)> = None;
    let mut failures = 0_usize;
    for peer in &peers {
        match call(peer.id.clone()).await {
            Ok(answer) if app.format() == Format::Table => {
                if args.dry_run {
                    app.line(&format!("peer/{} would be {done} (dry run)", clean(&peer.id)))?;
                } else {
                    mutation::show(app, &answer, done)?;
                }
            }
            Ok(answer) => answers.push(answer),
            // Waits for a second person, which is no failure.
            Err(error) if error.approval().is_some() => {
                app.streams
                    .note(&format!("peer/{}: {}", clean(&peer.id), clean(error.detail())));
            }
            Err(error) => {
                failures += 1;
                app.streams.note(&format!(
                    "peer/{}: {} ({})",
                    clean(&peer.id),
                    clean(error.detail()),
                    clean(error.code())
                ));
                refused.get_or_insert((peer.id.clone(), error));
            }
        }
    }
    show(app, answers)?;
    match refused {
        None => Ok(()),
        Some((id, error)) => {
            let detail = format!(
                "{failures} of {} peers were not {done}; the first is {id}: {}",
                peers.len(),
                error.detail()
            );
            Err(Error::local(error.code(), error.status(), detail, error.hint()).into())
        }
    }
}

/// The peers that a selector selects, at one revision.
async fn selected(client: &Client, selector: &str) -> Result<Vec<Peer>, Failure> {
    if selector.trim().is_empty() {
        return Err(Failure::usage(
            "an empty selector would select every peer of the mesh",
            "name them by their labels, such as -l zone=a",
        ));
    }
    let request = ListPeersRequest {
        limit: PEERS_MAX,
        selector: selector.to_owned(),
        ..ListPeersRequest::default()
    };
    let page = client.list_peers(request).await?.message;
    if !page.next_cursor.is_empty() {
        let detail = format!("`{selector}` selects more than {PEERS_MAX} peers");
        return Err(Error::local("selection_too_large", Code::FailedPrecondition, detail, "select fewer").into());
    }
    if page.items.is_empty() {
        let detail = format!("`{selector}` selects no peer");
        let hint = "`mesh peers list -l SELECTOR` shows what a selector selects; selectors see labels only";
        return Err(Error::local("nothing_selected", Code::FailedPrecondition, detail, hint).into());
    }
    Ok(page.items)
}

/// The peers as they are now, as a list.
fn show(app: &mut App<'_>, answers: Vec<Answer<Peer>>) -> Result<(), Failure> {
    let revision = answers.iter().filter_map(|answer| answer.meta.revision).max();
    let epoch = answers.iter().filter_map(|answer| answer.meta.epoch).max();
    let list = ListPeersResponse {
        items: answers.into_iter().map(|answer| answer.message).collect(),
        revision: revision.unwrap_or_default(),
        epoch: epoch.unwrap_or_default(),
        ..ListPeersResponse::default()
    };
    match app.format() {
        Format::Table => Ok(()),
        Format::Json => Ok(app.text(&json::pretty(&list)?)?),
        Format::Yaml => Ok(app.text(&json::yaml(&list)?)?),
        Format::Wide | Format::Jsonl | Format::Name => listing::write(app, &list.items),
    }
}
