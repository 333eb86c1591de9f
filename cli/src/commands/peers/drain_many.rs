//! `mesh peers drain -l SELECTOR`: several peers by one operation of the mesh.

use api_client::Client;
use proto::v1::{DrainPeersRequest, Operation};

use super::drain::Terms;
use crate::{
    app::App,
    failure::Failure,
    listing,
    mutation::{self, MutationArgs},
    output::{Format, clean},
    preview, prompt,
    wait::{self, WaitArgs},
};

/// The most names on one line of the question.
const NAMES_PER_LINE: usize = 8;

pub async fn run(
    app: &mut App<'_>,
    client: &Client,
    selector: &str,
    terms: Terms,
    wait: &WaitArgs,
    args: &MutationArgs,
) -> Result<(), Failure> {
    let mut request = DrainPeersRequest {
        selector: selector.to_owned(),
        at_once: terms.at_once,
        deadline: terms.deadline,
        force: terms.force,
        confirm: terms.confirm,
        ..DrainPeersRequest::default()
    };
    args.apply(&mut request);
    if args.dry_run {
        return dry_run(app, client, request).await;
    }
    if !args.yes && !terms.force {
        ask(app, client, &mut request).await?;
    }
    let mut operation = client.drain_peers(request).await?.message;
    if wait.wait {
        let id = operation.id.clone();
        operation = wait::until_ended(app, client, &id, wait.timeout, |_, _| Ok(())).await?;
        mutation::show_operation(app, &operation, false)?;
        return wait::goal(&operation);
    }
    mutation::show_operation(app, &operation, false)?;
    app.tell(&format!(
        "follow it with `mesh operations watch {}`",
        clean(&operation.id)
    ));
    Ok(())
}

/// Asks about exactly the peers that would be drained now, and has the mesh refuse where they are others by then.
async fn ask(app: &mut App<'_>, client: &Client, request: &mut DrainPeersRequest) -> Result<(), Failure> {
    let (selector, at_once) = (clean(&request.selector).into_owned(), request.at_once);
    if !app.streams.can_ask {
        let question = format!("Drain all peers that {selector} selects, at most {at_once} at a time?");
        return prompt::confirm(app, false, &question).await;
    }
    let look = DrainPeersRequest {
        dry_run: true,
        idempotency_key: String::new(),
        ..request.clone()
    };
    let seen = client.drain_peers(look).await?.message;
    let peers: Vec<String> = seen.items.iter().map(|item| item.peer.clone()).collect();
    app.streams.note(&format!("{selector} selects {}:", count(peers.len())));
    for names in peers.chunks(NAMES_PER_LINE) {
        app.streams.note(&format!("  {}", clean(&names.join(" "))));
    }
    let question = format!(
        "Drain {}, at most {at_once} at a time? Everything that they hold is moved to other peers.",
        count(peers.len())
    );
    prompt::confirm(app, false, &question).await?;
    request.expected = peers;
    Ok(())
}

fn count(peers: usize) -> String {
    match peers {
        1 => "1 peer".to_owned(),
        more => format!("{more} peers"),
    }
}

async fn dry_run(app: &mut App<'_>, client: &Client, request: DrainPeersRequest) -> Result<(), Failure> {
    let answer = client.drain_peers(request).await?;
    if preview::document(app, &answer.message, &answer.meta)? {
        return Ok(());
    }
    if app.format() == Format::Name {
        return listing::one(app, &answer.message);
    }
    let Operation {
        selector,
        at_once,
        items,
        ..
    } = &answer.message;
    let at = answer
        .meta
        .revision
        .map_or_else(String::new, |revision| format!(" at revision {revision}"));
    app.line(&format!(
        "{} would be drained{at}, at most {at_once} at a time, by {} (dry run, nothing was changed):",
        count(items.len()),
        clean(selector)
    ))?;
    for item in items {
        app.line(&format!("  peer/{}", clean(&item.peer)))?;
    }
    mutation::after_preview(app, &answer.meta)
}
