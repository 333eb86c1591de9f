//! Dry runs with their checks, drains on terms and of several peers, and what is asked before them.

use prost::Message as _;
use proto::v1::{
    CordonPeerRequest, DrainPeerRequest, DrainPeersRequest, ListPeersResponse, Operation, Peer, Preview, Problem,
    operation::{Item, State, Step, item, step::Phase},
    peer::Status,
    preview::{Check, check::Verdict},
};
use tonic::Code;

use crate::{
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh, records,
    terminal::on_terminal,
};

fn checks(verdicts: &[Verdict]) -> Vec<Check> {
    let rules = [
        ("the peer exists", "not_found", "1", "1"),
        (
            "there is room for one more running operation",
            "resource_exhausted",
            "3",
            "1000",
        ),
        ("enough peers of the cluster stay active", "active_peers_low", "0", "1"),
        ("every field has its form", "invalid_argument", "", ""),
    ];
    let one = |((rule, code, measured, limit), verdict): ((&str, &str, &str, &str), &Verdict)| {
        let made = *verdict != Verdict::NotMade;
        let values = if made {
            (measured, limit, "")
        } else {
            ("", "", "a check before it failed")
        };
        Check {
            rule: rule.into(),
            code: code.into(),
            verdict: (*verdict).into(),
            measured: values.0.into(),
            limit: values.1.into(),
            detail: values.2.into(),
        }
    };
    rules.into_iter().zip(verdicts).map(one).collect()
}

/// A dry run's answer with its preview.
pub(crate) fn previewed(message: &impl prost::Message, preview: &Preview) -> Reply {
    let Reply::Message(bytes, mut metadata) = Reply::at(message, 43) else {
        panic!()
    };
    let value = tonic::metadata::BinaryMetadataValue::from_bytes(&preview.encode_to_vec());
    let value = String::from_utf8(value.as_encoded_bytes().to_vec()).unwrap();
    metadata.push(("mesh-dry-run", "true".to_owned()));
    metadata.push(("mesh-preview-bin", value));
    Reply::Message(bytes, metadata)
}

fn step(name: &str, phase: Phase) -> Step {
    Step {
        name: name.into(),
        phase: phase.into(),
    }
}

fn several(state: State, states: [item::State; 3]) -> Operation {
    let items = states
        .into_iter()
        .zip(["edge-1", "edge-2", "edge-3\u{7}"])
        .map(|(state, peer)| Item {
            peer: peer.into(),
            state: state.into(),
            operation: String::new(),
        });
    Operation {
        id: "op-7".into(),
        kind: proto::v1::operation::Kind::DrainPeers.into(),
        target: "peers/zone=a".into(),
        state: state.into(),
        steps: vec![
            step("choose the peers: 3", Phase::Done),
            step("drain them, at most 2 at a time", Phase::Active),
        ],
        done: 1,
        total: 3,
        detail: "drains edge-2".into(),
        selector: "zone=a".into(),
        at_once: 2,
        version: 3,
        items: items.collect(),
        waiting_since: records::operations()[0].waiting_since,
        ..records::operations()[0].clone()
    }
}

fn waiting() -> Operation {
    several(State::Running, [item::State::Waiting; 3])
}

fn draining() -> Peer {
    Peer {
        status: Status::Draining.into(),
        operation: "op-7".into(),
        version: 9,
        ..records::peers().remove(0)
    }
}

#[tokio::test]
async fn a_dry_run_shows_every_check() {
    let node = Fake::default();
    let accepted = Preview {
        revision: 43,
        accepted: true,
        checks: checks(&[Verdict::Passed; 4]),
        steps: vec![
            step("keep new work away", Phase::Done),
            step("move its shards", Phase::Active),
        ],
        confirm: "p1".into(),
        ..Preview::default()
    };
    let refused = Problem {
        code: "active_peers_low".into(),
        detail: "cluster `c1` would be left with 0 active peers; at least 1 have to stay".into(),
        hint: "drain fewer".into(),
        request_id: "req-1".into(),
        measured: "0".into(),
        limit: "1".into(),
        preview: Some(Preview {
            revision: 43,
            checks: checks(&[Verdict::Passed, Verdict::Passed, Verdict::Failed, Verdict::NotMade]),
            ..Preview::default()
        }),
        ..Problem::default()
    };
    node.says("GetPeer", [Reply::at(&records::peers()[0], 43)])
        .says("DrainPeer", [previewed(&draining(), &accepted)])
        .says(
            "CancelOperation",
            [previewed(
                &several(State::Cancelled, [item::State::Skipped; 3]),
                &accepted,
            )],
        )
        .says(
            "DrainPeers",
            [
                previewed(&waiting(), &accepted),
                Reply::Problem(Code::FailedPrecondition, refused),
            ],
        );
    let mut text = String::new();
    for line in [
        "peers drain p1 --dry-run --force",
        "peers drain p1 --dry-run -o json",
        "peers drain p1 --dry-run -o jsonl",
        "peers drain p1 --dry-run -o name",
        "operations cancel op-7 --dry-run",
        "peers drain -l zone=a --at-once 2 --dry-run",
        // Refused from here on.
        "peers drain -l zone=a --dry-run",
        "peers drain -l zone=a --dry-run -o json",
        "peers drain -l zone=a --dry-run -o yaml",
    ] {
        text.push_str(&format!("$ mesh {line}\n{}", shown(&mesh(&node, line).await)));
    }
    check("dry-runs.txt", &text);
}

#[tokio::test]
async fn drains_of_several_in_every_format() {
    let node = Fake::default();
    let ended = several(
        State::Failed,
        [item::State::Drained, item::State::Returned, item::State::Gone],
    );
    node.says("DrainPeers", [Reply::at(&waiting(), 43)])
        .says("GetOperation", [Reply::ok(&ended)]);
    let mut text = String::new();
    for line in [
        "peers drain -l zone=a --at-once 2 --yes",
        "peers drain -l zone=a --at-once 2 --yes -o json",
        "peers drain -l zone=a --yes --wait",
        "peers drain -l zone=a",
        "peers drain",
        "peers drain p1 -l zone=a --yes",
        "peers drain p1 --at-once 2 --yes",
        "operations get op-7",
    ] {
        text.push_str(&format!("$ mesh {line}\n{}", shown(&mesh(&node, line).await)));
    }
    check("drain-several.txt", &text);
}

#[tokio::test]
async fn terms_are_sent_as_they_were_said() {
    let node = Fake::default();
    node.says("DrainPeer", [Reply::at(&draining(), 43)])
        .says("DrainPeers", [Reply::at(&waiting(), 43)]);
    let line = "peers drain p1 --deadline 1m30s --force --confirm p1 --reason why";
    assert_eq!(mesh(&node, line).await.exit, 0, "who names it needs no yes");
    let line = "peers drain -l zone=a --at-once 4 --deadline 2s --yes --ticket T-1";
    assert_eq!(mesh(&node, line).await.exit, 0);
    let asked = node.asked();
    let one: DrainPeerRequest = asked[0].message();
    assert_eq!(
        (one.deadline.unwrap().seconds, one.force, one.confirm.as_str()),
        (90, true, "p1")
    );
    let several: DrainPeersRequest = asked[1].message();
    assert_eq!(
        (several.at_once, several.selector.as_str(), several.ticket.as_str()),
        (4, "zone=a", "T-1")
    );
    assert_eq!((several.deadline.unwrap().seconds, several.force), (2, false));
    assert_eq!(asked.len(), 2, "--yes looks at nothing first");
    assert_eq!(several.idempotency_key.len(), 26);
}

#[tokio::test]
async fn a_selector_goes_on_where_one_is_refused() {
    let node = Fake::default();
    let peers = ListPeersResponse {
        items: records::peers(),
        revision: 43,
        ..ListPeersResponse::default()
    };
    let refused = Problem {
        code: "peer_draining".into(),
        detail: "peer `p1` is draining".into(),
        hint: "`mesh peers undrain p1` first".into(),
        ..Problem::default()
    };
    let cordoned = Peer {
        status: Status::Cordoned.into(),
        ..records::peers().remove(0)
    };
    node.says("ListPeers", [Reply::ok(&peers)]).says(
        "CordonPeer",
        [
            Reply::Problem(Code::FailedPrecondition, refused),
            Reply::at(&cordoned, 44),
        ],
    );
    let ran = mesh(&node, "peers cordon -l zone=a --reason rack").await;
    check("cordon-several.txt", &shown(&ran));
    let keys: Vec<String> = node
        .asked()
        .iter()
        .filter(|asked| asked.method == "CordonPeer")
        .map(|asked| asked.message::<CordonPeerRequest>().idempotency_key)
        .collect();
    assert_eq!(keys.len(), records::peers().len(), "each is asked for");
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "under a key of its own");
    for line in [
        "peers cordon -l zone=a --if-match e1",
        "peers uncordon -l zone=a --idempotency-key k",
        "peers undrain -l  --yes",
    ] {
        assert_eq!(mesh(&node, line).await.exit, 2, "{line}");
    }
}

/// Which and how many peers it is about is shown before it is asked; what was shown is what is asked for.
#[tokio::test]
async fn a_terminal_shows_which_peers_before_it_asks() {
    for (typed, exit) in [("y\n", 0), ("n\n", 1)] {
        let node = Fake::default();
        node.says(
            "DrainPeers",
            [previewed(&waiting(), &Preview::default()), Reply::at(&waiting(), 43)],
        );
        let (ended, out) = on_terminal(&node, "peers drain -l zone=a --at-once 2", typed).await;
        assert_eq!(ended, exit, "{out}");
        assert!(
            out.contains("zone=a selects 3 peers:\n  edge-1 edge-2 edge-3\\u{7}"),
            "{out}"
        );
        assert!(out.contains("Drain 3 peers, at most 2 at a time?"), "{out}");
        let asked = node.asked();
        assert!(asked[0].message::<DrainPeersRequest>().dry_run);
        assert_eq!(asked.len(), if exit == 0 { 2 } else { 1 });
        if exit == 0 {
            let request: DrainPeersRequest = asked[1].message();
            assert!(!request.dry_run);
            assert_eq!(request.expected, ["edge-1", "edge-2", "edge-3\u{7}"]);
        }
    }
}
