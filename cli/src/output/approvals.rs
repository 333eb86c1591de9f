//! Requests for approval.

use proto::v1::{Approval, approval};

use super::{
    Look, Show,
    diff::{self, Difference},
    style,
    table::Text,
    time::{relative, rfc3339},
    word,
};

/// The status as tables show it.
pub fn status(status: approval::Status) -> Text {
    use approval::Status;
    let text = Text::from(word(status.as_str_name()));
    match status {
        Status::PendingApproval => text.styled(style::CYAN),
        Status::Approved => text.styled(style::GREEN),
        Status::Rejected => text.styled(style::RED),
        Status::Expired | Status::Stale => text.styled(style::YELLOW),
        Status::Unspecified => text,
    }
}

/// What would become of a record, as dry runs show it.
pub fn differences(effect: &approval::Effect) -> Vec<Difference> {
    let some =
        |field: &str, text: &String| (!text.is_empty()).then(|| diff::shown(field, super::clean(text).into_owned()));
    let differences = effect.differences.iter().map(|difference| Difference {
        field: difference.field.clone(),
        before: some(&difference.field, &difference.before),
        after: some(&difference.field, &difference.after),
    });
    differences.collect()
}

/// `1/2 two admins`
fn approvers(approval: &Approval) -> String {
    let word = word(approval.approvers().as_str_name());
    format!("{}/{} {word}", approval.agreed, approval.needed)
}

fn decisions(approval: &Approval) -> String {
    let one = |decision: &approval::Decision| {
        let verdict = if decision.agrees { "approved" } else { "rejected" };
        let why = match decision.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        format!("{} {verdict} at revision {}{why}", decision.actor, decision.revision)
    };
    approval.decisions.iter().map(one).collect::<Vec<_>>().join("; ")
}

impl Show for Approval {
    fn name(&self) -> String {
        format!("approval/{}", self.id)
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec![
            "id",
            "action",
            "target",
            "status",
            "agreed",
            "requester",
            "asked",
            "expires",
        ];
        if wide {
            header.extend(["reason", "ticket", "decisions", "detail", "version"]);
        }
        header
    }

    fn row(&self, look: Look) -> Vec<Text> {
        let time = |time: &Option<prost_types::Timestamp>| match look.wide {
            true => rfc3339(time.as_ref()),
            false => relative(time.as_ref(), look.now),
        };
        let expires = match self.status() {
            approval::Status::PendingApproval => rfc3339(self.expires_at.as_ref()),
            _ => String::new(),
        };
        let mut row = vec![
            Text::new(&self.id),
            Text::new(&self.action),
            Text::new(&self.target),
            status(self.status()),
            approvers(self).into(),
            Text::new(&self.requester),
            time(&self.created_at).into(),
            Text::new(&expires),
        ];
        if look.wide {
            row.extend([
                Text::new(&self.reason),
                Text::new(&self.ticket),
                Text::new(&decisions(self)),
                Text::new(&self.detail),
                self.version.into(),
            ]);
        }
        row
    }

    fn details(&self, look: Look) -> Vec<(&'static str, Text)> {
        let dependencies: Vec<&str> = self.dependencies.iter().map(|one| one.record.as_str()).collect();
        let mut lines: Vec<_> = Self::header(false).into_iter().zip(self.row(look)).collect();
        lines.extend([
            ("reason", Text::new(&self.reason)),
            ("ticket", Text::new(&self.ticket)),
            ("decisions", Text::new(&decisions(self))),
            ("detail", Text::new(&self.detail)),
            ("depends on", Text::new(&dependencies.join(", "))),
            ("version", self.version.into()),
            ("etag", Text::new(&self.etag)),
            ("revision", self.changed_revision.into()),
            ("next", Text::new(&self.hint)),
        ]);
        if look.wide {
            lines.extend([
                ("request hash", Text::new(&self.request_hash)),
                ("effects hash", Text::new(&self.effects_hash)),
                ("policy version", self.policy_version.into()),
            ]);
        }
        lines
    }
}
