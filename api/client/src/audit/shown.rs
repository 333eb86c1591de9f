//! Whether what a node shows of a revision is what was hashed: its readable form is made anew from the canonical bytes,
//! here, and compared field by field.

use proto::v1;
use statemachine::Unit;

/// The first field in which `shown` differs from what `unit` says; none where all agree.
pub(super) fn difference(unit: &Unit, shown: &v1::AuditRecord) -> Option<String> {
    let said = api_records::of_unit(unit);
    // Without `..`: a field that the contract gets has to be compared too.
    let v1::AuditRecord {
        revision,
        timeline,
        actor,
        action,
        target,
        outcome,
        code,
        detail,
        reason,
        ticket,
        request_id,
        transport,
        node,
        received_at,
        proposed_at,
        mesh_time_ms,
        changes,
        hash: _,
        previous_hash: _,
        canonical: _,
        approval,
        requester,
    } = shown;
    let fields = [
        ("revision", *revision == said.revision),
        ("timeline", *timeline == said.timeline),
        ("actor", *actor == said.actor),
        ("action", *action == said.action),
        ("target", *target == said.target),
        ("outcome", *outcome == said.outcome),
        ("code", *code == said.code),
        ("detail", *detail == said.detail),
        ("reason", *reason == said.reason),
        ("ticket", *ticket == said.ticket),
        ("requestId", *request_id == said.request_id),
        ("transport", *transport == said.transport),
        ("node", *node == said.node),
        ("receivedAt", *received_at == said.received_at),
        ("proposedAt", *proposed_at == said.proposed_at),
        ("meshTimeMs", *mesh_time_ms == said.mesh_time_ms),
        ("approval", *approval == said.approval),
        ("requester", *requester == said.requester),
    ];
    let differs = fields.iter().find(|(_, same)| !same);
    differs
        .map(|(field, _)| (*field).to_owned())
        .or_else(|| difference_of_changes(&said.changes, changes))
}

fn difference_of_changes(said: &[v1::audit_record::Change], shown: &[v1::audit_record::Change]) -> Option<String> {
    if said.len() != shown.len() {
        return Some("changes".to_owned());
    }
    let mut pairs = said.iter().zip(shown).enumerate();
    pairs.find_map(|(at, (said, shown))| {
        let v1::audit_record::Change {
            kind,
            id,
            before,
            after,
        } = shown;
        let fields = [
            ("kind", *kind == said.kind),
            ("id", *id == said.id),
            ("before", *before == said.before),
            ("after", *after == said.after),
        ];
        let differs = fields.iter().find(|(_, same)| !same);
        differs.map(|(field, _)| format!("changes[{at}].{field}"))
    })
}
