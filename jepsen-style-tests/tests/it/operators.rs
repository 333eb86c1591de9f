//! Many operators under approvals, with mass drains, watches and the trail; and the judge judged by bugs that are planted
//! in what was recorded.

use std::time::Duration;

use meshkit_jepsen_style_tests::operators::{
    Evidence, Plan, Verdict,
    book::Book,
    check,
    journal::{self, End},
    run,
};
use proto::v1::{
    AuditRecord, Operation, approval,
    audit_record::{Outcome, record::Record},
    operation,
};

#[test]
fn nothing_is_lost_or_doubled_among_many_operators() {
    let _alone = super::registers::alone();
    let plan = Plan {
        operators: 20,
        peers: 150,
        clusters: 24,
        length: Duration::from_secs(8),
        rounds: 0,
        at_each: true,
        kill: true,
        seed: rand::random(),
        environment: Vec::new(),
    };
    let verdict = run(&plan, true, |_| {}).unwrap();
    assert!(verdict.is_good(), "seed {}\n{}", plan.seed, verdict.told());
    println!("{}", verdict.told());
    assert_eq!(check(&evidence(&verdict, verdict.trail.clone())), Vec::<String>::new());
    for (name, plant, found) in PLANTED {
        let mut planted = Story {
            trail: verdict.trail.clone(),
            evidence: verdict.evidence.clone(),
        };
        assert!(plant(&mut planted).is_some(), "{name}: there is nothing to plant it in");
        let complaints = check(&Evidence {
            book: book(&planted.trail),
            ..planted.evidence
        });
        assert!(
            complaints.iter().any(|complaint| complaint.contains(found)),
            "{name} was not noticed as `{found}`, but as {:?}",
            complaints.iter().take(5).collect::<Vec<_>>()
        );
    }
}

fn evidence(verdict: &Verdict, trail: Vec<AuditRecord>) -> Evidence {
    Evidence {
        book: book(&trail),
        ..verdict.evidence.clone()
    }
}

fn book(trail: &[AuditRecord]) -> Book {
    let mut book = Book::default();
    trail.iter().for_each(|record| book.take(record));
    book
}

/// What was recorded, to be falsified.
struct Story {
    trail: Vec<AuditRecord>,
    evidence: Evidence,
}

type Plant = fn(&mut Story) -> Option<()>;

const PLANTED: &[(&str, Plant, &str)] = &[
    (
        "an acknowledged change that left no audit record",
        lost,
        "no audit record of it",
    ),
    ("a hole in the trail", lost, "follows"),
    ("a change that was carried out twice", doubled, "more than once"),
    ("the same, by its effect alone", doubled_unsigned, "left its mark"),
    (
        "a change that was rejected and took effect",
        rejected_applied,
        "rejected, and the trail says otherwise",
    ),
    (
        "a rejection without an audit record",
        rejection_lost,
        "no audit record of it",
    ),
    (
        "a retry that is not in the trail",
        retry_lost,
        "answers were stored ones",
    ),
    ("a lost update", lost_update, "by one"),
    (
        "an answer that shows another record",
        wrong_answer,
        "does not show the record",
    ),
    ("somebody else's name in the trail", wrong_actor, "by somebody else"),
    ("a request that is carried out twice", approved_twice, "went through"),
    ("a request that takes effect unapproved", unapproved, "left its mark"),
    ("a mass drain beyond its bound", beyond_bound, "at once, not"),
    ("a mass drain that never ended", endless, "has not ended"),
    (
        "a refusal that is not in the trail",
        refusal_lost,
        "refusals are not in the trail",
    ),
    (
        "a refusal that is in the trail twice",
        refusal_doubled,
        "is in the trail 3 times",
    ),
    (
        "a watcher that missed a revision",
        watcher_missed,
        "the first that differs",
    ),
    (
        "a watcher that was told twice",
        watcher_doubled,
        "the first that differs",
    ),
    (
        "a watcher that was told in another order",
        watcher_swapped,
        "the first that differs",
    ),
    (
        "a watcher that was told something else",
        watcher_torn,
        "the first that differs",
    ),
    (
        "a record that is not what history ends with",
        left_behind,
        "history ends with",
    ),
];

/// The first record of the trail for which an entry of the journal says this.
fn find(story: &Story, wanted: impl Fn(&End) -> bool, outcome: Outcome) -> Option<usize> {
    let numbers: std::collections::BTreeSet<u64> = story
        .evidence
        .journal
        .iter()
        .filter(|entry| wanted(&entry.end) && entry.mark.as_ref().is_none_or(|mark| mark.starts_with("label/")))
        .map(|entry| entry.number)
        .collect();
    story.trail.iter().position(|record| {
        record.outcome() == outcome && journal::number(&record.ticket).is_some_and(|number| numbers.contains(&number))
    })
}

fn done(end: &End) -> bool {
    matches!(end, End::Done { .. })
}

fn labelled(story: &Story) -> Option<usize> {
    story.trail.iter().position(|record| {
        let label = record
            .changes
            .iter()
            .any(|change| match (&change.before, &change.after) {
                (Some(before), Some(after)) => match (&before.record, &after.record) {
                    (Some(Record::Peer(before)), Some(Record::Peer(after))) => before.labels != after.labels,
                    _ => false,
                },
                _ => false,
            });
        label && journal::number(&record.ticket).is_some()
    })
}

fn lost(story: &mut Story) -> Option<()> {
    let at = find(story, done, Outcome::Applied)?;
    story.trail.remove(at);
    Some(())
}

fn doubled(story: &mut Story) -> Option<()> {
    let at = labelled(story)?;
    let twin = story.trail[at].clone();
    story.trail.push(twin);
    Some(())
}

fn doubled_unsigned(story: &mut Story) -> Option<()> {
    let at = labelled(story)?;
    let mut twin = story.trail[at].clone();
    twin.ticket.clear();
    story.trail.push(twin);
    Some(())
}

fn rejected_applied(story: &mut Story) -> Option<()> {
    let at = find(story, |end| matches!(end, End::Rejected { .. }), Outcome::Rejected)?;
    story.trail[at].set_outcome(Outcome::Applied);
    Some(())
}

fn rejection_lost(story: &mut Story) -> Option<()> {
    let at = find(story, |end| matches!(end, End::Rejected { .. }), Outcome::Rejected)?;
    story.trail.remove(at);
    Some(())
}

fn retry_lost(story: &mut Story) -> Option<()> {
    let at = find(
        story,
        |end| matches!(end, End::Done { replayed: true, .. }),
        Outcome::Replayed,
    )?;
    story.trail.remove(at);
    Some(())
}

fn lost_update(story: &mut Story) -> Option<()> {
    let at = labelled(story)?;
    for change in &mut story.trail[at].changes {
        if let Some(Record::Peer(peer)) = change.after.as_mut().and_then(|after| after.record.as_mut()) {
            peer.labels.insert("count".to_owned(), "0".to_owned());
        }
    }
    Some(())
}

fn wrong_answer(story: &mut Story) -> Option<()> {
    let ends = story.evidence.journal.iter_mut().map(|entry| &mut entry.end);
    let end = ends.into_iter().find(|end| done(end))?;
    let End::Done { record, .. } = end else { return None };
    record.2 ^= 1;
    Some(())
}

fn wrong_actor(story: &mut Story) -> Option<()> {
    let at = find(story, done, Outcome::Applied)?;
    story.trail[at].actor = "somebody".to_owned();
    Some(())
}

/// The record that carried a request out.
fn approved(story: &Story) -> Option<usize> {
    story.trail.iter().position(|record| {
        record.changes.iter().any(|change| {
            let after = change.after.as_ref().and_then(|after| after.record.as_ref());
            matches!(after, Some(Record::Approval(one)) if one.status() == approval::Status::Approved)
        })
    })
}

fn approved_twice(story: &mut Story) -> Option<()> {
    let at = approved(story)?;
    let twin = story.trail[at].clone();
    story.trail.push(twin);
    Some(())
}

fn unapproved(story: &mut Story) -> Option<()> {
    let at = approved(story)?;
    let changes = &mut story.trail[at].changes;
    let before = changes.len();
    changes.retain(|change| change.kind != "approval");
    (changes.len() < before).then_some(())
}

/// The parts of mass drains as the trail has them.
fn parts(story: &mut Story) -> impl Iterator<Item = &mut Operation> {
    let changes = story.trail.iter_mut().flat_map(|record| &mut record.changes);
    changes.filter_map(|change| match change.after.as_mut()?.record.as_mut()? {
        Record::Operation(operation) => Some(operation),
        _ => None,
    })
}

fn beyond_bound(story: &mut Story) -> Option<()> {
    let mut found = None;
    for operation in parts(story) {
        if operation.kind() == operation::Kind::DrainPeers && operation.at_once > 1 {
            operation.at_once = 1;
            found = Some(());
        }
    }
    found
}

fn endless(story: &mut Story) -> Option<()> {
    let mut found = None;
    for operation in parts(story) {
        if operation.kind() == operation::Kind::DrainPeers && operation.state() == operation::State::Succeeded {
            operation.set_state(operation::State::Running);
            found = Some(());
        }
    }
    found
}

/// A record of refusals, in a story in which no refusal was lost with a killed node.
fn refusals(story: &mut Story) -> Option<&mut AuditRecord> {
    story.evidence.killed = false;
    let noted = book(&story.trail).refusals;
    story.evidence.journal.retain(|entry| {
        let line = format!("{} {} {}", entry.actor, entry.action, entry.target);
        entry.end != End::Refused || noted.contains_key(&line)
    });
    let mut records = story.trail.iter_mut();
    records.find(|record| record.action == "audit.refusals" && record.detail.contains("scope_missing"))
}

fn refusal_lost(story: &mut Story) -> Option<()> {
    refusals(story)?.detail.clear();
    Some(())
}

fn refusal_doubled(story: &mut Story) -> Option<()> {
    let noted = book(&story.trail).refusals;
    let detail = &mut refusals(story)?.detail;
    let once = |line: &&str| noted.get(line.trim_end_matches(": scope_missing")) == Some(&1);
    let line = detail.split("; ").find(once)?.to_owned();
    // A retry is refused as well: three are more than are ever made.
    for _ in 0..2 {
        detail.push_str("; ");
        detail.push_str(&line);
    }
    Some(())
}

fn told(story: &mut Story) -> Option<&mut Vec<(u64, u64)>> {
    let watched = story
        .evidence
        .watched
        .iter_mut()
        .find(|watched| watched.told.len() > 10)?;
    Some(&mut watched.told)
}

fn watcher_missed(story: &mut Story) -> Option<()> {
    told(story)?.remove(5);
    Some(())
}

fn watcher_doubled(story: &mut Story) -> Option<()> {
    let told = told(story)?;
    told.insert(5, told[5]);
    Some(())
}

fn watcher_swapped(story: &mut Story) -> Option<()> {
    told(story)?.swap(5, 6);
    Some(())
}

fn watcher_torn(story: &mut Story) -> Option<()> {
    told(story)?[5].1 ^= 1;
    Some(())
}

fn left_behind(story: &mut Story) -> Option<()> {
    let list = story.evidence.left.iter_mut().find(|list| list.kind == "peer")?;
    list.records.values_mut().next()?.0 += 1;
    Some(())
}
