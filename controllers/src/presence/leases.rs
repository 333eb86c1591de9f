//! How long leases may be that are out: leaders before gave them by the settings of their time.

use raft::{Error, View};
use statemachine::{
    Revision, TimelineId,
    record::{Config, Kind, Record, Settings, definition},
};

/// The most changes of the settings that are looked at for a lease that was longer.
const CHANGES_MAX: usize = 64;

/// The longest lease that may still be good, looked up again only when that may have changed.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// For which version of the settings, and until when in mesh time, the rest is good.
    good_for: Option<(u64, u64)>,
    longest_ms: u64,
}

impl Leases {
    /// In ms.
    ///
    /// # Errors
    /// History could not be read.
    pub fn longest_ms(&mut self, view: &View, now_ms: u64) -> Result<u64, Error> {
        let mesh = &view.state().mesh;
        let version = mesh.config().map_or(0, |config| config.meta.version);
        if self.good_for.is_none_or(|(of, until)| of != version || until <= now_ms) {
            let most_ms = definition("presence.lease").map_or(u64::MAX, |lease| lease.max);
            let since_ms = now_ms.saturating_sub(looked_back_ms(most_ms, mesh.settings().presence_drift_ms));
            self.longest_ms = longest_since(view, since_ms, most_ms)?;
            let now_in_force = self.longest_ms == mesh.settings().presence_lease_ms;
            // A longer one of before is looked at again, until it is too old to matter.
            let until_ms = if now_in_force {
                u64::MAX
            } else {
                now_ms.saturating_add(1_000)
            };
            self.good_for = Some((version, until_ms));
        }
        Ok(self.longest_ms)
    }
}

/// How far back a change of the settings matters: twice as long as a lease by them may be good. Mesh time may run ahead of the
/// peers' clocks, which may drift, and the terms of before are in force until the leader looks again.
fn looked_back_ms(most_ms: u64, drift_ms: u64) -> u64 {
    most_ms.saturating_add(drift_ms).saturating_mul(2)
}

/// When the history was last cut off, in ms of mesh time: where a backup was restored, or what a majority knew was lost. None
/// where it never was, or so long ago that it is not kept.
#[derive(Debug, Default)]
pub(super) struct Forked {
    /// The last timeline that was looked up, and its beginning.
    known: Option<(TimelineId, Option<u64>)>,
}

impl Forked {
    /// # Errors
    /// History could not be read.
    pub fn at_ms(&mut self, view: &View) -> Result<Option<u64>, Error> {
        let timelines = view.state().mesh.mesh().map(|mesh| mesh.timelines.as_slice());
        let Some([.., last]) = timelines.filter(|timelines| timelines.len() > 1) else {
            return Ok(None);
        };
        if let Some((_, at_ms)) = self.known.filter(|(of, _)| *of == last.id) {
            return Ok(at_ms);
        }
        // The first of its own is what it began with.
        let first = Revision(last.fork.0.saturating_add(1));
        let at_ms = if first < View::oldest(view) {
            None
        } else {
            view.time_ms(first)?
        };
        self.known = Some((last.id, at_ms));
        Ok(at_ms)
    }
}

/// What is asked of the settings and of their past.
trait Past {
    /// The lease that is in force now, in ms.
    fn lease_ms(&self) -> u64;
    /// The revision that last changed the settings; none where they were never set.
    fn last_change(&self) -> Option<Revision>;
    /// The revisions before one that changed the settings, newest first, at most [`CHANGES_MAX`], as far as they are kept.
    fn changes_before(&self, revision: Revision) -> Result<Vec<Revision>, Error>;
    /// The oldest revision that is kept.
    fn oldest(&self) -> Revision;
    /// When a revision was, in ms of mesh time; none where it is not kept.
    fn time_ms(&self, revision: Revision) -> Result<Option<u64>, Error>;
    /// The lease that was in force after a revision, in ms; none where that is not kept.
    fn lease_ms_at(&self, revision: Revision) -> Result<Option<u64>, Error>;
}

impl Past for View {
    fn lease_ms(&self) -> u64 {
        self.state().mesh.settings().presence_lease_ms
    }

    fn last_change(&self) -> Option<Revision> {
        self.state().mesh.config().map(|config| config.meta.changed.revision)
    }

    fn changes_before(&self, revision: Revision) -> Result<Vec<Revision>, Error> {
        View::changes_before(self, Kind::Config, Config::ID, revision, CHANGES_MAX)
    }

    fn oldest(&self) -> Revision {
        View::oldest(self)
    }

    fn time_ms(&self, revision: Revision) -> Result<Option<u64>, Error> {
        let recorded = self.unit(revision)?;
        Ok(recorded.map(|recorded| recorded.unit.stamp.mesh_time_ms))
    }

    fn lease_ms_at(&self, revision: Revision) -> Result<Option<u64>, Error> {
        let settings = match self.record_at(Kind::Config, Config::ID, revision) {
            Ok(Some(Record::Config(config))) => Settings::of(&config.overrides),
            Ok(Some(_) | None) => Settings::default(),
            Err(Error::Compacted { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(settings.presence_lease_ms))
    }
}

/// The longest lease that was in force at any time since `since_ms`; `most_ms` where that cannot be told.
fn longest_since(past: &impl Past, since_ms: u64, most_ms: u64) -> Result<u64, Error> {
    let mut longest_ms = past.lease_ms();
    let Some(last) = past.last_change() else {
        return Ok(longest_ms);
    };
    let oldest = past.oldest();
    let earlier = past.changes_before(last)?;
    let more = earlier.len() >= CHANGES_MAX;
    let changes = std::iter::once(last).chain(earlier);
    for revision in changes.filter(|revision| *revision >= oldest) {
        let Some(changed_ms) = past.time_ms(revision)? else {
            return Ok(most_ms);
        };
        if changed_ms < since_ms {
            return Ok(longest_ms);
        }
        let before = revision.0.saturating_sub(1);
        if before == 0 {
            // The mesh began with these settings: there were no others before.
            return Ok(longest_ms);
        }
        let Some(lease_ms) = past.lease_ms_at(Revision(before))? else {
            return Ok(most_ms);
        };
        longest_ms = longest_ms.max(lease_ms);
    }
    // What changed before the oldest revision that is kept is not known. It matters if that is not long ago.
    let all = oldest.0 <= 1 || past.time_ms(oldest)?.is_some_and(|oldest_ms| oldest_ms < since_ms);
    Ok(if all && !more { longest_ms } else { most_ms })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MOST_MS: u64 = 60_000;
    /// From one revision to the next.
    const STEP_MS: u64 = 1_000;

    /// Settings that changed at these revisions, with the lease from then on. Revision `n` was at `n` seconds.
    struct Changes {
        changes: Vec<(u64, u64)>,
        oldest: u64,
    }

    impl Changes {
        /// The longest lease since a revision.
        fn since(&self, revision: u64) -> u64 {
            longest_since(self, revision * STEP_MS, MOST_MS).unwrap()
        }
    }

    impl Past for Changes {
        fn lease_ms(&self) -> u64 {
            self.changes.last().map_or(10_000, |(_, lease_ms)| *lease_ms)
        }

        fn last_change(&self) -> Option<Revision> {
            self.changes.last().map(|(revision, _)| Revision(*revision))
        }

        fn changes_before(&self, below: Revision) -> Result<Vec<Revision>, Error> {
            let revisions = self.changes.iter().rev().map(|(revision, _)| *revision);
            let kept = revisions.filter(|revision| *revision < below.0 && *revision >= self.oldest);
            Ok(kept.take(CHANGES_MAX).map(Revision).collect())
        }

        fn oldest(&self) -> Revision {
            Revision(self.oldest)
        }

        fn time_ms(&self, revision: Revision) -> Result<Option<u64>, Error> {
            Ok((revision.0 >= self.oldest).then_some(revision.0 * STEP_MS))
        }

        fn lease_ms_at(&self, revision: Revision) -> Result<Option<u64>, Error> {
            let mut before = self.changes.iter().filter(|(changed, _)| *changed <= revision.0);
            let lease_ms = before.next_back().map_or(10_000, |(_, lease_ms)| *lease_ms);
            Ok((revision.0 >= self.oldest).then_some(lease_ms))
        }
    }

    #[test]
    fn settings_that_were_never_changed_have_one_lease() {
        let never = Changes {
            changes: vec![],
            oldest: 1,
        };
        assert_eq!(never.since(0), 10_000);
        let from_the_beginning = Changes {
            changes: vec![(1, 7_000)],
            oldest: 1,
        };
        assert_eq!(from_the_beginning.since(0), 7_000);
    }

    #[test]
    fn the_longest_of_several_counts_for_as_long_as_it_may_be_out() {
        let several = Changes {
            changes: vec![(1, 20_000), (30, 5_000), (40, 15_000), (50, 3_000)],
            oldest: 1,
        };
        // Each is out until the next takes its place.
        assert_eq!(several.since(20), 20_000);
        assert_eq!(several.since(30), 20_000);
        assert_eq!(several.since(31), 15_000);
        assert_eq!(several.since(50), 15_000);
        assert_eq!(several.since(51), 3_000);
        // A longer one of today is the longest.
        let longer = Changes {
            changes: vec![(1, 5_000), (30, 2_000), (40, 30_000)],
            oldest: 1,
        };
        assert_eq!((longer.since(20), longer.since(60)), (30_000, 30_000));
    }

    #[test]
    fn what_is_no_longer_kept_counts_as_the_longest_there_may_be() {
        let changes = vec![(1, 20_000), (30, 5_000), (50, 3_000)];
        // The change before the last is gone, and it may have been a moment ago.
        let cut = |oldest| Changes {
            changes: changes.clone(),
            oldest,
        };
        assert_eq!(cut(40).since(20), MOST_MS);
        assert_eq!(cut(40).since(40), MOST_MS);
        // It was before the oldest that is kept, which is long ago.
        assert_eq!(cut(40).since(41), 5_000);
        // The last itself is gone.
        assert_eq!(cut(60).since(50), MOST_MS);
        assert_eq!(cut(60).since(61), 3_000);
        // The oldest that is kept is a change: what was before it is not known.
        assert_eq!(cut(50).since(45), MOST_MS);
        assert_eq!(cut(50).since(51), 3_000);
    }

    #[test]
    fn more_changes_than_are_looked_at_count_as_the_longest_there_may_be() {
        let restless = |count: u64| Changes {
            changes: (1..=count).map(|revision| (revision, 5_000)).collect(),
            oldest: 1,
        };
        assert_eq!(restless(60).since(0), 5_000);
        assert_eq!(restless(200).since(0), MOST_MS);
        assert_eq!(restless(200).since(150), 5_000);
    }
}
