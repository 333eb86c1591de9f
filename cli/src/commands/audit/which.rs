//! Which records of the trail: the flags that listing and watching share.

use proto::v1::audit_record::Outcome;

/// Which records.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// Only what this subject did, or asked for
    #[arg(long, value_name = "SUBJECT", default_value = "", hide_default_value = true)]
    pub actor: String,
    /// Only what was done to this record: peer/p1
    #[arg(long, value_name = "KIND/ID", default_value = "", hide_default_value = true)]
    pub target: String,
    /// Only this action: peers.drain
    #[arg(long, value_name = "ACTION", default_value = "", hide_default_value = true)]
    pub action: String,
    /// Only this outcome: applied, rejected, replayed or staged
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    pub outcome: Option<Outcome>,
    /// Only what was done under this ticket
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub ticket: String,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    match Outcome::from_str_name(&text.to_ascii_uppercase()) {
        Some(outcome) if outcome != Outcome::Unspecified => Ok(outcome),
        _ => Err("write applied, rejected, replayed or staged".to_owned()),
    }
}
