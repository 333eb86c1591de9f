//! `mesh clusters`, `mesh config`, `mesh history` and `mesh audit checkpoints`: what is shown, and what is sent.

use proto::v1::{
    ApplyClusterRequest, AuditCheckpoint, Cluster, CompactHistoryRequest, Compaction, Config, ConfigVersion, History,
    ListAuditCheckpointsResponse, ListClustersResponse, ListConfigVersionsResponse, PatchConfigRequest,
    PromoteClusterRequest, Setting, cluster, config_version, setting,
};

use crate::{
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh, records,
};

fn cluster(id: &str, state: cluster::State) -> Cluster {
    let like = &records::peers()[0];
    Cluster {
        id: id.into(),
        region: "eu-west".into(),
        state: state.into(),
        priority: 10,
        fencing: cluster::Fencing::Lease.into(),
        replication_endpoints: vec!["eu.example:7500".into()],
        owners: vec!["sre".into(), "net\u{1b}[2J".into()],
        annotations: [("tier".to_owned(), "gold".to_owned())].into(),
        ticket: "CHG-7".into(),
        readiness: cluster::Readiness::Unknown.into(),
        version: 2,
        etag: "e41".into(),
        created_revision: 12,
        changed_revision: 41,
        created_at: like.created_at,
        changed_at: like.changed_at,
    }
}

fn setting(name: &str, value: u64, unit: &str) -> Setting {
    Setting {
        name: name.into(),
        value,
        source: setting::Source::Default.into(),
        default: value,
        min: 1,
        max: 86_400_000,
        unit: unit.into(),
        doc: "What it does.".into(),
        ..Setting::default()
    }
}

fn choice(name: &str) -> Setting {
    Setting {
        value: 2,
        source: setting::Source::Set.into(),
        default: 0,
        min: 0,
        max: 3,
        choice: "admin".into(),
        default_choice: "none".into(),
        choices: ["none", "operator", "admin", "two_admins"].map(str::to_owned).to_vec(),
        ..setting(name, 0, "choice")
    }
}

fn config() -> Config {
    let mut peers = setting("limits.peers", 10_000, "count");
    (peers.value, peers.source) = (77, setting::Source::Set.into());
    Config {
        items: vec![
            peers,
            setting("retention.idempotency_key", 900_000, "ms"),
            choice("approvals.peers.drain"),
        ],
        version: 2,
        etag: "e41".into(),
        changed_revision: 41,
        changed_at: records::peers()[0].changed_at,
        rollback_of: 0,
    }
}

fn fake() -> Fake {
    let clusters = ListClustersResponse {
        items: vec![
            cluster("dev-1", cluster::State::Active),
            cluster("eu", cluster::State::Passive),
        ],
        revision: 43,
        epoch: 1,
        ..Default::default()
    };
    let change = config_version::Change {
        name: "limits.peers".into(),
        before: 10_000,
        after: 77,
        ..Default::default()
    };
    let rule = config_version::Change {
        name: "approvals.peers.drain".into(),
        before: 0,
        after: 2,
        before_choice: "none".into(),
        after_choice: "admin".into(),
        ..Default::default()
    };
    let duration = config_version::Change {
        name: "retention.history".into(),
        before: 0,
        after: 2_592_000_000,
        unit: "ms".into(),
        ..Default::default()
    };
    let versions = ListConfigVersionsResponse {
        items: vec![ConfigVersion {
            revision: 41,
            version: 2,
            changed_at: records::peers()[0].changed_at,
            actor: "alice".into(),
            reason: "smaller".into(),
            ticket: "CHG-7".into(),
            changes: vec![change, rule, duration],
            rollback_of: 12,
        }],
        revision: 43,
        epoch: 1,
        ..Default::default()
    };
    let history = History {
        oldest_revision: 12,
        revision: 43,
        etag: "e40".into(),
        last_checkpoint: 40,
        checkpoints: 3,
    };
    let checkpoints = ListAuditCheckpointsResponse {
        items: vec![AuditCheckpoint {
            revision: 11,
            hash: "ab".repeat(32),
            node: "2".into(),
            certificate: vec![1],
            signature: vec![2],
            recorded_revision: 12,
        }],
        revision: 43,
        epoch: 1,
        ..Default::default()
    };
    let fake = Fake::default();
    fake.says("ListClusters", [Reply::ok(&clusters)])
        .says("GetCluster", [Reply::at(&cluster("eu", cluster::State::Passive), 43)])
        .says("GetConfig", [Reply::at(&config(), 43)])
        .says("ListConfigVersions", [Reply::ok(&versions)])
        .says("GetHistory", [Reply::ok(&history)])
        .says("ListAuditCheckpoints", [Reply::ok(&checkpoints)]);
    fake
}

/// The request of the n-th call of a method.
fn request_of<M: prost::Message + Default>(fake: &Fake, method: &str, n: usize) -> M {
    let asked = fake.asked();
    asked
        .iter()
        .filter(|asked| asked.method == method)
        .nth(n)
        .unwrap()
        .message()
}

#[tokio::test]
async fn every_format_of_every_answer() {
    let fake = fake();
    for (name, command) in [
        ("clusters-list", "clusters list"),
        ("clusters-get", "clusters get eu"),
        ("config-list", "config list"),
        ("config-get", "config get retention.idempotency_key"),
        ("config-history", "config history"),
        ("history-show", "history show"),
        ("audit-checkpoints", "audit checkpoints"),
    ] {
        for format in ["table", "wide", "json", "yaml", "jsonl", "name"] {
            let ran = mesh(&fake, &format!("{command} -o {format}")).await;
            assert_eq!(ran.exit, 0, "{}", ran.err);
            assert!(!ran.out.contains('\u{1b}'), "{}", ran.out);
            check(&format!("{name}.{format}.txt"), &shown(&ran));
        }
    }
}

#[tokio::test]
async fn changes_and_dry_runs() {
    let fake = fake();
    let mut applied = cluster("eu", cluster::State::Maintenance);
    (applied.version, applied.changed_revision) = (3, 44);
    let mut set = config();
    set.items[0].value = 80;
    (set.version, set.changed_revision) = (3, 44);
    let compaction = Compaction {
        oldest_revision: 31,
        etag: "e44".into(),
    };
    fake.says("ApplyCluster", [Reply::at(&applied, 44)])
        .says("PatchConfig", [Reply::at(&set, 44)])
        .says("RollbackConfig", [Reply::at(&set, 44)])
        .says("CompactHistory", [Reply::at(&compaction, 44)]);
    let mut text = String::new();
    for line in [
        "clusters apply eu --owner sre --state maintenance --if-match e41",
        "clusters apply eu --owner sre --state maintenance --if-match e41 --dry-run",
        "clusters apply eu --owner sre -o name",
        "config set limits.peers=80",
        "config set limits.peers=80 --dry-run",
        "config rollback 12",
        "history compact --to 31 --yes",
        "history compact --keep 7d --dry-run",
        "history compact --to 31",
        "history compact --to 31 --yes -o json",
        "clusters apply",
        "clusters apply eu --state asleep",
        "config set",
        "config set limits.peers=1 --reset limits.peers",
        "config get limits.nothing",
        "history compact",
    ] {
        let ran = mesh(&fake, line).await;
        text.push_str(&format!("$ mesh {line}\n{}", shown(&ran)));
    }
    check("clusters-config-history.txt", &text);
}

#[tokio::test]
async fn what_is_sent_is_what_was_said() {
    let fake = fake();
    fake.says("ApplyCluster", [Reply::at(&cluster("eu", cluster::State::Passive), 44)])
        .says(
            "PromoteCluster",
            [Reply::at(&cluster("eu", cluster::State::Passive), 44)],
        )
        .says("PatchConfig", [Reply::at(&config(), 44)])
        .says("CompactHistory", [Reply::at(&Compaction::default(), 44)]);
    let line = "clusters apply eu --region r --owner a --owner b --annotation k=v --replication-endpoint h:1 --priority 0 \
                --fencing lease --reason why --ticket T-1 --if-match e1";
    assert_eq!(mesh(&fake, line).await.exit, 0);
    let sent: ApplyClusterRequest = request_of(&fake, "ApplyCluster", 0);
    assert_eq!(
        (sent.region.as_str(), sent.priority, &sent.owners[..]),
        ("r", Some(0), &["a".to_owned(), "b".into()][..])
    );
    assert_eq!(
        (sent.fencing(), sent.if_match.as_str()),
        (cluster::Fencing::Lease, "e1")
    );
    assert_eq!(
        (sent.reason.as_str(), sent.ticket.as_str(), &sent.annotations["k"][..]),
        ("why", "T-1", "v")
    );
    assert_eq!(sent.replication_endpoints, ["h:1"]);

    // A file stands for all of it, and for the ETag of what it was made from.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("eu.json");
    std::fs::write(&file, mesh(&fake, "clusters get eu -o json").await.out).unwrap();
    assert_eq!(
        mesh(&fake, &format!("clusters apply -f {}", file.display())).await.exit,
        0
    );
    let sent: ApplyClusterRequest = request_of(&fake, "ApplyCluster", 1);
    assert_eq!(
        (sent.id.as_str(), sent.priority, sent.if_match.as_str()),
        ("eu", Some(10), "e41")
    );
    assert_eq!(sent.owners, cluster("eu", cluster::State::Passive).owners);
    assert_eq!(sent.ticket, "", "that of this change, not of the last one");

    mesh(&fake, "clusters promote eu --confirm eu").await;
    let sent: PromoteClusterRequest = request_of(&fake, "PromoteCluster", 0);
    assert_eq!((sent.id.as_str(), sent.confirm.as_str()), ("eu", "eu"));

    mesh(&fake, "config set a=15m b=2 --reset c").await;
    let sent: PatchConfigRequest = request_of(&fake, "PatchConfig", 0);
    let json = proto::json::to_value(&sent).unwrap();
    assert_eq!(json["settings"], serde_json::json!({ "a": "15m", "b": "2", "c": null }));

    mesh(&fake, "history compact --keep 7d --yes").await;
    let sent: CompactHistoryRequest = request_of(&fake, "CompactHistory", 0);
    assert_eq!((sent.revision, sent.keep_ms), (0, 604_800_000));
}

#[tokio::test]
async fn checkpoints_are_kept_in_a_file_that_verify_takes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoints.json");
    let ran = mesh(&fake(), &format!("audit checkpoints --out {}", file.display())).await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    let text = std::fs::read(&file).unwrap();
    let page: ListAuditCheckpointsResponse = proto::json::from_slice(&text).unwrap();
    assert_eq!((page.items.len(), page.revision, page.epoch), (1, 43, 1));
    assert_eq!(page.next_cursor, "");
}
