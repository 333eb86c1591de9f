//! What a change of the map moves: a simulation of it, or the difference between two revisions.

use proto::v1::{DiffShardsResponse, ShardChange, SimulateShardsResponse, simulate_shards_response::Guardrail};

use super::{Look, Show as _, clean, count, distribution, namespaces::duration, percent, style, table};
use crate::weights::Weights;

/// How many changes a table shows; `wide` shows all that the mesh sent.
const CHANGES_MAX: usize = 20;

/// The answer to a simulation, for people.
pub fn simulation(answer: &SimulateShardsResponse, weights: &Weights, look: Look) -> String {
    let mut text = format!(
        "{} of {} would move ({}), of which {} have to",
        answer.moved,
        count(answer.shards.into(), "shard"),
        percent(answer.moved_permille),
        answer.unavoidable,
    );
    if answer.copied > 0 {
        text.push_str(&format!(
            "; data would be copied {}",
            count(answer.copied.into(), "time")
        ));
    }
    if answer.unowned > 0 {
        text.push_str(&format!(
            "; {} would have no owner",
            count(answer.unowned.into(), "shard")
        ));
    }
    text.push_str(&format!(
        " (simulated at revision {}, nothing was changed)\n",
        answer.revision
    ));
    if answer.rounds > 0 {
        text.push_str(&format!(
            "it would take about {}, in {}; {} at the most\n",
            duration(answer.estimated.as_ref()),
            count(answer.rounds.into(), "round"),
            duration(answer.at_most.as_ref()),
        ));
    }
    for guardrail in &answer.guardrails {
        text.push_str(&line(guardrail, look.colour));
    }
    if !answer.loads.is_empty() {
        text.push('\n');
        text.push_str(&distribution::change(&answer.loads, weights, look));
    }
    text + &changes(&answer.changes, answer.truncated, look)
}

fn line(guardrail: &Guardrail, colour: bool) -> String {
    let (word, paint) = match guardrail.passed {
        true => ("passed", style::GREEN),
        false => ("FAILED", style::RED),
    };
    format!(
        "  {} {}: {}, limit {}\n",
        style::paint(colour, paint, word),
        clean(&guardrail.rule),
        clean(&guardrail.measured),
        clean(&guardrail.limit)
    )
}

/// The difference between two revisions, for people.
pub fn difference(answer: &DiffShardsResponse, look: Look) -> String {
    let (from, to) = (answer.from_revision, answer.to_revision);
    if answer.changes.is_empty() {
        return format!("no shard differs between revision {from} and {to}\n");
    }
    let mut text = format!(
        "between revision {from} and {to}: {} of {} went to another owner ({}){}\n\n",
        answer.moved,
        count(answer.shards.into(), "shard"),
        percent(answer.moved_permille),
        others(answer),
    );
    // What peers weighed then is not known: all are measured alike.
    text.push_str(&distribution::change(&answer.loads, &Weights::default(), look));
    text + &changes(&answer.changes, answer.truncated, look)
}

/// What else became of shards: `; 12 are new, 1 is gone`. Of more changes than the mesh sends at once it counts those sent.
fn others(answer: &DiffShardsResponse) -> String {
    let (mut new, mut gone, mut token) = (0_u64, 0_u64, 0_u64);
    for change in &answer.changes {
        match (change.epoch_before > 0, change.epoch_after > 0) {
            (false, _) => new += 1,
            (true, false) => gone += 1,
            (true, true) if change.owner_before == change.owner_after => token += 1,
            (true, true) => {}
        }
    }
    let least = if answer.truncated { "at least " } else { "" };
    let is = |number| if number == 1 { "is" } else { "are" };
    let has = if token == 1 { "has" } else { "have" };
    let parts = [
        (new, format!("{new} {} new", is(new))),
        (gone, format!("{gone} {} gone", is(gone))),
        (token, format!("{token} {has} only another token")),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(_, part)| format!("{least}{part}"))
        .collect();
    match parts.is_empty() {
        true => String::new(),
        false => format!("; {}", parts.join(", ")),
    }
}

fn changes(changes: &[ShardChange], truncated: bool, look: Look) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let shown = match look.wide {
        true => changes,
        false => changes.get(..CHANGES_MAX).unwrap_or(changes),
    };
    let rows = shown.iter().map(|change| change.row(look));
    let mut text = format!("\n{}", table::rows(&ShardChange::header(look.wide), rows, look.colour));
    let more = changes.len() - shown.len();
    if more > 0 {
        text.push_str(&format!("and {more} more: -o wide shows them\n"));
    }
    if truncated && (look.wide || more == 0) {
        text.push_str("and more than the mesh sends at once: the figures count them all\n");
    }
    text
}
