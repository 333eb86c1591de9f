//! Durations as people write them: `500ms`, `20s`, `1m30s`, `2h`.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Nothing was given.
    #[error("a duration is empty; write a number and a unit, such as 20s or 1m30s")]
    Empty,
    /// A number without `ms`, `s`, `m`, `h` or `d` behind it.
    #[error("`{0}` has no unit; write ms, s, m, h or d behind each number, such as 20s or 1m30s")]
    NoUnit(String),
    /// Something that is neither a number nor a unit.
    #[error("`{0}` is not a duration; write numbers with units, such as 500ms, 20s or 1m30s")]
    Malformed(String),
    /// More than [`MAX`].
    #[error("`{0}` is too long; at most 365d")]
    TooLong(String),
}

/// The longest duration that is accepted.
pub const MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Parses a sum of whole numbers with units `ms`, `s`, `m`, `h` and `d`. `0` alone needs no unit.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ParseError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let malformed = || ParseError::Malformed(text.to_owned());
    let too_long = || ParseError::TooLong(text.to_owned());
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        if number.is_empty() {
            return Err(malformed());
        }
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if after.is_empty() => return Err(ParseError::NoUnit(text.to_owned())),
            _ => return Err(malformed()),
        };
        let number: u64 = number.parse().map_err(|_| too_long())?;
        total_ms = number
            .checked_mul(unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(too_long)?;
        rest = after;
    }
    let total = Duration::from_millis(total_ms);
    if total > MAX { Err(too_long()) } else { Ok(total) }
}

/// Writes a duration so that [`parse`] reads it back, whole milliseconds kept.
pub fn format(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, size) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        if ms >= size {
            out.push_str(&(ms / size).to_string());
            out.push_str(unit);
            ms %= size;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("20s", 20_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("2h", 7_200_000),
            ("1d1h", 90_000_000),
            ("0", 0),
            (" 5s ", 5_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
        assert_eq!(parse(""), Err(ParseError::Empty));
        assert_eq!(parse("20"), Err(ParseError::NoUnit("20".into())));
        for text in ["s", "-1s", "1.5s", "20 s", "20sec", "1m 30s", "ä", "1µs", "5x"] {
            assert!(matches!(parse(text), Err(ParseError::Malformed(_))), "{text}");
        }
        for text in ["366d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(matches!(parse(text), Err(ParseError::TooLong(_))), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for ms in [0, 1, 999, 1_000, 61_001, 90_000, 86_400_000, 90_061_001] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
