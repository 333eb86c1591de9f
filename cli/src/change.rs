//! What a change of the cluster itself takes: less than that of a record, for it has no version.

use api_client::{Answer, CallOptions};
use clap::Args;

/// Flags of every change of members and leadership.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Change")]
pub struct ChangeArgs {
    /// Look at every check, change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the cluster's audit chain
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    pub reason: String,
    /// Change ticket, for the cluster's audit chain
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::values::words)]
    pub ticket: String,
    /// Makes repeating this command safe [default: none; what is there already stays as it is]
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true, value_parser = key)]
    pub idempotency_key: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

impl ChangeArgs {
    /// How the change is to be asked for.
    pub fn options(&self) -> CallOptions {
        CallOptions {
            dry_run: self.dry_run,
            idempotency_key: self.idempotency_key.clone(),
            ..CallOptions::default()
        }
    }

    /// What was done, or would be; says so where an earlier attempt did it.
    pub fn said<T>(&self, answer: &Answer<T>, done: &str, would: &str) -> String {
        match (self.dry_run, answer.meta.replayed) {
            (true, _) => format!("{would} (dry run, nothing was changed)"),
            (false, true) => format!("{done} (an earlier attempt with this key had done it)"),
            (false, false) => done.to_owned(),
        }
    }
}

/// A key goes into a header.
fn key(text: &str) -> Result<String, String> {
    match text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err("write up to 64 printable ASCII characters without blanks".to_owned()),
    }
}
