//! What a change of the cluster itself takes: less than that of a record, for it has no version and no dry run.

use clap::Args;

/// Flags of every change of members and leadership.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Change")]
pub struct ChangeArgs {
    /// Why, for the cluster's audit chain
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    pub reason: String,
    /// Change ticket, for the cluster's audit chain
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true, value_parser = crate::args::words)]
    pub ticket: String,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
