//! Times for people and for machines.

use jiff::Timestamp;
use prost_types::Timestamp as ProtoTimestamp;

/// RFC 3339 in UTC; `-` where there is none or it cannot be shown.
pub fn rfc3339(time: Option<&ProtoTimestamp>) -> String {
    time.and_then(convert)
        .map_or_else(|| "-".to_owned(), |time| time.to_string())
}

/// How long ago: `3s ago`, `5m ago`, `in 2m` where clocks disagree; `-` where there is none.
pub fn relative(time: Option<&ProtoTimestamp>, now: Timestamp) -> String {
    let Some(time) = time.and_then(convert) else {
        return "-".to_owned();
    };
    let seconds = now.as_second().saturating_sub(time.as_second());
    match seconds {
        ..=-2 => format!("in {}", span(seconds.unsigned_abs())),
        -1..=0 => "now".to_owned(),
        _ => format!("{} ago", span(seconds.unsigned_abs())),
    }
}

/// The time of day in UTC, and before it the day unless that is today: for lines that stay on the screen while time goes on.
pub fn clock(time: Option<&ProtoTimestamp>, now: Timestamp) -> String {
    let Some(time) = time.and_then(convert) else {
        return "-".to_owned();
    };
    let format = match time.as_second().div_euclid(86_400) == now.as_second().div_euclid(86_400) {
        true => "%H:%M:%SZ",
        false => "%Y-%m-%dT%H:%M:%SZ",
    };
    time.strftime(format).to_string()
}

/// The largest unit that fits, whole: `90s` is `1m`.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m", seconds / 60),
        3_600..=86_399 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn convert(time: &ProtoTimestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_in_both_forms() {
        let at = |seconds| ProtoTimestamp { seconds, nanos: 0 };
        let now = Timestamp::UNIX_EPOCH;
        for (seconds, shown) in [
            (0, "now"),
            (-5, "5s ago"),
            (-90, "1m ago"),
            (-7_300, "2h ago"),
            (-200_000, "2d ago"),
            (30, "in 30s"),
        ] {
            assert_eq!(relative(Some(&at(seconds)), now), shown);
        }
        assert_eq!(clock(Some(&at(3_723)), now), "01:02:03Z");
        assert_eq!(clock(Some(&at(90_123)), now), "1970-01-02T01:02:03Z");
        assert_eq!(clock(Some(&at(-1)), now), "1969-12-31T23:59:59Z");
        assert_eq!(clock(None, now), "-");
        assert_eq!(rfc3339(Some(&at(1_800_000_000))), "2027-01-15T08:00:00Z");
        assert_eq!(rfc3339(Some(&at(i64::MAX))), "-");
        assert_eq!(relative(None, now), "-");
    }
}
