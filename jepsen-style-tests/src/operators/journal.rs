//! What operators asked and what they were told, each by itself; and what a record looks like in one number.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use api_client::{Answer, Error};
use prost::Message;
use proto::v1;

/// How a call ended, as whoever asked was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It took effect.
    Done {
        /// When.
        revision: u64,
        /// The stored answer of an earlier attempt.
        replayed: bool,
        /// How many requests it took.
        attempts: u32,
        /// The record in the answer: its kind, its id, and its content.
        record: (&'static str, String, u64),
    },
    /// It waits for a second person.
    Staged {
        /// As this request.
        approval: String,
        /// The stored answer of an earlier attempt.
        replayed: bool,
    },
    /// It was a command, and a rule was against it.
    Rejected {
        /// Which.
        code: String,
        /// The stored answer of an earlier attempt.
        replayed: bool,
    },
    /// It was turned away before it was a command, for want of a scope.
    Refused,
    /// It did not become a command, for a reason of the moment: nobody led, or too much was asked.
    Failed {
        /// Why.
        code: String,
    },
    /// It may have become a command or not.
    Unknown {
        /// Why nobody knows.
        code: String,
    },
}

/// One call of one operator.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What was intended: repeated calls with one idempotency key have one number. In the trail it is the ticket.
    pub number: u64,
    /// Who.
    pub actor: Arc<str>,
    /// `peers.patch`
    pub action: &'static str,
    /// `peer/p1`
    pub target: String,
    /// What the change leaves in a record, and nothing else does.
    pub mark: Option<String>,
    /// The end of it.
    pub end: End,
}

/// The ticket of a number.
pub fn ticket(number: u64) -> String {
    format!("W-{number}")
}

/// The number of a ticket; none of those that others use.
pub fn number(ticket: &str) -> Option<u64> {
    ticket.strip_prefix("W-")?.parse().ok()
}

/// A message in one number: maps are sorted, so equal messages have equal bytes.
pub fn digest(message: &impl Message) -> u64 {
    of_bytes(&message.encode_to_vec())
}

/// Bytes in one number.
pub fn of_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// A record that mutations are answered with.
pub trait Record: Message {
    /// Its kind in the trail.
    const KIND: &'static str;
    /// Its id.
    fn name(&self) -> &str;
}

macro_rules! records {
    ($($kind:literal $message:ident $name:expr;)*) => {
        $(impl Record for v1::$message {
            const KIND: &'static str = $kind;
            fn name(&self) -> &str {
                let name: fn(&Self) -> &str = $name;
                name(self)
            }
        })*
    };
}

records! {
    "peer" Peer |peer| &peer.id;
    "operation" Operation |operation| &operation.id;
    "cluster" Cluster |cluster| &cluster.id;
    "config" Config |_| CONFIG;
    "approval" Approval |approval| &approval.id;
}

/// The id of the one record of settings.
pub const CONFIG: &str = "mesh";

impl End {
    /// The end that an answer is. `decides`: whether the call was about a request for approval, whose scope is looked
    /// at by the command itself.
    pub fn of<R: Record>(answer: &Result<Answer<R>, Error>, decides: bool) -> Self {
        let error = match answer {
            Ok(answer) => {
                return Self::Done {
                    revision: answer.meta.revision.unwrap_or(0),
                    replayed: answer.meta.replayed,
                    attempts: answer.meta.attempts,
                    record: (R::KIND, answer.message.name().to_owned(), digest(&answer.message)),
                };
            }
            Err(error) => error,
        };
        if let Some(approval) = error.approval() {
            return Self::Staged {
                approval: approval.id.clone(),
                replayed: error.replayed(),
            };
        }
        let code = error.code().to_owned();
        if error.outcome_unknown() {
            return Self::Unknown { code };
        }
        match code.as_str() {
            "scope_missing" if !decides => Self::Refused,
            "unavailable" | "not_leader" | "deadline_exceeded" | "rate_limited" | "resource_exhausted" | "no_space" => {
                Self::Failed { code }
            }
            _ => Self::Rejected {
                code,
                replayed: error.replayed(),
            },
        }
    }

    /// Whether something was acknowledged that was not before.
    pub fn is_news(&self) -> bool {
        matches!(
            self,
            Self::Done { replayed: false, .. } | Self::Staged { replayed: false, .. }
        )
    }
}
