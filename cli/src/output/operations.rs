//! Operations.

use proto::v1::{Operation, operation};

use super::{
    Look, Show, style,
    table::Text,
    time::{relative, rfc3339},
    word,
};

/// The state as tables show it.
pub fn state(state: operation::State) -> Text {
    let text = Text::from(word(state.as_str_name()));
    match state {
        operation::State::Running => text.styled(style::CYAN),
        operation::State::Succeeded => text.styled(style::GREEN),
        operation::State::Cancelled => text.styled(style::YELLOW),
        operation::State::Failed => text.styled(style::RED),
        operation::State::Unspecified => text,
    }
}

/// `3/10`, or `-` where nothing had to move.
pub fn progress(operation: &Operation) -> String {
    if operation.total == 0 {
        "-".to_owned()
    } else {
        format!("{}/{}", operation.done, operation.total)
    }
}

/// The step that is under way, or was last.
pub fn step(operation: &Operation) -> String {
    use operation::step::Phase;
    let steps = &operation.steps;
    let current = steps.iter().find(|step| step.phase() == Phase::Active);
    let current = current.or_else(|| steps.iter().rev().find(|step| step.phase() == Phase::Done));
    current.map_or_else(String::new, |step| step.name.clone())
}

fn steps(operation: &Operation) -> String {
    let one = |step: &operation::Step| format!("{} ({})", step.name, word(step.phase().as_str_name()));
    operation.steps.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Each peer and how far it is: `edge-1 (drained), edge-2 (draining)`.
fn items(operation: &Operation) -> String {
    let one = |item: &operation::Item| format!("{} ({})", item.peer, word(item.state().as_str_name()));
    operation.items.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Show for Operation {
    fn name(&self) -> String {
        format!("operation/{}", self.id)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["id", "kind", "target", "state", "progress", "actor", "started"];
        if wide {
            header.extend(["finished", "step", "reason", "ticket", "version", "detail"]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let started = self.created_at.as_ref();
        let mut row = vec![
            Text::new(&self.id),
            word(self.kind().as_str_name()).into(),
            Text::new(&self.target),
            state(self.state()),
            progress(self).into(),
            Text::new(&self.actor),
            if look.wide {
                rfc3339(started).into()
            } else {
                relative(started, look.now).into()
            },
        ];
        if look.wide {
            row.extend([
                rfc3339(self.finished_at.as_ref()).into(),
                Text::new(&step(self)),
                Text::new(&self.reason),
                Text::new(&self.ticket),
                self.version.into(),
                Text::new(&self.detail),
            ]);
        }
        row
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        let time = |time: &Option<prost_types::Timestamp>| match look.wide {
            true => rfc3339(time.as_ref()),
            false => relative(time.as_ref(), look.now),
        };
        vec![
            ("id", Text::new(&self.id)),
            ("kind", word(self.kind().as_str_name()).into()),
            ("target", Text::new(&self.target)),
            ("state", state(self.state())),
            ("detail", Text::new(&self.detail)),
            ("progress", progress(self).into()),
            ("waiting since", time(&self.waiting_since).into()),
            // Of what has ended well it says nothing any more.
            (
                "deadline",
                match self.state() {
                    operation::State::Running | operation::State::Failed => time(&self.deadline),
                    _ => rfc3339(None),
                }
                .into(),
            ),
            ("forced", if self.forced { "yes" } else { "" }.to_owned().into()),
            ("steps", Text::new(&steps(self))),
            (
                "at once",
                if self.at_once == 0 {
                    String::new()
                } else {
                    self.at_once.to_string()
                }
                .into(),
            ),
            ("peers", Text::new(&items(self))),
            ("part of", Text::new(&self.parent)),
            ("actor", Text::new(&self.actor)),
            ("reason", Text::new(&self.reason)),
            ("ticket", Text::new(&self.ticket)),
            ("version", self.version.into()),
            ("etag", Text::new(&self.etag)),
            (
                "started",
                format!("{} (revision {})", time(&self.created_at), self.created_revision).into(),
            ),
            (
                "changed",
                format!("{} (revision {})", time(&self.changed_at), self.changed_revision).into(),
            ),
            ("finished", time(&self.finished_at).into()),
        ]
    }
}
