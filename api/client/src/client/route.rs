//! Which endpoint comes next, and when to stop: the decisions of a call, without its I/O.

use std::time::Duration;

use tonic::Code;

use crate::{
    Endpoint, Entropy, Error,
    connect::{ConnectError, Stage},
    error::Attempt,
};

/// Times all endpoints are tried when none can be reached, before the caller hears of it.
pub(super) const ROUNDS_MAX: u32 = 3;
/// Redirects that are followed at once; later ones wait first, for the cluster is still making up its mind.
const HOPS_AT_ONCE: u32 = 2;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// While a leader is being elected: the longer this is, the later the first write after a failover.
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// Where the caller is asked to slow down.
const BACKOFF_SLOW_MAX: Duration = Duration::from_secs(1);
/// Attempts that may end in something that looks like a defect rather than an absence.
const ODD_MAX: u32 = 4;

/// What a call does after a failure.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask `endpoint` after `delay`.
    Ask { endpoint: Endpoint, delay: Duration },
    /// Give up: nobody can be reached.
    Unreachable,
    /// Give up: the error is the answer.
    Stop,
}

/// The way of one call through the endpoints.
pub(super) struct Route {
    endpoints: Vec<Endpoint>,
    /// Failed connects since something last answered.
    unreachable: Vec<(Endpoint, ConnectError)>,
    rounds: u32,
    rounds_max: u32,
    hops: u32,
    backoffs: u32,
    odd: u32,
}

impl Route {
    pub(super) fn new(endpoints: &[Endpoint], rounds_max: u32) -> Self {
        Self {
            endpoints: endpoints.to_vec(),
            unreachable: Vec::new(),
            rounds: 0,
            rounds_max,
            hops: 0,
            backoffs: 0,
            odd: 0,
        }
    }

    /// `endpoint` could not be connected.
    pub(super) fn not_connected(&mut self, endpoint: &Endpoint, error: ConnectError, entropy: &dyn Entropy) -> Next {
        self.unreachable.retain(|(known, _)| known != endpoint);
        self.unreachable.push((endpoint.clone(), error));
        let untried = self
            .after(endpoint)
            .find(|next| !self.unreachable.iter().any(|(tried, _)| tried == *next))
            .cloned();
        if let Some(next) = untried {
            return Next::Ask {
                endpoint: next,
                delay: Duration::ZERO,
            };
        }
        self.rounds += 1;
        let hopeless = self.unreachable.iter().all(|(_, error)| error.stage == Stage::Tls);
        if self.rounds >= self.rounds_max || hopeless {
            return Next::Unreachable;
        }
        let Some(next) = self.endpoints.first().cloned() else {
            return Next::Unreachable;
        };
        self.unreachable.clear();
        Next::Ask {
            endpoint: next,
            delay: self.backoff(entropy),
        }
    }

    /// `endpoint` answered with `error`, or the connection broke before it did.
    pub(super) fn refused(&mut self, endpoint: &Endpoint, error: &Error, broke: bool, entropy: &dyn Entropy) -> Next {
        self.rounds = 0;
        self.unreachable.clear();
        if error.code() == "not_leader" {
            return self.redirected(endpoint, error, entropy);
        }
        if broke {
            if !matches!(
                error.status(),
                Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
            ) {
                self.odd += 1;
                if self.odd >= ODD_MAX {
                    return Next::Stop;
                }
            }
            return Next::Ask {
                endpoint: self.other(endpoint),
                delay: self.backoff(entropy),
            };
        }
        if !error.retryable() {
            return Next::Stop;
        }
        let asked = Duration::from_millis(u64::from(error.problem().retry_after_ms));
        let (endpoint, delay) = match error.code() {
            // The caller's own share is used up; another node would count the same.
            "rate_limited" | "resource_exhausted" => (endpoint.clone(), self.backoff_up_to(BACKOFF_SLOW_MAX, entropy)),
            _ => (self.other(endpoint), self.backoff(entropy)),
        };
        Next::Ask {
            endpoint,
            delay: delay.max(asked),
        }
    }

    fn redirected(&mut self, endpoint: &Endpoint, error: &Error, entropy: &dyn Entropy) -> Next {
        self.hops += 1;
        // Without TLS only to this machine, and only where the one who says so was asked in the same way: a redirect
        // must not talk the token out of TLS, whatever other endpoints the context has.
        let plain = !endpoint.is_tls() && endpoint.is_loopback();
        let leader = error.leader().and_then(|api| api.parse::<Endpoint>().ok());
        let leader = leader.filter(|leader| leader.is_tls() || plain);
        match leader {
            Some(leader) if leader != *endpoint => {
                let delay = if self.hops <= HOPS_AT_ONCE {
                    Duration::ZERO
                } else {
                    self.backoff(entropy)
                };
                Next::Ask {
                    endpoint: leader,
                    delay,
                }
            }
            _ => Next::Ask {
                endpoint: self.other(endpoint),
                delay: self.backoff(entropy),
            },
        }
    }

    /// What was tried in vain, for the error.
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        let text = |(endpoint, error): &(Endpoint, ConnectError)| Attempt {
            endpoint: endpoint.to_string(),
            why: error.to_string(),
        };
        self.unreachable.iter().map(text).collect()
    }

    /// The endpoint behind `endpoint`; the first where it is not one of the configured.
    fn other(&self, endpoint: &Endpoint) -> Endpoint {
        self.after(endpoint).next().unwrap_or(endpoint).clone()
    }

    /// All configured endpoints, beginning behind `endpoint`.
    fn after(&self, endpoint: &Endpoint) -> impl Iterator<Item = &Endpoint> {
        let start = self
            .endpoints
            .iter()
            .position(|known| known == endpoint)
            .map_or(0, |index| index + 1);
        let (before, behind) = self.endpoints.split_at(start.min(self.endpoints.len()));
        behind.iter().chain(before)
    }

    fn backoff(&mut self, entropy: &dyn Entropy) -> Duration {
        self.backoff_up_to(BACKOFF_MAX, entropy)
    }

    /// Grows from 50 ms to `max`, of which a random half is left out, so that callers do not come back together.
    fn backoff_up_to(&mut self, max: Duration, entropy: &dyn Entropy) -> Duration {
        let full = BACKOFF_FIRST.saturating_mul(1 << self.backoffs.min(10)).min(max);
        self.backoffs += 1;
        let full_us = u64::try_from(full.as_micros()).unwrap_or(u64::MAX).max(2);
        Duration::from_micros(full_us / 2 + entropy.random() % (full_us / 2))
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::{Problem, problem};

    use super::*;

    struct Fixed;

    impl Entropy for Fixed {
        fn random(&self) -> u64 {
            0
        }
        fn wall_ms(&self) -> u64 {
            0
        }
    }

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::parse_any(&format!("https://127.0.0.1:{port}")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused() -> ConnectError {
        ConnectError {
            stage: Stage::Network,
            detail: "connection refused".into(),
        }
    }

    fn not_leader(api: &str) -> Error {
        let leader = (!api.is_empty()).then(|| problem::Leader { id: 2, api: api.into() });
        let problem = Problem {
            code: "not_leader".into(),
            retryable: true,
            leader,
            ..Problem::default()
        };
        let any = prost_types::Any {
            type_url: "type.googleapis.com/meshkit.v1.Problem".into(),
            value: prost::Message::encode_to_vec(&problem),
        };
        let status = tonic_types::pb::Status {
            code: 14,
            message: String::new(),
            details: vec![any],
        };
        let bytes = prost::Message::encode_to_vec(&status);
        Error::from_status(&tonic::Status::with_details(Code::Unavailable, "", bytes.into()))
    }

    fn asked(next: Next) -> Endpoint {
        match next {
            Next::Ask { endpoint, .. } => endpoint,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn endpoints_are_tried_in_order_and_rounds_end() {
        let mut route = Route::new(&[endpoint(1), endpoint(2)], ROUNDS_MAX);
        for _ in 0..2 {
            assert_eq!(asked(route.not_connected(&endpoint(1), refused(), &Fixed)), endpoint(2));
            assert_eq!(asked(route.not_connected(&endpoint(2), refused(), &Fixed)), endpoint(1));
        }
        assert_eq!(asked(route.not_connected(&endpoint(1), refused(), &Fixed)), endpoint(2));
        assert_eq!(route.not_connected(&endpoint(2), refused(), &Fixed), Next::Unreachable);
        assert_eq!(route.attempts().len(), 2);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_not_tried_again() {
        let mut route = Route::new(&[endpoint(1)], ROUNDS_MAX);
        let error = ConnectError {
            stage: Stage::Tls,
            detail: "unknown issuer".into(),
        };
        assert_eq!(route.not_connected(&endpoint(1), error, &Fixed), Next::Unreachable);
    }

    #[test]
    fn the_leader_is_followed_but_not_out_of_tls() {
        let mut route = Route::new(&[endpoint(1), endpoint(2)], ROUNDS_MAX);
        let next = route.refused(&endpoint(1), &not_leader("https://127.0.0.1:9"), false, &Fixed);
        assert_eq!(
            next,
            Next::Ask {
                endpoint: endpoint(9),
                delay: Duration::ZERO
            }
        );
        let next = route.refused(&endpoint(1), &not_leader("http://127.0.0.1:9"), false, &Fixed);
        assert_eq!(asked(next), endpoint(2));
        let next = route.refused(&endpoint(2), &not_leader(""), false, &Fixed);
        assert!(matches!(next, Next::Ask { endpoint: e, delay } if e == endpoint(1) && delay > Duration::ZERO));
    }

    #[test]
    fn a_plain_leader_is_followed_only_from_plain_loopback() {
        let at = |text: &str| Endpoint::parse_any(text).unwrap_or_else(|error| panic!("{error}"));
        let (tls, plain, far) = (
            at("https://127.0.0.1:1"),
            at("http://127.0.0.1:2"),
            at("http://10.0.0.1:3"),
        );
        let follows = |from: &Endpoint, to: &str| {
            // That some endpoint of the context has no TLS is no leave for the others.
            let mut route = Route::new(&[tls.clone(), plain.clone(), far.clone()], ROUNDS_MAX);
            asked(route.refused(from, &not_leader(to), false, &Fixed)) == at(to)
        };
        assert!(follows(&plain, "http://127.0.0.1:9"));
        assert!(follows(&plain, "https://10.0.0.9:9"));
        assert!(follows(&tls, "https://10.0.0.9:9"));
        assert!(!follows(&tls, "http://127.0.0.1:9"));
        assert!(!follows(&far, "http://127.0.0.1:9"));
        assert!(!follows(&plain, "http://10.0.0.9:9"));
    }

    #[test]
    fn a_dead_leader_leads_back_to_the_configured_endpoints() {
        let mut route = Route::new(&[endpoint(1), endpoint(2)], ROUNDS_MAX);
        route.refused(&endpoint(1), &not_leader("https://127.0.0.1:9"), false, &Fixed);
        assert_eq!(asked(route.not_connected(&endpoint(9), refused(), &Fixed)), endpoint(1));
    }

    #[test]
    fn a_final_answer_stops() {
        let mut route = Route::new(&[endpoint(1)], ROUNDS_MAX);
        let error = Error::local("etag_mismatch", Code::Aborted, "", "");
        assert_eq!(route.refused(&endpoint(1), &error, false, &Fixed), Next::Stop);
    }
}
