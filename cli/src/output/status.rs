//! The status screen: is it well, who leads, who lags, what is wrong.

use proto::v1::{Node, Status, node};

use super::{
    Look, alarms, clean, distribution, style,
    table::{self, Text},
    time::{relative, rfc3339},
    word,
};

/// Why the mesh is not well; absent where it is.
pub fn unhealthy(status: &Status) -> Option<String> {
    let mut reasons = Vec::new();
    if !status.quorum {
        let (voters, needed) = (voters(status), status.voters_needed);
        reasons.push(match status.voters_reachable {
            // Only a leader knows how many answer.
            0 => format!("no quorum ({needed} of {voters} voters are needed)"),
            answer => format!("no quorum ({answer} of {voters} voters answer, {needed} are needed)"),
        });
    }
    if status.leader.is_none() {
        reasons.push("no leader".to_owned());
    }
    (!reasons.is_empty()).then(|| format!("{}, as node {} sees it", reasons.join(" and "), status.answered_by))
}

/// What is not as it should be while the mesh runs.
fn degraded(status: &Status) -> Option<String> {
    let silent = status.alarms.iter().any(|alarm| alarm.name == alarms::MASS_SILENCE);
    let silent = silent.then(|| "too many peers are silent".to_owned());
    let reasons: Vec<String> = missing(status)
        .into_iter()
        .chain(silent)
        .chain(unserved(status))
        .collect();
    (!reasons.is_empty()).then(|| format!("degraded: {}", reasons.join(", ")))
}

/// The voters that do not answer, while enough of the others do: the next one that dies may be one too many.
fn missing(status: &Status) -> Option<String> {
    let gone = status
        .nodes
        .iter()
        .filter(|node| node.voter && node.role() == node::Role::Unreachable);
    let gone: Vec<String> = gone.map(|node| node.id.to_string()).collect();
    match gone.as_slice() {
        // It is not known yet which.
        [] => (1..voters(status))
            .contains(&(status.voters_reachable as usize))
            .then(|| format!("{} of {} voters answer", status.voters_reachable, voters(status))),
        [one] => Some(format!("node {one} does not answer")),
        several => Some(format!("nodes {} do not answer", several.join(", "))),
    }
}

/// The shards that nobody serves, or perhaps nobody. Those that are disabled are meant to be so.
fn unserved(status: &Status) -> Option<String> {
    let shards = status.shards?;
    let without = (shards.unowned > 0).then(|| format!("{} shards without an owner", shards.unowned));
    let silent = (shards.owned_by_silent > 0).then(|| format!("{} shards of silent peers", shards.owned_by_silent));
    let said: Vec<String> = without.into_iter().chain(silent).collect();
    (!said.is_empty()).then(|| said.join(", "))
}

fn voters(status: &Status) -> usize {
    status.nodes.iter().filter(|node| node.voter).count()
}

/// The whole screen. A warning comes with the node that has it. `over`: the protocol that the answer came over.
pub fn screen(status: &Status, warnings: &[(u64, String)], over: &str, look: Look) -> String {
    let besides = match (status.alarms.is_empty(), warnings.is_empty()) {
        (false, _) => ", with alarms",
        (true, false) => ", with warnings",
        (true, true) => "",
    };
    let (colour, health) = match (unhealthy(status), degraded(status)) {
        (Some(_), _) => (style::RED, "UNHEALTHY".to_owned()),
        (None, Some(degraded)) => (style::YELLOW, format!("{degraded}{besides}")),
        (None, None) if besides.is_empty() => (style::GREEN, "healthy".to_owned()),
        (None, None) => (style::YELLOW, format!("healthy{besides}")),
    };
    let health = style::paint(look.colour, colour, &health);
    let mut out = format!(
        "mesh {}, cluster {}: {health}\n\n",
        clean(&status.mesh),
        clean(&status.cluster)
    );
    out.push_str(&table::details(&summary(status, over, look), look.colour));
    out.push('\n');
    out.push_str(&table::rows(
        &header(look),
        status.nodes.iter().map(|node| row(node, look)),
        look.colour,
    ));
    if !status.alarms.is_empty() {
        out.push('\n');
        let alarms = status.alarms.iter().map(|alarm| {
            vec![
                Text::new(&alarm.name).styled(style::RED),
                alarms::node(alarm),
                since(alarm.since.as_ref(), look),
                Text::new(&alarm.detail),
            ]
        });
        out.push_str(&table::rows(&["alarm", "node", "since", "detail"], alarms, look.colour));
    }
    if !warnings.is_empty() {
        out.push('\n');
        let warnings = warnings.iter().map(|(node, line)| {
            let line = Text::new(line);
            vec![(*node).into(), line.styled(style::YELLOW)]
        });
        out.push_str(&table::rows(&["node", "warning"], warnings, look.colour));
    }
    out
}

fn since(time: Option<&prost_types::Timestamp>, look: Look) -> Text {
    let text = if look.wide {
        rfc3339(time)
    } else {
        relative(time, look.now)
    };
    text.into()
}

fn summary(status: &Status, over: &str, look: Look) -> Vec<(&'static str, Text)> {
    let leader = match &status.leader {
        Some(leader) => Text::from(format!("node {} at {}, term {}", leader.id, leader.api, status.term)),
        None => Text::from(format!("none, term {}", status.term)).styled(style::RED),
    };
    let voters = voters(status);
    let quorum = match (status.quorum, status.voters_reachable) {
        // A follower hears of its leader alone.
        (false, 0) => format!(
            "none that is heard of; {} of {voters} voters are needed",
            status.voters_needed
        ),
        (true, 0) => format!("a leader is heard of; how many of {voters} voters answer, it alone knows"),
        (_, answer) => format!("{answer} of {voters} voters answer, {} needed", status.voters_needed),
    };
    let quorum = Text::from(quorum).styled(if status.quorum { style::GREEN } else { style::RED });
    let alarms = match status.alarms.len() {
        0 => Text::new("none"),
        count => Text::from(count).styled(style::RED),
    };
    let mut lines = vec![
        ("quorum", quorum),
        ("leader", leader),
        (
            "revision",
            format!("{}, epoch {}", status.revision, status.epoch).into(),
        ),
        ("peers", peers(status)),
        ("operations", format!("{} running", status.operations_running).into()),
        ("alarms", alarms),
        ("answered by", format!("node {}", status.answered_by).into()),
    ];
    if let Some(shards) = shards(status) {
        lines.insert(4, ("shards", shards));
    }
    if look.wide {
        lines.push(("asked over", Text::new(over)));
    }
    if look.wide && status.certificate_expires_at.is_some() {
        lines.push((
            "its certificates end",
            since(status.certificate_expires_at.as_ref(), look),
        ));
    }
    if look.wide {
        lines.extend([
            ("timeline", Text::new(&status.timeline)),
            ("digest", Text::new(&status.digest)),
            ("feature level", status.feature_level.into()),
            ("node version", Text::new(&status.node_version)),
        ]);
    }
    lines
}

/// `18: 17 active, 1 draining; 18 suspect`
fn peers(status: &Status) -> Text {
    let by_status = status.peers.unwrap_or_default();
    let by_status = [
        (by_status.active, "active"),
        (by_status.cordoned, "cordoned"),
        (by_status.draining, "draining"),
        (by_status.drained, "drained"),
    ];
    let by_health = status.peers_by_health.unwrap_or_default();
    let late = by_health.suspect.saturating_add(by_health.dead);
    // Where no peer speaks at all, they need not.
    let never_heard = match by_health.alive.saturating_add(late) {
        0 => 0,
        _ => by_health.unknown,
    };
    let silent = [
        (by_health.suspect, "suspect"),
        (by_health.dead, "dead"),
        (never_heard, "never heard"),
    ];
    let mut text = counted(&by_status);
    let silent = listed(&silent);
    if !silent.is_empty() {
        text = format!("{text}; {silent}");
    }
    match late {
        0 => text.into(),
        _ => Text::from(text).styled(style::YELLOW),
    }
}

/// `96: 95 active, 1 disabled; 40 owned by silent peers: mesh presence list`; none where an older node does not say.
fn shards(status: &Status) -> Option<Text> {
    let shards = status.shards?;
    let by_status = [
        (shards.active, "active"),
        (shards.moving, "moving"),
        (shards.paused, "paused"),
        (shards.disabled, "disabled"),
    ];
    let unowned = match shards.unowned {
        0 => String::new(),
        unowned => format!("; {unowned} without an owner"),
    };
    let silent = distribution::owned_by_silent(Some(shards.owned_by_silent.into()));
    let silent = silent.map_or_else(String::new, |said| format!("; {said}"));
    let is_well = unowned.is_empty() && silent.is_empty();
    let text = Text::from(format!("{}{unowned}{silent}", counted(&by_status)));
    Some(if is_well { text } else { text.styled(style::YELLOW) })
}

/// How many there are in all, and of each kind that there is.
fn counted(kinds: &[(u32, &str)]) -> String {
    let total = kinds
        .iter()
        .fold(0_u32, |total, (count, _)| total.saturating_add(*count));
    match listed(kinds).as_str() {
        "" => total.to_string(),
        kinds => format!("{total}: {kinds}"),
    }
}

/// `3 active, 1 cordoned`: those that there are.
fn listed(kinds: &[(u32, &str)]) -> String {
    let there = kinds.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = there.map(|(count, kind)| format!("{count} {kind}")).collect();
    parts.join(", ")
}

/// The columns of a table of nodes.
pub fn header(look: Look) -> Vec<&'static str> {
    let mut header = vec!["node", "role", "voter", "lag", "last contact", "api"];
    if look.wide {
        header.extend(["raft", "version", "level"]);
    }
    header
}

/// One node, a cell for each column.
pub fn row(node: &Node, look: Look) -> Vec<Text> {
    let role = Text::from(word(node.role().as_str_name()));
    let role = match node.role() {
        node::Role::Leader => role.styled(style::GREEN),
        node::Role::Unreachable => role.styled(style::RED),
        node::Role::Candidate | node::Role::Learner => role.styled(style::YELLOW),
        node::Role::Follower | node::Role::Unspecified => role,
    };
    let contact = match node.last_contact_ms {
        Some(ms) if ms >= 10_000 => format!("{} ago", super::time::span(ms / 1_000)),
        Some(ms) => format!("{ms}ms ago"),
        None => "-".to_owned(),
    };
    let lag = node.lag_entries.map_or_else(|| "-".to_owned(), |lag| lag.to_string());
    let mut row = vec![
        node.id.into(),
        role,
        Text::new(if node.voter { "yes" } else { "no" }),
        lag.into(),
        contact.into(),
        Text::new(&node.api),
    ];
    if look.wide {
        row.extend([
            Text::new(&node.raft),
            Text::new(&node.version),
            match node.feature_level {
                0 => Text::new(""),
                level => level.into(),
            },
        ]);
    }
    row
}
