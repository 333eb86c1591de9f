//! `k=v` and `k-` on the command line.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::Failure;

/// Sets or removes one label or metadata entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `k=v`
    Set(String, String),
    /// `k-`
    Remove(String),
}

/// Parses `k=v` or `k-`.
pub fn change(text: &str) -> Result<Change, String> {
    if let Ok((key, value)) = pair(text) {
        return Ok(Change::Set(key, value));
    }
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() && !key.contains('=') => Ok(Change::Remove(key.to_owned())),
        _ => Err("write KEY=VALUE to set or KEY- to remove".to_owned()),
    }
}

/// Parses `k=v`. The value may be empty and may hold further `=`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// Pairs as a map; the same key twice is a mistake, not a choice.
pub fn map(pairs: Vec<(String, String)>, what: &str) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value).is_some() {
            return Err(Failure::usage(
                format!("{what} `{key}` is given twice"),
                "give each key once",
            ));
        }
    }
    Ok(map)
}

/// Changes as what to set and what to remove.
pub fn split(changes: Vec<Change>, what: &str) -> Result<(BTreeMap<String, String>, Vec<String>), Failure> {
    let mut set = Vec::new();
    let mut remove = BTreeSet::new();
    for change in changes {
        match change {
            Change::Set(key, value) => set.push((key, value)),
            Change::Remove(key) => drop(remove.insert(key)),
        }
    }
    let set = map(set, what)?;
    if let Some(key) = remove.iter().find(|key| set.contains_key(*key)) {
        return Err(Failure::usage(
            format!("{what} `{key}` is both set and removed"),
            "give each key once",
        ));
    }
    Ok((set, remove.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_removals() {
        assert_eq!(change("a=b"), Ok(Change::Set("a".into(), "b".into())));
        assert_eq!(change("a=b=c-"), Ok(Change::Set("a".into(), "b=c-".into())));
        assert_eq!(change("a="), Ok(Change::Set("a".into(), String::new())));
        assert_eq!(change("a-b-"), Ok(Change::Remove("a-b".into())));
        for bad in ["", "-", "a", "=b", "=-"] {
            assert!(change(bad).is_err(), "{bad}");
        }
        assert!(
            split(
                vec![Change::Set("a".into(), "1".into()), Change::Remove("a".into())],
                "label"
            )
            .is_err()
        );
        assert!(map(vec![("a".into(), "1".into()), ("a".into(), "2".into())], "label").is_err());
    }
}
