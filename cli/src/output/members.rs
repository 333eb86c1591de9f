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
    out
}
