//! Requests that a browser sends on behalf of a page of another site. A browser shows its user's client certificate to
//! whoever asks, without asking the user, so a certificate alone does not show that a mutation is wanted.

use http::{HeaderMap, Uri, header, request::Parts as Head, uri::Authority};

use crate::{Error, auth::Proof};

/// Refuses a request that another site's page had a browser send. Callers that are no browsers send neither of the
/// headers that this goes by; a token is never sent without the page's own doing.
///
/// # Errors
/// `invalid_argument`, naming the header.
pub(crate) fn check(proof: Proof, head: &Head) -> Result<(), Error> {
    match proof {
        Proof::Jwt => return Ok(()),
        Proof::Certificate | Proof::Loopback | Proof::Session => {}
    }
    let foreign = |field: &str, what: &str| {
        let detail = format!("no token came with it, and `{field}` says that {what} had a browser send it");
        Err(Error::invalid(field, detail).hint("send the request from outside of a browser, or with a token"))
    };
    for site in head.headers.get_all("sec-fetch-site") {
        match site.as_bytes() {
            b"same-origin" | b"none" => {}
            _ => return foreign("Sec-Fetch-Site", "another site"),
        }
    }
    let own = own(&head.uri, &head.headers);
    for origin in head.headers.get_all(header::ORIGIN) {
        let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
        let origin = origin.as_ref().and_then(|origin| {
            let usual = if origin.scheme_str() == Some("http") { 80 } else { 443 };
            place(origin.authority()?, usual)
        });
        if origin.is_none() || origin != own {
            return foreign("Origin", "a page from elsewhere");
        }
    }
    Ok(())
}

/// Where the caller believes to be sending to.
fn own(uri: &Uri, headers: &HeaderMap) -> Option<(String, u16)> {
    let host = || headers.get(header::HOST)?.to_str().ok()?.parse::<Authority>().ok();
    place(&uri.authority().cloned().or_else(host)?, 443)
}

fn place(authority: &Authority, usual_port: u16) -> Option<(String, u16)> {
    let host = authority.host().to_ascii_lowercase();
    (!host.is_empty()).then(|| (host, authority.port_u16().unwrap_or(usual_port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(proof: Proof, headers: &[(&str, &str)]) -> bool {
        let mut request = http::Request::post("/meshkit/peers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(proof, &request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn only_the_own_origin_is_let_through() {
        let host = ("host", "Api:7401");
        for (good, header) in [
            (true, host),
            (true, ("origin", "https://api:7401")),
            (false, ("origin", "https://api")),
            (false, ("origin", "https://evil:7401")),
            (false, ("origin", "null")),
            (false, ("origin", "")),
            (true, ("sec-fetch-site", "same-origin")),
            (true, ("sec-fetch-site", "none")),
            (false, ("sec-fetch-site", "same-site")),
            (false, ("sec-fetch-site", "cross-site")),
        ] {
            let headers = if header == host { vec![host] } else { vec![host, header] };
            assert_eq!(checked(Proof::Certificate, &headers), good, "{header:?}");
            assert_eq!(checked(Proof::Loopback, &headers), good, "{header:?}");
            assert!(checked(Proof::Jwt, &headers), "{header:?}");
        }
        assert!(checked(
            Proof::Certificate,
            &[("host", "api"), ("origin", "https://api:443")]
        ));
        assert!(!checked(Proof::Certificate, &[("origin", "https://api")]));
    }
}
