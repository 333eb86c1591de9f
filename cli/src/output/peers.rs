//! Peers.

use proto::v1::{Peer, peer};

use super::{
    Look, Show, pairs, style,
    table::Text,
    time::{relative, rfc3339},
    word,
};

/// The status as tables show it.
pub fn status(status: peer::Status) -> Text {
    let text = Text::from(word(status.as_str_name()));
    match status {
        peer::Status::Active => text.styled(style::GREEN),
        peer::Status::Cordoned => text.styled(style::YELLOW),
        peer::Status::Draining => text.styled(style::CYAN),
        peer::Status::Drained => text.styled(style::DIM),
        peer::Status::Unspecified => text,
    }
}

/// The health as tables show it.
pub fn health(health: peer::Health) -> Text {
    let text = Text::from(word(health.as_str_name()));
    match health {
        peer::Health::Alive => text.styled(style::GREEN),
        peer::Health::Suspect => text.styled(style::YELLOW),
        peer::Health::Dead => text.styled(style::RED),
        peer::Health::Unknown | peer::Health::Unspecified => text,
    }
}

impl Show for Peer {
    fn name(&self) -> String {
        format!("peer/{}", self.id)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["id", "status", "health", "role", "region", "zone", "weight", "changed"];
        if wide {
            header.extend([
                "cluster",
                "endpoints",
                "labels",
                "version",
                "revision",
                "operation",
                "reason",
            ]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let changed = self.changed_at.as_ref();
        let mut row = vec![
            Text::new(&self.id),
            status(self.status()),
            health(self.health()),
            Text::new(&self.role),
            Text::new(&self.region),
            Text::new(&self.zone),
            self.weight.into(),
            if look.wide {
                rfc3339(changed).into()
            } else {
                relative(changed, look.now).into()
            },
        ];
        if look.wide {
            row.extend([
                Text::new(&self.cluster),
                Text::new(&self.endpoints.join(",")),
                Text::new(&pairs(&self.labels)),
                self.version.into(),
                self.changed_revision.into(),
                Text::new(&self.operation),
                Text::new(&self.status_reason),
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
            ("status", status(self.status())),
            ("reason", Text::new(&self.status_reason)),
            ("health", health(self.health())),
            ("cluster", Text::new(&self.cluster)),
            ("role", Text::new(&self.role)),
            ("region", Text::new(&self.region)),
            ("zone", Text::new(&self.zone)),
            ("endpoints", Text::new(&self.endpoints.join(", "))),
            ("weight", self.weight.into()),
            ("labels", Text::new(&pairs(&self.labels))),
            ("metadata", Text::new(&pairs(&self.metadata))),
            ("operation", Text::new(&self.operation)),
            ("version", self.version.into()),
            ("etag", Text::new(&self.etag)),
            (
                "registered",
                format!("{} (revision {})", time(&self.created_at), self.created_revision).into(),
            ),
            (
                "changed",
                format!("{} (revision {})", time(&self.changed_at), self.changed_revision).into(),
            ),
        ]
    }
}
