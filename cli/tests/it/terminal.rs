//! Commands that ask before they act, at a terminal: sessions on a pseudo-terminal with the built binary.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use proto::v1::{
    Compaction, DrainPeersRequest, FeatureLevel, ListMembersResponse, Operation, Peer, SimulateShardsResponse, Upgrade,
    operation::Item, upgrade::NodeLevel,
};

use crate::{
    approvals, drains,
    fake::{Fake, Reply},
    members, mesh, shards,
};

/// What ends every question.
const ASKS: &str = "[y/N] ";

/// Runs `mesh` at a terminal against `node`, and types `typed` once it asks. Answers the exit code and all that was seen.
pub(crate) async fn on_terminal(node: &Fake, line: &str, typed: &'static str) -> (i32, String) {
    let endpoint = format!("http://{}", node.serve().await);
    let line = format!("'{}' {line}", env!("CARGO_BIN_EXE_mesh"));
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env("MESH_ENDPOINTS", &endpoint)
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let session = move || {
        let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut seen, mut piece, mut asked) = (Vec::new(), [0; 4096], false);
        loop {
            match screen.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(length) => seen.extend_from_slice(&piece[..length]),
            }
            if !asked && seen.windows(ASKS.len()).any(|text| text == ASKS.as_bytes()) {
                asked = true;
                keyboard.write_all(typed.as_bytes()).unwrap();
            }
        }
        let exit = child.wait().unwrap().code().unwrap();
        drop(keyboard);
        (exit, String::from_utf8_lossy(&seen).replace('\r', ""))
    };
    tokio::task::spawn_blocking(session).await.unwrap()
}

/// A command that asks.
struct Asks {
    /// Its file under `src/commands`.
    file: &'static str,
    line: &'static str,
    /// What is on the screen when it asks.
    question: &'static str,
    /// What it sends once it was told to.
    method: &'static str,
    /// How often that is sent as a dry run before it asks.
    looks: usize,
}

const COMMANDS: [Asks; 10] = [
    Asks {
        file: "approvals/approve.rs",
        line: "approvals approve ap-1",
        question: "alice asks for peers.drain peer/peer-two, reason: new kernel, ticket: OPS-1\nit would change:\npeer/peer-two\n",
        method: "ApproveApproval",
        looks: 0,
    },
    Asks {
        file: "history/compact.rs",
        line: "history compact --to 10",
        question: "Let go of all history and audit before revision 10? It cannot be had back.",
        method: "CompactHistory",
        looks: 0,
    },
    Asks {
        file: "members/remove.rs",
        line: "members remove 3",
        question: "Remove node 3 for good? It ends, and its number cannot be used again.",
        method: "RemoveMember",
        looks: 0,
    },
    Asks {
        file: "namespaces/delete.rs",
        line: "namespaces delete orders",
        question: "Delete namespace orders? Who owns which of its shards is forgotten, and no key of it is served.",
        method: "DeleteNamespace",
        looks: 0,
    },
    Asks {
        file: "namespaces/reshape.rs",
        line: "namespaces reshape orders --strategy ring",
        question: "Reshape namespace orders? 3 of 4 shards would move (75.0 %).",
        method: "ReshapeNamespace",
        looks: 0,
    },
    Asks {
        file: "peers/deregister.rs",
        line: "peers deregister edge-1",
        question: "Deregister peer edge-1? Its record is removed.",
        method: "DeregisterPeer",
        looks: 0,
    },
    Asks {
        file: "peers/drain.rs",
        line: "peers drain edge-1",
        question: "Drain peer edge-1? Everything that it holds is moved to other peers.",
        method: "DrainPeer",
        looks: 0,
    },
    Asks {
        file: "peers/drain_many.rs",
        line: "peers drain -l zone=a --at-once 2",
        question: "zone=a selects 2 peers:\n  edge-1 edge-2\\u{7}\n",
        method: "DrainPeers",
        looks: 1,
    },
    Asks {
        file: "shards/disable.rs",
        line: "shards disable orders/3",
        question: "Disable shard orders/3? Nobody serves it until it is enabled.",
        method: "DisableShard",
        looks: 0,
    },
    Asks {
        file: "upgrade/finalize.rs",
        line: "upgrade finalize",
        question: "Raise the feature level from 1 to 2? There is no way back: from then on no older program can run",
        method: "FinalizeUpgrade",
        looks: 0,
    },
];

/// A node that does whatever it is asked to.
fn node() -> Fake {
    let peer = Peer {
        id: "edge-1".into(),
        operation: "op-7".into(),
        ..Peer::default()
    };
    let item = |peer: &str| Item {
        peer: peer.into(),
        ..Item::default()
    };
    let operation = Operation {
        id: "op-7".into(),
        items: vec![item("edge-1"), item("edge-2\u{7}")],
        at_once: 2,
        ..Operation::default()
    };
    let nodes = vec![NodeLevel {
        node: 1,
        version: "0.2.0".into(),
        feature_level: 2,
    }];
    let upgrade = Upgrade {
        feature_level: 1,
        possible: 2,
        nodes,
        blockers: vec![],
    };
    let node = Fake::default();
    node.says("GetApproval", [Reply::at(&approvals::pending(), 43)])
        .says("ApproveApproval", [Reply::at(&approvals::approved(), 50)])
        .says("CompactHistory", [Reply::at(&Compaction::default(), 44)])
        .says("ListMembers", [Reply::ok(&members::members())])
        .says("RemoveMember", [Reply::ok(&ListMembersResponse::default())])
        .says("DeleteNamespace", [Reply::at(&shards::namespace(), 44)])
        .says("ReshapeNamespace", [Reply::at(&shards::namespace(), 44)])
        .says(
            "SimulateShards",
            [Reply::ok(&SimulateShardsResponse {
                shards: 4,
                moved: 3,
                moved_permille: 750,
                ..SimulateShardsResponse::default()
            })],
        )
        .says("DisableShard", [Reply::at(&shards::shards()[3], 44)])
        .says("DeregisterPeer", [Reply::at(&peer, 44)])
        .says("DrainPeer", [Reply::at(&peer, 44)])
        .says(
            "DrainPeers",
            [
                drains::previewed(&operation, &proto::v1::Preview::default()),
                Reply::at(&operation, 44),
            ],
        )
        .says("GetUpgrade", [Reply::ok(&upgrade)])
        .says("FinalizeUpgrade", [Reply::at(&FeatureLevel::default(), 44)]);
    node
}

/// How often `method` was asked for, dry runs and all.
fn times(node: &Fake, method: &str) -> usize {
    node.asked().iter().filter(|asked| asked.method == method).count()
}

/// `y`, and nothing else, is consent: not `n`, not silence, not the end of input, not an interrupt.
#[tokio::test]
async fn every_command_that_asks_does_nothing_before_it_is_told_to() {
    for command in &COMMANDS {
        for (typed, exit, said) in [
            ("y\n", 0, ""),
            ("YES\n", 0, ""),
            (
                "n\n",
                1,
                "error: not confirmed; nothing was changed\n  code: declined\n",
            ),
            ("\n", 1, "error: not confirmed; nothing was changed\n  code: declined\n"),
            (
                "yy\n",
                1,
                "error: not confirmed; nothing was changed\n  code: declined\n",
            ),
            (
                "\u{4}",
                1,
                "[y/N] \nerror: not confirmed; nothing was changed\n  code: declined\n",
            ),
            ("\u{3}", 130, "[y/N] ^C\nerror: interrupted\n  code: interrupted\n"),
        ] {
            let node = node();
            let (ended, seen) = on_terminal(&node, command.line, typed).await;
            let of = format!("{} and {typed:?}: {seen}", command.line);
            assert_eq!(ended, exit, "{of}");
            assert!(seen.contains(command.question) && seen.contains(said), "{of}");
            let expected = command.looks + usize::from(exit == 0);
            assert_eq!(times(&node, command.method), expected, "{of}");
            for asked in node
                .asked()
                .iter()
                .filter(|asked| asked.method == "DrainPeers")
                .take(command.looks)
            {
                assert!(asked.message::<DrainPeersRequest>().dry_run);
            }
        }
    }
}

/// Without a terminal nobody is asked, and nothing is done but by `--yes`.
#[tokio::test]
async fn without_a_terminal_consent_is_a_flag() {
    for command in &COMMANDS {
        let asked = node();
        let ran = mesh(&asked, command.line).await;
        assert_eq!((ran.exit, ran.out.as_str()), (6, ""), "{}: {}", command.line, ran.err);
        assert!(
            ran.err.contains("code: confirmation_required") && ran.err.contains("add --yes to confirm"),
            "{}: {}",
            command.line,
            ran.err
        );
        assert_eq!(times(&asked, command.method), 0, "{}", command.line);
        let told = node();
        if command.looks > 0 {
            // Nothing is looked at for whoever is sure.
            told.says("DrainPeers", [Reply::at(&Operation::default(), 44)]);
        }
        let ran = mesh(&told, &format!("{} --yes", command.line)).await;
        assert_eq!(ran.exit, 0, "{}: {}", command.line, ran.err);
        assert!(!ran.err.contains(ASKS.trim()), "{}", ran.err);
        assert_eq!(times(&told, command.method), 1, "{}", command.line);
    }
}

/// The files in which somebody is asked.
fn asking(folder: &Path, found: &mut BTreeSet<String>, root: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            asking(&path, found, root);
        } else if std::fs::read_to_string(&path).unwrap().contains("prompt::confirm(") {
            found.insert(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
}

/// The table has all of them, and the help of each says so.
#[test]
fn no_command_that_asks_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands");
    let mut found = BTreeSet::new();
    asking(&root, &mut found, &root);
    let known: BTreeSet<String> = COMMANDS.iter().map(|command| command.file.to_owned()).collect();
    assert_eq!(found, known);

    let tree = meshkit_cli::command();
    let mut said = BTreeSet::new();
    for noun in tree.get_subcommands() {
        for verb in noun.get_subcommands() {
            if verb
                .get_about()
                .is_some_and(|about| about.to_string().contains("(asks)"))
            {
                said.insert(format!("{} {}", noun.get_name(), verb.get_name()));
            }
        }
    }
    let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let known: BTreeSet<String> = COMMANDS.iter().map(|command| words(command.line)).collect();
    assert_eq!(said, known);
}
