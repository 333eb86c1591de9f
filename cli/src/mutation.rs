//! What every mutation takes, and how its answer is shown.

use std::future::Future;

use api_client::{Answer, Client, Error, Meta, Mutation};
use clap::Args;
use proto::v1::{GetPeerRequest, Operation, Peer};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, Show, clean, diff, peers, word},
};

/// Flags of every mutation.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Change")]
pub struct MutationArgs {
    /// Show what would happen, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    pub reason: String,
    /// Change ticket, for the audit trail
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    pub ticket: String,
    /// Only if the record's ETag is still this
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub if_match: String,
    /// Only if the mesh is still at this revision, as a dry run named it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub if_revision: Option<u64>,
    /// Makes repeating this command safe [default: a fresh ULID]
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    pub idempotency_key: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

impl MutationArgs {
    /// Writes the flags into a request.
    pub fn apply<R: Mutation>(&self, request: &mut R) {
        request.set_dry_run(self.dry_run);
        request.set_reason(self.reason.clone());
        request.set_ticket(self.ticket.clone());
        request.set_if_match(self.if_match.clone());
        request.set_if_revision(self.if_revision.unwrap_or(0));
        request.set_idempotency_key(self.idempotency_key.clone());
    }
}

/// Carries out a mutation of a peer and shows the answer. `done` is what happened: "cordoned".
pub async fn peer<F>(
    app: &mut App<'_>,
    client: &Client,
    id: &str,
    args: &MutationArgs,
    done: &str,
    call: impl Fn() -> F,
) -> Result<Answer<Peer>, Failure>
where
    F: Future<Output = api_client::Result<Answer<Peer>>>,
{
    if !args.dry_run {
        let answer = call().await?;
        return show(app, &answer, done).map(|()| answer);
    }
    if app.format() != Format::Table && app.format() != Format::Wide {
        let answer = call().await?;
        return listing::one(app, &answer.message).map(|()| answer);
    }
    let (before, answer) = preview(client, id, call).await?;
    let removed = done == "deregistered";
    let after = (!removed).then_some(&answer.message);
    let differences = diff::between(before.as_ref(), after)?;
    let colour = app.streams.colour;
    let revision = answer.meta.revision;
    let at = revision.map_or_else(String::new, |revision| format!(" at revision {revision}"));
    if differences.is_empty() {
        app.line(&format!("peer/{} would not change{at} (dry run)", clean(id)))?;
    } else {
        app.line(&format!(
            "peer/{} would be {done}{at} (dry run, nothing was changed):",
            clean(id)
        ))?;
        app.text(&diff::render(&differences, colour))?;
    }
    if let Some(revision) = revision {
        app.tell(&format!(
            "to commit exactly this, repeat without --dry-run and with --if-revision {revision}"
        ));
    }
    Ok(answer)
}

/// The record before, and the dry run's answer at the same revision; where writes go on meanwhile, the nearest to it.
async fn preview<F>(client: &Client, id: &str, call: impl Fn() -> F) -> Result<(Option<Peer>, Answer<Peer>), Failure>
where
    F: Future<Output = api_client::Result<Answer<Peer>>>,
{
    let mut tries = 0;
    loop {
        let before = match client.get_peer(GetPeerRequest { id: id.to_owned() }).await {
            Ok(answer) => Some(answer),
            Err(error) if error.code() == "not_found" => None,
            Err(error) => return Err(error.into()),
        };
        let answer = call().await?;
        let seen = before.as_ref().and_then(|before| before.meta.revision);
        tries += 1;
        if before.is_none() || seen == answer.meta.revision || tries == 3 {
            return Ok((before.map(|before| before.message), answer));
        }
    }
}

fn show(app: &mut App<'_>, answer: &Answer<Peer>, done: &str) -> Result<(), Failure> {
    let peer = &answer.message;
    match app.format() {
        Format::Table => {
            let line = format!("{} {}", clean(&peer.name()), said(peer, &answer.meta, done));
            Ok(app.line(&line)?)
        }
        Format::Wide => {
            let line = format!("{} {}", clean(&peer.name()), said(peer, &answer.meta, done));
            app.line(&line)?;
            listing::one(app, peer)
        }
        Format::Json | Format::Yaml | Format::Jsonl | Format::Name => listing::one(app, peer),
    }
}

/// "cordoned (version 3, revision 41)"; says so where nothing changed or an earlier attempt did it.
fn said(peer: &Peer, meta: &Meta, done: &str) -> String {
    let status = word(peer.status().as_str_name());
    let removed = done == "deregistered";
    if meta.replayed {
        return format!(
            "{done} (version {}; an earlier attempt with this key had done it)",
            peer.version
        );
    }
    match meta.revision {
        Some(revision) if revision > peer.changed_revision && !removed => {
            format!(
                "unchanged: {status} (version {}, since revision {})",
                peer.version, peer.changed_revision
            )
        }
        Some(revision) if removed => format!("{done} (revision {revision})"),
        _ if removed => done.to_owned(),
        _ => format!("{done} (version {}, revision {})", peer.version, peer.changed_revision),
    }
}

/// Shows an operation that a mutation answered with.
pub fn show_operation(app: &mut App<'_>, operation: &Operation, dry_run: bool) -> Result<(), Failure> {
    if app.format() != Format::Table {
        return listing::one(app, operation);
    }
    let state = word(operation.state().as_str_name());
    let would = if dry_run { "would be " } else { "" };
    let detail = if operation.detail.is_empty() {
        String::new()
    } else {
        format!(": {}", clean(&operation.detail))
    };
    let line = format!(
        "{} ({}) {would}{state}{detail}",
        clean(&operation.name()),
        clean(&operation.target)
    );
    Ok(app.line(&line)?)
}

/// The peer as it is now, shown as the final word of a command that waited.
pub async fn show_now(app: &mut App<'_>, client: &Client, id: &str) -> Result<(), Failure> {
    let answer = match client.get_peer(GetPeerRequest { id: id.to_owned() }).await {
        Ok(answer) => answer,
        Err(error) if error.code() == "not_found" => {
            let detail = format!("peer {id} is gone: it was deregistered meanwhile");
            return Err(Error::local("not_found", tonic::Code::NotFound, detail, "see `mesh audit list`").into());
        }
        Err(error) => return Err(error.into()),
    };
    let peer = &answer.message;
    match app.format() {
        Format::Table => {
            let status = peers::status(peer.status()).paint(app.streams.colour);
            let line = format!(
                "{} {status} (version {}, revision {})",
                clean(&peer.name()),
                peer.version,
                peer.changed_revision
            );
            Ok(app.line(&line)?)
        }
        Format::Wide | Format::Json | Format::Yaml | Format::Jsonl | Format::Name => listing::one(app, peer),
    }
}
