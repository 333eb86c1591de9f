//! Where a node's API listens.

use std::{fmt, str::FromStr};

/// The address of one node's API: scheme, host and port.
///
/// Written `https://host:port`; `host:port` means `https`. `http` is accepted only for a loopback address, where
/// development mode may serve without TLS.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not `https://host:port`.
    #[error("`{0}` is not an endpoint; write https://HOST:PORT")]
    Malformed(String),
    /// No port, or 0.
    #[error("`{0}` names no port; write https://HOST:PORT, such as https://127.0.0.1:7401")]
    NoPort(String),
    /// `http://` towards another machine.
    #[error("`{0}` would send the token in clear text; only https, or http to a loopback address, is allowed")]
    Plaintext(String),
}

impl Endpoint {
    /// The host as it was written: a name, an IPv4 address, or an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the connection is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// `host:port`, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// As [`FromStr`], but `http` is accepted towards any host: for connectors that bring their own security.
    pub fn parse_any(text: &str) -> Result<Self, ParseError> {
        let malformed = || ParseError::Malformed(text.to_owned());
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            Some(_) => return Err(malformed()),
            None => (true, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let authority: http::uri::Authority = rest.parse().map_err(|_| malformed())?;
        if rest.contains('@') {
            return Err(malformed());
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        if host.is_empty() {
            return Err(malformed());
        }
        match authority.port_u16() {
            Some(port) if port != 0 => Ok(Self { tls, host, port }),
            _ => Err(ParseError::NoPort(text.to_owned())),
        }
    }
}

impl FromStr for Endpoint {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let endpoint = Self::parse_any(text)?;
        if !endpoint.tls && !endpoint.is_loopback() {
            return Err(ParseError::Plaintext(text.to_owned()));
        }
        Ok(endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_and_bare_addresses() {
        for (text, shown) in [
            ("https://127.0.0.1:7401", "https://127.0.0.1:7401"),
            ("https://127.0.0.1:7401/", "https://127.0.0.1:7401"),
            ("node1.example:7401", "https://node1.example:7401"),
            ("https://[::1]:7401", "https://[::1]:7401"),
            ("http://localhost:80", "http://localhost:80"),
        ] {
            assert_eq!(text.parse::<Endpoint>().map(|e| e.to_string()), Ok(shown.to_owned()));
        }
    }

    #[test]
    fn refuses_what_cannot_be_dialled_and_clear_text() {
        for text in [
            "",
            "https://",
            "ftp://a:1",
            "https://a:1/path",
            "https://user@a:1",
            "a b:1",
            "https://a:99999",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
        assert!(matches!("https://a".parse::<Endpoint>(), Err(ParseError::NoPort(_))));
        assert!(matches!("https://a:0".parse::<Endpoint>(), Err(ParseError::NoPort(_))));
        assert!(matches!(
            "http://10.0.0.1:80".parse::<Endpoint>(),
            Err(ParseError::Plaintext(_))
        ));
        assert!(Endpoint::parse_any("http://10.0.0.1:80").is_ok());
    }
}
