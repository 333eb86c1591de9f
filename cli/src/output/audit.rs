//! The audit trail.

use proto::v1::{AuditCheckpoint, AuditRecord, audit_record};

use super::{
    Look, Show, style,
    table::Text,
    time::{relative, rfc3339},
    word,
};

/// What came of it, in its colour.
pub fn outcome(record: &AuditRecord) -> Text {
    let word = word(record.outcome().as_str_name());
    match record.outcome() {
        audit_record::Outcome::Applied => Text::from(word).styled(style::GREEN),
        audit_record::Outcome::Rejected => Text::from(word).styled(style::RED),
        audit_record::Outcome::Replayed => Text::from(word).styled(style::YELLOW),
        audit_record::Outcome::Staged => Text::from(word).styled(style::CYAN),
        audit_record::Outcome::Unspecified => Text::from(word),
    }
}

impl Show for AuditRecord {
    fn name(&self) -> String {
        format!("audit/{}", self.revision)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec![
            "revision",
            "time",
            "actor",
            "action",
            "target",
            "outcome",
            "requester",
            "ticket",
            "reason",
        ];
        if wide {
            header.extend(["code", "detail", "approval", "request", "transport", "node", "hash"]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let at = self.proposed_at.as_ref();
        let mut row = vec![
            self.revision.into(),
            if look.wide {
                rfc3339(at).into()
            } else {
                relative(at, look.now).into()
            },
            Text::new(&self.actor),
            Text::new(&self.action),
            Text::new(&self.target),
            outcome(self),
            Text::new(&self.requester),
            Text::new(&self.ticket),
            Text::new(&self.reason),
        ];
        if look.wide {
            row.extend([
                Text::new(&self.code),
                Text::new(&self.detail),
                Text::new(&self.approval),
                Text::new(&self.request_id),
                Text::new(&self.transport),
                Text::new(&self.node),
                Text::new(&self.hash),
            ]);
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

impl Show for AuditCheckpoint {
    fn name(&self) -> String {
        format!("checkpoint/{}", self.revision)
    }

    fn header(_: bool) -> Vec<&'static str> {
        vec!["revision", "recorded", "node", "hash"]
    }

    fn row(&self, _: Look) -> Vec<Text> {
        vec![
            self.revision.into(),
            self.recorded_revision.into(),
            Text::new(&self.node),
            Text::new(&self.hash),
        ]
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        Self::header(true).into_iter().zip(self.row(look)).collect()
    }
}
