//! Label selectors: `zone=a,tier!=test,gpu,!legacy,region in (eu,us)`.

use crate::{Rejection, record::Attributes};

/// The longest selector, in bytes.
pub const SELECTOR_BYTES_MAX: usize = 4096;
/// The most terms.
pub const TERMS_MAX: usize = 32;

/// A parsed selector. Every term has to hold; none at all selects everything.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Selector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Has(String),
    HasNot(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

impl Selector {
    /// Parses a selector.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] naming the term that is wrong.
    pub fn parse(text: &str) -> Result<Self, Rejection> {
        let wrong = |why: String| Rejection::invalid("selector", why);
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(wrong(format!(
                "{} bytes are over the limit of {SELECTOR_BYTES_MAX}",
                text.len()
            )));
        }
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let terms = split(text)
            .into_iter()
            .map(term)
            .collect::<Result<Vec<_>, _>>()
            .map_err(wrong)?;
        if terms.len() > TERMS_MAX {
            return Err(wrong(format!(
                "{} terms are over the limit of {TERMS_MAX}",
                terms.len()
            )));
        }
        Ok(Self { terms })
    }

    /// Whether labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &Attributes) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
            Term::In(key, values) => labels
                .get(key)
                .is_some_and(|value| values.iter().any(|own| own == value)),
            // As in Kubernetes, what has no such label is selected too.
            Term::NotIn(key, values) => labels
                .get(key)
                .is_none_or(|value| values.iter().all(|own| own != value)),
        })
    }
}

/// Splits at the commas that are not within parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

fn term(text: &str) -> Result<Term, String> {
    let text = text.trim();
    let shown = || -> String { text.chars().take(80).flat_map(char::escape_default).collect() };
    let key = |key: &str| -> Result<String, String> {
        let key = key.trim();
        crate::record::check_attribute_key("selector", key).map_err(|_| format!("`{}` has no valid key", shown()))?;
        Ok(key.to_owned())
    };
    let value = |value: &str| -> Result<Vec<String>, String> {
        let value = value.trim();
        match value.contains(['=', '!', '(', ')', ',']) {
            true => Err(format!("`{}` has no valid value", shown())),
            false => Ok(vec![value.to_owned()]),
        }
    };
    if let Some(body) = text.strip_suffix(')') {
        let (head, list) = body
            .split_once('(')
            .ok_or_else(|| format!("`{}` has no `(`", shown()))?;
        let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?.concat();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(name), Some("in"), None) => Ok(Term::In(key(name)?, values)),
            (Some(name), Some("notin"), None) => Ok(Term::NotIn(key(name)?, values)),
            _ => Err(format!("`{}`: write `key in (a,b)` or `key notin (a,b)`", shown())),
        };
    }
    if let Some((name, given)) = text.split_once("!=") {
        return Ok(Term::NotIn(key(name)?, value(given)?));
    }
    if let Some((name, given)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Term::In(key(name)?, value(given)?));
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Term::HasNot(key(name)?)),
        None => Ok(Term::Has(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Attributes {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_form_selects() {
        let labels = labels(&[("zone", "a"), ("gpu", "")]);
        for (selector, selected) in [
            ("", true),
            ("zone=a", true),
            ("zone==a", true),
            ("zone=b", false),
            ("zone!=b", true),
            ("zone!=a", false),
            ("tier!=x", true),
            ("gpu", true),
            ("!gpu", false),
            ("!legacy", true),
            ("zone in (b, a)", true),
            ("zone notin (b,a)", false),
            ("zone in (a),gpu,!legacy", true),
            ("zone=a,gpu=x", false),
        ] {
            assert_eq!(
                Selector::parse(selector).unwrap().matches(&labels),
                selected,
                "{selector}"
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            ",",
            "a,,b",
            "=a",
            "!",
            "a=b=c",
            "a in b",
            "a in (b",
            "in (b)",
            "a b",
            "a=(",
            "\u{0}",
            "x in (a))",
        ] {
            assert!(Selector::parse(bad).is_err(), "{bad:?}");
        }
        assert!(Selector::parse(&"a,".repeat(3000)).is_err());
        assert!(Selector::parse(&vec!["a"; TERMS_MAX + 1].join(",")).is_err());
    }
}
