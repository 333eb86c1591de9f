//! Histograms of `u64` in 252 buckets, as openraft counts its batches in: what it uses of the crate `base2histogram`, in
//! whose place this one is put (`[patch.crates-io]` of the workspace, docs/adr/0009).
//!
//! Deliberately not here: sliding windows, other resolutions, and tables. What bucket a value is in, and where a bucket
//! begins, takes a few instructions to compute.

use std::fmt;
use std::marker::PhantomData;

mod chart;

pub use chart::{AsciiChart, Detailed};

/// Values below this have a bucket each. Above, there are as many buckets from each power of two to the next.
const GROUP: usize = 4;
/// Bits that tell the bucket: the highest one that is set and two more.
const WIDTH: u32 = 3;
/// Buckets that cover every `u64`.
const BUCKETS: usize = GROUP * (u64::BITS - WIDTH + 2) as usize;

/// How often values of each size were seen. `T` is there for those who name it, and carries nothing.
pub struct Histogram<T = ()> {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
    slot: PhantomData<fn() -> T>,
}

/// Samples, and the value below which a share of them is: `p99` is that of 99 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are what there is to say")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl<T> Histogram<T> {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
            slot: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times. Counters stay at their maximum once they have reached it.
    pub fn record_n(&mut self, value: u64, count: u64) {
        if let Some(bucket) = self.counts.get_mut(bucket_of(value)) {
            *bucket = bucket.saturating_add(count);
        }
        self.total = self.total.saturating_add(count);
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The value below which a share `p` of the values is, from 0 to 1; 0 where there are none. It is right to within
    /// a bucket, whose width is at most a quarter of the value; within it, values are taken to be spread evenly.
    pub fn percentile(&self, p: f64) -> u64 {
        let rank = (self.total as f64 * p).ceil().clamp(1.0, (self.total as f64).max(1.0)) as u64;
        let mut before = 0_u64;
        for (bucket, count) in self.filled() {
            if rank <= before.saturating_add(count) {
                // The middle of this value's share of the bucket, of which there are `count`.
                let share = (2 * u128::from(rank - before) - 1) * u128::from(width_of(bucket));
                let into = u64::try_from(share / (2 * u128::from(count))).unwrap_or(u64::MAX);
                return least_of(bucket).saturating_add(into);
            }
            before = before.saturating_add(count);
        }
        0
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.total,
            p0_1: self.percentile(0.001),
            p1: self.percentile(0.01),
            p5: self.percentile(0.05),
            p10: self.percentile(0.1),
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p99_9: self.percentile(0.999),
        }
    }

    /// Buckets that hold something, and how much.
    fn filled(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counted = self.counts.iter().copied().enumerate();
        counted.filter(|(_, count)| *count > 0)
    }
}

/// The bucket of a value, from 0 to `BUCKETS - 1`.
fn bucket_of(value: u64) -> usize {
    if value < GROUP as u64 {
        return value as usize;
    }
    let dropped = u64::BITS - WIDTH - value.leading_zeros();
    let within = (value >> dropped) as usize % GROUP;
    GROUP + dropped as usize * GROUP + within
}

/// The least value of a bucket.
fn least_of(bucket: usize) -> u64 {
    if bucket < GROUP {
        return bucket as u64;
    }
    ((GROUP + bucket % GROUP) as u64) << (bucket / GROUP - 1)
}

/// How many values share a bucket.
fn width_of(bucket: usize) -> u64 {
    1 << (bucket / GROUP).saturating_sub(1)
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Histogram<T> {
    fn clone(&self) -> Self {
        Self {
            counts: self.counts.clone(),
            total: self.total,
            slot: PhantomData,
        }
    }
}

impl<T> PartialEq for Histogram<T> {
    fn eq(&self, other: &Self) -> bool {
        self.counts == other.counts
    }
}

impl<T> Eq for Histogram<T> {}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.filled().map(|(bucket, count)| (least_of(bucket), count));
        f.debug_map().entries(filled).finish()
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "[samples: {}, P0.1: {}, P1: {}, P5: {}, P10: {}, P50: {}, P90: {}, P99: {}, P99.9: {}]",
            self.samples, self.p0_1, self.p1, self.p5, self.p10, self.p50, self.p90, self.p99, self.p99_9
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_on_each_other_and_cover_everything() {
        assert_eq!(BUCKETS, 252);
        let mut next = 0;
        for bucket in 0..BUCKETS {
            assert_eq!(least_of(bucket), next);
            let last = next + (width_of(bucket) - 1);
            assert_eq!((bucket_of(next), bucket_of(last)), (bucket, bucket));
            next = last.wrapping_add(1);
        }
        assert_eq!(next, 0, "the last bucket ends with u64::MAX");
    }

    #[test]
    fn percentiles_are_within_a_bucket_of_the_true_ones() {
        let mut histogram = Histogram::<()>::new();
        (1..=10_000).for_each(|value| histogram.record(value));
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 10_000);
        for (found, truth) in [(stats.p1, 100), (stats.p50, 5_000), (stats.p99, 9_900)] {
            let bucket = bucket_of(truth);
            assert!(found.abs_diff(truth) <= width_of(bucket), "{found} for {truth}");
        }
    }

    #[test]
    fn nothing_one_thing_and_the_largest() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!((histogram.total(), histogram.percentile(0.5)), (0, 0));
        histogram.record(0);
        histogram.record_n(3, 2);
        assert_eq!((histogram.percentile(0.0), histogram.percentile(1.0)), (0, 3));
        histogram.record_n(u64::MAX, u64::MAX);
        assert_eq!(histogram.total(), u64::MAX);
        assert!(histogram.percentile(1.0) >= 7 << 61);
    }

    #[test]
    fn what_is_cloned_counts_on_its_own() {
        let mut histogram: Histogram = Histogram::default();
        histogram.record(7);
        let mut other = histogram.clone();
        assert_eq!(histogram, other);
        other.record(7);
        assert_ne!(histogram, other);
        assert_eq!(format!("{other:?}"), "{7: 2}");
    }
}
