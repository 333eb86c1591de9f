//! What is printed, byte by byte. `UPDATE_GOLDEN=1` writes the files anew; the diff is for review.

use std::path::PathBuf;

use proto::v1::{ListAuditRecordsResponse, ListOperationsResponse, ListPeersResponse, Problem, Status};
use tonic::Code;

use crate::{
    Ran,
    fake::{Fake, Reply},
    mesh, mesh_with, records,
};

pub(crate) fn check(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(
        found, golden,
        "\n{name} differs; if that is meant, run the tests with UPDATE_GOLDEN=1\n"
    );
}

/// Exit code and both streams in one text.
pub(crate) fn shown(ran: &Ran) -> String {
    let mut text = ran.out.clone();
    if !ran.err.is_empty() {
        text.push_str(&format!("--- stderr\n{}", ran.err));
    }
    if ran.exit != 0 {
        text.push_str(&format!("--- exit {}\n", ran.exit));
    }
    text
}

fn node() -> Fake {
    let node = Fake::default();
    let vector = || [("dev-1".to_owned(), 43)].into();
    let peers = ListPeersResponse {
        items: records::peers(),
        revision: 43,
        epoch: 1,
        version_vector: vector(),
        ..Default::default()
    };
    let operations = ListOperationsResponse {
        items: records::operations(),
        revision: 43,
        epoch: 1,
        version_vector: vector(),
        ..Default::default()
    };
    let audit = ListAuditRecordsResponse {
        items: records::audit(),
        revision: 43,
        epoch: 1,
        version_vector: vector(),
        ..Default::default()
    };
    node.says("ListPeers", [Reply::ok(&peers)])
        .says("GetPeer", [Reply::at(&records::peers()[0], 43)])
        .says("ListOperations", [Reply::ok(&operations)])
        .says("GetOperation", [Reply::ok(&records::operations()[0])])
        .says("ListAuditRecords", [Reply::ok(&audit)])
        .says("SetLogLevel", [Reply::ok(&records::log_level())])
        .says("GetStatus", [Reply::ok(&records::status())]);
    node
}

#[tokio::test]
async fn every_format_of_every_answer() {
    let node = node();
    let commands = [
        ("peers-list", "peers list"),
        ("peers-get", "peers get p1"),
        ("operations-list", "operations list"),
        ("operations-get", "operations get 01J0000000000000000000000A"),
        ("audit-list", "audit list"),
        ("status", "status"),
        ("debug-log-level", "debug log-level raft=debug"),
    ];
    for (name, command) in commands {
        for format in ["table", "wide", "json", "yaml", "jsonl", "name"] {
            let ran = mesh(&node, &format!("{command} -o {format}")).await;
            assert_eq!(ran.exit, 0, "{}", ran.err);
            check(&format!("{name}.{format}.txt"), &shown(&ran));
        }
    }
}

/// `-o json` is a promise: the contract's JSON form of the response, nothing added, nothing left out.
#[tokio::test]
async fn json_is_the_response_unchanged() {
    let node = node();
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let ran = mesh(&node, "peers get p1 --json").await;
    assert_eq!(value(&ran.out), proto::json::to_value(&records::peers()[0]).unwrap());
    let ran = mesh(&node, "status -o JSON").await;
    assert_eq!(value(&ran.out), proto::json::to_value(&records::status()).unwrap());
    let document = value(&ran.out);
    assert_eq!(document["leader"]["id"], 1);
    assert_eq!(document["nodes"][2]["id"], 3);
    assert_eq!((&document["revision"], &document["epoch"]), (&43.into(), &1.into()));
}

#[tokio::test]
async fn an_unhealthy_mesh_exits_1_and_says_why() {
    let node = Fake::default();
    let status = Status {
        quorum: false,
        leader: None,
        voters_reachable: 1,
        ..records::status()
    };
    node.says("GetStatus", [Reply::ok(&status)]);
    let ran = mesh(&node, "status").await;
    assert_eq!(ran.exit, 1);
    check("status-unhealthy.table.txt", &shown(&ran));
    let ran = mesh(&node, "status --json").await;
    assert_eq!(ran.exit, 1);
    check("status-unhealthy.json.txt", &shown(&ran));
}

#[tokio::test]
async fn errors_for_people_and_for_programs() {
    let node = Fake::default();
    let problem = Problem {
        code: "etag_mismatch".into(),
        detail: "peer `p1` has changed since".into(),
        hint: "read it again and repeat".into(),
        request_id: "01J0000000000000000000000R".into(),
        current_etag: "00000000000000000000000000000007-2b".into(),
        ..Problem::default()
    };
    node.says("CordonPeer", [Reply::Problem(Code::Aborted, problem)]);
    for format in ["table", "json"] {
        let ran = mesh(&node, &format!("peers cordon p1 --if-match stale -o {format}")).await;
        assert_eq!(ran.exit, 5);
        check(&format!("error.{format}.txt"), &shown(&ran));
    }
    for (name, line) in [
        ("usage.table.txt", "peers drain"),
        ("usage.json.txt", "peers drain -o json"),
        ("no-endpoints.txt", "status"),
    ] {
        let ran = mesh_with(line, &[]).await;
        assert_eq!(ran.exit, 2);
        check(name, &shown(&ran));
    }
}

#[tokio::test]
async fn mutations_say_what_they_did() {
    let node = Fake::default();
    let mut peer = records::peers().remove(0);
    peer.status = proto::v1::peer::Status::Cordoned.into();
    let replayed = |mut reply: Reply| {
        if let Reply::Message(_, metadata) = &mut reply {
            metadata.push(("mesh-replayed", "true".into()));
        }
        reply
    };
    node.says(
        "CordonPeer",
        [
            Reply::at(&peer, 41),
            Reply::at(&peer, 45),
            replayed(Reply::at(&peer, 41)),
        ],
    );
    node.says("DeregisterPeer", [Reply::at(&peer, 46)]);
    let mut text = String::new();
    for line in [
        "peers cordon p1",
        "peers cordon p1",
        "peers cordon p1 --idempotency-key k",
        "peers deregister p1 --yes",
        "peers cordon p1 -o name",
    ] {
        text.push_str(&format!("$ mesh {line}\n{}", shown(&mesh(&node, line).await)));
    }
    check("mutations.txt", &text);
}

#[tokio::test]
async fn a_dry_run_shows_the_difference() {
    let node = node();
    let mut after = records::peers().remove(0);
    after.status = proto::v1::peer::Status::Cordoned.into();
    after.version += 1;
    after.labels.remove("tier");
    after.labels.insert("rack".into(), "7".into());
    node.says("PatchPeer", [Reply::at(&after, 43)]);
    node.says("DeregisterPeer", [Reply::at(&records::peers()[0], 43)]);
    let ran = mesh(&node, "peers label p1 rack=7 tier- --dry-run").await;
    check("dry-run.label.table.txt", &shown(&ran));
    let ran = mesh(&node, "peers deregister p1 --dry-run").await;
    check("dry-run.deregister.table.txt", &shown(&ran));
    let ran = mesh(&node, "peers label p1 rack=7 tier- --dry-run -o json").await;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&ran.out).unwrap(),
        proto::json::to_value(&after).unwrap()
    );
}

#[tokio::test]
async fn the_context_shows_origins_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(
        &file,
        "endpoints = [\"https://127.0.0.1:7401\"]\nca = \"ca.pem\"\ntoken = \"hunter2\"\n",
    )
    .unwrap();
    let line = format!(
        "context show --show-origin --context {} --request-timeout 1m30s",
        file.display()
    );
    let variables = [("MESH_TRANSPORT", "h2"), ("CI", "true")];
    for format in ["table", "json", "yaml"] {
        let ran = mesh_with(&format!("{line} -o {format}"), &variables).await;
        assert_eq!(ran.exit, 0, "{}", ran.err);
        assert!(!ran.out.contains("hunter2"));
        let text = shown(&ran).replace(&folder.path().display().to_string(), "FOLDER");
        // The folder's name is as long as it is, so columns count as two blanks.
        let text: Vec<String> = match format {
            "table" => text
                .lines()
                .map(|line| {
                    line.split("  ")
                        .map(str::trim)
                        .filter(|cell| !cell.is_empty())
                        .collect::<Vec<_>>()
                        .join("  ")
                })
                .collect(),
            _ => text.lines().map(str::to_owned).collect(),
        };
        check(&format!("context-show.{format}.txt"), &(text.join("\n") + "\n"));
    }
}

/// A command's own argument must not take the id of a global one: clap would take the one for the other in silence.
#[test]
fn no_argument_hides_a_global_one() {
    fn walk(command: &clap::Command, globals: &[String]) {
        for global in globals {
            let long = command
                .get_arguments()
                .find(|argument| argument.get_id() == global.as_str())
                .and_then(clap::Arg::get_long);
            assert_eq!(
                long.map(|long| long.replace('-', "_")).as_deref(),
                Some(global.as_str()),
                "{}",
                command.get_name()
            );
        }
        command.get_subcommands().for_each(|sub| walk(sub, globals));
    }
    let mut command = meshkit_cli::command();
    command.build();
    let globals: Vec<String> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .map(|argument| argument.get_id().to_string())
        .collect();
    assert!(globals.len() > 9);
    walk(&command, &globals);
}

/// Every command's help, one file: flags and their words are a contract too.
#[test]
fn help() {
    fn walk(command: &clap::Command, path: &str, out: &mut String) {
        let path = if path.is_empty() {
            command.get_name().to_owned()
        } else {
            format!("{path} {}", command.get_name())
        };
        out.push_str(&format!("==== {path} --help\n{}\n", command.clone().render_long_help()));
        for sub in command.get_subcommands() {
            walk(sub, &path, out);
        }
    }
    let mut command = meshkit_cli::command().term_width(100);
    command.build();
    let mut text = String::new();
    walk(&command, "", &mut text);
    check("help.txt", &text);
}
