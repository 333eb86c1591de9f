//! Alarms as a table.

use proto::v1::Alarm;

use super::{
    Look, clean, style,
    table::{self, Text},
    time,
};

/// The alarm of too many silent peers: the mesh runs, and what it is for does not.
pub const MASS_SILENCE: &str = "MASS_SILENCE";

/// `alarm/2/NOSPACE`
pub fn name(alarm: &Alarm) -> String {
    format!("alarm/{}/{}", alarm.node, clean(&alarm.name))
}

/// The node that an alarm is about; `-` for one about the mesh.
pub fn node(alarm: &Alarm) -> Text {
    match alarm.node {
        0 => Text::new("-"),
        node => node.into(),
    }
}

/// All of them, one on a line.
pub fn table(alarms: &[Alarm], look: Look) -> String {
    let rows = alarms.iter().map(|alarm| {
        let since = if look.wide {
            time::rfc3339(alarm.since.as_ref())
        } else {
            time::relative(alarm.since.as_ref(), look.now)
        };
        vec![
            Text::new(&alarm.name).styled(style::RED),
            node(alarm),
            since.into(),
            Text::new(&alarm.detail),
        ]
    });
    table::rows(&["alarm", "node", "since", "detail"], rows, look.colour)
}
