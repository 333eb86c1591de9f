//! Namespaces.

use std::time::Duration;

use proto::v1::{Namespace, namespace};

use super::{
    Look, Show, percent, style,
    table::Text,
    time::{relative, rfc3339},
    word,
};
use crate::mutation::Subject;

/// The phase as tables show it.
pub fn phase(phase: namespace::Phase) -> Text {
    let text = Text::from(word(phase.as_str_name()));
    match phase {
        namespace::Phase::Active => text.styled(style::GREEN),
        namespace::Phase::Creating | namespace::Phase::Reshaping => text.styled(style::CYAN),
        namespace::Phase::Deleting => text.styled(style::YELLOW),
        namespace::Phase::Unspecified => text,
    }
}

/// A duration of the contract as people write it; `-` where there is none.
pub fn duration(duration: Option<&prost_types::Duration>) -> String {
    let Some(duration) = duration else {
        return "-".to_owned();
    };
    let seconds = Duration::from_secs(u64::try_from(duration.seconds).unwrap_or_default());
    let nanos = u64::try_from(duration.nanos).unwrap_or_default();
    api_client::duration::format(seconds.saturating_add(Duration::from_nanos(nanos)))
}

fn policy(namespace: &Namespace) -> [String; 4] {
    let Some(policy) = &namespace.policy else {
        return std::array::from_fn(|_| String::new());
    };
    let number = |number: Option<u32>| number.map_or_else(String::new, |number| number.to_string());
    [
        word(policy.hand_off().as_str_name()),
        number(policy.moves_max),
        duration(policy.step.as_ref()),
        policy.moved_permille_max.map_or_else(String::new, percent),
    ]
}

impl Subject for Namespace {
    fn standing(&self) -> String {
        word(self.phase().as_str_name())
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn changed_revision(&self) -> u64 {
        self.changed_revision
    }
}

impl Show for Namespace {
    fn name(&self) -> String {
        format!("namespace/{}", self.id)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec![
            "id", "phase", "shards", "replicas", "strategy", "region", "selector", "changed",
        ];
        if wide {
            header.extend([
                "hand-off",
                "moves max",
                "step",
                "max moved",
                "operation",
                "ticket",
                "version",
                "revision",
            ]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let changed = self.changed_at.as_ref();
        let mut row = vec![
            Text::new(&self.id),
            phase(self.phase()),
            self.shards.into(),
            self.replicas.into(),
            Text::from(word(self.strategy().as_str_name())),
            Text::new(&self.region),
            Text::new(&self.selector),
            if look.wide {
                rfc3339(changed).into()
            } else {
                relative(changed, look.now).into()
            },
        ];
        if look.wide {
            row.extend(policy(self).map(|text| Text::new(&text)));
            row.extend([
                Text::new(&self.operation),
                Text::new(&self.ticket),
                self.version.into(),
                self.changed_revision.into(),
            ]);
        }
        row
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        let time = |time: &Option<prost_types::Timestamp>| match look.wide {
            true => rfc3339(time.as_ref()),
            false => relative(time.as_ref(), look.now),
        };
        let [hand_off, moves_max, step, max_moved] = policy(self);
        vec![
            ("id", Text::new(&self.id)),
            ("phase", phase(self.phase())),
            ("operation", Text::new(&self.operation)),
            ("shards", self.shards.into()),
            ("replicas", self.replicas.into()),
            ("strategy", Text::from(word(self.strategy().as_str_name()))),
            ("region", Text::new(&self.region)),
            ("selector", Text::new(&self.selector)),
            ("hand-off", Text::new(&hand_off)),
            ("moves at once", Text::new(&moves_max)),
            ("time for a step", Text::new(&step)),
            ("max moved", Text::new(&max_moved)),
            ("ticket", Text::new(&self.ticket)),
            ("version", self.version.into()),
            ("etag", Text::new(&self.etag)),
            (
                "created",
                format!("{} (revision {})", time(&self.created_at), self.created_revision).into(),
            ),
            (
                "changed",
                format!("{} (revision {})", time(&self.changed_at), self.changed_revision).into(),
            ),
        ]
    }
}
