//! What tests of a mesh say often.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use api_client::{
    CallOptions, Client, Consistency, Context, Endpoint, context::Environment, context::Flags, methods::GetStatus,
};
use node_harness::{Mesh, Options, wait_for};
use proto::v1::{GetStatusRequest, Operation, Peer, RegisterPeerRequest, Status};
use serde_json::{Value, json};

use super::wire::{Caller, Tls, Wire, runtime};

/// For whatever takes an election and a slow machine.
pub const SOON: Duration = Duration::from_secs(30);

/// Three nodes; a drain stays on each of its steps for this long.
pub fn drains_take(settle: Duration) -> Options {
    let settle = (
        "MESHKIT_MESH__DRAIN_SETTLE_MS".to_owned(),
        settle.as_millis().to_string(),
    );
    Options {
        environment: vec![settle],
        ..Options::default()
    }
}

/// A name that no other test uses.
pub fn unique(prefix: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    format!("{prefix}-{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Runs a future of the SDK.
pub fn wait<T>(work: impl Future<Output = T>) -> T {
    runtime().block_on(work)
}

/// The SDK as `who`, knowing all nodes.
pub fn client(mesh: &Mesh, who: &str) -> Client {
    builder(mesh, who).build().unwrap()
}

/// What [`client`] is made of.
pub fn builder(mesh: &Mesh, who: &str) -> api_client::Builder {
    let flags = Flags {
        context: Some(mesh.context(who)),
        ..Flags::default()
    };
    let context = Context::load(&flags, &Environment::default()).unwrap();
    api_client::Builder::from_context(&context).unwrap()
}

/// Only this node, as it sees things itself.
pub fn only(mesh: &Mesh, node: u64) -> CallOptions {
    let endpoint: Endpoint = mesh.node(node).unwrap().api.parse().unwrap();
    CallOptions {
        only: Some(endpoint),
        once: true,
        stay: true,
        consistency: Some(Consistency::Local),
        timeout: Some(Duration::from_secs(5)),
        ..CallOptions::default()
    }
}

/// A node's own view of the cluster; absent where it does not answer.
pub fn status_of(mesh: &Mesh, client: &Client, node: u64) -> Option<Status> {
    let call = client.call::<GetStatus>(GetStatusRequest {}, only(mesh, node));
    wait(call).ok().map(|answer| answer.message)
}

/// The leader, once a node that leads says so itself.
pub fn leader(mesh: &Mesh) -> u64 {
    let client = client(mesh, "read");
    let found = wait_for(SOON, "a leader", || {
        mesh.ids().into_iter().find(|&node| {
            let status = status_of(mesh, &client, node);
            status.is_some_and(|status| status.quorum && status.leader.is_some_and(|leader| leader.id == node))
        })
    });
    found.unwrap()
}

/// A node that does not lead.
pub fn follower(mesh: &Mesh) -> u64 {
    let leader = leader(mesh);
    mesh.ids().into_iter().find(|&node| node != leader).unwrap()
}

/// The TLS of a caller who shows no certificate.
pub fn tls(mesh: &Mesh) -> Tls {
    Tls::new(&std::fs::read(&mesh.info().ca).unwrap(), None)
}

/// A caller of one node as `who`.
pub fn caller(mesh: &Mesh, node: u64, wire: Wire, who: &str) -> Caller {
    let tokens = mesh.info().tokens.by_name();
    Caller::new(&mesh.node(node).unwrap().api, wire, tls(mesh)).bearer(tokens[who])
}

/// A caller of the leader, over HTTP/2, as admin.
pub fn admin(mesh: &Mesh) -> Caller {
    caller(mesh, leader(mesh), Wire::H2, "admin")
}

/// Registers a peer and answers its record.
pub fn register(mesh: &Mesh, id: &str) -> Peer {
    let request = RegisterPeerRequest {
        id: id.to_owned(),
        endpoints: vec!["127.0.0.1:9000".to_owned()],
        ..RegisterPeerRequest::default()
    };
    wait(client(mesh, "admin").register_peer(request)).unwrap().message
}

/// What registers a peer, in JSON.
pub fn registration(id: &str) -> Value {
    json!({ "id": id, "endpoints": ["127.0.0.1:9000"] })
}

/// Follows an operation to its end.
pub fn finished(mesh: &Mesh, id: &str) -> Operation {
    let client = client(mesh, "read");
    let mut version = 0;
    let deadline = std::time::Instant::now() + SOON;
    loop {
        assert!(std::time::Instant::now() < deadline, "operation {id} does not end");
        // A node that dies in between is asked again.
        if let Ok(answer) = wait(client.wait_operation(id, version, Duration::from_secs(5))) {
            if answer.message.finished_at.is_some() {
                return answer.message;
            }
            version = answer.message.version;
        }
    }
}

/// The whole audit trail, oldest first, as one client sees it now.
pub fn audit(mesh: &Mesh) -> Vec<proto::v1::AuditRecord> {
    let client = client(mesh, "observe");
    let mut records = Vec::new();
    let mut cursor = String::new();
    loop {
        let request = proto::v1::ListAuditRecordsRequest {
            limit: 500,
            cursor,
            ..Default::default()
        };
        let page = wait(client.list_audit_records(request)).unwrap().message;
        records.extend(page.items);
        if page.next_cursor.is_empty() {
            return records;
        }
        cursor = page.next_cursor;
    }
}

/// Waits until all nodes are at one revision with one digest, and answers them.
pub fn agreed(mesh: &Mesh) -> (u64, String) {
    let client = client(mesh, "read");
    let mut last = BTreeMap::new();
    let found = wait_for(SOON, "all nodes at one revision", || {
        for node in mesh.ids() {
            last.insert(
                node,
                status_of(mesh, &client, node).map(|status| (status.revision, status.digest)),
            );
        }
        let first = last.values().next().cloned().flatten()?;
        last.values()
            .all(|seen| seen.as_ref().is_some_and(|seen| seen.0 == first.0))
            .then_some(first)
    });
    let (revision, digest) = found.unwrap_or_else(|error| panic!("{error}: {last:?}"));
    assert_eq!(digest.len(), 64, "no digest: {last:?}");
    assert!(
        last.values().flatten().all(|seen| seen.1 == digest),
        "replicas differ: {last:?}"
    );
    (revision, digest)
}

/// `mesh audit verify` finds nothing wrong, whichever node is asked.
pub fn verify_audit(mesh: &Mesh) {
    for node in mesh.ids() {
        mesh.mesh_at(node, ["audit", "verify"]).unwrap().ok().unwrap();
    }
}

/// A record apart from the times for people in it, and from what a dry run says beside it.
pub fn timeless(record: &Value) -> Value {
    let mut record = record.clone();
    if let Value::Object(fields) = &mut record {
        for name in [
            "createdAt",
            "changedAt",
            "finishedAt",
            "waitingSince",
            "deadline",
            "preview",
        ] {
            fields.remove(name);
        }
    }
    record
}

/// Previews a change and commits it at the position that the preview names, again where others were faster: both make the
/// same record. `between` looks at the mesh before the commit.
pub fn dry_then_wet(at: &Caller, rpc: &str, request: &Value, between: impl Fn()) {
    for _ in 0..50 {
        let mut dry = request.clone();
        dry["dryRun"] = json!(true);
        let dry = at.call(rpc, dry).ok();
        assert_eq!(dry.header("mesh-dry-run"), "true", "{dry:?}");
        between();
        let mut commit = request.clone();
        commit["ifRevision"] = dry.revision().into();
        let wet = at.call(rpc, commit);
        if wet.code() != "revision_mismatch" {
            assert_eq!(timeless(&wet.ok().json), timeless(&dry.json), "{rpc}");
            return;
        }
    }
    panic!("{rpc}: others were always faster");
}

/// A file among what `dev` made: `ca.key`, `jwt.key` and so on.
pub fn dev_file(mesh: &Mesh, name: &str) -> PathBuf {
    mesh.info().ca.parent().unwrap().join(name)
}
