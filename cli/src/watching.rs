//! Watching: what happens, as it happens, until the reader has seen enough.

use std::time::Duration;

use api_client::watch::{Event, Part, Watch, WatchMethod};
use clap::Args;
use prost::{Message, Name};
use proto::v1::{WatchAuditMessage, WatchMessage, watch_audit_message, watch_message};
use tokio::time::Instant;

use crate::{
    app::App,
    failure::Failure,
    output::{Format, json, watch},
};

/// Flags of everything that can be watched.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Watching")]
pub struct WatchArgs {
    /// Go on behind an earlier watch of the same filter: its last token
    #[arg(long = "resume", value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pub token: String,
    /// Stop watching after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::values::duration, allow_hyphen_values = true)]
    pub limit: Option<Duration>,
}

/// `--watch` of a list.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Watching")]
pub struct ListWatch {
    /// Go on with what happens to them, until interrupted; jsonl has one message of the watch on each line
    #[arg(short = 'w', long)]
    pub watch: bool,
    /// Go on behind an earlier watch of the same filter: its last token
    #[arg(
        long = "resume",
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true,
        requires = "watch"
    )]
    token: String,
    /// Stop watching after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::values::duration, allow_hyphen_values = true, requires = "watch")]
    watch_for: Option<Duration>,
}

impl ListWatch {
    /// The same as the flags of a watch.
    pub fn args(&self) -> WatchArgs {
        WatchArgs {
            token: self.token.clone(),
            limit: self.watch_for,
        }
    }
}

/// A message that can be shown as it comes.
pub trait Shown: Message + Name {
    /// The lines for people.
    fn lines(&self, lines: &mut watch::Lines, app: &App<'_>) -> Result<String, Failure>;
    /// The names of what it is about.
    fn names(&self) -> Vec<String>;
    /// Columns to begin with.
    fn columns() -> watch::Lines;
}

impl Shown for WatchMessage {
    fn lines(&self, lines: &mut watch::Lines, app: &App<'_>) -> Result<String, Failure> {
        lines.records(self, app.look())
    }

    fn names(&self) -> Vec<String> {
        match &self.message {
            Some(watch_message::Message::Snapshot(snapshot)) => snapshot
                .items
                .iter()
                .filter_map(|item| item.record.as_ref())
                .map(watch::name_of)
                .collect(),
            Some(watch_message::Message::Unit(unit)) => unit
                .changes
                .iter()
                .map(|change| format!("{}/{}", change.kind, change.id))
                .collect(),
            Some(watch_message::Message::Begun(_) | watch_message::Message::Progress(_)) | None => Vec::new(),
        }
    }

    fn columns() -> watch::Lines {
        watch::Lines::of_records()
    }
}

impl Shown for WatchAuditMessage {
    fn lines(&self, lines: &mut watch::Lines, app: &App<'_>) -> Result<String, Failure> {
        Ok(match &self.message {
            Some(watch_audit_message::Message::Record(record)) => lines.trail(record, app.look()),
            Some(watch_audit_message::Message::Begun(_) | watch_audit_message::Message::Progress(_)) | None => {
                String::new()
            }
        })
    }

    fn names(&self) -> Vec<String> {
        match &self.message {
            Some(watch_audit_message::Message::Record(record)) => vec![format!("audit/{}", record.revision)],
            Some(watch_audit_message::Message::Begun(_) | watch_audit_message::Message::Progress(_)) | None => {
                Vec::new()
            }
        }
    }

    fn columns() -> watch::Lines {
        watch::Lines::of_trail()
    }
}

/// Shows what a watch brings, until it is interrupted, its time is over, or it cannot be gone on with. Where a stream
/// breaks off it is taken up again, which a terminal is told of.
pub async fn follow<M: WatchMethod>(app: &mut App<'_>, request: M::Request, args: &WatchArgs) -> Result<(), Failure>
where
    M::Response: Shown,
{
    let mut request = request;
    if !args.token.is_empty() {
        M::resume(&mut request, args.token.clone());
    }
    let mut watch: Watch<M> = app.client()?.watch(request);
    let mut lines = M::Response::columns();
    let until = args.limit.map(|limit| Instant::now() + limit);
    app.on_interrupt("no longer watching", String::new());
    loop {
        let event = match until {
            None => watch.next().await?,
            Some(until) => match tokio::time::timeout_at(until, watch.next()).await {
                Ok(event) => event?,
                Err(_) => return Ok(app.streams.flush()?),
            },
        };
        match event {
            Event::Message { part, message } => {
                if part == Part::Begun {
                    app.tell_downgrades();
                }
                show(app, part, &message, &mut lines)?;
            }
            Event::Interrupted { why, anew } => {
                let how = if anew { "; it begins anew" } else { "" };
                app.tell(&format!("the watch broke off and is taken up again{how}: {why}"));
            }
        }
        if !watch.token().is_empty() {
            app.on_interrupt("no longer watching", format!("go on with --resume {}", watch.token()));
        }
    }
}

fn show<T: Shown>(app: &mut App<'_>, part: Part, message: &T, lines: &mut watch::Lines) -> Result<(), Failure> {
    app.streams.now = jiff::Timestamp::now();
    let text = match app.format() {
        Format::Json | Format::Jsonl => json::line(message)?,
        Format::Yaml => format!("---\n{}", json::yaml(message)?),
        Format::Name => message
            .names()
            .iter()
            .map(|name| format!("{}\n", crate::output::clean(name)))
            .collect(),
        Format::Table | Format::Wide => match part {
            Part::Begun | Part::Progress => return Ok(()),
            Part::Snapshot { .. } | Part::Revision => message.lines(lines, app)?,
        },
    };
    app.text(&text)?;
    Ok(app.streams.flush()?)
}
