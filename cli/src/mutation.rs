//! What every mutation takes, and how its answer is shown.

use std::future::Future;

use api_client::{Answer, Client, Error, Meta, Mutation};
use clap::Args;
use proto::v1::{GetPeerRequest, Operation, Peer};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{
        Format, Show, clean,
        diff::{self, Difference},
        peers, word,
    },
    preview,
};

/// Flags of every mutation.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Change")]
pub struct MutationArgs {
    /// Show what would happen and every check, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    pub reason: String,
    /// Change ticket, for the audit trail
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
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

/// A record that commands change.
pub trait Subject: Show + Sized {
    /// What it is, in one word, where it is: "active".
    fn standing(&self) -> String;
    fn version(&self) -> u64;
    fn changed_revision(&self) -> u64;
    /// What differs between two states of it.
    fn differences(before: Option<&Self>, after: Option<&Self>) -> Result<Vec<Difference>, Failure> {
        diff::between(before, after)
    }
}

impl Subject for Peer {
    fn standing(&self) -> String {
        word(self.status().as_str_name())
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn changed_revision(&self) -> u64 {
        self.changed_revision
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
    let now = || client.get_peer(GetPeerRequest { id: id.to_owned() });
    record(app, args, done, now, call).await
}

/// Carries out a mutation of a record and shows the answer. `now` reads the record as it is, for the difference that a
/// dry run shows.
pub async fn record<T, N, F>(
    app: &mut App<'_>,
    args: &MutationArgs,
    done: &str,
    now: impl Fn() -> N,
    call: impl Fn() -> F,
) -> Result<Answer<T>, Failure>
where
    T: Subject,
    N: Future<Output = api_client::Result<Answer<T>>>,
    F: Future<Output = api_client::Result<Answer<T>>>,
{
    if !args.dry_run {
        let answer = call().await?;
        return show(app, &answer, done).map(|()| answer);
    }
    if app.format() != Format::Table && app.format() != Format::Wide {
        let answer = call().await?;
        if !preview::document(app, &answer.message, &answer.meta)? {
            listing::one(app, &answer.message)?;
        }
        return Ok(answer);
    }
    let (before, answer) = before_and_after(now, call).await?;
    let name = clean(&answer.message.name()).into_owned();
    let removed = done == "deregistered";
    let after = (!removed).then_some(&answer.message);
    let differences = T::differences(before.as_ref(), after)?;
    let colour = app.streams.colour;
    let revision = answer.meta.revision;
    let at = revision.map_or_else(String::new, |revision| format!(" at revision {revision}"));
    if differences.is_empty() {
        app.line(&format!("{name} would not change{at} (dry run)"))?;
    } else {
        app.line(&format!("{name} would be {done}{at} (dry run, nothing was changed):"))?;
        app.text(&diff::render(&differences, colour))?;
    }
    after_preview(app, &answer.meta)?;
    Ok(answer)
}

/// What comes after what a dry run would change: the checks, who has to agree, and how to commit it.
pub fn after_preview(app: &mut App<'_>, meta: &Meta) -> Result<(), Failure> {
    preview::checks(app, meta)?;
    if let Some(who) = &meta.approval_needed {
        app.line(&format!(
            "it would wait for approval: {}",
            clean(&who.replace('_', " "))
        ))?;
    }
    if let Some(revision) = meta.revision {
        app.tell(&format!(
            "to commit exactly this, repeat without --dry-run and with --if-revision {revision}"
        ));
    }
    Ok(())
}

/// The record before, and the dry run's answer at the same revision; where writes go on meanwhile, the nearest to it.
async fn before_and_after<T, N, F>(now: impl Fn() -> N, call: impl Fn() -> F) -> Result<(Option<T>, Answer<T>), Failure>
where
    N: Future<Output = api_client::Result<Answer<T>>>,
    F: Future<Output = api_client::Result<Answer<T>>>,
{
    let mut tries = 0;
    loop {
        let before = match now().await {
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

/// Shows what was done to a record.
pub fn show<T: Subject>(app: &mut App<'_>, answer: &Answer<T>, done: &str) -> Result<(), Failure> {
    let record = &answer.message;
    match app.format() {
        Format::Table => {
            let line = format!("{} {}", clean(&record.name()), said(record, &answer.meta, done));
            Ok(app.line(&line)?)
        }
        Format::Wide => {
            let line = format!("{} {}", clean(&record.name()), said(record, &answer.meta, done));
            app.line(&line)?;
            listing::one(app, record)
        }
        Format::Json | Format::Yaml | Format::Jsonl | Format::Name => listing::one(app, record),
    }
}

/// "cordoned (version 3, revision 41)"; says so where nothing changed or an earlier attempt did it.
fn said<T: Subject>(record: &T, meta: &Meta, done: &str) -> String {
    let (version, changed) = (record.version(), record.changed_revision());
    let removed = done == "deregistered";
    if meta.replayed {
        return format!("{done} (version {version}; an earlier attempt with this key had done it)");
    }
    match meta.revision {
        Some(revision) if revision > changed && !removed => {
            let standing = record.standing();
            let standing = if standing.is_empty() {
                standing
            } else {
                format!(": {standing}")
            };
            format!("unchanged{standing} (version {version}, since revision {changed})")
        }
        Some(revision) if removed => format!("{done} (revision {revision})"),
        _ if removed => done.to_owned(),
        _ => format!("{done} (version {version}, revision {changed})"),
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
