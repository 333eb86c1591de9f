//! Settings and their versions.

use std::time::Duration;

use proto::v1::{Config, ConfigVersion, Setting, setting::Source};

use super::{
    Look, Show,
    diff::Difference,
    style,
    table::Text,
    time::{relative, rfc3339},
    word,
};
use crate::{failure::Failure, mutation::Subject};

/// A value as people write it: a duration where it is one.
fn value(value: u64, unit: &str) -> String {
    match (unit, value) {
        ("ms", 1..) => api_client::duration::format(Duration::from_millis(value)),
        _ => value.to_string(),
    }
}

/// A setting's value as people write it: the word of a choice, a duration where it is one.
pub fn shown(setting: &Setting) -> String {
    match setting.choice.as_str() {
        "" => value(setting.value, &setting.unit),
        word => word.to_owned(),
    }
}

fn source(setting: &Setting) -> Text {
    let text = Text::from(word(setting.source().as_str_name()));
    match setting.source() {
        Source::Set => text.styled(style::CYAN),
        Source::Default | Source::Unspecified => text,
    }
}

impl Show for Setting {
    fn name(&self) -> String {
        format!("setting/{}", self.name)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["name", "value", "source", "default", "min", "max"];
        if wide {
            header.push("doc");
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let number = |number| Text::from(value(number, &self.unit));
        let (default, min, max) = match (self.choices.first(), self.choices.last()) {
            (Some(first), Some(last)) => (Text::new(&self.default_choice), Text::new(first), Text::new(last)),
            _ => (number(self.default), number(self.min), number(self.max)),
        };
        let mut row = vec![
            Text::new(&self.name),
            Text::from(shown(self)),
            source(self),
            default,
            min,
            max,
        ];
        if look.wide {
            row.push(Text::new(&self.doc));
        }
        row
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        let mut lines: Vec<_> = Self::header(false).into_iter().zip(self.row(look)).collect();
        lines.push(("unit", Text::new(&self.unit)));
        lines.push(("choices", Text::new(&self.choices.join(", "))));
        lines.push(("doc", Text::new(&self.doc)));
        lines
    }
}

impl Subject for Config {
    fn standing(&self) -> String {
        String::new()
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn changed_revision(&self) -> u64 {
        self.changed_revision
    }

    /// Setting by setting.
    fn differences(before: Option<&Self>, after: Option<&Self>) -> Result<Vec<Difference>, Failure> {
        let (before, after) = (
            before.map_or(&[][..], |b| &b.items),
            after.map_or(&[][..], |a| &a.items),
        );
        let differences = after.iter().filter_map(|after| {
            let before = before.iter().find(|before| before.name == after.name);
            let differs = before.is_none_or(|before| before.value != after.value);
            differs.then(|| Difference {
                field: after.name.clone(),
                before: before.map(shown),
                after: Some(shown(after)),
            })
        });
        Ok(differences.collect())
    }
}

impl Show for Config {
    fn name(&self) -> String {
        "config/mesh".to_owned()
    }

    fn header(_: bool) -> Vec<&'static str> {
        vec!["version", "revision", "changed", "set"]
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let set = self.items.iter().filter(|setting| setting.source() == Source::Set);
        let set: Vec<String> = set
            .map(|setting| format!("{}={}", setting.name, shown(setting)))
            .collect();
        vec![
            self.version.into(),
            self.changed_revision.into(),
            if look.wide {
                rfc3339(self.changed_at.as_ref()).into()
            } else {
                relative(self.changed_at.as_ref(), look.now).into()
            },
            Text::new(&set.join(", ")),
        ]
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        let mut lines: Vec<_> = Self::header(true).into_iter().zip(self.row(look)).collect();
        lines.push(("etag", Text::new(&self.etag)));
        if self.rollback_of != 0 {
            lines.push(("rollback of", format!("revision {}", self.rollback_of).into()));
        }
        lines
    }
}

impl Show for ConfigVersion {
    fn name(&self) -> String {
        format!("config/mesh@{}", self.revision)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["revision", "version", "time", "actor", "changes", "ticket", "reason"];
        if wide {
            header.push("rollback of");
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let changes = self.changes.iter();
        let changes: Vec<String> = changes
            .map(|change| {
                let (before, after) = match change.after_choice.as_str() {
                    "" => (value(change.before, &change.unit), value(change.after, &change.unit)),
                    word => (change.before_choice.clone(), word.to_owned()),
                };
                format!("{} {before} -> {after}", change.name)
            })
            .collect();
        let at = self.changed_at.as_ref();
        let mut row = vec![
            self.revision.into(),
            self.version.into(),
            if look.wide {
                rfc3339(at).into()
            } else {
                relative(at, look.now).into()
            },
            Text::new(&self.actor),
            Text::new(&changes.join(", ")),
            Text::new(&self.ticket),
            Text::new(&self.reason),
        ];
        if look.wide {
            row.push(match self.rollback_of {
                0 => Text::new(""),
                revision => revision.into(),
            });
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
