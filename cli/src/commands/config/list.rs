//! `mesh config list`

use proto::v1::{GetConfigRequest, setting::Source};

use crate::{app::App, failure::Failure, listing, output::Format};

/// Which settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those that were set
    #[arg(long)]
    set: bool,
}

pub async fn run(app: &mut App<'_>, args: &Args) -> Result<(), Failure> {
    let mut config = app.client()?.get_config(GetConfigRequest {}).await?.message;
    if args.set {
        config.items.retain(|setting| setting.source() == Source::Set);
    }
    match app.format() {
        Format::Json | Format::Yaml => listing::one(app, &config),
        Format::Table | Format::Wide | Format::Jsonl | Format::Name => listing::write(app, &config.items, true),
    }
}
