//! Following an operation to its end.

use std::time::Duration;

use api_client::Client;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use proto::v1::{GetOperationRequest, Operation, operation::State};
use tokio::time::Instant;

use crate::{
    app::App,
    failure::Failure,
    output::{clean, operations, word},
};

/// How long one long poll waits: short enough that a dead node is noticed, long enough to be idle between changes.
const POLL: Duration = Duration::from_secs(20);
/// Pause after a call that failed but may succeed later: an election takes this order of time.
const PAUSE: Duration = Duration::from_millis(500);

/// Flags of commands that start or end an operation.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Waiting")]
pub struct WaitArgs {
    /// Wait until the operation has ended
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 20s; the operation goes on after that
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = crate::values::duration, allow_hyphen_values = true, requires = "wait")]
    pub timeout: Duration,
}

/// Follows operation `id` until it has ended, for `limit` at most. Tells `changed` of every version.
///
/// Progress is shown where standard error is a terminal. An interrupt from now on says how to resume.
pub async fn until_ended(
    app: &mut App<'_>,
    client: &Client,
    id: &str,
    limit: Duration,
    mut changed: impl FnMut(&mut App<'_>, &Operation) -> Result<(), Failure>,
) -> Result<Operation, Failure> {
    let deadline = Instant::now() + limit;
    app.on_interrupt(
        "detached; the operation goes on",
        format!("resume with `mesh operations watch {id}`"),
    );
    let spinner = Spinner::new(app, id);
    let mut operation: Option<Operation> = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out(id, limit, operation.as_ref()));
        }
        let answer = match &operation {
            None => {
                client
                    .get_operation(GetOperationRequest {
                        id: id.to_owned(),
                        ..Default::default()
                    })
                    .await
            }
            Some(known) => client.wait_operation(id, known.version, POLL.min(left)).await,
        };
        match answer {
            Ok(answer) => {
                let now = answer.message;
                let news = operation.as_ref().is_none_or(|known| known.version != now.version);
                if news {
                    spinner.show(&now);
                    spinner.suspend(|| changed(app, &now))?;
                }
                let ended = now.state() != State::Running;
                operation = Some(now.clone());
                if ended {
                    return Ok(now);
                }
                if !news && left > PAUSE {
                    // A server that answers at once although nothing changed must not be asked in a loop.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Err(error) if error.retryable() && operation.is_some() => tokio::time::sleep(PAUSE.min(left)).await,
            Err(error) => return Err(error.into()),
        }
    }
}

fn timed_out(id: &str, limit: Duration, operation: Option<&Operation>) -> Failure {
    let waited = api_client::duration::format(limit);
    let detail = match operation {
        Some(operation) if !operation.detail.is_empty() => format!(": {}", operation.detail),
        _ => String::new(),
    };
    Failure::found(
        "deadline_exceeded",
        format!("operation {id} is still running after {waited}{detail}"),
        format!("it goes on; resume with `mesh operations watch {id}`"),
    )
}

/// An operation that did not reach its goal, as a failure with exit code 1.
pub fn goal(operation: &Operation) -> Result<(), Failure> {
    let (code, hint) = match operation.state() {
        State::Succeeded | State::Running | State::Unspecified => return Ok(()),
        State::Cancelled => ("operation_cancelled", "see who cancelled it: `mesh audit list`"),
        State::Failed => ("operation_failed", "see `mesh operations get`, then try again"),
    };
    let state = word(operation.state().as_str_name());
    let detail = if operation.detail.is_empty() {
        String::new()
    } else {
        format!(": {}", operation.detail)
    };
    Err(Failure::found(
        code,
        format!("operation {} on {} {state}{detail}", operation.id, operation.target),
        hint,
    ))
}

/// A line of progress on a terminal; nothing elsewhere. Cleared when dropped.
struct Spinner(ProgressBar);

impl Spinner {
    fn new(app: &App<'_>, id: &str) -> Self {
        if !app.streams.err_is_terminal {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} ({elapsed}) {wide_msg}") {
            bar.set_style(style);
        }
        bar.set_message(format!("operation {}", clean(id)));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// How far it is. What it waits for comes before its step: a terminal cuts off the end.
    fn show(&self, operation: &Operation) {
        let mut message = clean(&operation.target).into_owned();
        let progress = operations::progress(operation);
        if progress != "-" {
            message.push_str(&format!(" {progress}"));
        }
        for part in [operation.detail.clone(), operations::step(operation)] {
            if !part.is_empty() && part != "-" {
                message.push_str(&format!(" · {}", clean(&part)));
            }
        }
        self.0.set_message(message);
    }

    fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
