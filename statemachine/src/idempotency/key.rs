//! An idempotency key as it is held in memory.

use std::{cmp::Ordering, fmt, ops::Deref};

/// Crockford's base 32: the symbols of a ULID (<https://github.com/ulid/spec>), in ascending order of their ASCII codes.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Symbols of a ULID. The first ten are its time.
const SYMBOLS: usize = 26;
const TIME_SYMBOLS: usize = 10;

/// An idempotency key. Nearly all are ULIDs, which the SDK sends: they are held as the number that they spell, in 16 bytes
/// instead of 48. In order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// A ULID in capitals, most significant byte first. Bytes, since they take no room for alignment.
    Ulid([u8; 16]),
    /// Anything else, ULIDs in small letters included: what was sent is what is stored.
    Text(Box<str>),
}

/// A key's text.
pub(super) enum Text<'a> {
    Spelled([u8; SYMBOLS]),
    Kept(&'a str),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            // It is made of symbols alone.
            Self::Spelled(symbols) => std::str::from_utf8(symbols).unwrap_or_default(),
            Self::Kept(text) => text,
        }
    }
}

impl Key {
    pub(super) fn new(text: &str) -> Self {
        match number(text) {
            Some(number) if !text.bytes().any(|symbol| symbol.is_ascii_lowercase()) => Self::Ulid(number.to_be_bytes()),
            Some(_) | None => Self::Text(text.into()),
        }
    }

    /// The milliseconds since 1970 that a ULID begins with, in whichever case it is written; none for any other key.
    pub(super) fn ulid_ms(&self) -> Option<u64> {
        let number = match self {
            Self::Ulid(bytes) => u128::from_be_bytes(*bytes),
            Self::Text(text) => number(text)?,
        };
        u64::try_from(number >> (5 * (SYMBOLS - TIME_SYMBOLS))).ok()
    }

    fn text(&self) -> Text<'_> {
        match self {
            Self::Ulid(bytes) => {
                let mut left = u128::from_be_bytes(*bytes);
                let mut symbols = [0; SYMBOLS];
                for symbol in symbols.iter_mut().rev() {
                    *symbol = ALPHABET[(left & 31) as usize];
                    left >>= 5;
                }
                Text::Spelled(symbols)
            }
            Self::Text(text) => Text::Kept(text),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            // The symbols ascend as their codes do.
            (Self::Ulid(own), Self::Ulid(other)) => own.cmp(other),
            _ => (*self.text()).cmp(&*other.text()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The number that a ULID spells; none for any other text.
fn number(text: &str) -> Option<u128> {
    // 26 symbols are 130 bits, so the first one is at most 7.
    if text.len() != SYMBOLS || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes().try_fold(0_u128, |sum, byte| {
        let symbol = byte.to_ascii_uppercase();
        let digit = ALPHABET.iter().position(|one| *one == symbol)?;
        Some(sum << 5 | digit as u128)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulids_tell_their_time() {
        let ms = |text| Key::new(text).ulid_ms();
        assert_eq!(ms("01ARZ3NDEKTSV4RRFFQ69G5FAV"), Some(1_469_922_850_259));
        assert_eq!(ms("01arz3ndektsv4rrffq69g5fav"), Some(1_469_922_850_259));
        assert_eq!(ms("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), Some((1 << 48) - 1));
        assert_eq!(ms("81ARZ3NDEKTSV4RRFFQ69G5FAV"), None, "over 2^128");
        assert_eq!(ms("short"), None);
        assert_eq!(ms(""), None);
        assert_eq!(ms("01ARZ3NDEKTSV4RRFFQ69G5FAU"), None, "U is no symbol");
    }

    #[test]
    fn keys_come_back_as_they_were_sent_and_in_order_of_their_text() {
        let mut texts = [
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAW",
            "01arz3ndektsv4rrffq69g5fav",
            "01ARZ3ndEKTSV4RRFFQ69G5FAV",
            "01ARZ3NDEKTSV4RRFFQ69G5FA",
            "01ARZ3NDEKTSV4RRFFQ69G5FAVV",
            "01ARZ3NDEKTSV4RRFFQ69G5FAU",
            "00000000000000000000000000",
            "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
            "81ARZ3NDEKTSV4RRFFQ69G5FAV",
            "",
            "0",
            "my-own key",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
        ];
        for text in texts {
            assert_eq!(Key::new(text).to_string(), text);
        }
        texts.sort_unstable();
        let mut keys = texts.map(Key::new);
        keys.reverse();
        keys.sort();
        assert_eq!(keys.map(|key| key.to_string()), texts.map(str::to_owned));
        let packed = |text| matches!(Key::new(text), Key::Ulid(_));
        assert!(packed("01ARZ3NDEKTSV4RRFFQ69G5FAV") && !packed("01arz3ndektsv4rrffq69g5fav"));
    }

    #[test]
    fn an_entry_takes_as_many_bytes_as_it_says() {
        // Beside the two counts of an `Arc`.
        assert_eq!(size_of::<super::super::Entry>() + 16, 96);
    }
}
