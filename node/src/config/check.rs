//! What one key's range cannot say: ids, addresses and keys that have to fit each other.

use std::collections::BTreeSet;

use super::Config;
use super::document::{Entries, Place, Problems};
use super::sections::{
    Api, Audit, Auth, AuthBinding, Limits, Log, Mesh, Node, Raft, Retention, Storage, Telemetry, Tls,
};

/// The scopes a binding may grant.
const SCOPES: [&str; 5] = ["mesh.read", "mesh.observe", "mesh.operate", "mesh.admin", "mesh.peer"];

pub(super) fn node(_: &Node, _: &Entries<'_>, _: &mut Problems) {}

pub(super) fn mesh(mesh: &Mesh, entries: &Entries<'_>, problems: &mut Problems) {
    for (key, id) in [("id", &mesh.id), ("cluster", &mesh.cluster)] {
        if !is_id(id) {
            let help = "lower-case letters, digits, `.`, `_` and `-`; the first and last a letter or digit";
            problems.add(
                &entries.place_of(key),
                format!("`{key}`: {id:?} is not an id"),
                Some(help.to_owned()),
            );
        }
    }
    if !mesh.region.is_empty() && !is_id(&mesh.region) {
        problems.add(
            &entries.place_of("region"),
            format!("`region`: {:?} is not an id", mesh.region),
            None,
        );
    }
    let place = entries.place_of("members");
    let mut seen = BTreeSet::new();
    for member in &mesh.members.0 {
        if !seen.insert(member.id) {
            problems.add(&place, format!("`members`: node {} is listed twice", member.id), None);
        }
        for (key, address) in [("raft", &member.raft), ("api", &member.api)] {
            if let Err(why) = host_and_port(address) {
                problems.add(&place, format!("`members`: `{key}` of node {}: {why}", member.id), None);
            }
        }
    }
}

fn advertised(address: Option<&String>, entries: &Entries<'_>, problems: &mut Problems) {
    if let Some(Err(why)) = address.map(|address| host_and_port(address)) {
        problems.add(&entries.place_of("advertise"), format!("`advertise`: {why}"), None);
    }
}

pub(super) fn api(api: &Api, entries: &Entries<'_>, problems: &mut Problems) {
    advertised(api.advertise.as_ref(), entries, problems);
    if api.request_timeout_default_ms > api.request_timeout_max_ms {
        let place = entries.place_of("request_timeout_default_ms");
        problems.add(
            &place,
            "`request_timeout_default_ms` is more than `request_timeout_max_ms`",
            None,
        );
    }
    if api.long_poll_default_ms > api.long_poll_max_ms {
        let place = entries.place_of("long_poll_default_ms");
        problems.add(&place, "`long_poll_default_ms` is more than `long_poll_max_ms`", None);
    }
}

pub(super) fn raft(raft: &Raft, entries: &Entries<'_>, problems: &mut Problems) {
    advertised(raft.advertise.as_ref(), entries, problems);
    if raft.frame_bytes_max < raft.entry_bytes_max.saturating_mul(2) {
        let place = entries.place_of("frame_bytes_max");
        problems.add(&place, "`frame_bytes_max` is less than twice `entry_bytes_max`", None);
    }
    if raft.election_timeout_max_ms <= raft.election_timeout_min_ms {
        let place = entries.place_of("election_timeout_max_ms");
        problems.add(
            &place,
            "`election_timeout_max_ms` has to be more than `election_timeout_min_ms`",
            None,
        );
    }
    if raft.election_timeout_min_ms < raft.heartbeat_interval_ms.saturating_mul(3) {
        let place = entries.place_of("election_timeout_min_ms");
        let help = "a single late heartbeat must not cause an election".to_owned();
        problems.add(
            &place,
            "`election_timeout_min_ms` is less than three heartbeats",
            Some(help),
        );
    }
}

pub(super) fn storage(_: &Storage, _: &Entries<'_>, _: &mut Problems) {}

pub(super) fn tls(tls: &Tls, entries: &Entries<'_>, problems: &mut Problems) {
    for (key, file) in [
        ("ca_file", &tls.ca_file),
        ("cert_file", &tls.cert_file),
        ("key_file", &tls.key_file),
    ] {
        if file.as_os_str().is_empty() {
            let help = "a node always uses TLS; `meshkit-node certs` makes certificates".to_owned();
            problems.add(&entries.place_of(key), format!("`{key}` is empty"), Some(help));
        }
    }
}

pub(super) fn auth(auth: &Auth, entries: &Entries<'_>, problems: &mut Problems) {
    for binding in &auth.binding.0 {
        for scope in binding
            .scopes
            .0
            .iter()
            .filter(|scope| !SCOPES.contains(&scope.as_str()))
        {
            let help = Some(format!("scopes are {}", SCOPES.join(", ")));
            problems.add(
                &entries.place_of("binding"),
                format!("`binding`: unknown scope {scope:?}"),
                help,
            );
        }
    }
}

/// A binding with `mesh.peer` is one of peers, each under its own name.
fn peers_only(mesh: &str, binding: &AuthBinding) -> Result<(), String> {
    let named = match binding.subject.as_str() {
        "" => &binding.spiffe,
        subject => subject,
    };
    let id = named.strip_prefix(&format!("spiffe://{mesh}/peer/"));
    let is_peer = id.is_some_and(|id| is_id(id) || (id == "*" && binding.subject.is_empty()));
    if is_peer || !binding.scopes.0.iter().any(|scope| scope == "mesh.peer") {
        return Ok(());
    }
    Err(format!(
        "`scopes`: `mesh.peer` is for peers alone, and {named:?} is no peer of this mesh"
    ))
}

/// What one section says of another: bindings are of names of this mesh. `bindings` are the places of theirs.
pub(super) fn across(config: &Config, bindings: &[Place], problems: &mut Problems) {
    for (at, binding) in config.auth.binding.0.iter().enumerate() {
        if let Err(why) = api_server::Binding::check_pattern(&config.mesh.id, &binding.spiffe) {
            let place = bindings.get(at).unwrap_or(&Place::Nowhere);
            let help = format!("like \"spiffe://{}/client/*\"", config.mesh.id);
            problems.add(place, format!("`spiffe`: {:?} {why}", binding.spiffe), Some(help));
        } else if let Err(why) = peers_only(&config.mesh.id, binding) {
            let place = bindings.get(at).unwrap_or(&Place::Nowhere);
            let help = format!("like \"spiffe://{}/peer/*\", without a subject", config.mesh.id);
            problems.add(place, why, Some(help));
        }
    }
}

pub(super) fn limits(limits: &Limits, entries: &Entries<'_>, problems: &mut Problems) {
    if limits.page_items_default > limits.page_items_max {
        let place = entries.place_of("page_items_default");
        problems.add(&place, "`page_items_default` is more than `page_items_max`", None);
    }
    if limits.long_polls_max > limits.requests_in_flight_max {
        let place = entries.place_of("long_polls_max");
        problems.add(&place, "`long_polls_max` is more than `requests_in_flight_max`", None);
    }
}

pub(super) fn retention(_: &Retention, _: &Entries<'_>, _: &mut Problems) {}

pub(super) fn log(log: &Log, entries: &Entries<'_>, problems: &mut Problems) {
    if !log.filter.is_empty()
        && let Err(error) = crate::logs::filter::Filter::parse(&log.filter)
    {
        problems.add(&entries.place_of("filter"), format!("`filter`: {error}"), None);
    }
}

pub(super) fn audit(_: &Audit, _: &Entries<'_>, _: &mut Problems) {}

pub(super) fn telemetry(telemetry: &Telemetry, entries: &Entries<'_>, problems: &mut Problems) {
    if telemetry
        .metrics_listen
        .is_some_and(|address| !address.ip().is_loopback())
    {
        let help = "metrics without TLS may only be had on this machine; use /metrics on the API port".to_owned();
        problems.add(
            &entries.place_of("metrics_listen"),
            "`metrics_listen` is not a loopback address",
            Some(help),
        );
    }
    let collector = telemetry.otlp_endpoint.as_deref();
    let is_one = |endpoint: &str| {
        endpoint
            .strip_prefix("http://")
            .is_some_and(|at| host_and_port(at).is_ok())
    };
    if collector.is_some_and(|endpoint| !is_one(endpoint)) {
        problems.add(
            &entries.place_of("otlp_endpoint"),
            "`otlp_endpoint` is not `http://host:port`",
            Some("a collector on this machine can send traces on over TLS".to_owned()),
        );
    }
}

/// Whether `text` is an id: `[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?`.
pub fn is_id(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes.first().copied().is_some_and(inner)
        && bytes.last().copied().is_some_and(inner)
        && bytes.iter().all(|&c| inner(c) || matches!(c, b'.' | b'_' | b'-'))
}

/// Splits `host:port`; IPv6 hosts stand in brackets.
pub fn host_and_port(address: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("{address:?} is not `host:port`");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host
        .strip_prefix('[')
        .map_or(Some(host), |host| host.strip_suffix(']'))
        .ok_or_else(wrong)?;
    let port = port.parse::<u16>().map_err(|_| wrong())?;
    if host.is_empty() || port == 0 || host.contains(['/', '[', ']', ' ']) {
        return Err(wrong());
    }
    Ok((host, port))
}
