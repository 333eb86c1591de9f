//! One call: attempts, redirects and retries within one deadline.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Client, Shared,
    attempt::{self, Failed},
    outcome::{Verdict, verdict},
    route::{Next, ROUNDS_MAX, Route},
};
use crate::{
    Answer, CallOptions, Endpoint, Error, Result, Transport,
    methods::{Keyed, Rpc},
    rng,
};

/// How often an attempt is given twice the time of the one before.
const LATE_MAX: u32 = 8;
/// Requests of one call at most, whatever the deadline.
const ATTEMPTS_MAX: u32 = 1_000;

pub(super) struct Call<'a> {
    shared: &'a Shared,
    rpc: Rpc,
    request: Box<dyn Keyed>,
    /// The request, written.
    bytes: Bytes,
    options: CallOptions,
    /// The idempotency key; empty for reads, and for changes that the mesh keeps no key of.
    key: String,
    timeout: Duration,
    deadline: Instant,
    route: Route,
    attempts: u32,
    /// How many of them were not answered in time.
    late: u32,
    /// The last answer that was not final.
    last: Option<Error>,
    /// True once a mutation was sent and its outcome is not known.
    unknown: bool,
    /// True where the last failure itself leaves the outcome open, rather than one before it.
    last_open: bool,
    reloaded: bool,
    /// True where the key is a ULID that this call made.
    minted: bool,
    /// True for a mutation that is meant: one that nothing may come of twice. A dry run changes nothing, however often
    /// it is asked.
    changes: bool,
}

impl<'a> Call<'a> {
    /// Stamps the idempotency key: the caller's, or a fresh ULID. A mutation is `meant` unless it is a dry run.
    pub(super) fn new(
        shared: &'a Shared,
        rpc: Rpc,
        mut request: Box<dyn Keyed>,
        meant: bool,
        options: CallOptions,
    ) -> Result<Self> {
        let mut timeout = options.timeout.unwrap_or(shared.timeout);
        let mut key = String::new();
        let mut minted = false;
        if rpc.mutation {
            timeout = timeout.min(Client::MUTATION_TIMEOUT_MAX);
            if let Some(field) = request.key() {
                if field.is_empty() {
                    minted = true;
                    *field = rng::ulid(shared.entropy.as_ref());
                }
                key.clone_from(field);
            } else {
                key.clone_from(&options.idempotency_key);
            }
        }
        if timeout.is_zero() {
            return Err(Error::invalid("the timeout is 0", "give at least 1ms, such as 20s"));
        }
        let only = options.only.as_ref().map(std::slice::from_ref);
        Ok(Self {
            shared,
            rpc,
            changes: rpc.mutation && meant,
            bytes: request.to_wire(),
            request,
            key,
            timeout,
            deadline: Instant::now() + timeout,
            route: Route::new(
                only.unwrap_or(&shared.endpoints),
                if options.once { 1 } else { ROUNDS_MAX },
            ),
            attempts: 0,
            late: 0,
            last: None,
            unknown: false,
            last_open: false,
            reloaded: false,
            minted,
            options,
        })
    }

    pub(super) async fn run(mut self) -> Result<Answer<Bytes>> {
        let mut endpoint = self
            .options
            .only
            .clone()
            .unwrap_or_else(|| self.shared.start(self.rpc.leader));
        loop {
            self.attempts += 1;
            // What takes its time is given more of it at each attempt: it would never be done otherwise.
            let patience = if self.once_only() {
                self.timeout
            } else {
                self.shared.attempt_timeout.saturating_mul(1 << self.late.min(LATE_MAX))
            };
            let limit = self.options.attempt_timeout.unwrap_or(patience);
            let by = self.deadline.min(Instant::now() + limit);
            let sent = attempt::send(
                self.shared,
                &endpoint,
                self.rpc,
                &self.bytes,
                &self.key,
                &self.options,
                by,
            )
            .await;
            let next = match sent {
                Ok(mut answer) => {
                    self.shared.answered(&endpoint, self.rpc.leader);
                    answer.meta.attempts = self.attempts;
                    return Ok(answer);
                }
                Err(failed) => self.after_failure(&endpoint, failed),
            };
            let (to, delay) = match next {
                Next::Ask { endpoint, delay } => (endpoint, delay),
                Next::Unreachable => return Err(self.unreachable()),
                Next::Stop => return Err(self.give_up("")),
            };
            let now = Instant::now();
            if now + delay >= self.deadline || self.attempts >= ATTEMPTS_MAX {
                return Err(self.out_of_time());
            }
            tracing::debug!(method = self.rpc.path, from = %endpoint, to = %to, delay_ms = delay.as_millis(), attempt = self.attempts, "asking again");
            tokio::time::sleep(delay).await;
            endpoint = to;
        }
    }

    /// A change without an idempotency key: asked again after it may have been carried out, it could be carried out
    /// twice.
    fn once_only(&self) -> bool {
        self.changes && self.key.is_empty()
    }

    /// What to do next.
    fn after_failure(&mut self, endpoint: &Endpoint, failed: Failed) -> Next {
        self.shared.failed(endpoint);
        let entropy = self.shared.entropy.as_ref();
        match failed {
            Failed::NotConnected(error) => self.route.not_connected(endpoint, error, entropy),
            Failed::Refused { error, broke } => {
                let said = verdict(&error, broke);
                self.late += u32::from(error.code() == "deadline_exceeded");
                self.last_open = said == Verdict::Open;
                self.unknown = self.changes
                    && match said {
                        Verdict::Open => true,
                        Verdict::Refused => self.unknown,
                        // Without a key nothing was looked up.
                        Verdict::Settled => self.unknown && self.once_only(),
                    };
                if self.last_open && self.once_only() {
                    self.last = Some(error);
                    return Next::Stop;
                }
                let redirect = error.code() == "not_leader";
                if self.stale_token(&error) {
                    return Next::Ask {
                        endpoint: endpoint.clone(),
                        delay: Duration::ZERO,
                    };
                }
                if self.clock_is_slow(&error) {
                    return Next::Ask {
                        endpoint: endpoint.clone(),
                        delay: Duration::ZERO,
                    };
                }
                let mut next = self.route.refused(endpoint, &error, broke, entropy);
                let pinned = self.options.only.is_some() || self.options.stay;
                let known = redirect && error.leader().is_some();
                if (redirect && pinned) || (self.options.once && !known) {
                    next = Next::Stop;
                }
                if error.code() == "unauthenticated" {
                    next = Next::Stop;
                }
                self.last = Some(error);
                next
            }
        }
    }

    /// True, once, where the token was refused and its file holds another by now.
    fn stale_token(&mut self, error: &Error) -> bool {
        let refused = matches!(error.code(), "unauthenticated" | "credential_expired");
        if !refused || self.reloaded {
            return false;
        }
        self.reloaded = true;
        self.shared.reload_token()
    }

    /// True, once, where a key that was just made counts as expired: this machine's clock is behind the mesh's, and
    /// a ULID says when it was made. Nothing was applied, so another key that tells no time does instead.
    fn clock_is_slow(&mut self, error: &Error) -> bool {
        if error.code() != "idempotency_key_expired" || !self.minted || self.unknown {
            return false;
        }
        self.minted = false;
        self.key = format!("sdk-{}", rng::ulid(self.shared.entropy.as_ref()));
        if let Some(field) = self.request.key() {
            field.clone_from(&self.key);
            self.bytes = self.request.to_wire();
        }
        tracing::warn!("this machine's clock is behind the mesh's by a minute or more");
        true
    }

    /// Nobody could be reached any more; if somebody had answered before, that is said too.
    fn unreachable(&mut self) -> Error {
        let error = self.shared.cannot_connect(self.route.attempts());
        // Nothing was sent this time.
        self.last_open = false;
        self.finish(error)
    }

    fn out_of_time(&mut self) -> Error {
        let waited = crate::duration::format(self.timeout);
        let suffix = format!(" (gave up after {waited} and {} attempts)", self.attempts);
        match self.last.take() {
            Some(error) => {
                self.last = Some(error);
                self.give_up(&suffix)
            }
            None => {
                let attempts = self.route.attempts();
                let error = if attempts.is_empty() {
                    let hint = match self.shared.transport {
                        Transport::Auto | Transport::H2 => "raise --request-timeout, or see `mesh status`",
                        Transport::H3 => {
                            "`transport` is h3, so nothing else was tried: with auto or h2 it goes over TCP"
                        }
                    };
                    Error::deadline(format!("no answer within {waited}"), hint)
                } else {
                    self.shared.cannot_connect(attempts).with_detail(&suffix)
                };
                self.finish(error)
            }
        }
    }

    fn give_up(&mut self, suffix: &str) -> Error {
        let error = self.last.take().unwrap_or_else(|| Error::deadline("no answer", ""));
        let error = if suffix.is_empty() {
            error
        } else {
            error.with_detail(suffix)
        };
        self.finish(error)
    }

    fn finish(&self, error: Error) -> Error {
        let error = error.with_outcome(self.unknown, self.last_open, &self.key);
        match error.code() {
            "not_leader" | "unavailable" => error.or_hint("see `mesh status`: without a quorum nobody leads"),
            "deadline_exceeded" => error.or_hint("try again, with a longer --request-timeout where that helps"),
            _ => error,
        }
    }
}
