use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use prost::Message;
use proto::{methods, v1};
use statemachine::{
    Change, Hash, MeshId, Origin, Outcome, Position, Record, Recorded, Rejection, Revision, Stamp, TimelineId, Unit,
    record::{Attributes, Health, Meta, Peer, PeerStatus},
};
use tokio::time::Instant;

use super::{
    feed::{Budget, Feed, Next},
    frames::{Event, Wire},
    subject::Subject,
};

fn at(revision: u64) -> Position {
    let timeline = if revision == 0 { TimelineId(0) } else { TimelineId(7) };
    Position {
        timeline,
        revision: Revision(revision),
    }
}

fn mesh() -> MeshId {
    MeshId::new("m").unwrap()
}

fn peer(id: &str, zone: &str, changed: u64) -> Record {
    let spec = statemachine::record::PeerSpec {
        cluster: statemachine::ClusterId::new("c1").unwrap(),
        role: String::new(),
        region: String::new(),
        zone: String::new(),
        endpoints: vec!["h:1".into()],
        labels: Attributes::from([("zone".to_owned(), zone.to_owned())]),
        metadata: Attributes::new(),
        weight: 100,
    };
    Record::Peer(Arc::new(Peer {
        id: statemachine::PeerId::new(id).unwrap(),
        spec,
        status: PeerStatus::Active,
        status_before_drain: None,
        health: Health::Unknown,
        health_since_ms: 0,
        operation: None,
        status_reason: String::new(),
        meta: Meta {
            version: changed,
            changed: at(changed),
            ..Meta::default()
        },
    }))
}

fn recorded(revision: u64, outcome: Outcome) -> Recorded {
    let unit = Unit {
        position: at(revision),
        parent: at(revision - 1),
        stamp: Stamp::default(),
        origin: Origin::system("tests", statemachine::NodeId(1), 0),
        action: "peers.patch".into(),
        target: "peer/p".into(),
        outcome,
    };
    Recorded {
        bytes: unit.encode().into(),
        unit,
        chain: Hash::default(),
        digest: Hash::default(),
    }
}

fn applied(revision: u64, changes: Vec<(Option<Record>, Option<Record>)>) -> Recorded {
    let changes = changes.into_iter().map(|(before, after)| Change { before, after });
    let outcome = Outcome::Applied {
        changes: changes.collect(),
        events: Vec::new(),
    };
    recorded(revision, outcome)
}

fn subject(action: &str, message: &impl Message) -> Subject {
    let method = methods::by_action(action).unwrap();
    Subject::read(method, &message.encode_to_vec()).unwrap().0
}

fn decoded(event: &Event, subject: &Subject) -> v1::WatchMessage {
    let bytes = event.on(Wire::Grpc, &subject.method.output);
    v1::WatchMessage::decode(&bytes[5..]).unwrap()
}

#[test]
fn changes_are_told_as_the_filter_sees_them() {
    use v1::watch_message::change::Type;
    let request = v1::WatchPeersRequest {
        selector: "zone=b".into(),
        ..Default::default()
    };
    let zone_b = subject("peers.watch", &request);
    let told = |before: Option<Record>, after: Option<Record>| {
        let event = zone_b.event(&applied(5, vec![(before, after)]), Hash::default(), &mesh())?;
        let message = decoded(&event, &zone_b);
        assert_eq!(message.revision, 5);
        match message.message {
            Some(v1::watch_message::Message::Unit(unit)) => Some(unit.changes[0].r#type()),
            other => panic!("{other:?}"),
        }
    };
    let (a, b) = (|| Some(peer("p", "a", 4)), || Some(peer("p", "b", 4)));
    for (before, after, expected) in [
        (None, b(), Some(Type::Added)),
        (a(), b(), Some(Type::Added)),
        (b(), b(), Some(Type::Changed)),
        (b(), a(), Some(Type::Removed)),
        (b(), None, Some(Type::Removed)),
        (a(), a(), None),
        (None, a(), None),
        (a(), None, None),
    ] {
        assert_eq!(told(before.clone(), after.clone()), expected, "{before:?} {after:?}");
    }
    // What is selected of a revision is one message.
    let both = applied(
        6,
        vec![
            (None, b()),
            (None, Some(peer("q", "a", 6))),
            (None, Some(peer("r", "b", 6))),
        ],
    );
    let event = zone_b.event(&both, Hash::default(), &mesh()).unwrap();
    let Some(v1::watch_message::Message::Unit(unit)) = decoded(&event, &zone_b).message else {
        panic!("no unit");
    };
    let ids: Vec<_> = unit.changes.iter().map(|change| change.id.as_str()).collect();
    assert_eq!(ids, ["p", "r"]);
    // What was rejected changes nothing, and is in the trail all the same.
    let rejected = recorded(7, Outcome::Rejected(Rejection::MeshNotInitialized));
    assert!(zone_b.event(&rejected, Hash::default(), &mesh()).is_none());
    let trail = subject("audit.watch", &v1::WatchAuditRequest::default());
    assert!(trail.event(&rejected, Hash::default(), &mesh()).is_some());
}

fn feed(budget: usize) -> Feed {
    let subject = subject("peers.watch", &v1::WatchPeersRequest::default());
    Feed::new(subject, mesh(), at(1), Counter::default(), Budget::new(budget))
}

fn push(feed: &Feed, revision: u64) {
    let change = vec![(None, Some(peer("p", "a", revision)))];
    feed.push(&applied(revision, change), Hash::default());
}

fn next(feed: &Feed, key: usize, breaks: u64, revision: u64) -> Next {
    let due = Instant::now() + Duration::from_secs(60);
    feed.next(key, breaks, at(revision), due, &Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_feed_keeps_what_somebody_still_needs() {
    let feed = feed(1 << 20);
    let ((slow, breaks), (quick, _)) = (feed.enter(Revision(1)), feed.enter(Revision(1)));
    for revision in 2..=4 {
        push(&feed, revision);
    }
    for revision in 1..4 {
        let found = next(&feed, quick, breaks, revision);
        assert!(matches!(found, Next::Event(event, _) if event.position == at(revision + 1)));
    }
    assert!(matches!(next(&feed, quick, breaks, 4), Next::Idle(head) if head == at(4)));
    assert_eq!(feed.tick(Instant::now(), false), Some(3));
    assert!(matches!(next(&feed, slow, breaks, 1), Next::Event(event, 3) if event.position == at(2)));
    feed.leave(slow);
    feed.tick(Instant::now(), false);
    // Gone: nobody who is here needs it. Who comes later reads history.
    let (late, breaks) = feed.enter(Revision(1));
    assert!(matches!(next(&feed, late, breaks, 1), Next::Behind));
    assert!(matches!(next(&feed, late, breaks, 4), Next::Idle(_)));
    // Who is ahead of the feed, having read history, gets nothing twice.
    push(&feed, 5);
    assert!(matches!(next(&feed, late, breaks, 5), Next::Idle(_)));
}

#[tokio::test]
async fn what_is_over_the_budget_is_read_from_history() {
    let feed = feed(1);
    let (key, breaks) = feed.enter(Revision(1));
    push(&feed, 2);
    push(&feed, 3);
    assert!(matches!(next(&feed, key, breaks, 1), Next::Behind));
    assert!(matches!(next(&feed, key, breaks, 2), Next::Event(event, 1) if event.position == at(3)));
}

#[tokio::test]
async fn a_leap_sends_everybody_to_history() {
    let feed = feed(1 << 20);
    let (key, breaks) = feed.enter(Revision(1));
    push(&feed, 2);
    feed.leap(at(9));
    // Also who is behind nothing by number: the line may be another one.
    for revision in [1, 9, 12] {
        assert!(matches!(next(&feed, key, breaks, revision), Next::Behind), "{revision}");
    }
    assert!(matches!(next(&feed, key, feed.breaks(), 9), Next::Idle(_)));
}

#[test]
fn progress_names_where_to_go_on() {
    let feed = feed(1 << 20);
    let message = decoded(&feed.progress(at(1)), &feed.subject);
    assert_eq!(message.revision, 1);
    let cursor = crate::cursor::Cursor::decode(&message.token, &mesh(), feed.subject.filter).unwrap();
    assert_eq!(cursor.position, at(1));
}
