//! A trail made with the real chain functions and a real CA, then bent in every way that must be found.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use proto::v1::{AuditCheckpoint, AuditRecord};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use statemachine::{Hash, MeshId, Origin, Outcome, Position, Revision, Stamp, TimelineId, Unit, audit};

use super::{Report, Result, Signers, Verification};

mod export;
mod fields;

fn ok<T, E: std::fmt::Debug>(result: std::result::Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("{error:?}"))
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = ok(KeyPair::generate());
        let mut params = ok(CertificateParams::new(Vec::new()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = ok(params.self_signed(&key)).pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn sign(&self, uri: &str, revision: u64, hash: &str) -> AuditCheckpoint {
        let key = ok(KeyPair::generate());
        let mut params = ok(CertificateParams::new(Vec::new()));
        params.subject_alt_names = vec![SanType::URI(ok(uri.try_into()))];
        let certificate = ok(params.signed_by(&key, &self.issuer)).der().to_vec();
        let message = audit::checkpoint_message(
            &ok(MeshId::new("m1")),
            Revision(revision),
            Hash::parse(hash).unwrap_or(Hash([0; 32])),
        );
        let pair = ok(EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &key.serialize_der(),
        ));
        let signature = ok(pair.sign(&SystemRandom::new(), &message)).as_ref().to_vec();
        AuditCheckpoint {
            revision,
            hash: hash.to_owned(),
            node: "1".into(),
            certificate,
            signature,
            recorded_revision: revision + 1,
        }
    }

    fn node(&self, record: &AuditRecord) -> AuditCheckpoint {
        self.sign("spiffe://m1/cluster/c1/node/1", record.revision, &record.hash)
    }
}

fn trail(length: u64) -> Vec<AuditRecord> {
    let timeline = TimelineId(7);
    let mut previous = Hash([0; 32]);
    let mut parent = Position::default();
    (1..=length)
        .map(|revision| {
            let position = Position {
                timeline,
                revision: Revision(revision),
            };
            let unit = Unit {
                position,
                parent,
                stamp: Stamp {
                    mesh_time_ms: revision,
                    wall_ms: 1_790_000_000_000,
                },
                origin: Origin {
                    actor: "alice".into(),
                    reason: "why".into(),
                    ..Origin::default()
                },
                action: "peers.cordon".into(),
                target: "peer/p1".into(),
                outcome: Outcome::Applied {
                    changes: Vec::new(),
                    events: Vec::new(),
                },
            };
            let canonical = unit.encode();
            let hash = audit::extend(previous, &canonical);
            let record = AuditRecord {
                hash: hash.to_string(),
                previous_hash: previous.to_string(),
                canonical,
                ..api_records::of_unit(&unit)
            };
            (previous, parent) = (hash, position);
            record
        })
        .collect()
}

fn verify(
    ca: &Authority,
    records: &[AuditRecord],
    listed: Vec<AuditCheckpoint>,
    exported: &[AuditCheckpoint],
) -> Result<Report> {
    let signers = ok(Signers::new(ca.pem.as_bytes(), "m1"));
    let mut verification = ok(Verification::new("m1".into(), Some(signers), listed, exported));
    for record in records {
        verification.record(record)?;
    }
    let revision = records.last().map_or(0, |record| record.revision);
    verification.finish(revision)
}

fn broken(result: Result<Report>, at: u64, what: &str) {
    match result {
        Ok(report) => panic!("found whole: {report:?}"),
        Err(error) => {
            assert_eq!((error.code(), error.exit_code()), ("audit_broken", 1));
            let text = error.detail();
            assert!(
                text.contains(&format!("at revision {at}:")) && text.contains(what),
                "{text}"
            );
        }
    }
}

#[test]
fn a_whole_trail_holds_with_its_checkpoints() {
    let ca = Authority::new();
    let records = trail(10);
    let report = ok(verify(
        &ca,
        &records,
        vec![ca.node(&records[3]), ca.node(&records[7])],
        &[ca.node(&records[3])],
    ));
    assert_eq!(
        (report.first_revision, report.last_revision, report.records),
        (1, 10, 10)
    );
    assert_eq!(
        (report.checkpoints, report.exported_matched, report.covered_through),
        (2, 1, Some(8))
    );
    assert!(report.anchored && report.signatures_checked);
    assert_eq!(report.head, records[9].hash);
}

#[test]
fn what_was_altered_left_out_or_moved_is_found() {
    let ca = Authority::new();
    let mut records = trail(5);
    records[2].actor = "mallory".into();
    broken(verify(&ca, &records, vec![], &[]), 3, "`actor` is not what");

    let mut records = trail(5);
    let end = records[2].canonical.len() - 1;
    records[2].canonical[end] ^= 1;
    assert!(verify(&ca, &records, vec![], &[]).is_err());

    let mut records = trail(5);
    records.remove(2);
    broken(verify(&ca, &records, vec![], &[]), 4, "missing or out of order");

    let mut records = trail(5);
    records[2].hash = "0".repeat(64);
    broken(verify(&ca, &records, vec![], &[]), 3, "it claims");
}

#[test]
fn a_rewritten_or_cut_trail_fails_against_a_checkpoint() {
    let ca = Authority::new();
    let records = trail(10);
    let kept = ca.node(&records[7]);
    broken(
        verify(&ca, &records[..5], vec![], std::slice::from_ref(&kept)),
        5,
        "vouches for revision 8",
    );
    let mut other = records.clone();
    for record in &mut other {
        record.reason = "another".into();
    }
    assert!(verify(&ca, &other, vec![], &[kept]).is_err());
    let false_hash = ca.sign("spiffe://m1/cluster/c1/node/1", 8, &records[0].hash);
    broken(
        verify(&ca, &records, vec![], &[false_hash]),
        8,
        "the exported checkpoint says",
    );
}

#[test]
fn only_nodes_of_this_mesh_sign() {
    let ca = Authority::new();
    let records = trail(3);
    let hash = &records[1].hash;
    for (uri, what) in [
        ("spiffe://m1/client/alice", "not signed by a node"),
        ("spiffe://m2/cluster/c1/node/1", "not signed by a node"),
        ("spiffe://m1/cluster/c1/node/2", "node 2 signed"),
    ] {
        broken(verify(&ca, &records, vec![ca.sign(uri, 2, hash)], &[]), 2, what);
    }
    broken(
        verify(&ca, &records, vec![Authority::new().node(&records[1])], &[]),
        2,
        "does not vouch for",
    );
    let mut forged = ca.node(&records[1]);
    forged.signature = ca.node(&records[2]).signature;
    broken(
        verify(&ca, &records, vec![forged], &[]),
        2,
        "signature that does not fit",
    );
}

#[test]
fn a_pruned_trail_is_anchored_by_the_checkpoint_before_it() {
    let ca = Authority::new();
    let records = trail(10);
    let report = ok(verify(
        &ca,
        &records[4..],
        vec![ca.node(&records[3])],
        &[ca.node(&records[1])],
    ));
    assert_eq!(
        (report.first_revision, report.anchored, report.exported_pruned),
        (5, true, 1)
    );
    let report = ok(verify(&ca, &records[5..], vec![], &[]));
    assert!(!report.anchored);
}
