//! What the leader has heard of peers.

use proto::v1::{Presence, presence};

use super::{
    Look, Show, peers, style,
    table::Text,
    time::{relative, rfc3339},
    word,
};

fn condition(condition: presence::Condition) -> Text {
    let text = Text::from(word(condition.as_str_name()));
    match condition {
        presence::Condition::Ready => text.styled(style::GREEN),
        presence::Condition::Busy => text.styled(style::YELLOW),
        presence::Condition::Leaving => text.styled(style::CYAN),
        presence::Condition::Unspecified => text,
    }
}

impl Show for Presence {
    fn name(&self) -> String {
        format!("presence/{}", self.peer)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["peer", "health", "condition", "heard", "load", "capacity", "view"];
        if wide {
            header.push("telemetry");
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let heard = self.heard_at.as_ref();
        let figure = |figure: u64| match heard {
            Some(_) => Text::from(figure),
            None => Text::new(""),
        };
        let mut row = vec![
            Text::new(&self.peer),
            peers::health(self.health()),
            condition(self.condition()),
            if look.wide {
                rfc3339(heard).into()
            } else {
                relative(heard, look.now).into()
            },
            figure(self.load),
            figure(self.capacity),
            figure(self.seen_revision),
        ];
        if look.wide {
            let figures = self.telemetry.iter().map(|(name, figure)| format!("{name}={figure}"));
            row.push(Text::new(&figures.collect::<Vec<_>>().join(",")));
        }
        row
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        Self::header(true)
            .into_iter()
            .zip(self.row(Look { wide: true, ..look }))
            .collect()
    }
}
