//! The map without a mesh: what it takes, refuses, finds, writes and reads.

mod keeper;

use proptest::prelude::*;
use proto::v1::{self, audit_record, shard::Status, watch_message};
use tokio::time::Instant;

use super::{
    Change, Known, Miss, ShardMap, Token, Update,
    cache::{self, Saved},
    feed::{Feed, Older},
    table::{Count, View},
};

fn shard(namespace: &str, index: u32, owner: &str, epoch: u64, revision: u64) -> v1::Shard {
    v1::Shard {
        namespace: namespace.to_owned(),
        shard: index,
        owner: owner.to_owned(),
        replicas: vec!["spare".to_owned()],
        status: Status::Active.into(),
        token: Some(v1::FencingToken {
            mesh_epoch: 1,
            shard_epoch: epoch,
        }),
        created_revision: 10,
        changed_revision: revision,
        ..v1::Shard::default()
    }
}

/// A namespace of so many shards, all of peer `a`, made at revision 10.
fn view(shards: u32) -> View {
    let mut view = View::default();
    view.take(Update::Whole {
        revision: 20,
        shards: (0..shards).map(|index| shard("orders", index, "a", 1, 10)).collect(),
    });
    view.learn("orders", Count { shards, created: 9 });
    view
}

fn is(shard: v1::Shard, revision: u64) -> Update {
    let changes = vec![Change::Is(shard)];
    Update::Revision { revision, changes }
}

fn owner(view: &View, index: u32) -> Option<String> {
    view.shard("orders", index).unwrap().owner().map(str::to_owned)
}

#[test]
fn a_key_is_in_the_shard_that_the_mesh_says() {
    let view = view(1_000);
    for key in [
        "",
        "customer-17",
        "ключ",
        "a much longer key than there is any need for: 0123456789",
    ] {
        let located = view.locate("orders", key.as_bytes()).unwrap();
        assert_eq!(located.shard(), statemachine::strategy::shard_of(key.as_bytes(), 1_000));
        assert_eq!(
            (located.owner(), located.token()),
            (
                Some("a"),
                Token {
                    mesh_epoch: 1,
                    shard_epoch: 1
                }
            )
        );
    }
    assert_eq!(view.locate("payments", b"x").err(), Some(Miss::Namespace));
}

#[test]
fn before_the_count_is_known_no_key_is_located() {
    let mut view = View::default();
    view.take(is(shard("orders", 3, "a", 1, 11), 11));
    assert_eq!(view.locate("orders", b"x").err(), Some(Miss::Count));
    // Of a namespace that was made after this shard: not the one it is of.
    view.learn("orders", Count { shards: 8, created: 11 });
    assert_eq!(view.locate("orders", b"x").err(), Some(Miss::Count));
    view.learn("orders", Count { shards: 4, created: 9 });
    for key in 0_u32..64 {
        match view.locate("orders", &key.to_be_bytes()) {
            Ok(located) => assert_eq!(located.shard(), 3),
            Err(miss) => assert!(matches!(miss, Miss::Shard(0..3)), "{miss:?}"),
        }
    }
}

#[test]
fn a_lesser_token_and_an_older_record_stay_out() {
    let mut view = view(4);
    view.take(is(shard("orders", 1, "b", 5, 30), 30));
    for older in [shard("orders", 1, "a", 4, 40), shard("orders", 1, "a", 5, 29)] {
        view.take(is(older, 41));
        assert_eq!(owner(&view, 1).as_deref(), Some("b"));
    }
    let older = (0..4).map(|index| shard("orders", index, "a", 1, 10)).collect();
    view.take(Update::Whole {
        revision: 50,
        shards: older,
    });
    assert_eq!(
        (owner(&view, 1).as_deref(), owner(&view, 0).as_deref()),
        (Some("b"), Some("a"))
    );
    assert_eq!(view.refused_older(), 3);
    // Another mesh epoch goes before any shard epoch.
    let mut promoted = shard("orders", 1, "c", 1, 5);
    promoted.token = Some(v1::FencingToken {
        mesh_epoch: 2,
        shard_epoch: 1,
    });
    view.take(is(promoted, 51));
    assert_eq!(owner(&view, 1).as_deref(), Some("c"));
    assert_eq!(
        view.shard("orders", 0).unwrap().token().mesh_epoch,
        2,
        "of all its shards"
    );
}

#[test]
fn a_namespace_that_is_made_again_is_another() {
    let mut view = view(2);
    view.take(is(shard("orders", 0, "b", 7, 30), 30));
    let gone = |index| Change::Gone {
        namespace: "orders".to_owned(),
        shard: index,
    };
    view.take(Update::Revision {
        revision: 31,
        changes: vec![gone(0), gone(1)],
    });
    assert_eq!(view.locate("orders", b"x").err(), Some(Miss::Namespace));
    let again = |index| v1::Shard {
        created_revision: 40,
        ..shard("orders", index, "c", 1, 40)
    };
    view.take(Update::Revision {
        revision: 40,
        changes: (0..4).map(|index| Change::Is(again(index))).collect(),
    });
    assert_eq!(
        view.locate("orders", b"x").err(),
        Some(Miss::Count),
        "how many there were says nothing"
    );
    view.learn("orders", Count { shards: 4, created: 39 });
    assert_eq!(view.locate("orders", b"x").unwrap().owner(), Some("c"));
}

#[test]
fn a_namespace_that_was_made_again_unseen_is_counted_anew() {
    let mut view = view(8);
    let again = |index| v1::Shard {
        created_revision: 40,
        ..shard("orders", index, "c", 1, 40)
    };
    view.take(Update::Whole {
        revision: 50,
        shards: (0..4).map(again).collect(),
    });
    assert_eq!(view.locate("orders", b"x").err(), Some(Miss::Count));
    view.learn("orders", Count { shards: 8, created: 45 });
    assert_eq!(
        view.locate("orders", b"x").err(),
        Some(Miss::Count),
        "of yet another one"
    );
    view.learn("orders", Count { shards: 4, created: 39 });
    assert_eq!(view.locate("orders", b"x").unwrap().owner(), Some("c"));
}

#[test]
fn a_disabled_shard_is_served_by_nobody() {
    let mut view = view(1);
    let mut disabled = shard("orders", 0, "a", 2, 30);
    disabled.set_status(Status::Disabled);
    view.take(is(disabled, 30));
    assert_eq!(view.locate("orders", b"x").unwrap().owner(), None);
}

fn message(revision: u64, message: watch_message::Message) -> v1::WatchMessage {
    v1::WatchMessage {
        message: Some(message),
        token: "t".to_owned(),
        revision,
    }
}

fn begun(epoch: u64) -> v1::WatchMessage {
    begun_of("mesh", epoch)
}

fn begun_of(mesh: &str, epoch: u64) -> v1::WatchMessage {
    let begun = watch_message::Begun {
        mesh: mesh.to_owned(),
        epoch,
        ..Default::default()
    };
    message(0, watch_message::Message::Begun(begun))
}

fn snapshot(revision: u64, index: u32, last: bool) -> v1::WatchMessage {
    let record = audit_record::record::Record::Shard(shard("orders", index, "a", 1, 10));
    let items = vec![audit_record::Record { record: Some(record) }];
    message(
        revision,
        watch_message::Message::Snapshot(watch_message::Snapshot { items, last }),
    )
}

fn known(mesh: &str, epoch: u64) -> Known {
    let mesh = mesh.to_owned();
    Known { mesh, epoch }
}

#[test]
fn a_snapshot_is_taken_when_it_is_whole() {
    let mut feed = Feed::default();
    assert_eq!(feed.take(begun(3)), Ok(None));
    assert_eq!(feed.take(snapshot(20, 0, false)), Ok(None));
    feed.broke();
    assert_eq!(feed.take(snapshot(21, 1, false)), Ok(None));
    let Ok(Some(Update::Whole { revision: 21, shards })) = feed.take(snapshot(21, 2, true)) else {
        panic!("it is whole");
    };
    assert_eq!(shards.iter().map(|shard| shard.shard).collect::<Vec<_>>(), [1, 2]);
    assert!(
        shards.iter().all(|shard| Token::from(shard.token).mesh_epoch == 3),
        "the epoch is that of now"
    );
}

#[test]
fn a_node_that_lags_behind_is_refused() {
    let mut feed = Feed::from(known("mesh", 3), 100);
    assert!(matches!(feed.take(begun(2)), Err(Older(_))));
    assert_eq!(feed.take(begun(3)), Ok(None));
    assert!(matches!(feed.take(snapshot(99, 0, true)), Err(Older(_))));
    assert!(matches!(feed.take(snapshot(100, 0, true)), Ok(Some(_))));
    // After a restore revisions are counted from where it was: a later epoch says that they are no older.
    assert_eq!(feed.take(begun(4)), Ok(None));
    assert!(matches!(feed.take(snapshot(50, 0, true)), Ok(Some(_))));
}

#[test]
fn another_mesh_is_not_an_older_one() {
    let mut feed = Feed::from(known("mesh", 3), 100);
    assert_eq!(feed.take(begun_of("another", 1)), Ok(None));
    assert_eq!(feed.known(), &known("another", 1));
    let Ok(Some(Update::Whole { revision: 5, shards })) = feed.take(snapshot(5, 0, true)) else {
        panic!("its revisions are its own");
    };
    assert_eq!(Token::from(shards[0].token).mesh_epoch, 1);
    assert!(matches!(feed.take(begun_of("another", 0)), Err(Older(_))));
    // Where only the epoch is known, it is what counts.
    assert!(matches!(Feed::from(known("", 3), 0).take(begun(2)), Err(Older(_))));
}

#[test]
fn a_map_that_nobody_keeps_locates_every_key() {
    let map = ShardMap::fixed(20, (0..3).map(|index| shard("orders", index, "a", 1, 10)).collect());
    for key in 0_u32..64 {
        assert_eq!(map.locate("orders", &key.to_be_bytes()).unwrap().owner(), Some("a"));
    }
    assert_eq!(map.standing().revision, 20);
}

#[test]
fn what_was_written_reads_back_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shards");
    assert_eq!(cache::load(&path), Ok(None));
    let mut map = view(64);
    map.take(is(shard("orders", 7, "b", 9, 30), 30));
    let saved = Saved::of(&map, "mesh-1", "orders", "token", 1_234);
    cache::store(&path, &saved).unwrap();
    let read = cache::load(&path).unwrap().unwrap();
    assert_eq!(read, saved);
    let back = read.view();
    assert_eq!(
        (back.revision(), back.epoch(), back.cells()),
        (map.revision(), map.epoch(), map.cells())
    );
    assert_eq!(back.locate("orders", b"k"), map.locate("orders", b"k"));
    // It refuses what is older as the map did that was written.
    let mut back = back;
    back.take(is(shard("orders", 7, "a", 8, 31), 31));
    assert_eq!(owner(&back, 7).as_deref(), Some("b"));

    let whole = saved.encode();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(Saved::decode(&damaged).is_err(), "a flipped bit of byte {at}");
    }
    for length in 0..whole.len() {
        assert!(Saved::decode(&whole[..length]).is_err(), "cut at {length}");
    }
    assert!(Saved::decode(&[whole, vec![0]].concat()).is_err());
    let beside: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(beside.len(), 1, "nothing is left beside it: {beside:?}");
}

#[test]
fn a_look_up_takes_less_than_a_microsecond() {
    let view = arc_swap::ArcSwap::from_pointee(view(65_536));
    let keys: Vec<String> = (0..1_000).map(|key| format!("customer-{key}")).collect();
    // The best of several rounds: what else runs on the machine is not what is measured.
    let round = || {
        let began = Instant::now();
        for key in &keys {
            std::hint::black_box(view.load().locate("orders", key.as_bytes()).is_ok());
        }
        began.elapsed() / 1_000
    };
    let best = (0..50).map(|_| round()).min().unwrap();
    println!("one look-up: {best:?}");
    assert!(best < std::time::Duration::from_micros(1), "{best:?}");
}

proptest! {
    /// Whatever comes, in whatever order: no shard's token ever gets less, and a view that is held never changes.
    #[test]
    fn tokens_only_grow(steps in prop::collection::vec((0_u32..4, 1_u64..4, 1_u64..6, 1_u64..60, any::<bool>()), 1..60)) {
        let mut view = view(4);
        let mut highest = [Token::default(); 4];
        for (at, (index, mesh, epoch, changed, whole)) in (100_u64..).zip(steps) {
            let record = |index| v1::Shard {
                token: Some(v1::FencingToken { mesh_epoch: mesh, shard_epoch: epoch }),
                ..shard("orders", index, "b", epoch, changed)
            };
            let held = view.clone();
            let before = held.cells();
            view.take(if whole {
                Update::Whole { revision: at, shards: (0..4).map(record).collect() }
            } else {
                is(record(index), at)
            });
            prop_assert_eq!(held.cells(), before);
            for cell in view.cells() {
                let token = view.shard("orders", cell.shard).unwrap().token();
                let highest = &mut highest[cell.shard as usize];
                prop_assert!(token >= *highest, "{} after {}", token, highest);
                *highest = token;
            }
        }
    }
}
