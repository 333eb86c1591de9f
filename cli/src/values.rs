//! Values on the command line that several commands take.

use std::time::Duration;

/// Parses a duration such as `20s` or `1m30s`, above 0.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text
        .trim()
        .strip_prefix('-')
        .is_some_and(|rest| api_client::duration::parse(rest).is_ok())
    {
        return Err("a duration cannot be below 0; give at least 1ms".to_owned());
    }
    match api_client::duration::parse(text) {
        Ok(Duration::ZERO) => Err("give at least 1ms".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// Parses a moment: a time such as `2026-01-31T12:00:00Z`, or how long ago, such as `2h`.
pub fn moment(text: &str) -> Result<prost_types::Timestamp, String> {
    let time = match api_client::duration::parse(text) {
        Ok(ago) => jiff::Timestamp::now()
            .checked_sub(ago)
            .map_err(|error| error.to_string())?,
        Err(_) => text
            .trim()
            .parse::<jiff::Timestamp>()
            .map_err(|_| "write a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h".to_owned())?,
    };
    Ok(prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    })
}

/// Text for the audit trail, on one line: it is shown on terminals for as long as the mesh exists.
pub fn words(text: &str) -> Result<String, String> {
    match text.chars().find(|character| character.is_control()) {
        Some(character) => Err(format!(
            "it holds the control character U+{:04X}; write it on one line, without tabs and escape sequences",
            u32::from(character)
        )),
        None => Ok(text.to_owned()),
    }
}

/// A duration in the contract's form.
pub fn proto_duration(time: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(time.subsec_nanos()).unwrap_or_default(),
    }
}

/// Parses an id: `[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?`
pub fn id(text: &str) -> Result<String, String> {
    let (bytes, plain) = (text.as_bytes(), |byte: &u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit()
    });
    let ends = bytes.first().is_some_and(plain) && bytes.last().is_some_and(plain);
    let inner = bytes.iter().all(|byte| plain(byte) || b"._-".contains(byte));
    match ends && inner && bytes.len() <= 64 {
        true => Ok(text.to_owned()),
        false => {
            Err("write up to 64 of a-z, 0-9, `.`, `_` and `-`, beginning and ending with a letter or digit".to_owned())
        }
    }
}

/// Parses a share such as `10%` or `2.5%` into tenths of a percent.
pub fn share(text: &str) -> Result<u32, String> {
    let wrong = || "write a share from 0% to 100%, such as 10% or 2.5%".to_owned();
    let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, tenths) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(tenths) || tenths.len() > 1 {
        return Err(wrong());
    }
    let parse = |text: &str| text.parse::<u32>().map_err(|_| wrong());
    let share = parse(whole)?.checked_mul(10).ok_or_else(wrong)? + parse(tenths)?;
    match share {
        0..=1_000 => Ok(share),
        _ => Err(wrong()),
    }
}

/// How fresh what is read has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Freshness {
    /// Everything that was acknowledged before is in it; needs a quorum
    Linearizable,
    /// What the node that answers has; may be old
    Local,
}

impl From<Freshness> for api_client::Consistency {
    fn from(freshness: Freshness) -> Self {
        match freshness {
            Freshness::Linearizable => Self::Linearizable,
            Freshness::Local => Self::Local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_exactly() {
        for (text, share_read) in [
            ("10%", 100),
            ("2.5%", 25),
            ("0%", 0),
            ("100%", 1_000),
            ("100.0%", 1_000),
            (" 7 %", 70),
        ] {
            assert_eq!(share(text), Ok(share_read), "{text}");
        }
        for bad in [
            "",
            "%",
            "10",
            "0.1",
            "100.1%",
            "1.25%",
            "-1%",
            "+1%",
            ".5%",
            "5.%",
            "99999999999%",
            "4294967295%",
        ] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_have_their_form() {
        for good in ["a", "0", "a.b_c-d9", &"x".repeat(64)] {
            assert_eq!(id(good), Ok(good.to_owned()));
        }
        for bad in ["", "A", "-a", "a-", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
