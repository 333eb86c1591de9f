//! A data-plane member of the mesh.

use serde::{Deserialize, Serialize};

use super::{Attributes, Meta};
use crate::{ClusterId, OperationId, PeerId, Rejection};

/// The most labels, and the most metadata entries, of one record.
pub const ATTRIBUTES_MAX: usize = 64;
/// The longest key and the longest value, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 256;
/// The longest role, region and zone, in bytes.
pub const WORD_BYTES_MAX: usize = 64;
/// The most endpoints of a peer.
pub const ENDPOINTS_MAX: usize = 16;
/// The longest endpoint, in bytes.
pub const ENDPOINT_BYTES_MAX: usize = 261;
/// The usual weight.
pub const WEIGHT_DEFAULT: u32 = 100;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 10_000;

/// What the operators intend for the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PeerStatus {
    /// Takes new work.
    Active,
    /// Keeps what it has, takes no new work.
    Cordoned,
    /// Work is being moved away from it.
    Draining,
    /// Holds nothing.
    Drained,
}

impl PeerStatus {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Drained => "drained",
        }
    }
}

/// What is observed of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Health {
    /// Never heard of since it was registered.
    Unknown,
    /// Heard of in time.
    Alive,
    /// Late.
    Suspect,
    /// Given up.
    Dead,
}

impl Health {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}

/// What an operator says about a peer when registering it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSpec {
    /// The cluster that the peer belongs to.
    pub cluster: ClusterId,
    /// What the peer does, in the operator's words; may be empty.
    pub role: String,
    /// May be empty.
    pub region: String,
    /// May be empty.
    pub zone: String,
    /// `host:port`, in order of preference.
    pub endpoints: Vec<String>,
    /// Selectable attributes.
    pub labels: Attributes,
    /// Free attributes that no selector sees.
    pub metadata: Attributes,
    /// Share of work relative to others, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
}

/// A peer of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Unique in the mesh.
    pub id: PeerId,
    /// What was registered.
    pub spec: PeerSpec,
    /// What is intended.
    pub status: PeerStatus,
    /// The status to return to when a drain is undone. Present while draining or drained.
    pub status_before_drain: Option<PeerStatus>,
    /// What is observed.
    pub health: Health,
    /// Since when it is observed so, in ms of mesh time; 0 for a peer that was never heard of. Stored beside the peer where it
    /// is not 0: see [`super::Record`].
    #[serde(skip)]
    pub health_since_ms: u64,
    /// The operation that drains or has drained it. Present while draining or drained.
    pub operation: Option<OperationId>,
    /// Why it is not active, in the operator's words; empty for an active peer, and for one that was set aside without a
    /// reason or below feature level 2. Stored beside the peer where it is not empty: see [`super::Record`].
    #[serde(skip)]
    pub status_reason: String,
    /// Changes of the record.
    pub meta: Meta,
}

impl PeerSpec {
    /// Checks every field against its form and limit.
    ///
    /// # Errors
    /// [`Rejection::InvalidArgument`] naming the first field that is wrong, and why.
    pub fn check(&self) -> Result<(), Rejection> {
        for (field, text) in [("role", &self.role), ("region", &self.region), ("zone", &self.zone)] {
            check_word(field, text)?;
        }
        if self.endpoints.is_empty() {
            return Err(Rejection::invalid("endpoints", "at least one host:port is needed"));
        }
        if self.endpoints.len() > ENDPOINTS_MAX {
            return Err(Rejection::invalid(
                "endpoints",
                format!("at most {ENDPOINTS_MAX} are kept"),
            ));
        }
        for endpoint in &self.endpoints {
            check_endpoint("endpoints", endpoint)?;
        }
        check_attributes("labels", &self.labels)?;
        check_attributes("metadata", &self.metadata)?;
        if !(1..=WEIGHT_MAX).contains(&self.weight) {
            return Err(Rejection::invalid(
                "weight",
                format!("{} is not within 1 to {WEIGHT_MAX}", self.weight),
            ));
        }
        Ok(())
    }
}

pub(super) fn check_word(field: &'static str, text: &str) -> Result<(), Rejection> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.len() > WORD_BYTES_MAX || !text.chars().all(fits) {
        return Err(Rejection::invalid(
            field,
            format!("at most {WORD_BYTES_MAX} characters of A-Z, a-z, 0-9, `.`, `_`, `-`"),
        ));
    }
    Ok(())
}

/// `host:port` where host is a name, an IPv4 address or a bracketed IPv6 address, and port is 1 to 65535.
pub(super) fn check_endpoint(field: &'static str, endpoint: &str) -> Result<(), Rejection> {
    let wrong = |why: &str| {
        let shown: String = endpoint.chars().take(80).flat_map(char::escape_default).collect();
        Err(Rejection::invalid(field, format!("`{shown}` {why}; write host:port")))
    };
    if endpoint.len() > ENDPOINT_BYTES_MAX {
        return wrong("is too long");
    }
    let Some((host, port)) = endpoint.rsplit_once(':') else {
        return wrong("has no port");
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) || !matches!(port.parse::<u16>(), Ok(1..)) {
        return wrong("has no port within 1 to 65535");
    }
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = match bracketed {
        Some(inner) => inner.parse::<core::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(name),
    };
    if fits { Ok(()) } else { wrong("has no valid host") }
}

/// Checks the number of attributes and the form of each key and value.
///
/// # Errors
/// [`Rejection::InvalidArgument`] naming the field and the key.
pub fn check_attributes(field: &'static str, attributes: &Attributes) -> Result<(), Rejection> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(Rejection::invalid(
            field,
            format!("{} are over the limit of {ATTRIBUTES_MAX}", attributes.len()),
        ));
    }
    for (key, value) in attributes.iter() {
        check_attribute_key(field, key)?;
        if value.len() > ATTRIBUTE_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(Rejection::invalid(
                field,
                format!("the value of `{key}` must be at most {ATTRIBUTE_BYTES_MAX} bytes without control characters"),
            ));
        }
    }
    Ok(())
}

/// Checks one key: letters, digits, `.`, `_`, `-`, `/`, starting and ending with a letter or digit.
///
/// # Errors
/// [`Rejection::InvalidArgument`] naming the field and the key.
pub fn check_attribute_key(field: &'static str, key: &str) -> Result<(), Rejection> {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let bytes = key.as_bytes();
    if key.len() <= ATTRIBUTE_BYTES_MAX && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner) {
        return Ok(());
    }
    let shown: String = key.chars().take(80).flat_map(char::escape_default).collect();
    Err(Rejection::invalid(
        field,
        format!(
            "`{shown}` is not a valid key: 1 to {ATTRIBUTE_BYTES_MAX} characters of A-Z, a-z, 0-9, `.`, `_`, `-`, `/`, starting and ending with a letter or digit"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PeerSpec {
        PeerSpec {
            cluster: ClusterId::new("c").unwrap(),
            role: String::new(),
            region: "eu-west".into(),
            zone: String::new(),
            endpoints: vec!["a.example:443".into()],
            labels: Attributes::new(),
            metadata: Attributes::new(),
            weight: WEIGHT_DEFAULT,
        }
    }

    #[test]
    fn endpoints_are_checked() {
        for good in ["h:1", "10.0.0.1:65535", "[::1]:80", "a-b.c_d:9"] {
            let spec = PeerSpec {
                endpoints: vec![good.into()],
                ..spec()
            };
            assert_eq!(spec.check(), Ok(()), "{good}");
        }
        for bad in [
            "",
            "h",
            "h:",
            "h:0",
            "h:65536",
            "h:+1",
            ":1",
            "::1:80",
            "[x]:1",
            "h h:1",
            "http://h:1",
        ] {
            let spec = PeerSpec {
                endpoints: vec![bad.into()],
                ..spec()
            };
            assert!(spec.check().is_err(), "{bad}");
        }
        assert!(
            PeerSpec {
                endpoints: vec![],
                ..spec()
            }
            .check()
            .is_err()
        );
    }

    #[test]
    fn attributes_are_checked() {
        for (key, value, fits) in [
            ("a", "", true),
            ("a/b.c-d_E9", "v", true),
            ("", "v", false),
            ("-a", "v", false),
            ("a", "x\ny", false),
        ] {
            let labels = Attributes::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(PeerSpec { labels, ..spec() }.check().is_ok(), fits, "{key:?}={value:?}");
        }
        let many = (0..=ATTRIBUTES_MAX).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(PeerSpec { labels: many, ..spec() }.check().is_err());
    }

    #[test]
    fn weights_are_checked() {
        for (weight, fits) in [(0, false), (1, true), (WEIGHT_MAX, true), (WEIGHT_MAX + 1, false)] {
            assert_eq!(PeerSpec { weight, ..spec() }.check().is_ok(), fits);
        }
    }
}
