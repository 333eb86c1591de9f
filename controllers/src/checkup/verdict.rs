//! What follows from the answers to a checkup. Pure.

use std::collections::BTreeMap;

use statemachine::{Hash, NodeId};

/// What one member answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub node: NodeId,
    pub voter: bool,
    /// Its digest at the revision that all were asked about; absent where it did not know it.
    pub digest: Option<Hash>,
    /// How far its clock is ahead of the leader's, in ms.
    pub offset_ms: i64,
    /// By how much that may be wrong.
    pub uncertainty_ms: u64,
}

/// How the digests compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Digests {
    /// Those that are known are the same, or too few are known to say.
    Same,
    /// A majority of the voters agrees, and these do not agree with it.
    Odd { nodes: Vec<(NodeId, Hash)>, majority: Hash },
    /// They differ, and no majority of the voters agrees.
    Divided(Vec<(NodeId, Hash)>),
}

/// Compares digests at one revision. `voters`: how many there are, those that did not answer included.
pub(crate) fn digests(answers: &[Answer], voters: usize) -> Digests {
    let known = || answers.iter().filter_map(|answer| Some((answer, answer.digest?)));
    let mut votes: BTreeMap<Hash, usize> = BTreeMap::new();
    for (answer, digest) in known() {
        *votes.entry(digest).or_default() += usize::from(answer.voter);
    }
    if votes.len() < 2 {
        return Digests::Same;
    }
    let majority = votes.iter().find(|(_, count)| **count > voters / 2);
    match majority {
        Some((majority, _)) => Digests::Odd {
            nodes: known()
                .filter(|(_, digest)| digest != majority)
                .map(|(answer, digest)| (answer.node, digest))
                .collect(),
            majority: *majority,
        },
        None => Digests::Divided(known().map(|(answer, digest)| (answer.node, digest)).collect()),
    }
}

/// A clock, compared with those of the voters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offset {
    pub node: NodeId,
    /// How far it is ahead of the median of the voters' clocks, in ms.
    pub offset_ms: i64,
    /// By how much that may be wrong.
    pub uncertainty_ms: u64,
}

impl Offset {
    /// Whether it is certainly further off than this.
    pub fn is_over(&self, limit_ms: u64) -> bool {
        self.offset_ms.unsigned_abs() > limit_ms.saturating_add(self.uncertainty_ms)
    }

    /// Whether it is certainly, and clearly, nearer than this: an alarm does not come and go with every measurement.
    pub fn is_back(&self, limit_ms: u64) -> bool {
        self.offset_ms.unsigned_abs().saturating_add(self.uncertainty_ms) <= limit_ms - limit_ms / 5
    }
}

/// Every clock against the median of the voters'. One clock that is off moves the median little, however far it is off.
pub(crate) fn clocks(answers: &[Answer]) -> Vec<Offset> {
    let mut voters: Vec<i64> = answers.iter().filter(|a| a.voter).map(|a| a.offset_ms).collect();
    voters.sort_unstable();
    let middle = voters.len() / 2;
    let median = match (
        voters.len().checked_sub(1).and_then(|last| voters.get(last / 2)),
        voters.get(middle),
    ) {
        (Some(low), Some(high)) => low.midpoint(*high),
        _ => return Vec::new(),
    };
    let offset = |answer: &Answer| Offset {
        node: answer.node,
        offset_ms: answer.offset_ms.saturating_sub(median),
        uncertainty_ms: answer.uncertainty_ms,
    };
    answers.iter().map(offset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Hash = Hash([1; 32]);
    const B: Hash = Hash([2; 32]);
    const C: Hash = Hash([3; 32]);

    fn answer(node: u64, voter: bool, digest: Option<Hash>, offset_ms: i64) -> Answer {
        Answer {
            node: NodeId(node),
            voter,
            digest,
            offset_ms,
            uncertainty_ms: 5,
        }
    }

    fn compare(answers: &[(bool, Option<Hash>)], voters: usize) -> Digests {
        let answers: Vec<_> = (1..)
            .zip(answers)
            .map(|(node, (voter, digest))| answer(node, *voter, *digest, 0))
            .collect();
        digests(&answers, voters)
    }

    #[test]
    fn the_minority_is_odd() {
        let v = |digest| (true, Some(digest));
        assert_eq!(compare(&[v(A), v(A), v(A)], 3), Digests::Same);
        assert_eq!(compare(&[v(A), (true, None), v(A)], 3), Digests::Same);
        assert_eq!(compare(&[], 3), Digests::Same);
        let odd = |node, digest, majority| Digests::Odd {
            nodes: vec![(NodeId(node), digest)],
            majority,
        };
        assert_eq!(compare(&[v(A), v(B), v(A)], 3), odd(2, B, A));
        // The one that asks may be the odd one.
        assert_eq!(compare(&[v(A), v(B), v(B)], 3), odd(1, A, B));
        // A learner is judged and does not count.
        assert_eq!(
            compare(&[v(A), v(A), (false, Some(B)), (false, Some(A))], 3),
            odd(3, B, A)
        );
        assert_eq!(compare(&[v(A)], 1), Digests::Same);
        assert_eq!(compare(&[v(A), (false, Some(C))], 1), odd(2, C, A));
    }

    #[test]
    fn without_a_majority_nobody_is_right() {
        let v = |digest| (true, Some(digest));
        let divided =
            |answers: &[(bool, Option<Hash>)], voters| matches!(compare(answers, voters), Digests::Divided(_));
        assert!(divided(&[v(A), v(B), v(C)], 3));
        assert!(
            divided(&[v(A), v(B), (true, None)], 3),
            "one is silent: two against each other"
        );
        assert!(divided(&[v(A), v(A), v(B), v(B)], 4));
        assert!(divided(&[v(A), v(A), v(B)], 5), "two of five are no majority");
        assert!(!divided(&[v(A), v(A), v(A), v(B), v(B)], 5));
    }

    #[test]
    fn a_clock_that_is_off_is_told_from_those_that_are_right() {
        let year = 365 * 86_400_000;
        // The leader is a year ahead: to it, all others are a year behind.
        let seen = clocks(&[
            answer(1, true, None, 0),
            answer(2, true, None, -year),
            answer(3, true, None, 10 - year),
        ]);
        assert_eq!(
            seen.iter().map(|o| o.is_over(1_000)).collect::<Vec<_>>(),
            [true, false, false]
        );
        // A learner's clock is judged and does not count.
        let seen = clocks(&[
            answer(1, true, None, 0),
            answer(2, true, None, 40),
            answer(3, false, None, 5_000),
        ]);
        assert_eq!(seen.iter().map(|o| o.offset_ms).collect::<Vec<_>>(), [-20, 20, 4_980]);
        assert_eq!(clocks(&[]), []);
    }

    #[test]
    fn what_is_uncertain_is_neither_over_nor_back() {
        let at = |offset_ms| Offset {
            node: NodeId(1),
            offset_ms,
            uncertainty_ms: 100,
        };
        assert!(at(1_101).is_over(1_000) && at(-1_101).is_over(1_000));
        assert!(!at(1_100).is_over(1_000) && !at(1_100).is_back(1_000));
        assert!(!at(701).is_back(1_000) && at(-700).is_back(1_000));
    }
}
