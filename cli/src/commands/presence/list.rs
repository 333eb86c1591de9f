//! `mesh presence list`

use std::cell::RefCell;

use proto::v1::{ListPresenceRequest, peer::Health};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, clean},
};

/// Which peers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only peers of this health: unknown, alive, suspect or dead
    #[arg(long, value_name = "HEALTH", value_parser = health)]
    health: Option<Health>,
    #[command(flatten)]
    page: listing::Page,
}

fn health(text: &str) -> Result<Health, String> {
    match Health::from_str_name(&text.to_ascii_uppercase()) {
        Some(health) if health != Health::Unspecified => Ok(health),
        _ => Err("write unknown, alive, suspect or dead".to_owned()),
    }
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let health = args.health.unwrap_or_default().into();
    let held_back = RefCell::new(String::new());
    listing::list(app, &args.page, |limit, cursor| {
        let (client, held_back) = (&client, &held_back);
        async move {
            let answer = client
                .list_presence(ListPresenceRequest { limit, cursor, health })
                .await?;
            held_back.borrow_mut().clone_from(&answer.message.held_back);
            Ok(answer)
        }
    })
    .await?;
    let held_back = held_back.into_inner();
    match app.format() {
        Format::Table | Format::Wide if !held_back.is_empty() => Ok(app.line(&format!("\n{}", clean(&held_back)))?),
        _ => Ok(()),
    }
}
