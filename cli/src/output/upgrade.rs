//! How far an upgrade is.

use proto::v1::Upgrade;

use super::{
    Look, clean, style,
    table::{self, Text},
};

/// `level/2`
pub fn name(level: u32) -> String {
    format!("level/{level}\n")
}

/// The level in force, what each node runs, and what is in the way of raising it.
pub fn screen(upgrade: &Upgrade, look: Look) -> String {
    let highest = upgrade.nodes.iter().map(|node| node.feature_level).max();
    let next = match highest {
        Some(highest) if highest > upgrade.feature_level && upgrade.blockers.is_empty() => {
            Text::from(format!("`mesh upgrade finalize` raises it to {highest}")).styled(style::GREEN)
        }
        Some(highest) if highest > upgrade.feature_level => {
            Text::from(format!("{highest}, when every node can follow it")).styled(style::YELLOW)
        }
        Some(_) | None => Text::new("nothing to finalize"),
    };
    let mut out = table::details(
        &[("feature level", upgrade.feature_level.into()), ("next", next)],
        look.colour,
    );
    out.push('\n');
    let rows = upgrade.nodes.iter().map(|node| {
        let level = match node.feature_level {
            0 => Text::new(""),
            level if Some(level) < highest => Text::from(level).styled(style::YELLOW),
            level => Text::from(level),
        };
        vec![node.node.into(), Text::new(&node.version), level]
    });
    out.push_str(&table::rows(&["node", "version", "up to level"], rows, look.colour));
    if !upgrade.blockers.is_empty() {
        out.push('\n');
        for blocker in &upgrade.blockers {
            out.push_str(&format!("{}\n", clean(blocker)));
        }
    }
    out
}
