//! Cluster descriptors.

use proto::v1::{Cluster, cluster};

use super::{
    Look, Show, pairs, style,
    table::Text,
    time::{relative, rfc3339},
    word,
};
use crate::mutation::Subject;

fn state(state: cluster::State) -> Text {
    let text = Text::from(word(state.as_str_name()));
    match state {
        cluster::State::Active => text.styled(style::GREEN),
        cluster::State::Draining => text.styled(style::CYAN),
        cluster::State::Maintenance => text.styled(style::YELLOW),
        cluster::State::Passive | cluster::State::Unspecified => text,
    }
}

fn readiness(readiness: cluster::Readiness) -> Text {
    let text = Text::from(word(readiness.as_str_name()));
    match readiness {
        cluster::Readiness::Ready => text.styled(style::GREEN),
        cluster::Readiness::NotReady => text.styled(style::YELLOW),
        cluster::Readiness::Unknown | cluster::Readiness::Unspecified => text,
    }
}

impl Subject for Cluster {
    fn standing(&self) -> String {
        word(self.state().as_str_name())
    }
    fn version(&self) -> u64 {
        self.version
    }
    fn changed_revision(&self) -> u64 {
        self.changed_revision
    }
}

impl Show for Cluster {
    fn name(&self) -> String {
        format!("cluster/{}", self.id)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["id", "state", "readiness", "region", "priority", "owners", "changed"];
        if wide {
            header.extend(["fencing", "replication", "annotations", "ticket", "version", "revision"]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let changed = self.changed_at.as_ref();
        let mut row = vec![
            Text::new(&self.id),
            state(self.state()),
            readiness(self.readiness()),
            Text::new(&self.region),
            self.priority.into(),
            Text::new(&self.owners.join(",")),
            if look.wide {
                rfc3339(changed).into()
            } else {
                relative(changed, look.now).into()
            },
        ];
        if look.wide {
            row.extend([
                Text::from(word(self.fencing().as_str_name())),
                Text::new(&self.replication_endpoints.join(",")),
                Text::new(&pairs(&self.annotations)),
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
        vec![
            ("id", Text::new(&self.id)),
            ("state", state(self.state())),
            ("readiness", readiness(self.readiness())),
            ("region", Text::new(&self.region)),
            ("priority", self.priority.into()),
            ("fencing", Text::from(word(self.fencing().as_str_name()))),
            ("replication", Text::new(&self.replication_endpoints.join(", "))),
            ("owners", Text::new(&self.owners.join(", "))),
            ("annotations", Text::new(&pairs(&self.annotations))),
            ("ticket", Text::new(&self.ticket)),
            ("version", self.version.into()),
            ("etag", Text::new(&self.etag)),
            (
                "described",
                format!("{} (revision {})", time(&self.created_at), self.created_revision).into(),
            ),
            (
                "changed",
                format!("{} (revision {})", time(&self.changed_at), self.changed_revision).into(),
            ),
        ]
    }
}
