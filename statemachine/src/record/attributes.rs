//! Labels and metadata: a few words with a value each.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

use super::ATTRIBUTES_MAX;

/// Labels or metadata, in order of key.
///
/// There are some of them with each of ten thousand peers, in memory all the time. A node of a `BTreeMap` takes 640 bytes
/// also for a single pair; here a pair takes 32 bytes and its text. Encoded as a map, as it always was.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    pairs: Vec<(Box<str>, Box<str>)>,
}

impl Attributes {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.find(key).ok().map(|at| &*self.pairs[at].1)
    }

    /// Whether there is such a key.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.find(key).is_ok()
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: impl Into<Box<str>>, value: impl Into<Box<str>>) {
        let (key, value) = (key.into(), value.into());
        match self.find(&key) {
            Ok(at) => self.pairs[at].1 = value,
            Err(at) => {
                // Room for no more than there is: most never get another.
                self.pairs.reserve_exact(1);
                self.pairs.insert(at, (key, value));
            }
        }
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: &str) {
        if let Ok(at) = self.find(key) {
            self.pairs.remove(at);
        }
    }

    /// Keys and values, in order of key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The same as a map.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let pairs = self.iter();
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        self.pairs.binary_search_by(|(other, _)| (**other).cmp(key))
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut attributes = Self::new();
        for (key, value) in pairs {
            attributes.insert(key, value);
        }
        attributes
    }
}

impl<const N: usize> From<[(String, String); N]> for Attributes {
    fn from(pairs: [(String, String); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl From<BTreeMap<String, String>> for Attributes {
    fn from(map: BTreeMap<String, String>) -> Self {
        map.into_iter().collect()
    }
}

impl Serialize for Attributes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of text to text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
                // What the bytes say of their own length is input.
                let room = map.size_hint().unwrap_or(0).min(ATTRIBUTES_MAX);
                let mut attributes = Attributes {
                    pairs: Vec::with_capacity(room),
                };
                while let Some((key, value)) = map.next_entry::<Box<str>, Box<str>>()? {
                    attributes.insert(key, value);
                }
                Ok(attributes)
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Format};

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn they_are_kept_and_encoded_as_a_map_is() {
        for pairs in [
            &[][..],
            &[("b", "1")],
            &[("b", "1"), ("a", "2"), ("b", "3"), ("ab", ""), ("", "x")],
        ] {
            let (plain, own) = (map(pairs), pairs.iter().copied().collect::<Attributes>());
            assert_eq!(own.to_map(), plain);
            assert_eq!(own, plain.clone().into());
            let bytes = codec::encode(Format::Record, &plain);
            assert_eq!(codec::encode(Format::Record, &own), bytes);
            assert_eq!(codec::decode::<Attributes>(Format::Record, &bytes).unwrap(), own);
            for cut in 0..bytes.len() {
                assert!(codec::decode::<Attributes>(Format::Record, &bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn keys_are_found_set_and_removed() {
        let mut own: Attributes = [("c", "3"), ("a", "1")].into_iter().collect();
        own.insert("b", "2");
        own.insert("a", "4");
        own.remove("c");
        own.remove("never-there");
        assert_eq!(own.iter().collect::<Vec<_>>(), [("a", "4"), ("b", "2")]);
        assert_eq!((own.get("a"), own.get("c")), (Some("4"), None));
        assert!(own.contains_key("b") && !own.contains_key("c"));
        assert_eq!((own.len(), own.is_empty()), (2, false));
    }
}
