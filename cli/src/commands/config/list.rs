//! `mesh config list`

use api_client::watch::WatchConfig;
use proto::v1::{GetConfigRequest, WatchConfigRequest, setting::Source};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::Format,
    watching::{self, ListWatch},
};

/// Which settings.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those that were set
    #[arg(long, conflicts_with = "watch")]
    set: bool,
    #[command(flatten)]
    watch: ListWatch,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    if args.watch.watch {
        let request = WatchConfigRequest {
            snapshot: true,
            ..WatchConfigRequest::default()
        };
        return watching::follow::<WatchConfig>(app, request, &args.watch.args()).await;
    }
    let mut config = app.client()?.get_config(GetConfigRequest {}).await?.message;
    if args.set {
        config.items.retain(|setting| setting.source() == Source::Set);
    }
    match app.format() {
        Format::Json | Format::Yaml => listing::one(app, &config),
        Format::Table | Format::Wide | Format::Jsonl | Format::Name => {
            // The mesh lists them in the order in which they came to be; people look for a name.
            config.items.sort_by(|one, other| one.name.cmp(&other.name));
            listing::write(app, &config.items)
        }
    }
}
