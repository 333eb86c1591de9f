//! Which requests were answered, and where, so that a retry is answered the same and never applied twice.

mod key;

use std::{borrow::Borrow, cmp::Ordering, sync::Arc};

use imbl::{OrdMap, OrdSet};

use self::key::Key;
use crate::{
    Hash, Idempotency, Rejection, Revision,
    codec::{self, Format},
    digest::row_hash,
    record::Settings,
    rows::{self, IdempotencyRow},
};

/// Who has asked. One for all entries of a principal, and half as wide as an `Arc<str>` in each of them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Principal(Arc<Box<str>>);

impl Borrow<str> for Principal {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One remembered request. There are as many as writes in a minute, so each is held once, both orders point at it, and
/// what follows from the rest is not kept: with its counts it takes 96 bytes.
#[derive(Debug)]
struct Entry {
    principal: Principal,
    key: Key,
    request: Hash,
    revision: Revision,
    expires_ms: u64,
}

impl Entry {
    fn of(principal: Principal, row: IdempotencyRow) -> Self {
        Self {
            principal,
            key: Key::new(&row.idempotency.key),
            request: row.idempotency.request,
            revision: row.revision,
            expires_ms: row.expires_ms,
        }
    }

    /// The row that it is stored as: key and value.
    fn row(&self) -> (Vec<u8>, Vec<u8>) {
        let row = IdempotencyRow {
            principal: self.principal.0.to_string(),
            idempotency: Idempotency {
                key: self.key.to_string(),
                request: self.request,
            },
            revision: self.revision,
            expires_ms: self.expires_ms,
        };
        let key = rows::idempotency_key(&row.principal, &row.idempotency.key);
        (key, codec::encode(Format::Record, &row))
    }
}

/// An entry among those of its principal, in order of key.
#[derive(Debug, Clone)]
struct ByKey(Arc<Entry>);

impl Borrow<Key> for ByKey {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

/// An entry in order of expiry. A revision adds at most one entry, so it makes the expiry unique.
#[derive(Debug, Clone)]
struct ByExpiry(Arc<Entry>);

impl Ord for ByExpiry {
    fn cmp(&self, other: &Self) -> Ordering {
        let when = |entry: &Entry| (entry.expires_ms, entry.revision);
        when(&self.0).cmp(&when(&other.0))
    }
}

/// What follows from the order.
macro_rules! ordered {
    ($name:ident) => {
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.cmp(other) == Ordering::Equal
            }
        }

        impl Eq for $name {}
    };
}

ordered!(ByKey);
ordered!(ByExpiry);

/// The table; scope is (principal, key). Cheap to clone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    // No principal is without entries.
    by_principal: OrdMap<Principal, OrdSet<ByKey>>,
    by_expiry: OrdSet<ByExpiry>,
}

/// What the table says of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not seen; to be remembered until this mesh time.
    New { expires_ms: u64 },
    /// Answered before.
    Seen(Revision),
    /// Refused.
    Refused(Rejection),
}

/// A row that came or went, with its hash for the digest.
pub(crate) struct RowUpdate {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub hash: Hash,
}

/// Entries that one command removes at the most, so that apply stays short. Each command adds at most one.
const EXPIRED_PER_COMMAND_MAX: usize = 64;

impl Table {
    /// Judges a request at a mesh time.
    pub fn judge(&self, principal: &str, given: &Idempotency, now_ms: u64, settings: &Settings) -> Verdict {
        if let Some(entry) = self
            .get(principal, &given.key)
            .filter(|entry| entry.expires_ms > now_ms)
        {
            return if entry.request == given.request {
                Verdict::Seen(entry.revision)
            } else {
                Verdict::Refused(Rejection::IdempotencyKeyReused {
                    revision: entry.revision,
                })
            };
        }
        let ttl_ms = settings.idempotency_ulid_ttl_ms;
        let expires_ms = match Key::new(&given.key).ulid_ms() {
            // As old as what may have been forgotten: whether it was answered cannot be told any more.
            Some(made_ms) if made_ms.saturating_add(ttl_ms) <= now_ms => {
                let age_ms = now_ms.saturating_sub(made_ms);
                return Verdict::Refused(Rejection::IdempotencyKeyExpired { age_ms, ttl_ms });
            }
            // Kept until it is refused for its age; a clock that is ahead must not make it forgotten before that.
            Some(made_ms) if made_ms <= now_ms.saturating_add(ttl_ms) => made_ms.max(now_ms).saturating_add(ttl_ms),
            // From the far future: its time says nothing, so it is like any other key.
            Some(_) | None => now_ms.saturating_add(settings.idempotency_key_ttl_ms),
        };
        let own = self.by_principal.get(principal).map_or(0, |own| own.len() as u64);
        let caps = [
            ("of this principal", own, settings.idempotency_keys_per_principal_max),
            ("of all principals", self.len() as u64, settings.idempotency_keys_max),
        ];
        if let Some((whose, measured, limit)) = caps.into_iter().find(|(_, measured, limit)| measured >= limit) {
            let what = format!("idempotency keys {whose}");
            return Verdict::Refused(Rejection::ResourceExhausted { what, measured, limit });
        }
        Verdict::New { expires_ms }
    }

    /// Remembers a request.
    pub fn insert(
        &mut self,
        principal: &str,
        given: &Idempotency,
        revision: Revision,
        expires_ms: u64,
    ) -> Vec<RowUpdate> {
        let mut updates = Vec::with_capacity(2);
        // An expired entry of the same key may still be there.
        if let Some(expired) = self.get(principal, &given.key).cloned() {
            updates.push(self.remove(&expired));
        }
        let row = IdempotencyRow {
            principal: principal.to_owned(),
            idempotency: given.clone(),
            revision,
            expires_ms,
        };
        let (key, value) = self.put(row).row();
        let hash = row_hash(&key, &value);
        updates.push(RowUpdate {
            key,
            value: Some(value),
            hash,
        });
        updates
    }

    /// Forgets what has expired, a bounded number at a time.
    pub fn expire(&mut self, now_ms: u64) -> Vec<RowUpdate> {
        let mut updates = Vec::new();
        while updates.len() < EXPIRED_PER_COMMAND_MAX {
            let Some(ByExpiry(entry)) = self.by_expiry.get_min().filter(|next| next.0.expires_ms <= now_ms) else {
                break;
            };
            let entry = entry.clone();
            updates.push(self.remove(&entry));
        }
        updates
    }

    /// Takes a stored row back in, at start.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<Hash, codec::Error> {
        let row: IdempotencyRow = codec::decode(Format::Record, value)?;
        self.put(row);
        Ok(row_hash(key, value))
    }

    /// Shows every entry as the row that it is stored as, key and value, until `visit` answers false; answers whether all
    /// were shown.
    pub fn rows(&self, mut visit: impl FnMut(&[u8], &[u8]) -> bool) -> bool {
        self.by_principal.values().flatten().all(|ByKey(entry)| {
            let (key, value) = entry.row();
            visit(&key, &value)
        })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.by_expiry.len()
    }

    fn get(&self, principal: &str, key: &str) -> Option<&Arc<Entry>> {
        let own = self.by_principal.get(principal)?;
        own.get(&Key::new(key)).map(|found| &found.0)
    }

    fn put(&mut self, row: IdempotencyRow) -> Arc<Entry> {
        let principal = match self.by_principal.get_key_value(row.principal.as_str()) {
            Some((known, _)) => known.clone(),
            None => Principal(Arc::new(row.principal.as_str().into())),
        };
        let entry = Arc::new(Entry::of(principal.clone(), row));
        self.by_expiry.insert(ByExpiry(entry.clone()));
        let own = self.by_principal.entry(principal).or_default();
        own.insert(ByKey(entry.clone()));
        entry
    }

    fn remove(&mut self, entry: &Arc<Entry>) -> RowUpdate {
        self.by_expiry.remove(&ByExpiry(entry.clone()));
        if let Some(own) = self.by_principal.get_mut(&entry.principal) {
            own.remove(&entry.key);
            if own.is_empty() {
                self.by_principal.remove(&entry.principal);
            }
        }
        let (key, value) = entry.row();
        let hash = row_hash(&key, &value);
        RowUpdate { key, value: None, hash }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Idempotency {
        Idempotency {
            key: text.into(),
            request: Hash([1; 32]),
        }
    }

    // The first 10 symbols are 1_000_000 ms.
    const ULID: &str = "00000YGJ00ABCDEFGHJKMNPQRS";

    #[test]
    fn a_ulid_is_never_forgotten_before_it_is_refused() {
        let settings = Settings::default();
        let made = Key::new(ULID).ulid_ms().unwrap();
        for ahead in [0, 1, 30_000, 59_999, 60_000] {
            let mut table = Table::default();
            let now = made - ahead;
            let Verdict::New { expires_ms } = table.judge("p", &key(ULID), now, &settings) else {
                panic!("{ahead}")
            };
            table.insert("p", &key(ULID), Revision(1), expires_ms);
            for later in [now, now + 59_999, made + 59_999, made + 60_000, made + 1_000_000] {
                table.expire(later);
                let verdict = table.judge("p", &key(ULID), later, &settings);
                assert!(
                    !matches!(verdict, Verdict::New { .. }),
                    "ahead {ahead}, {} ms later",
                    later - now
                );
            }
        }
    }

    #[test]
    fn keys_belong_to_their_principal_and_request() {
        let settings = Settings::default();
        let mut table = Table::default();
        table.insert("p", &key("k"), Revision(7), 100);
        assert_eq!(table.judge("p", &key("k"), 50, &settings), Verdict::Seen(Revision(7)));
        assert!(matches!(
            table.judge("q", &key("k"), 50, &settings),
            Verdict::New { .. }
        ));
        let other = Idempotency {
            key: "k".into(),
            request: Hash([2; 32]),
        };
        assert!(matches!(
            table.judge("p", &other, 50, &settings),
            Verdict::Refused(Rejection::IdempotencyKeyReused { revision: Revision(7) })
        ));
        assert!(
            matches!(table.judge("p", &key("k"), 100, &settings), Verdict::New { .. }),
            "expired"
        );
    }

    #[test]
    fn the_cap_refuses_and_never_evicts() {
        let settings = Settings {
            idempotency_keys_per_principal_max: 2,
            ..Settings::default()
        };
        let mut table = Table::default();
        table.insert("p", &key("a"), Revision(1), 100);
        table.insert("p", &key("b"), Revision(2), 100);
        assert!(matches!(
            table.judge("p", &key("c"), 50, &settings),
            Verdict::Refused(Rejection::ResourceExhausted {
                measured: 2,
                limit: 2,
                ..
            })
        ));
        assert_eq!(table.judge("p", &key("a"), 50, &settings), Verdict::Seen(Revision(1)));
        assert_eq!(table.expire(100).len(), 2);
        assert!(matches!(
            table.judge("p", &key("c"), 100, &settings),
            Verdict::New { .. }
        ));
        assert_eq!(table.len(), 0);
    }
}
