//! `mesh shards simulate`

use std::{collections::BTreeSet, time::Duration};

use proto::v1::{SimulateShardsRequest, namespace::Strategy, simulate_shards_request::Node};

use crate::{
    app::App,
    commands::namespaces,
    failure::Failure,
    listing,
    output::{Format, json, moves},
    peers::Peers,
    values,
};

/// What would be otherwise. With nothing said: what balance would move.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only shards of this namespace [default: all namespaces]
    #[arg(long, value_name = "ID", value_parser = values::id)]
    namespace: Option<String>,
    /// A peer that comes, or one that is there as it would be; may be given several times. What is left empty stays as it
    /// is, or is 100 and nowhere
    #[arg(long = "node", value_name = "PEER[:WEIGHT[:REGION[:ZONE]]]", value_parser = node)]
    nodes: Vec<Node>,
    /// A peer that goes; may be given several times
    #[arg(long, value_name = "PEER", value_parser = values::id)]
    without: Vec<String>,
    /// A zone all of whose peers go: the peers' own field, not a label; may be given several times
    #[arg(long, value_name = "ZONE")]
    without_zone: Vec<String>,
    /// Another strategy: ring, rendezvous or locality
    #[arg(long, value_name = "NAME", value_parser = namespaces::strategy)]
    strategy: Option<Strategy>,
    /// Another number of replicas, 0 to 6
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=6))]
    replicas: Option<u32>,
    /// Another region that owners are preferred in; '' for none
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// Other peers that may hold shards, by their labels; '' for all
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// The largest share that may move beyond what has to [default: each namespace's policy]
    #[arg(long, value_name = "SHARE", value_parser = values::share)]
    max_moved: Option<u32>,
    /// How long one move takes, for the estimate [default: 2s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    move_time: Option<Duration>,
}

/// Parses `p9:200:eu-west:a`.
fn node(text: &str) -> Result<Node, String> {
    let mut parts = text.split(':');
    let id = values::id(parts.next().unwrap_or_default()).map_err(|why| format!("the peer: {why}"))?;
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let weight = match next() {
        None => None,
        Some(weight) => match weight.parse() {
            Ok(weight @ 1..=10_000) => Some(weight),
            _ => return Err("a weight is 1 to 10000; to see a peer go, use --without".to_owned()),
        },
    };
    let (region, zone) = (next().map(str::to_owned), next().map(str::to_owned));
    if parts.next().is_some() {
        return Err("write PEER:WEIGHT:REGION:ZONE, such as p9:200:eu-west:a".to_owned());
    }
    Ok(Node {
        id,
        weight,
        region,
        zone,
    })
}

/// Refuses what speaks of one peer twice: which is meant would be a guess.
fn once(args: &Args) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    let named = args.nodes.iter().map(|node| (&node.id, "--node"));
    let named = named.chain(args.without.iter().map(|peer| (peer, "--without")));
    for (peer, flag) in named {
        if !seen.insert(peer) {
            return Err(Failure::usage(
                format!("{flag}: peer `{peer}` is named twice"),
                "name each peer once, with --node or with --without",
            ));
        }
    }
    Ok(())
}

pub async fn run(app: &mut App<'_>, args: Args) -> Result<(), Failure> {
    once(&args)?;
    let request = SimulateShardsRequest {
        namespace: args.namespace.unwrap_or_default(),
        nodes: args.nodes,
        without: args.without,
        without_zones: args.without_zone,
        strategy: args.strategy.unwrap_or_default().into(),
        replicas: args.replicas,
        region: args.region,
        selector: args.selector,
        moved_permille_max: args.max_moved,
        move_time: args.move_time.map(values::proto_duration),
    };
    let (client, nodes) = (app.client()?, request.nodes.clone());
    let answer = client.simulate_shards(request).await?.message;
    let look = app.look();
    match app.format() {
        Format::Json => app.text(&json::pretty(&answer)?)?,
        Format::Yaml => app.text(&json::yaml(&answer)?)?,
        Format::Jsonl | Format::Name => listing::write(app, &answer.changes)?,
        Format::Table | Format::Wide => {
            let weights = Peers::of(&client).await.weights.with(&nodes);
            app.text(&moves::simulation(&answer, &weights, look))?;
        }
    }
    let Some(failed) = answer.guardrails.iter().find(|guardrail| !guardrail.passed) else {
        return Ok(());
    };
    let detail = format!("it would be refused: {}, limit {}", failed.measured, failed.limit);
    let code = failed.rule.as_str();
    let hint = match code {
        "moves_too_many" => "change less at once, or allow more: --max-moved, `mesh namespaces policy`",
        "no_eligible_peer" => {
            "register or uncordon peers that the namespace selects: `mesh namespaces get`, `mesh peers list`"
        }
        "active_peers_low" => "take away fewer at once; `mesh config get policy.peers_active_min` shows the rule",
        _ => "",
    };
    Err(api_client::Error::local(code, tonic::Code::FailedPrecondition, detail, hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read_as_far_as_it_is_written() {
        let text = |text: &str| Some(text.to_owned());
        let read = |text| node(text).map(|node| (node.id, node.weight, node.region, node.zone));
        assert_eq!(read("p9"), Ok(("p9".into(), None, None, None)));
        assert_eq!(read("p9:5"), Ok(("p9".into(), Some(5), None, None)));
        assert_eq!(read("p9::eu"), Ok(("p9".into(), None, text("eu"), None)));
        assert_eq!(read("p9:1:eu:a"), Ok(("p9".into(), Some(1), text("eu"), text("a"))));
        assert_eq!(read("p9:::a"), Ok(("p9".into(), None, None, text("a"))));
        for bad in ["", ":5", "p9:0", "p9:10001", "p9:x", "p9:1:eu:a:b", "P9"] {
            assert!(node(bad).is_err(), "{bad}");
        }
    }
}
