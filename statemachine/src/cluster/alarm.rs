//! What is wrong with a node, in a word that everybody in the cluster goes by.

use serde::{Deserialize, Serialize};

/// What is wrong with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum AlarmKind {
    /// Its disk is nearly full: it takes no mutations from clients, and does not lead.
    NoSpace = 1,
    /// Its state is not what the others have: it does not serve, vote or lead.
    Corrupt = 2,
    /// Its clock is too far from the others': it does not lead.
    Clock = 3,
}

impl AlarmKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::NoSpace, Self::Corrupt, Self::Clock];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
            Self::Clock => "CLOCK",
        }
    }

    /// The kind that a word stands for, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.word().eq_ignore_ascii_case(word))
    }
}

/// An alarm that is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// With measured value and limit, in one line.
    pub detail: String,
    /// The leader's wall clock when it went up, ms since 1970.
    pub since_wall_ms: u64,
}
