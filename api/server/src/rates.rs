//! How many requests a second each principal may send to this node: a bucket for each that fills at a steady rate, and may
//! be emptied at once.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use proto::codes::Code;
use tokio::time::Instant;

use crate::{Error, Limits};

/// The most principals that are remembered. Only those who asked for something within the last moments are.
const PRINCIPALS_MAX: usize = 65_536;

/// The buckets of all principals.
pub(crate) struct Rates {
    /// What one request takes out of a bucket, as the time in which that much flows in; zero where there is no limit.
    each: Duration,
    per_second: u64,
    burst: u32,
    /// When each bucket is full again (the generic cell rate algorithm of ITU-T I.371: one time says it all).
    full_at: Mutex<HashMap<String, Instant>>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        let per_second = limits.requests_per_second_max;
        Self {
            each: Duration::from_nanos(1_000_000_000_u64.checked_div(per_second).unwrap_or(0)),
            per_second,
            burst: limits.requests_burst_max.max(1),
            full_at: Mutex::new(HashMap::new()),
        }
    }

    /// Takes one request out of a principal's bucket.
    ///
    /// # Errors
    /// `rate_limited`, saying when there is one again.
    pub(crate) fn take(&self, principal: &str, now: Instant) -> Result<(), Error> {
        if self.each.is_zero() {
            return Ok(());
        }
        let size = self.each.saturating_mul(self.burst);
        let mut all = self.full_at.lock();
        let full_at = match all.get(principal) {
            Some(full_at) => (*full_at).max(now),
            None => now,
        };
        let taken = full_at + self.each;
        let over = taken.saturating_duration_since(now + size);
        if !over.is_zero() {
            drop(all);
            return Err(self.refusal(principal, over));
        }
        if let Some(known) = all.get_mut(principal) {
            *known = taken;
            return Ok(());
        }
        if all.len() >= PRINCIPALS_MAX {
            // Who has a full bucket is as good as unknown.
            all.retain(|_, full_at| *full_at > now);
        }
        // Where everybody is busy, one more goes uncounted: they are authenticated, and shares bound them still.
        if all.len() < PRINCIPALS_MAX {
            all.insert(principal.to_owned(), taken);
        }
        Ok(())
    }

    fn refusal(&self, principal: &str, over: Duration) -> Error {
        let (per_second, burst) = (self.per_second, self.burst);
        let wait_ms = u32::try_from(over.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
        Error::new(
            Code::RateLimited,
            format!("`{principal}` sends this node more than {per_second} requests a second"),
        )
        .with(|problem| {
            problem.limit = format!("{per_second} a second, {burst} at once");
            problem.retry_after_ms = wait_ms.max(1);
        })
        .hint("wait as long as `retryAfterMs` says, or spread requests over nodes; watches cost one request each")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(requests_per_second_max: u64, requests_burst_max: u32) -> Rates {
        Rates::new(&Limits {
            requests_per_second_max,
            requests_burst_max,
            ..Limits::default()
        })
    }

    #[test]
    fn a_burst_then_the_rate() {
        let (rates, start) = (rates(100, 3), Instant::now());
        for _ in 0..3 {
            rates.take("a", start).unwrap();
        }
        let refused = rates.take("a", start).unwrap_err();
        assert_eq!(refused.code(), Code::RateLimited);
        assert!(refused.is_retryable());
        assert_eq!(refused.problem().retry_after_ms, 10);
        // Others are served meanwhile, and refusals take nothing out.
        rates.take("b", start).unwrap();
        let later = start + Duration::from_millis(10);
        rates.take("a", later).unwrap();
        rates.take("a", later).unwrap_err();
        let rested = later + Duration::from_secs(60);
        for _ in 0..3 {
            rates.take("a", rested).unwrap();
        }
        rates.take("a", rested).unwrap_err();
    }

    #[test]
    fn no_limit_counts_nobody_and_memory_is_bounded() {
        let (none, start) = (rates(0, 1), Instant::now());
        (0..1_000).for_each(|_| none.take("a", start).unwrap());
        assert!(none.full_at.lock().is_empty());
        let some = rates(1_000, 1);
        for one in 0..=PRINCIPALS_MAX {
            some.take(&one.to_string(), start).unwrap();
        }
        assert_eq!(some.full_at.lock().len(), PRINCIPALS_MAX);
        some.take("new", start + Duration::from_secs(1)).unwrap();
        assert_eq!(some.full_at.lock().len(), 1);
    }
}
