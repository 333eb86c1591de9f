//! Pages of shards as they were sent, kept for who asks the same again.
//!
//! Routers that start together ask for the same thousand shards, and so do those that look whether something has changed. As
//! long as nothing has, they are sent what the first of them was sent; and where only other records have, its items.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use statemachine::{Epoch, Hash, Position, audit, record::Shard};
use tokio::time::Instant;

use crate::{listing::Question, made::Made};

/// The most pages that are kept, however small they are.
const PAGES_MAX: usize = 256;
/// How long one is kept.
const KEEP: Duration = Duration::from_secs(60);

/// Pages, what was asked for last at the end.
pub(crate) struct Pages {
    kept: Mutex<VecDeque<(Instant, Arc<Kept>)>>,
    bytes_max: usize,
}

/// One page.
pub(crate) struct Kept {
    pub(crate) question: Question,
    pub(crate) position: Position,
    /// What stands for its items: see [`stands_for`].
    pub(crate) shown: Hash,
    /// The last one of the page, where there are more.
    pub(crate) last: Option<String>,
    /// How many bytes of the message are its items, which come first.
    pub(crate) items: usize,
    /// As it is sent.
    pub(crate) made: Arc<Made>,
}

impl Kept {
    /// Its items as they are sent.
    pub(crate) fn items(&self) -> &[u8] {
        self.made.message().get(..self.items).unwrap_or_default()
    }
}

/// What stands for the items of a page: which shards were found, each as of when, in which epoch of the mesh. Two pages for
/// which it is the same show the same.
pub(crate) fn stands_for(found: &[Arc<Shard>], epoch: Epoch) -> Hash {
    let mut all = Vec::with_capacity(found.len() * 48);
    all.extend_from_slice(&epoch.0.to_be_bytes());
    for shard in found {
        let (namespace, changed) = (shard.id.namespace.as_str(), shard.meta.changed);
        all.extend_from_slice(&(namespace.len() as u64).to_be_bytes());
        all.extend_from_slice(namespace.as_bytes());
        all.extend_from_slice(&shard.id.index.to_be_bytes());
        all.extend_from_slice(&changed.timeline.0.to_be_bytes());
        all.extend_from_slice(&changed.revision.0.to_be_bytes());
    }
    audit::request_hash(&[&all])
}

impl Pages {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            bytes_max,
        }
    }

    /// The page that answered this question last.
    pub(crate) fn get(&self, question: &Question) -> Option<Arc<Kept>> {
        let mut kept = self.kept.lock();
        // Before it is looked for: documents were made of pages after they were put here, and time has passed.
        self.trim(&mut kept);
        let at = kept.iter().position(|(_, page)| page.question == *question)?;
        let found = kept.remove(at)?;
        let page = Arc::clone(&found.1);
        kept.push_back(found);
        Some(page)
    }

    /// Keeps a page, in the place of the one that answered its question before.
    pub(crate) fn put(&self, page: Arc<Kept>) {
        let mut kept = self.kept.lock();
        kept.retain(|(_, other)| other.question != page.question);
        kept.push_back((Instant::now() + KEEP, page));
        self.trim(&mut kept);
    }

    /// Forgets what is too old, then what was not asked for longest, until the rest has room.
    fn trim(&self, kept: &mut VecDeque<(Instant, Arc<Kept>)>) {
        let now = Instant::now();
        kept.retain(|(until, _)| *until > now);
        let mut bytes: usize = kept.iter().map(|(_, page)| page.made.bytes()).sum();
        while bytes > self.bytes_max || kept.len() > PAGES_MAX {
            let Some((_, first)) = kept.pop_front() else { break };
            bytes = bytes.saturating_sub(first.made.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::Filter;
    use statemachine::{Revision, TimelineId};

    /// A page of one namespace, with a message of so many bytes.
    fn page(namespace: &str, bytes: usize) -> Arc<Kept> {
        Arc::new(Kept {
            question: question(namespace),
            position: Position {
                timeline: TimelineId(1),
                revision: Revision(1),
            },
            shown: stands_for(&[], Epoch(1)),
            last: None,
            items: 0,
            made: Made::new(&[&vec![0; bytes]]).unwrap(),
        })
    }

    fn question(namespace: &str) -> Question {
        Question {
            filter: Filter::new("ListShards", &[namespace]),
            after: None,
            limit: 1_000,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pages_are_bounded_in_memory_and_time() {
        let pages = Pages::new(1_000);
        let kept = |name: &str| pages.get(&question(name)).is_some();
        pages.put(page("a", 400));
        pages.put(page("b", 400));
        assert!(kept("a"));
        // Who was not asked for longest makes room.
        pages.put(page("c", 400));
        assert_eq!(["a", "b", "c"].map(kept), [true, false, true]);
        // What is too large for all of it is not kept, and takes nobody's place for long.
        pages.put(page("d", 2_000));
        assert_eq!(["a", "c", "d"].map(kept), [false, false, false]);
        // A document counts as soon as there is one.
        pages.put(page("e", 400));
        pages.put(page("f", 400));
        let text = pages.get(&question("f")).unwrap().made.text(|| Ok(vec![b'x'; 500]));
        assert_eq!(text.unwrap().len(), 500);
        assert_eq!(["e", "f"].map(kept), [false, true]);
        tokio::time::advance(KEEP).await;
        assert!(!kept("f"));
    }

    #[test]
    fn a_page_that_answers_again_takes_the_place_of_the_one_before() {
        let pages = Pages::new(1_000);
        for bytes in [100, 200] {
            pages.put(page("a", bytes));
        }
        assert_eq!(pages.kept.lock().len(), 1);
        assert_eq!(pages.get(&question("a")).unwrap().made.message().len(), 200);
    }
}
