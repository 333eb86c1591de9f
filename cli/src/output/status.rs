//! The status screen: is it well, who leads, who lags, what is wrong.

use proto::v1::{Node, Status, node};

use super::{
    Look, clean, style,
    table::{self, Text},
    time::{relative, rfc3339},
    word,
};

/// Why the mesh is not well; absent where it is.
pub fn unhealthy(status: &Status) -> Option<String> {
    let mut reasons = Vec::new();
    if !status.quorum {
        reasons.push(format!(
            "no quorum ({} of {} voters answer, {} are needed)",
            status.voters_reachable,
            voters(status),
            status.voters_needed
        ));
    }
    if status.leader.is_none() {
        reasons.push("no leader".to_owned());
    }
    (!reasons.is_empty()).then(|| format!("{}, as node {} sees it", reasons.join(" and "), status.answered_by))
}

fn voters(status: &Status) -> usize {
    status.nodes.iter().filter(|node| node.voter).count()
}

/// The whole screen. A warning comes with the node that has it.
pub fn screen(status: &Status, warnings: &[(u64, String)], look: Look) -> String {
    let health = match unhealthy(status) {
        None if !status.alarms.is_empty() => style::paint(look.colour, style::YELLOW, "healthy, with alarms"),
        None if !warnings.is_empty() => style::paint(look.colour, style::YELLOW, "healthy, with warnings"),
        None => style::paint(look.colour, style::GREEN, "healthy"),
        Some(_) => style::paint(look.colour, style::RED, "UNHEALTHY"),
    };
    let mut out = format!(
        "mesh {}, cluster {}: {health}\n\n",
        clean(&status.mesh),
        clean(&status.cluster)
    );
    out.push_str(&table::details(&summary(status, look), look.colour));
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
                alarm.node.into(),
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

fn summary(status: &Status, look: Look) -> Vec<(&'static str, Text)> {
    let leader = match &status.leader {
        Some(leader) => Text::from(format!("node {} at {}, term {}", leader.id, leader.api, status.term)),
        None => Text::from(format!("none, term {}", status.term)).styled(style::RED),
    };
    let quorum = format!(
        "{} of {} voters answer, {} needed",
        status.voters_reachable,
        voters(status),
        status.voters_needed
    );
    let quorum = Text::from(quorum).styled(if status.quorum { style::GREEN } else { style::RED });
    let peers = status.peers.unwrap_or_default();
    let total = peers.active + peers.cordoned + peers.draining + peers.drained;
    let peers = format!(
        "{total}: {} active, {} cordoned, {} draining, {} drained",
        peers.active, peers.cordoned, peers.draining, peers.drained
    );
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
        ("peers", peers.into()),
        ("operations", format!("{} running", status.operations_running).into()),
        ("alarms", alarms),
        ("answered by", format!("node {}", status.answered_by).into()),
    ];
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
