//! How far back history goes.

use proto::v1::{Compaction, History};

use super::{Look, Show, table::Text};

impl Show for History {
    fn name(&self) -> String {
        format!("history/{}", self.oldest_revision)
    }

    fn header(_: bool) -> Vec<&'static str> {
        vec!["oldest", "newest", "last checkpoint", "checkpoints", "etag"]
    }

    fn row(&self, _: Look) -> Vec<Text> {
        vec![
            self.oldest_revision.into(),
            self.revision.into(),
            match self.last_checkpoint {
                0 => Text::new(""),
                revision => revision.into(),
            },
            self.checkpoints.into(),
            Text::new(&self.etag),
        ]
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        Self::header(true).into_iter().zip(self.row(look)).collect()
    }
}

impl Show for Compaction {
    fn name(&self) -> String {
        format!("history/{}", self.oldest_revision)
    }

    fn header(_: bool) -> Vec<&'static str> {
        vec!["oldest", "etag"]
    }

    fn row(&self, _: Look) -> Vec<Text> {
        vec![self.oldest_revision.into(), Text::new(&self.etag)]
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        Self::header(true).into_iter().zip(self.row(look)).collect()
    }
}
