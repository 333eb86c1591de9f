//! Who may hold how much at once: places for requests and long polls, shares of them per principal, and shares of
//! connections per address. Everything taken is given back by being dropped.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use parking_lot::Mutex;
use proto::codes::Code;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, Limits};

/// Counts what each of many holds, and stops each at the same number. Remembers only those who hold something.
pub(crate) struct Shares<K> {
    most: usize,
    held: Mutex<HashMap<K, usize>>,
}

/// One unit of somebody's share.
pub(crate) struct Share<K: Eq + Hash> {
    of: Arc<Shares<K>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Shares<K> {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            held: Mutex::new(HashMap::new()),
        })
    }

    /// One more for `key`; none where it holds all that it may.
    pub(crate) fn take(self: &Arc<Self>, key: K) -> Option<Share<K>> {
        if self.most == 0 {
            return None;
        }
        let mut all = self.held.lock();
        let held = all.entry(key.clone()).or_insert(0);
        if *held >= self.most {
            return None;
        }
        *held += 1;
        Some(Share {
            of: Arc::clone(self),
            key,
        })
    }
}

impl Shares<String> {
    /// One more for a principal.
    ///
    /// # Errors
    /// `rate_limited` where it holds all that it may.
    pub(crate) fn take_of(
        self: &Arc<Self>,
        principal: &str,
        what: &str,
        retry_after_ms: u32,
    ) -> Result<Share<String>, Error> {
        self.take(principal.to_owned()).ok_or_else(|| {
            Error::new(
                Code::RateLimited,
                format!("`{principal}` has its whole share of {what} at this node under way"),
            )
            .with(|problem| {
                (problem.measured, problem.limit) = (self.most.to_string(), self.most.to_string());
                problem.retry_after_ms = retry_after_ms;
            })
            .hint("wait for some of them to end, or spread them over nodes; others are served meanwhile")
        })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut all = self.of.held.lock();
        if let Some(held) = all.get_mut(&self.key) {
            *held -= 1;
            if *held == 0 {
                all.remove(&self.key);
            }
        }
    }
}

/// What connections of one party have in common: an IPv4 address, or the /64 network of an IPv6 address, since whoever
/// has one address of it usually has all.
pub(crate) fn party(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// Places for requests and long polls.
pub(crate) struct Places {
    requests: Pool,
    long_polls: Pool,
    watches: Pool,
    anonymous: Arc<Semaphore>,
}

struct Pool {
    all: Arc<Semaphore>,
    shares: Arc<Shares<String>>,
}

/// A place that is held.
pub(crate) struct Place {
    _share: Option<Share<String>>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    fn new(all: usize, percent: u32) -> Self {
        let share = all.saturating_mul(usize::try_from(percent).unwrap_or(100)) / 100;
        Self {
            all: Arc::new(Semaphore::new(all)),
            shares: Shares::new(share.max(1)),
        }
    }

    /// A place within the principal's share and the whole.
    fn take(&self, principal: &str, what: &str, retry_after_ms: u32) -> Result<Place, Error> {
        let share = self.shares.take_of(principal, what, retry_after_ms)?;
        let permit = Arc::clone(&self.all)
            .try_acquire_owned()
            .map_err(|_| full(&format!("too many {what} are under way at this node"), retry_after_ms))?;
        Ok(Place {
            _share: Some(share),
            _permit: permit,
        })
    }
}

fn full(detail: &str, retry_after_ms: u32) -> Error {
    Error::new(Code::ResourceExhausted, detail)
        .with(|problem| problem.retry_after_ms = retry_after_ms)
        .hint("try again in a moment, or another node")
}

impl Places {
    pub(crate) fn new(limits: &Limits) -> Self {
        let percent = limits.principal_share_percent;
        Self {
            requests: Pool::new(limits.requests_in_flight_max, percent),
            long_polls: Pool::new(limits.long_polls_max, percent),
            watches: Pool::new(limits.watches_max, percent),
            anonymous: Arc::new(Semaphore::new(limits.requests_in_flight_anonymous_max)),
        }
    }

    /// A place for a request of a known caller.
    ///
    /// # Errors
    /// `rate_limited` where the caller's share is used up, `resource_exhausted` where all places are taken.
    pub(crate) fn request(&self, principal: &str) -> Result<Place, Error> {
        self.requests.take(principal, "requests", 100)
    }

    /// A place for a long poll.
    ///
    /// # Errors
    /// As [`Places::request`].
    pub(crate) fn long_poll(&self, principal: &str) -> Result<Place, Error> {
        self.long_polls.take(principal, "long polls", 1_000)
    }

    /// A place for a watch.
    ///
    /// # Errors
    /// As [`Places::request`].
    pub(crate) fn watch(&self, principal: &str) -> Result<Place, Error> {
        self.watches.take(principal, "watches", 1_000)
    }

    /// A place for what is done for nobody in particular: health checks, and reading refused bodies away.
    ///
    /// # Errors
    /// `resource_exhausted`.
    pub(crate) fn anonymous(&self) -> Result<Place, Error> {
        let permit = Arc::clone(&self.anonymous).try_acquire_owned();
        let permit =
            permit.map_err(|_| full("too many requests without a credential are under way at this node", 100))?;
        Ok(Place {
            _share: None,
            _permit: permit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_given_back_and_forgotten() {
        let shares = Shares::new(2);
        let (one, two) = (shares.take("a"), shares.take("a"));
        assert!(one.is_some() && two.is_some());
        assert!(shares.take("a").is_none());
        assert!(shares.take("b").is_some());
        drop(one);
        assert!(shares.take("a").is_some());
        drop(two);
        assert!(shares.held.lock().is_empty());
    }

    #[test]
    fn one_principal_leaves_room_for_others() {
        let places = Places::new(&Limits {
            requests_in_flight_max: 4,
            principal_share_percent: 50,
            ..Limits::default()
        });
        let _held = [places.request("a").unwrap(), places.request("a").unwrap()];
        let refused = places.request("a").err().unwrap();
        assert_eq!(refused.code(), Code::RateLimited);
        assert!(refused.is_retryable() && refused.problem().retry_after_ms > 0);
        let _others = [places.request("b").unwrap(), places.request("c").unwrap()];
        assert_eq!(places.request("d").err().unwrap().code(), Code::ResourceExhausted);
    }

    #[test]
    fn a_party_is_an_address_or_a_network() {
        let party = |text: &str| party(text.parse().unwrap());
        assert_eq!(party("10.0.0.1:1"), party("[::ffff:10.0.0.1]:2"));
        assert_ne!(party("10.0.0.1:1"), party("10.0.0.2:1"));
        assert_eq!(party("[2001:db8::1]:1"), party("[2001:db8::ffff:2]:1"));
        assert_ne!(party("[2001:db8::1]:1"), party("[2001:db8:0:1::1]:1"));
    }
}
