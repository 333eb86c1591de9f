//! What commands ask of the mesh, and what they do with the answers.

use std::{ffi::OsString, io, os::unix::ffi::OsStringExt as _};

use meshkit_cli::Streams;
use proto::v1::{
    CanIResponse, CordonPeerRequest, DrainPeerRequest, ListAuditRecordsRequest, ListPeersRequest, ListPeersResponse,
    Operation, PatchPeerRequest, Peer, Problem, RegisterPeerRequest, operation::State, peer::Status,
};
use tonic::Code;

use crate::{
    fake::{Fake, Reply},
    mesh, mesh_with, records,
    terminal::on_terminal,
};

fn peer(status: Status) -> Peer {
    Peer {
        id: "p1".into(),
        status: status.into(),
        operation: "op1".into(),
        version: 4,
        changed_revision: 9,
        ..Peer::default()
    }
}

fn operation(version: u64, state: State) -> Operation {
    Operation {
        id: "op1".into(),
        target: "peer/p1".into(),
        version,
        state: state.into(),
        detail: format!("at {version}"),
        ..Operation::default()
    }
}

#[tokio::test]
async fn drain_and_deregister_refuse_without_a_terminal() {
    let node = Fake::default();
    let endpoint = format!("http://{}", node.serve().await);
    for line in [
        "peers drain p1",
        "peers deregister p1",
        "peers drain p1 --wait --reason x",
    ] {
        let ran = mesh_with(
            line,
            &[("MESH_ENDPOINTS", &endpoint), ("CI", "true"), ("MESH_YES", "1")],
        )
        .await;
        assert_eq!(ran.exit, 6, "{line}");
        assert!(
            ran.err.contains("confirmation_required") && ran.err.contains("--yes"),
            "{}",
            ran.err
        );
    }
    assert!(node.asked().is_empty(), "nothing was asked of the mesh");
}

#[tokio::test]
async fn the_others_never_ask_and_accept_yes() {
    let node = Fake::default();
    for method in ["CordonPeer", "UncordonPeer", "UndrainPeer", "PatchPeer", "RegisterPeer"] {
        node.says(method, [Reply::at(&peer(Status::Active), 9)]);
    }
    for line in [
        "peers cordon p1",
        "peers uncordon p1",
        "peers undrain p1",
        "peers label p1 a=b",
        "peers register p1 --endpoint h:1",
    ] {
        for yes in ["", " --yes", " -y"] {
            assert_eq!(mesh(&node, &format!("{line}{yes}")).await.exit, 0, "{line}{yes}");
        }
    }
}

#[tokio::test]
async fn drain_waits_for_its_operation() {
    let node = Fake::default();
    node.says("DrainPeer", [Reply::at(&peer(Status::Draining), 9)]);
    node.says(
        "GetOperation",
        [2, 3, 4].map(|version| {
            Reply::ok(&operation(
                version,
                if version == 4 { State::Succeeded } else { State::Running },
            ))
        }),
    );
    node.says("GetPeer", [Reply::at(&peer(Status::Drained), 12)]);
    let ran = mesh(
        &node,
        "peers drain p1 --reason new-kernel --ticket OPS-1 --yes --wait --timeout 20s",
    )
    .await;
    assert_eq!(
        (ran.exit, ran.out.as_str(), ran.err.as_str()),
        (0, "peer/p1 drained (version 4, revision 9)\n", "")
    );
    let asked = node.asked();
    let request: DrainPeerRequest = asked[0].message();
    assert_eq!(
        (request.reason.as_str(), request.ticket.as_str(), request.dry_run),
        ("new-kernel", "OPS-1", false)
    );
    assert_eq!(request.idempotency_key.len(), 26);
    let polls: Vec<Option<u64>> = asked
        .iter()
        .filter(|asked| asked.method == "GetOperation")
        .map(|asked| asked.message::<proto::v1::GetOperationRequest>().wait_version)
        .collect();
    assert_eq!(polls, [None, Some(2), Some(3)]);

    let ran = mesh(&node, "peers drain p1 --yes --wait -o json").await;
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.exit, &shown["status"]), (0, &"DRAINED".into()));
}

#[tokio::test]
async fn waiting_has_an_end_and_says_how_to_resume() {
    let node = Fake::default();
    node.says("DrainPeer", [Reply::at(&peer(Status::Draining), 9)]);
    node.says("GetOperation", [Reply::ok(&operation(2, State::Running))]);
    let ran = mesh(&node, "peers drain p1 --yes --wait --timeout 300ms").await;
    assert_eq!(ran.exit, 7);
    assert!(
        ran.err.contains("still running after 300ms: at 2") && ran.err.contains("mesh operations watch op1"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn an_operation_that_fails_is_exit_1() {
    let node = Fake::default();
    node.says("DrainPeer", [Reply::at(&peer(Status::Draining), 9)]);
    node.says(
        "GetOperation",
        [
            Reply::ok(&operation(2, State::Running)),
            Reply::ok(&operation(3, State::Cancelled)),
        ],
    );
    let ran = mesh(&node, "peers drain p1 --yes --wait").await;
    assert_eq!(ran.exit, 1);
    assert!(
        ran.err.contains("operation_cancelled") && ran.err.contains("op1"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn watch_prints_every_version() {
    let node = Fake::default();
    let versions = || {
        [
            Reply::ok(&operation(1, State::Running)),
            Reply::ok(&operation(2, State::Running)),
            Reply::ok(&operation(3, State::Succeeded)),
        ]
    };
    node.says("GetOperation", versions());
    let ran = mesh(&node, "operations watch op1").await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (
            0,
            "peer/p1 running, at 1\npeer/p1 running, at 2\npeer/p1 succeeded, at 3\n"
        )
    );
    let node = Fake::default();
    node.says("GetOperation", versions());
    let ran = mesh(&node, "operations watch op1 -o jsonl").await;
    assert_eq!((ran.exit, ran.out.lines().count()), (0, 3));
}

#[tokio::test]
async fn cancel_answers_the_operation() {
    let node = Fake::default();
    node.says("CancelOperation", [Reply::ok(&operation(3, State::Cancelled))]);
    let ran = mesh(&node, "operations cancel op1 --reason mistake").await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (0, "operation/op1 (peer/p1) cancelled: at 3\n")
    );
}

#[tokio::test]
async fn register_and_label_send_what_was_written() {
    let node = Fake::default();
    node.says("RegisterPeer", [Reply::at(&peer(Status::Active), 9)]);
    node.says("PatchPeer", [Reply::at(&peer(Status::Active), 9)]);
    let line = "peers register p1 --cluster c --role gw --region r --zone z --endpoint a:1 --endpoint b:2 --weight 50 \
        --label k=v --label x= --metadata m=1=2 --if-revision 8 --if-match e --idempotency-key key";
    assert_eq!(mesh(&node, line).await.exit, 0);
    let map = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let expected = RegisterPeerRequest {
        id: "p1".into(),
        cluster: "c".into(),
        role: "gw".into(),
        region: "r".into(),
        zone: "z".into(),
        endpoints: vec!["a:1".into(), "b:2".into()],
        labels: map(&[("k", "v"), ("x", "")]),
        metadata: map(&[("m", "1=2")]),
        weight: 50,
        if_revision: 8,
        if_match: "e".into(),
        idempotency_key: "key".into(),
        ..RegisterPeerRequest::default()
    };
    assert_eq!(node.asked()[0].message::<RegisterPeerRequest>(), expected);

    assert_eq!(
        mesh(&node, "peers label p1 k=v k2- --metadata k=v --metadata gone-")
            .await
            .exit,
        0
    );
    let request: PatchPeerRequest = node.asked()[1].message();
    assert_eq!(
        (request.labels, request.remove_labels),
        (map(&[("k", "v")]), vec!["k2".to_owned()])
    );
    assert_eq!(
        (request.metadata, request.remove_metadata),
        (map(&[("k", "v")]), vec!["gone".to_owned()])
    );

    let line = "peers set p1 --weight 300 --zone b --endpoint a:1 --endpoint b:2 --if-match e";
    let (ended, shown) = on_terminal(&node, line, "").await;
    assert_eq!(ended, 0, "{shown}");
    assert!(shown.contains("mesh namespaces reshape NAME"), "{shown}");
    let expected = PatchPeerRequest {
        id: "p1".into(),
        zone: Some("b".into()),
        endpoints: vec!["a:1".into(), "b:2".into()],
        weight: Some(300),
        if_match: "e".into(),
        ..PatchPeerRequest::default()
    };
    assert_eq!(without_key(node.asked()[2].message()), expected);
    let ran = mesh(&node, "peers set p1 --region= --role=").await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    let expected = PatchPeerRequest {
        id: "p1".into(),
        role: Some(String::new()),
        region: Some(String::new()),
        ..PatchPeerRequest::default()
    };
    assert_eq!(without_key(node.asked()[3].message()), expected);
}

/// A request but for the key that its sender has made up.
fn without_key(request: PatchPeerRequest) -> PatchPeerRequest {
    PatchPeerRequest {
        idempotency_key: String::new(),
        ..request
    }
}

#[tokio::test]
async fn lists_follow_their_pages() {
    let node = Fake::default();
    let page = |at: usize, next: &str| ListPeersResponse {
        items: vec![records::peers().remove(at)],
        next_cursor: next.into(),
        revision: 43,
        ..Default::default()
    };
    let pages = || [Reply::ok(&page(0, "c1")), Reply::ok(&page(1, ""))];
    node.says("ListPeers", pages());
    let ran = mesh(
        &node,
        "peers list -o name --status Draining --selector tier=front --cluster c",
    )
    .await;
    assert_eq!((ran.exit, ran.out.as_str()), (0, "peer/p1\npeer/peer-two\n"));
    let asked: Vec<ListPeersRequest> = node.asked().iter().map(crate::fake::Asked::message).collect();
    assert_eq!(
        (asked[0].cursor.as_str(), asked[1].cursor.as_str(), asked[0].limit),
        ("", "c1", 1_000)
    );
    assert_eq!(
        (asked[0].status(), asked[0].selector.as_str(), asked[0].cluster.as_str()),
        (Status::Draining, "tier=front", "c")
    );

    let node = Fake::default();
    node.says("ListPeers", pages());
    let ran = mesh(&node, "peers list").await;
    assert_eq!(
        ran.out.lines().filter(|line| line.starts_with("ID")).count(),
        1,
        "{}",
        ran.out
    );
    let ran = mesh(&node, "peers list --limit 1 -o name").await;
    assert_eq!(ran.out.lines().count(), 1);

    let node = Fake::default();
    node.says("ListPeers", pages());
    let ran = mesh(&node, "peers list -o json").await;
    assert!(ran.err.contains("--cursor c1"), "{}", ran.err);
    assert_eq!(node.asked().len(), 1);
}

#[tokio::test]
async fn audit_lists_the_newest_first() {
    let node = Fake::default();
    node.says(
        "ListAuditRecords",
        [Reply::ok(&proto::v1::ListAuditRecordsResponse::default())],
    );
    assert_eq!(
        mesh(&node, "audit list --actor alice --outcome rejected --after-revision 7")
            .await
            .exit,
        0
    );
    let request: ListAuditRecordsRequest = node.asked()[0].message();
    assert_eq!(
        (
            request.limit,
            request.descending,
            request.after_revision,
            request.actor.as_str()
        ),
        (100, true, 7, "alice")
    );
}

#[tokio::test]
async fn can_i_answers_with_its_exit_code() {
    let node = Fake::default();
    let answer = |allowed| CanIResponse {
        allowed,
        principal: "alice".into(),
        scopes: vec!["mesh.read".into()],
        needed: "mesh.operate".into(),
        method: "jwt".into(),
    };
    node.says("CanI", [Reply::ok(&answer(true)), Reply::ok(&answer(false))]);
    let ran = mesh(&node, "auth can-i peers.list").await;
    assert_eq!((ran.exit, ran.out.as_str()), (0, "yes\n"));
    let ran = mesh(&node, "auth can-i peers.drain").await;
    assert_eq!((ran.exit, ran.out.as_str()), (1, "no\n"));
    assert!(ran.err.contains("mesh.operate"), "{}", ran.err);
}

#[tokio::test]
async fn refusals_have_the_exit_codes_of_the_contract() {
    let table = [
        (Code::InvalidArgument, "invalid_argument", 2),
        (Code::Unauthenticated, "unauthenticated", 4),
        (Code::PermissionDenied, "scope_missing", 4),
        (Code::NotFound, "not_found", 1),
        (Code::AlreadyExists, "already_exists", 5),
        (Code::FailedPrecondition, "idempotency_key_reused", 5),
        (Code::FailedPrecondition, "peer_draining", 6),
        (Code::ResourceExhausted, "no_space", 6),
        (Code::OutOfRange, "compacted", 6),
        (Code::DeadlineExceeded, "deadline_exceeded", 7),
        (Code::Internal, "internal", 3),
    ];
    for (status, code, exit) in table {
        let node = Fake::default();
        node.says(
            "CordonPeer",
            [Reply::Problem(
                status,
                Problem {
                    code: code.into(),
                    detail: "because".into(),
                    ..Problem::default()
                },
            )],
        );
        let ran = mesh(&node, "peers cordon p1").await;
        assert_eq!(ran.exit, exit, "{code}");
        assert!(
            ran.err.starts_with(&format!("error: because\n  code: {code}\n")),
            "{}",
            ran.err
        );
        assert!(ran.out.is_empty());
    }
    assert_eq!(
        mesh_with("peers list", &[("MESH_ENDPOINTS", "http://127.0.0.1:1")])
            .await
            .exit,
        3
    );
}

#[tokio::test]
async fn conditions_and_dry_runs_reach_the_server() {
    let node = Fake::default();
    node.says("GetPeer", [Reply::at(&peer(Status::Active), 9)]);
    node.says("CordonPeer", [Reply::at(&peer(Status::Cordoned), 9)]);
    assert_eq!(mesh(&node, "peers cordon p1 --dry-run").await.exit, 0);
    let asked = node.asked();
    assert!(
        asked
            .iter()
            .filter(|asked| asked.method == "CordonPeer")
            .all(|asked| asked.message::<CordonPeerRequest>().dry_run)
    );
    // A dry run of an act that asks does not ask.
    node.says("DrainPeer", [Reply::at(&peer(Status::Draining), 9)]);
    assert_eq!(mesh(&node, "peers drain p1 --dry-run --wait").await.exit, 0);
}

struct Closed;

impl io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_pipe_is_quiet() {
    let mut streams = Streams::plain(Box::new(Closed), Box::new(Closed), records::now());
    let arguments = ["mesh", "completions", "bash"].map(Into::into).to_vec();
    assert_eq!(
        meshkit_cli::run(arguments, std::iter::empty().collect(), &mut streams).await,
        0
    );
}

#[tokio::test]
async fn control_characters_are_not_sent() {
    let node = Fake::default();
    node.says("CordonPeer", [Reply::at(&peer(Status::Cordoned), 9)]);
    for code in (1..0x20).chain(0x7f..=0x9f) {
        let bad = char::from_u32(code).unwrap();
        if bad.is_whitespace() {
            continue;
        }
        for (flag, json) in [("--reason", ""), ("--ticket", ""), ("--reason", " -o json")] {
            let ran = mesh(&node, &format!("peers cordon p1 {flag}=a{bad}b{json}")).await;
            assert_eq!(ran.exit, 2, "U+{code:04X}");
            assert!(
                ran.err.contains(&format!("control character U+{code:04X}")),
                "{}",
                ran.err
            );
            assert!(!ran.err.contains(bad), "{:?}", ran.err);
        }
    }
    assert!(node.asked().is_empty());
    assert_eq!(mesh(&node, "peers cordon p1 --reason=grün,日本").await.exit, 0);
}

/// Whatever the server says, no character of it makes the terminal do anything.
#[tokio::test]
async fn what_a_server_says_is_shown_and_not_obeyed() {
    let evil = "x\u{1b}[2J\u{7}\u{7f}\u{9b}31m\u{202e}\u{2066}\u{200f}\u{61c}y";
    let node = Fake::default();
    let mut listed = records::peers().remove(0);
    listed.role = evil.into();
    listed.id = evil.into();
    listed.labels.insert(evil.into(), evil.into());
    let page = ListPeersResponse {
        items: vec![listed.clone()],
        next_cursor: evil.into(),
        ..Default::default()
    };
    let mut running = operation(2, State::Failed);
    (running.target, running.detail) = (evil.into(), evil.into());
    let problem = Problem {
        code: evil.into(),
        detail: evil.into(),
        hint: evil.into(),
        request_id: evil.into(),
        current_etag: evil.into(),
        ..Problem::default()
    };
    node.says("ListPeers", [Reply::ok(&page)]);
    node.says("GetPeer", [Reply::ok(&listed)]);
    node.says("GetOperation", [Reply::ok(&running)]);
    node.says("CordonPeer", [Reply::Problem(Code::FailedPrecondition, problem)]);
    for line in [
        "peers list --limit 1",
        "peers list",
        "peers get p1",
        "operations watch op1",
        "operations get op1",
        "peers cordon p1",
    ] {
        for format in ["table", "wide", "json", "jsonl", "yaml", "name"] {
            // Without an end where all pages are followed.
            if line == "peers list" && !matches!(format, "json" | "yaml") {
                continue;
            }
            let ran = mesh(&node, &format!("{line} -o {format}")).await;
            let said = format!("{}{}", ran.out, ran.err);
            assert!(!said.is_empty());
            // YAML escapes control characters; direction is left to whoever reads it.
            let acts = |character: &char| match format {
                "yaml" => character.is_control(),
                _ => meshkit_cli::output::is_unsafe(*character),
            };
            let found: Vec<char> = said.chars().filter(|c| *c != '\n').filter(acts).collect();
            assert!(found.is_empty(), "{line} -o {format}: {found:?} in {said:?}");
        }
    }
    let ran = mesh(&node, "peers get p1 -o json").await;
    let read: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&read["role"], &read["labels"][evil]), (&evil.into(), &evil.into()));
}

#[tokio::test]
async fn empty_pages_are_followed_to_their_end_and_never_in_a_circle() {
    let page = |next: &str, items| {
        Reply::ok(&proto::v1::ListAuditRecordsResponse {
            items,
            next_cursor: next.into(),
            ..Default::default()
        })
    };
    let node = Fake::default();
    let last = records::audit();
    let count = last.len();
    node.says(
        "ListAuditRecords",
        [
            page("c1", vec![]),
            page("c2", vec![]),
            page("c3", vec![]),
            page("", last),
        ],
    );
    let ran = mesh(&node, "audit list --actor nobody -o name").await;
    assert_eq!((ran.exit, ran.out.lines().count(), node.asked().len()), (0, count, 4));

    let node = Fake::default();
    node.says("ListAuditRecords", [page("c1", vec![]), page("", vec![])]);
    let ran = mesh(&node, "audit list --actor nobody").await;
    assert_eq!(
        (ran.exit, ran.out.as_str(), ran.err.as_str()),
        (0, "", "nothing found\n")
    );

    let node = Fake::default();
    node.says("ListAuditRecords", [page("c1", vec![])]);
    let ran = mesh(&node, "audit list --actor nobody").await;
    assert_eq!((ran.exit, node.asked().len()), (3, 2), "{}", ran.err);
    assert!(ran.err.contains("leads back to one before it"), "{}", ran.err);

    // A circle of two, where all pages are read before anything is shown.
    let node = Fake::default();
    let page = |next: &str| {
        Reply::ok(&proto::v1::ListShardsResponse {
            next_cursor: next.into(),
            ..Default::default()
        })
    };
    node.says("ListShards", [page("c1"), page("c2"), page("c1")]);
    let ran = mesh(&node, "shards list --summary").await;
    assert_eq!((ran.exit, node.asked().len()), (3, 3), "{}", ran.err);
    assert!(ran.err.contains("leads back to one before it"), "{}", ran.err);
}

#[tokio::test]
async fn no_argument_panics() {
    let lines = [
        "",
        "x",
        "--",
        "-o",
        "-o x status",
        "--json --table status",
        "-ojson",
        "--output=",
        "peers",
        "peers list --limit 0",
        "peers list --limit -1",
        "peers list --status nothing",
        "peers register",
        "peers register p1",
        "peers register p1 --endpoint h:1 --weight 0",
        "peers label p1",
        "peers label p1 =",
        "peers label p1 -",
        "peers label p1 a=1 a-",
        "peers set p1",
        "peers set p1 --weight 0",
        "peers drain p1 --yes --wait --timeout 20",
        "peers drain p1 --yes --wait --timeout 0s",
        "peers drain p1 --yes --wait --timeout -5s",
        "peers drain p1 --yes --wait --timeout 99999999999999999999d",
        "operations watch op1 --timeout -5s",
        "--request-timeout -5s status",
        "peers drain p1 --yes --timeout 5s",
        "completions tcl",
        "audit list --outcome maybe",
        "operations watch",
        "status --token secret",
        "--request-timeout 1y status",
        "--endpoints http://8.8.8.8:80 status",
        "--transport h4 status",
        "--transport h3 --endpoints http://127.0.0.1:1 status",
        "--context /nowhere/at/all status",
        "audit verify --checkpoint /nowhere --endpoints http://127.0.0.1:1",
        "--cert /x --endpoints http://127.0.0.1:1 status",
    ];
    for line in lines {
        let ran = mesh_with(line, &[]).await;
        assert_eq!(ran.exit, 2, "{line}: {}", ran.err);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{line}");
    }
    let broken = OsString::from_vec(vec![0xff, 0xfe]);
    for arguments in [
        vec!["mesh".into(), broken.clone()],
        vec!["mesh".into(), "peers".into(), "get".into(), broken],
    ] {
        let mut streams = Streams::plain(Box::new(io::sink()), Box::new(io::sink()), records::now());
        assert_eq!(
            meshkit_cli::run(arguments, std::iter::empty().collect(), &mut streams).await,
            2
        );
    }
    assert_eq!(mesh_with("status", &[("MESH_OUTPUT", "xml")]).await.exit, 2);
    meshkit_cli::command().debug_assert();
}

#[tokio::test]
async fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = mesh_with(&format!("completions {shell}"), &[]).await;
        assert_eq!(ran.exit, 0);
        assert!(ran.out.contains("deregister") && ran.out.len() > 2_000, "{shell}");
    }
}
