//! Who serves what, at every moment, by one clock; and what must not be.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use api_client::{
    peer::{Serving, ShardKey},
    shards::Token,
};
use parking_lot::Mutex;
use serde::Serialize;

/// Violations that are told; more are counted.
const TOLD_MAX: usize = 50;

/// Whether a peer would serve a request for a shard at this moment.
pub trait Serves: Send + Sync {
    /// The token under which it would; none where it would refuse.
    fn token(&self, shard: &ShardKey) -> Option<Token>;
}

impl Serves for Serving {
    fn token(&self, shard: &ShardKey) -> Option<Token> {
        Serving::token(self, shard)
    }
}

/// What must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "violation", rename_all = "kebab-case")]
pub enum Violation {
    /// Two peers would serve one shard.
    ServedTwice {
        /// Which.
        shard: String,
        /// Who began first, and under which token.
        first: String,
        /// Who began then.
        second: String,
        /// When it was seen, in ms since the fleet began.
        at_ms: u64,
    },
    /// A shard's token is not greater than that of the owner before.
    TokenNotGrown {
        /// Which.
        shard: String,
        /// Who had it, and under which token.
        before: String,
        /// Who has it now.
        now: String,
        /// When, in ms since the fleet began.
        at_ms: u64,
    },
    /// Nobody would serve a shard.
    Unserved {
        /// Which.
        shard: String,
        /// Since when, in ms since the fleet began.
        since_ms: u64,
        /// For how long it had been so when it was seen, or was over.
        for_ms: u64,
    },
}

/// What was seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// How often a peer began to serve a shard.
    pub starts: u64,
    /// How often that was another one than before.
    pub handed_over: u64,
    /// Shards that somebody would serve now.
    pub served: u32,
    /// The longest that a shard was served by nobody, once all were served; in ms.
    pub unserved_longest_ms: u64,
    /// Which one that was.
    pub unserved_longest: Option<String>,
    /// How many violations there were.
    pub violations: u64,
    /// The first of them.
    pub told: Vec<Violation>,
}

/// One peer that began to serve a shard.
struct Span {
    peer: Arc<str>,
    token: Token,
    serves: Arc<dyn Serves>,
    /// Told of as serving beside another: once is enough.
    told: bool,
}

#[derive(Default)]
struct Book {
    /// Nearly always one; what was ended is not in it.
    spans: Vec<Span>,
    last: Option<(Arc<str>, Token)>,
    unserved_since: Option<Duration>,
    told: bool,
}

/// Looks on.
pub struct Watchman {
    began: Instant,
    unserved_max: Duration,
    books: Mutex<Books>,
}

struct Books {
    shards: BTreeMap<ShardKey, Book>,
    /// From when on nobody may go unserved for long.
    all_served: bool,
    seen: Seen,
}

impl Watchman {
    /// Over these shards, which may be served by nobody for so long.
    pub fn new(shards: impl IntoIterator<Item = ShardKey>, unserved_max: Duration) -> Self {
        let shards = shards.into_iter().map(|shard| (shard, Book::default()));
        Self {
            began: Instant::now(),
            unserved_max,
            books: Mutex::new(Books {
                shards: shards.collect(),
                all_served: false,
                seen: Seen::default(),
            }),
        }
    }

    /// A peer serves a shard from now on.
    pub fn started(&self, peer: &Arc<str>, shard: &ShardKey, token: Token, serves: Arc<dyn Serves>) {
        let at_ms = ms(self.began.elapsed());
        let Books { shards, seen, .. } = &mut *self.books.lock();
        let book = shards.entry(shard.clone()).or_default();
        seen.starts += 1;
        let another = book.last.as_ref().is_some_and(|(before, _)| before != peer);
        seen.handed_over += u64::from(another);
        if let Some((before, last)) = &book.last
            && (token < *last || (another && token == *last))
        {
            let (before, now) = (format!("{before} {last}"), format!("{peer} {token}"));
            let shard = shard.to_string();
            note(
                seen,
                Violation::TokenNotGrown {
                    shard,
                    before,
                    now,
                    at_ms,
                },
            );
        }
        let last = book.last.as_ref().map_or(token, |(_, last)| (*last).max(token));
        book.last = Some((Arc::clone(peer), last));
        book.spans.push(Span {
            peer: Arc::clone(peer),
            token,
            serves,
            told: false,
        });
        twice(shard, book, seen, at_ms);
    }

    /// A peer does not serve a shard any more.
    pub fn stopped(&self, peer: &str, shard: &ShardKey) {
        if let Some(book) = self.books.lock().shards.get_mut(shard) {
            book.spans.retain(|span| &*span.peer != peer);
        }
    }

    /// A peer's process is gone, and serves nothing.
    pub fn gone(&self, peer: &str) {
        for book in self.books.lock().shards.values_mut() {
            book.spans.retain(|span| &*span.peer != peer);
        }
    }

    /// Looks at all shards. Called often: what lasts shorter than the time between two looks is only seen where a peer begins.
    pub fn look(&self) {
        let at = self.began.elapsed();
        let Books {
            shards,
            all_served,
            seen,
        } = &mut *self.books.lock();
        let mut served = 0;
        for (shard, book) in shards.iter_mut() {
            twice(shard, book, seen, ms(at));
            let is_served = book.spans.iter().any(|span| span.serves.token(shard).is_some());
            served += u32::from(is_served);
            if !*all_served {
                continue;
            }
            match (is_served, book.unserved_since) {
                (false, None) => book.unserved_since = Some(at),
                (_, Some(since)) => {
                    let for_ms = ms(at.saturating_sub(since));
                    if for_ms > seen.unserved_longest_ms {
                        seen.unserved_longest_ms = for_ms;
                        seen.unserved_longest = Some(shard.to_string());
                    }
                    if for_ms > ms(self.unserved_max) && !std::mem::replace(&mut book.told, true) {
                        let (shard, since_ms) = (shard.to_string(), ms(since));
                        note(
                            seen,
                            Violation::Unserved {
                                shard,
                                since_ms,
                                for_ms,
                            },
                        );
                    }
                    if is_served {
                        book.unserved_since = None;
                        book.told = false;
                    }
                }
                (true, None) => {}
            }
        }
        seen.served = served;
    }

    /// From now on every shard is to be served.
    pub fn all_are_to_be_served(&self) {
        self.books.lock().all_served = true;
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.books.lock().seen.clone()
    }

    /// Who would serve each shard now.
    pub fn serving(&self) -> BTreeMap<ShardKey, Arc<str>> {
        let books = self.books.lock();
        let serving = books.shards.iter().filter_map(|(shard, book)| {
            let span = book.spans.iter().find(|span| span.serves.token(shard).is_some())?;
            Some((shard.clone(), Arc::clone(&span.peer)))
        });
        serving.collect()
    }
}

/// Notes where more than one would serve a shard at this moment.
fn twice(shard: &ShardKey, book: &mut Book, seen: &mut Seen, at_ms: u64) {
    if book.spans.len() < 2 {
        return;
    }
    let serving: Vec<usize> = (0..book.spans.len())
        .filter(|span| book.spans[*span].serves.token(shard).is_some())
        .collect();
    if let [first, .., second] = serving[..]
        && !std::mem::replace(&mut book.spans[first].told, true)
    {
        let who = |span: &Span| format!("{} {}", span.peer, span.token);
        let violation = Violation::ServedTwice {
            shard: shard.to_string(),
            first: who(&book.spans[first]),
            second: who(&book.spans[second]),
            at_ms,
        };
        note(seen, violation);
    }
}

fn note(seen: &mut Seen, violation: Violation) {
    seen.violations += 1;
    if seen.told.len() < TOLD_MAX {
        seen.told.push(violation);
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Says(AtomicBool, Token);

    impl Serves for Says {
        fn token(&self, _: &ShardKey) -> Option<Token> {
            self.0.load(Ordering::Relaxed).then_some(self.1)
        }
    }

    fn key() -> ShardKey {
        ShardKey {
            namespace: "demo".into(),
            shard: 7,
        }
    }

    fn says(epoch: u64) -> Arc<Says> {
        let token = Token {
            mesh_epoch: 1,
            shard_epoch: epoch,
        };
        Arc::new(Says(AtomicBool::new(true), token))
    }

    fn start(watchman: &Watchman, peer: &str, says: &Arc<Says>) {
        watchman.started(&Arc::from(peer), &key(), says.1, Arc::clone(says) as _);
    }

    #[test]
    fn a_hand_over_in_order_is_none_of_its_business() {
        let watchman = Watchman::new([key()], Duration::from_secs(60));
        let (one, two) = (says(1), says(2));
        start(&watchman, "a", &one);
        watchman.look();
        watchman.stopped("a", &key());
        start(&watchman, "b", &two);
        watchman.look();
        let seen = watchman.seen();
        assert_eq!(
            (seen.starts, seen.handed_over, seen.served, seen.violations),
            (2, 1, 1, 0)
        );
        assert_eq!(&*watchman.serving()[&key()], "b");
    }

    #[test]
    fn two_at_once_are_seen_when_the_second_begins_and_when_the_first_comes_back() {
        let watchman = Watchman::new([key()], Duration::from_secs(60));
        let (one, two) = (says(1), says(2));
        start(&watchman, "a", &one);
        start(&watchman, "b", &two);
        let told = watchman.seen().told;
        assert!(
            matches!(&told[..], [Violation::ServedTwice { first, .. }] if first == "a 1.1"),
            "{told:?}"
        );

        let watchman = Watchman::new([key()], Duration::from_secs(60));
        start(&watchman, "a", &one);
        // Its lease is over; it has only not said yet that it stopped.
        one.0.store(false, Ordering::Relaxed);
        start(&watchman, "b", &two);
        watchman.look();
        assert_eq!(watchman.seen().violations, 0);
        one.0.store(true, Ordering::Relaxed);
        watchman.look();
        watchman.look();
        assert_eq!(watchman.seen().violations, 1, "told once");
    }

    #[test]
    fn a_token_that_does_not_grow_is_seen() {
        let watchman = Watchman::new([key()], Duration::from_secs(60));
        let (one, same) = (says(2), says(2));
        start(&watchman, "a", &one);
        watchman.gone("a");
        // The same peer may serve again under its token; nobody else may.
        start(&watchman, "a", &one);
        watchman.gone("a");
        assert_eq!(watchman.seen().violations, 0);
        start(&watchman, "b", &same);
        watchman.gone("b");
        start(&watchman, "b", &says(1));
        let told = watchman.seen().told;
        assert!(
            matches!(
                &told[..],
                [Violation::TokenNotGrown { .. }, Violation::TokenNotGrown { .. }]
            ),
            "{told:?}"
        );
    }

    #[test]
    fn a_shard_that_nobody_serves_is_seen_and_measured() {
        let watchman = Watchman::new([key()], Duration::from_millis(20));
        watchman.look();
        assert_eq!(watchman.seen().violations, 0, "not before all were served");
        watchman.all_are_to_be_served();
        watchman.look();
        std::thread::sleep(Duration::from_millis(40));
        watchman.look();
        watchman.look();
        start(&watchman, "a", &says(1));
        watchman.look();
        let seen = watchman.seen();
        assert_eq!(seen.violations, 1);
        assert!(seen.unserved_longest_ms >= 40, "{seen:?}");
        assert_eq!(seen.unserved_longest.as_deref(), Some("demo/7"));
    }
}
