//! Which requests were answered, and where, so that a retry is answered the same and never applied twice.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::{
    Hash, Idempotency, Rejection, Revision,
    codec::{self, Format},
    digest::row_hash,
    record::Settings,
    rows::{self, IdempotencyRow},
};

/// One remembered request.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    request: Hash,
    revision: Revision,
    expires_ms: u64,
    row_hash: Hash,
}

/// Scope is (principal, key).
type Key = (Arc<str>, Arc<str>);

/// The table. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Table {
    entries: OrdMap<Key, Entry>,
    // A revision adds at most one entry, so it makes the expiry unique.
    by_expiry: OrdSet<(u64, Revision, Key)>,
    per_principal: OrdMap<Arc<str>, u64>,
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

/// The milliseconds since 1970 that a ULID begins with (<https://github.com/ulid/spec>); none for any other key.
fn ulid_ms(key: &str) -> Option<u64> {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bytes = key.as_bytes();
    if bytes.len() != 26 {
        return None;
    }
    let digit = |byte: &u8| {
        ALPHABET
            .iter()
            .position(|symbol| symbol == &byte.to_ascii_uppercase())
            .map(|at| at as u64)
    };
    if !bytes.iter().all(|byte| digit(byte).is_some()) || digit(&bytes[0])? > 7 {
        return None;
    }
    bytes[..10]
        .iter()
        .try_fold(0_u64, |sum, byte| Some(sum << 5 | digit(byte)?))
}

/// Entries that one command removes at the most, so that apply stays short. Each command adds at most one.
const EXPIRED_PER_COMMAND_MAX: usize = 64;

impl Table {
    /// Judges a request at a mesh time.
    pub fn judge(&self, principal: &str, given: &Idempotency, now_ms: u64, settings: &Settings) -> Verdict {
        let key: Key = (principal.into(), given.key.as_str().into());
        if let Some(entry) = self.entries.get(&key).filter(|entry| entry.expires_ms > now_ms) {
            return if entry.request == given.request {
                Verdict::Seen(entry.revision)
            } else {
                Verdict::Refused(Rejection::IdempotencyKeyReused {
                    revision: entry.revision,
                })
            };
        }
        let ttl_ms = settings.idempotency_ulid_ttl_ms;
        let expires_ms = match ulid_ms(&given.key) {
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
        let own = self.per_principal.get(principal).copied().unwrap_or(0);
        let caps = [
            ("of this principal", own, settings.idempotency_keys_per_principal_max),
            (
                "of all principals",
                self.entries.len() as u64,
                settings.idempotency_keys_max,
            ),
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
        let key: Key = (principal.into(), given.key.as_str().into());
        // An expired entry of the same key may still be there.
        updates.extend(self.remove(&key));
        let row = IdempotencyRow {
            principal: principal.to_owned(),
            idempotency: given.clone(),
            revision,
            expires_ms,
        };
        let row_key = rows::idempotency_key(principal, &given.key);
        let value = codec::encode(Format::Record, &row);
        let hash = row_hash(&row_key, &value);
        self.put(
            key,
            Entry {
                request: given.request,
                revision,
                expires_ms,
                row_hash: hash,
            },
        );
        updates.push(RowUpdate {
            key: row_key,
            value: Some(value),
            hash,
        });
        updates
    }

    /// Forgets what has expired, a bounded number at a time.
    pub fn expire(&mut self, now_ms: u64) -> Vec<RowUpdate> {
        let mut updates = Vec::new();
        while updates.len() < EXPIRED_PER_COMMAND_MAX {
            let Some((expires_ms, _, key)) = self.by_expiry.get_min() else {
                break;
            };
            if *expires_ms > now_ms {
                break;
            }
            let key = key.clone();
            updates.extend(self.remove(&key));
        }
        updates
    }

    /// Takes a stored row back in, at start.
    pub fn load(&mut self, key: &[u8], value: &[u8]) -> Result<Hash, codec::Error> {
        let row: IdempotencyRow = codec::decode(Format::Record, value)?;
        let hash = row_hash(key, value);
        let IdempotencyRow {
            principal,
            idempotency,
            revision,
            expires_ms,
        } = row;
        let entry = Entry {
            request: idempotency.request,
            revision,
            expires_ms,
            row_hash: hash,
        };
        self.put((principal.into(), idempotency.key.into()), entry);
        Ok(hash)
    }

    /// Shows every entry as the row that it is stored as, with the hash of that row that is kept, until `visit` answers
    /// false or fails; answers whether all were shown.
    pub fn recount<E>(&self, mut visit: impl FnMut(&[u8], &[u8], Hash) -> Result<bool, E>) -> Result<bool, E> {
        for ((principal, key), entry) in &self.entries {
            let row = IdempotencyRow {
                principal: principal.to_string(),
                idempotency: Idempotency {
                    key: key.to_string(),
                    request: entry.request,
                },
                revision: entry.revision,
                expires_ms: entry.expires_ms,
            };
            let value = codec::encode(Format::Record, &row);
            if !visit(&rows::idempotency_key(principal, key), &value, entry.row_hash)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    fn put(&mut self, key: Key, entry: Entry) {
        self.by_expiry.insert((entry.expires_ms, entry.revision, key.clone()));
        *self.per_principal.entry(key.0.clone()).or_insert(0) += 1;
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &Key) -> Option<RowUpdate> {
        let entry = self.entries.remove(key)?;
        self.by_expiry.remove(&(entry.expires_ms, entry.revision, key.clone()));
        let left = self.per_principal.get(&key.0).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            self.per_principal.remove(&key.0);
        } else {
            self.per_principal.insert(key.0.clone(), left);
        }
        Some(RowUpdate {
            key: rows::idempotency_key(&key.0, &key.1),
            value: None,
            hash: entry.row_hash,
        })
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
    fn ulids_tell_their_time() {
        assert_eq!(ulid_ms("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Some(1_469_922_850_259));
        assert_eq!(ulid_ms("81ARZ3NDEKTSV4RRFFQ69G5FAV"), None, "over 2^128");
        assert_eq!(ulid_ms("short"), None);
        assert_eq!(ulid_ms("01ARZ3NDEKTSV4RRFFQ69G5FAU"), None, "U is no symbol");
    }

    #[test]
    fn a_ulid_is_never_forgotten_before_it_is_refused() {
        let settings = Settings::default();
        let made = ulid_ms(ULID).unwrap();
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
