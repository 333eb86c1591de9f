//! Takes out of a text what looks like a credential: private keys, tokens, and what stands behind `Bearer`.
//!
//! Nothing in a bundle should hold one. People put them where they do not belong all the same: into a reason, a label, a
//! note.

use std::borrow::Cow;

/// What stands where something was taken out.
pub const REMOVED: &str = "[removed: looks like a credential]";

/// Shorter runs behind `Bearer ` are words of a sentence.
const BEARER_BYTES_MIN: usize = 16;
/// Shorter ones are no token: a header and a signature alone are longer.
const TOKEN_BYTES_MIN: usize = 40;

/// The text without what looks like a credential, and how many were taken out.
pub fn scrub(text: &str) -> (Cow<'_, str>, usize) {
    let mut out = String::new();
    let (mut rest, mut removed) = (text, 0);
    while let Some((at, length)) = find(rest) {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        out.push_str(REMOVED);
        rest = &found[length..];
        removed += 1;
    }
    if removed == 0 {
        return (Cow::Borrowed(text), 0);
    }
    out.push_str(rest);
    (Cow::Owned(out), removed)
}

/// Where the first one begins, and how long it is.
fn find(text: &str) -> Option<(usize, usize)> {
    [key(text), token(text), bearer(text)].into_iter().flatten().min()
}

/// A private key in PEM, to its end or to the end of the text where it has none.
fn key(text: &str) -> Option<(usize, usize)> {
    const LABEL: &str = "PRIVATE KEY-----";
    let mut from = 0;
    loop {
        let at = from + text[from..].find("-----BEGIN ")?;
        let behind = &text[at + "-----BEGIN ".len()..];
        let label = behind.split("-----").next().unwrap_or_default();
        if label.ends_with("PRIVATE KEY") {
            let end = behind.find("-----END ").and_then(|end| {
                let last = behind[end..].find(LABEL)?;
                Some("-----BEGIN ".len() + end + last + LABEL.len())
            });
            return Some((at, end.unwrap_or(text.len() - at)));
        }
        from = at + "-----BEGIN ".len();
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// A JSON Web Token: three parts of base64url, of which the first begins with `{"`.
fn token(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find("eyJ")?;
        let length = text[at..].bytes().take_while(|byte| is_token(*byte)).count();
        let token = text[at..at + length].trim_end_matches('.');
        if token.len() >= TOKEN_BYTES_MIN && token.matches('.').count() == 2 {
            return Some((at, token.len()));
        }
        from = at + length;
    }
}

/// What stands behind `Bearer`, in any case.
fn bearer(text: &str) -> Option<(usize, usize)> {
    const WORD: &str = "bearer ";
    let bytes = text.as_bytes();
    let starts = bytes.windows(WORD.len()).enumerate();
    for (at, _) in starts.filter(|(_, word)| word.eq_ignore_ascii_case(WORD.as_bytes())) {
        let start = at + WORD.len();
        let is_part = |byte: &u8| is_token(*byte) || matches!(byte, b'+' | b'/' | b'=' | b'~');
        let length = bytes[start..].iter().take_while(|byte| is_part(byte)).count();
        if length >= BEARER_BYTES_MIN {
            return Some((start, length));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSIsInNjb3BlIjoiYWRtaW4ifQ.c2lnbmF0dXJlLW9mLWl0-_";

    #[test]
    fn credentials_are_taken_out_wherever_they_stand() {
        let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\nabc=\n-----END EC PRIVATE KEY-----";
        for secret in [
            TOKEN,
            pem,
            &pem.replace('\n', "\\n"),
            "-----BEGIN PRIVATE KEY-----\nMHcC",
        ] {
            let text = format!("{{\"reason\": \"with {secret}");
            assert_eq!(scrub(&text), (format!("{{\"reason\": \"with {REMOVED}").into(), 1));
        }
        let text = format!("a {TOKEN}. b {pem} c {TOKEN}\" d");
        let expected = format!("a {REMOVED}. b {REMOVED} c {REMOVED}\" d");
        assert_eq!(scrub(&text), (expected.into(), 3));
        let header = scrub("authorization: Bearer abcdef0123456789== x");
        assert_eq!(header.0, format!("authorization: Bearer {REMOVED} x"));
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for text in [
            "",
            "a bearer of news, and eyJust a word.of.mine",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "BEARER bonds grün",
            "eyJ.eyJ.eyJ",
            "----------BEGIN -----BEGIN ",
        ] {
            let (same, removed) = scrub(text);
            assert!(
                matches!(same, Cow::Borrowed(_)) && removed == 0 && same == text,
                "{text}"
            );
        }
    }
}
