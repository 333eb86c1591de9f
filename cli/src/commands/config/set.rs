//! `mesh config set`

use std::collections::BTreeMap;

use prost_types::{Value, value::Kind};
use proto::v1::{GetConfigRequest, PatchConfigRequest};

use crate::{
    app::App,
    failure::Failure,
    labels,
    mutation::{self, MutationArgs},
};

/// What to set and what to return to its default. Settings that are not named stay.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A whole number, a duration such as 15m or 1h30m, or a word such as admin: whichever the setting takes
    #[arg(value_name = "NAME=VALUE", value_parser = pair, required_unless_present = "reset")]
    settings: Vec<(String, String)>,
    /// Return a setting to its default; may be given several times
    #[arg(long, value_name = "NAME")]
    reset: Vec<String>,
    #[command(flatten)]
    mutation: MutationArgs,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let mut request = PatchConfigRequest {
        settings: settings(args.settings, args.reset)?,
        ..PatchConfigRequest::default()
    };
    args.mutation.apply(&mut request);
    let now = || client.get_config(GetConfigRequest {});
    let call = || client.patch_config(request.clone());
    mutation::record(app, &args.mutation, "set", now, call).await?;
    Ok(())
}

fn pair(text: &str) -> Result<(String, String), String> {
    labels::pair(text).map_err(|_| "write NAME=VALUE without spaces, such as limits.peers=8000".to_owned())
}

/// Values go as they were written: which of them is a duration, the mesh knows.
fn settings(set: Vec<(String, String)>, reset: Vec<String>) -> Result<BTreeMap<String, Value>, Failure> {
    let set = set.into_iter().map(|(name, value)| (name, Kind::StringValue(value)));
    let reset = reset.into_iter().map(|name| (name, Kind::NullValue(0)));
    let mut settings = BTreeMap::new();
    for (name, kind) in set.chain(reset) {
        if settings.insert(name.clone(), Value { kind: Some(kind) }).is_some() {
            return Err(Failure::usage(
                format!("setting `{name}` is given twice"),
                "give each name once",
            ));
        }
    }
    Ok(settings)
}
