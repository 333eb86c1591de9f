//! HTTP/3 against HTTP/2 (after "happy eyeballs", RFC 8305): HTTP/3 has a head start, because where UDP gets through it is
//! there after one round trip, and TCP with TLS after two.

use std::{pin::pin, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    Downgrade,
    connect::{ConnectError, QuicError},
};

/// How long each of the two waits for the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// TCP begins after this, or as soon as HTTP/3 has failed.
    pub(super) head_start: Duration,
    /// From this on HTTP/2 is taken where it is there and HTTP/3 is not. This is what blocked UDP costs.
    pub(super) h3: Duration,
}

impl Patience {
    /// Towards a node of which nothing is known.
    pub(super) const FIRST: Self = Self {
        head_start: Duration::from_millis(100),
        h3: Duration::from_millis(240),
    };
    /// Where another node was just found not to answer over UDP: what drops it there drops it here, most likely. Five
    /// nodes cost no more than 300 ms together.
    pub(super) const AGAIN: Self = Self {
        head_start: Duration::ZERO,
        h3: Duration::from_millis(15),
    };
}

/// How long HTTP/3 may take where TCP has failed altogether.
const H3_ALONE: Duration = Duration::from_secs(1);

/// Who came in first.
#[derive(Debug)]
pub(super) enum Won<A, B> {
    H3(A),
    H2(B, Downgrade),
}

/// Runs both. Takes as long as the slower of them at the worst; the caller sets a limit.
///
/// # Errors
/// Both failed; the error is HTTP/2's, which says more about the node.
pub(super) async fn race<A, B>(
    h3: impl Future<Output = Result<A, QuicError>>,
    h2: impl Future<Output = Result<B, ConnectError>>,
    patience: Patience,
) -> Result<Won<A, B>, ConnectError> {
    let begun = Instant::now();
    let (mut h3, mut h2) = (pin!(h3), pin!(h2));
    let mut h2_begins = begun + patience.head_start;
    let mut h3_until = begun + patience.h3;
    let mut h3_failed: Option<Downgrade> = None;
    let mut h2_ready: Option<Result<B, ConnectError>> = None;
    loop {
        // Decided as soon as it can be.
        let over = h3_failed.or_else(|| (Instant::now() >= h3_until).then_some(Downgrade::Timeout));
        if let Some(why) = over
            && let Some(result) = h2_ready.take()
        {
            return result.map(|h2| Won::H2(h2, why));
        }
        let waiting = h2_ready.is_some();
        tokio::select! {
            biased;
            result = &mut h3, if h3_failed.is_none() => match result {
                Ok(h3) => return Ok(Won::H3(h3)),
                Err(error) => {
                    tracing::debug!(%error, "HTTP/3 cannot be had");
                    h3_failed = Some(error.why);
                    h2_begins = begun;
                }
            },
            result = async {
                sleep_until(h2_begins).await;
                (&mut h2).await
            }, if !waiting => {
                if result.is_err() {
                    h3_until = h3_until.max(begun + H3_ALONE);
                }
                h2_ready = Some(result);
            }
            // HTTP/2 is ready, and HTTP/3 has no more time.
            () = sleep_until(h3_until), if waiting => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::connect::Stage;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn failed() -> ConnectError {
        ConnectError {
            stage: Stage::Network,
            detail: "connection refused".into(),
        }
    }

    async fn h3(after: u64, why: Option<Downgrade>) -> Result<&'static str, QuicError> {
        sleep(MS(after)).await;
        match why {
            None => Ok("h3"),
            Some(why) => Err(QuicError { why, error: failed() }),
        }
    }

    async fn h2(after: u64, works: bool) -> Result<&'static str, ConnectError> {
        sleep(MS(after)).await;
        works.then_some("h2").ok_or_else(failed)
    }

    async fn outcome(
        h3: impl Future<Output = Result<&'static str, QuicError>>,
        h2: impl Future<Output = Result<&'static str, ConnectError>>,
        patience: Patience,
    ) -> (String, u128) {
        let begun = Instant::now();
        let won = race(h3, h2, patience).await;
        let won = match won {
            Ok(Won::H3(_)) => "h3".to_owned(),
            Ok(Won::H2(_, why)) => format!("h2 {why}"),
            Err(error) => error.to_string(),
        };
        (won, begun.elapsed().as_millis())
    }

    const BLOCKED: u64 = 1_000_000;

    #[tokio::test(start_paused = true)]
    async fn http3_wins_where_it_is_there_in_time() {
        let first = Patience::FIRST;
        assert_eq!(outcome(h3(5, None), h2(1, true), first).await, ("h3".into(), 5));
        // A path of 120 ms: TCP and TLS need two round trips.
        assert_eq!(outcome(h3(120, None), h2(240, true), first).await, ("h3".into(), 120));
        // TCP is quicker on a busy node, and waits.
        assert_eq!(outcome(h3(230, None), h2(5, true), first).await, ("h3".into(), 230));
        // A long way, and nobody is ready when the time is up.
        assert_eq!(outcome(h3(320, None), h2(600, true), first).await, ("h3".into(), 320));
    }

    #[tokio::test(start_paused = true)]
    async fn blocked_udp_costs_its_share_and_no_more() {
        let (first, again) = (Patience::FIRST, Patience::AGAIN);
        let timeout = "h2 timeout".to_owned();
        assert_eq!(
            outcome(h3(BLOCKED, None), h2(5, true), first).await,
            (timeout.clone(), 240)
        );
        assert_eq!(
            outcome(h3(BLOCKED, None), h2(5, true), again).await,
            (timeout.clone(), 15)
        );
        assert_eq!(outcome(h3(BLOCKED, None), h2(200, true), first).await, (timeout, 300));
        assert!(first.h3 + again.h3 * 4 <= MS(300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_ends_the_head_start() {
        let first = Patience::FIRST;
        let refused = h3(1, Some(Downgrade::Refused));
        assert_eq!(outcome(refused, h2(3, true), first).await, ("h2 refused".into(), 4));
        // Also one that comes when TCP is ready.
        let late = h3(150, Some(Downgrade::Handshake));
        assert_eq!(outcome(late, h2(3, true), first).await, ("h2 handshake".into(), 150));
    }

    #[tokio::test(start_paused = true)]
    async fn where_tcp_fails_http3_has_longer_and_then_it_is_over() {
        let first = Patience::FIRST;
        assert_eq!(outcome(h3(400, None), h2(1, false), first).await, ("h3".into(), 400));
        let both = ("connection refused".to_owned(), 1_000);
        assert_eq!(outcome(h3(BLOCKED, None), h2(1, false), first).await, both);
        // A node that is gone is found to be at once.
        let refused = h3(1, Some(Downgrade::Refused));
        assert_eq!(
            outcome(refused, h2(1, false), first).await,
            ("connection refused".into(), 2)
        );
    }
}
