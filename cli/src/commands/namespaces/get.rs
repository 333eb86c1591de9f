//! `mesh namespaces get`

use proto::v1::{DiffShardsRequest, GetNamespaceRequest, namespace::Phase};

use crate::{
    app::App,
    failure::Failure,
    listing,
    output::{Format, clean, count, distribution},
    peers::Peers,
    values,
};

/// Which namespace.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The namespace's id
    #[arg(value_parser = values::id)]
    id: String,
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    let client = app.client()?;
    let answer = client
        .get_namespace(GetNamespaceRequest { id: args.id.clone() })
        .await?;
    listing::one(app, &answer.message)?;
    let (Format::Table | Format::Wide, Some(revision)) = (app.format(), answer.meta.revision) else {
        return Ok(());
    };
    // The difference of a revision from itself: what each peer holds, and no shard.
    let request = DiffShardsRequest {
        namespace: args.id,
        from_revision: revision,
        to_revision: revision,
    };
    let loads = client.diff_shards(request).await?.message.loads;
    let peers = Peers::of(&client).await;
    let mut text = distribution::now(&loads, &peers.weights, app.look());
    let namespace = &answer.message;
    // While it is made or taken away, shards are not all there.
    if matches!(namespace.phase(), Phase::Active | Phase::Reshaping) {
        let owned: u32 = loads.iter().map(|load| load.owned_after).fold(0, u32::saturating_add);
        text.insert_str(0, &unowned(namespace.shards.saturating_sub(owned), &namespace.selector));
    }
    if loads.iter().any(|load| load.owned_after > 0) {
        let of_silent = peers.silent.map(|silent| {
            let loads = loads.iter().filter(|load| silent.contains(&load.peer));
            loads.map(|load| u64::from(load.owned_after)).sum::<u64>()
        });
        if let Some(said) = distribution::owned_by_silent(of_silent) {
            text.insert_str(0, &format!("{said}\n"));
        }
    }
    match text.is_empty() {
        true => Ok(()),
        false => Ok(app.text(&format!("\n{text}"))?),
    }
}

/// How many shards nobody owns, and where to look for who could.
fn unowned(shards: u32, selector: &str) -> String {
    let have = if shards == 1 { "has" } else { "have" };
    let see = match selector {
        "" => "`mesh peers list --status active`".to_owned(),
        selector => format!("`mesh peers list --status active -l '{}'`", clean(selector)),
    };
    match shards {
        0 => String::new(),
        shards => format!(
            "{} {have} no owner: {see} shows who could take them\n",
            count(shards.into(), "shard")
        ),
    }
}
