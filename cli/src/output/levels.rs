//! How much nodes log.

use proto::v1::LogLevel;

use super::{
    Look, Show, style,
    table::Text,
    time::{relative, rfc3339},
};

fn until(level: &LogLevel, look: Look) -> String {
    if look.wide {
        rfc3339(level.until.as_ref())
    } else {
        relative(level.until.as_ref(), look.now)
    }
}

fn filter(level: &LogLevel) -> Text {
    let text = Text::new(&level.filter);
    if level.until.is_some() {
        text.styled(style::YELLOW)
    } else {
        text
    }
}

impl Show for LogLevel {
    fn name(&self) -> String {
        format!("node/{}", self.node)
    }

    fn header(_: bool) -> Vec<&'static str> {
        vec!["node", "filter", "ends", "then"]
    }

    fn row(&self, look: Look) -> Vec<Text> {
        vec![
            self.node.into(),
            filter(self),
            until(self, look).into(),
            Text::new(&self.configured),
        ]
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        vec![
            ("node", self.node.into()),
            ("filter", filter(self)),
            ("ends", until(self, look).into()),
            ("then", Text::new(&self.configured)),
        ]
    }
}
