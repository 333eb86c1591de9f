//! The nodes of the cluster, as members.

use proto::v1::ListMembersResponse;

use super::{Look, status, table};

/// All members, and who was removed.
pub fn screen(answer: &ListMembersResponse, look: Look) -> String {
    let rows = answer.items.iter().map(|node| status::row(node, look));
    let mut out = table::rows(&status::header(look), rows, look.colour);
    if !answer.removed.is_empty() {
        let removed: Vec<String> = answer.removed.iter().map(u64::to_string).collect();
        out.push_str(&format!("\nremoved for good: {}\n", removed.join(", ")));
    }
    if let Some(change) = &answer.change {
        let listed = |nodes: &[u64]| nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        out.push_str(&format!(
            "\na change of the voters is not through: from {} to {}. Majorities of both are needed until it is\n",
            listed(&change.from),
            listed(&change.to)
        ));
    }
    out
}
