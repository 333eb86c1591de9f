//! The transport label: one word per negotiated protocol, the same in logs, metrics and audit.

use http::Version;

/// HTTP/3.
pub const H3: &str = "h3";
/// HTTP/2.
pub const H2: &str = "h2";
/// HTTP/1.1.
pub const H1: &str = "h1";

/// The label of a request's HTTP version.
#[must_use]
pub fn of(version: Version) -> &'static str {
    match version {
        Version::HTTP_3 => H3,
        Version::HTTP_2 => H2,
        _ => H1,
    }
}

/// The label that a text is, if any.
#[must_use]
pub fn label(text: &str) -> Option<&'static str> {
    [H3, H2, H1].into_iter().find(|label| *label == text)
}
