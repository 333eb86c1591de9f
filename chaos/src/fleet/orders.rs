//! What can be asked of a fleet while it runs: one order a line.
//!
//! | order | what it does |
//! |---|---|
//! | `crash PEER` | ends its process at once |
//! | `stop PEER` | ends its process in good order |
//! | `start PEER` | starts it again |
//! | `cut PEER`, `mend PEER` | pulls its cable, and puts it back |
//! | `delay PEER MS` | takes so long to prepare and to stop a shard |
//! | `mute PEER`, `unmute PEER` | never says that it is done |
//! | `refuse PEER`, `accept PEER` | cannot prepare anything |
//! | `roll AT_ONCE DOWN_MS` | crashes and starts all, so many at once, each down for so long; waits until all is served |
//! | `served SECONDS` | waits until every shard is served |
//! | `who` | who serves what |
//! | `report` | what was seen so far |
//! | `end` | the same, and ends |

use std::{str::FromStr, time::Duration};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Something about one peer.
    Peer(String, ToPeer),
    /// A rolling restart.
    Roll {
        /// How many at once.
        at_once: usize,
        /// For how long each is down.
        down: Duration,
    },
    /// Wait until every shard is served.
    Served(Duration),
    /// Who serves what.
    Who,
    /// What was seen so far.
    Report,
    /// The end.
    End,
}

/// What one peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToPeer {
    /// End at once.
    Crash,
    /// End in good order.
    Stop,
    /// Begin.
    Start,
    /// Neither hear nor say anything, or do so again.
    CutOff(bool),
    /// Take so many ms.
    Delay(u64),
    /// Never say that anything is done, or do so again.
    Mute(bool),
    /// Prepare nothing, or do so again.
    Refuse(bool),
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
        let (peer, told) = match words[..] {
            ["roll", at_once, down] => {
                let at_once = usize::try_from(number(at_once)?).unwrap_or(usize::MAX).max(1);
                let down = Duration::from_millis(number(down)?);
                return Ok(Self::Roll { at_once, down });
            }
            ["served", seconds] => return Ok(Self::Served(Duration::from_secs(number(seconds)?))),
            ["who"] => return Ok(Self::Who),
            ["report"] => return Ok(Self::Report),
            ["end"] => return Ok(Self::End),
            ["crash", peer] => (peer, ToPeer::Crash),
            ["stop", peer] => (peer, ToPeer::Stop),
            ["start", peer] => (peer, ToPeer::Start),
            ["cut", peer] => (peer, ToPeer::CutOff(true)),
            ["mend", peer] => (peer, ToPeer::CutOff(false)),
            ["delay", peer, ms] => (peer, ToPeer::Delay(number(ms)?)),
            ["mute", peer] => (peer, ToPeer::Mute(true)),
            ["unmute", peer] => (peer, ToPeer::Mute(false)),
            ["refuse", peer] => (peer, ToPeer::Refuse(true)),
            ["accept", peer] => (peer, ToPeer::Refuse(false)),
            _ => return Err(format!("`{line}` is no order")),
        };
        Ok(Self::Peer(peer.to_owned(), told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_and_nothing_else_is() {
        let crash = Order::Peer("peer-01".into(), ToPeer::Crash);
        assert_eq!("crash  peer-01".parse(), Ok(crash));
        let down = Duration::from_millis(200);
        assert_eq!("roll 5 200".parse(), Ok(Order::Roll { at_once: 5, down }));
        assert_eq!("delay p 70".parse(), Ok(Order::Peer("p".into(), ToPeer::Delay(70))));
        for wrong in ["", "crash", "crash a b", "delay p soon", "roll 5", "explode p"] {
            assert!(wrong.parse::<Order>().is_err(), "{wrong}");
        }
    }
}
