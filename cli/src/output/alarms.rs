//! Alarms as a table.

use proto::v1::Alarm;

use super::{
    Look, clean, style,
    table::{self, Text},
    time,
};

/// `alarm/2/NOSPACE`
pub fn name(alarm: &Alarm) -> String {
    format!("alarm/{}/{}", alarm.node, clean(&alarm.name))
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
            alarm.node.into(),
            since.into(),
            Text::new(&alarm.detail),
        ]
    });
    table::rows(&["alarm", "node", "since", "detail"], rows, look.colour)
}
