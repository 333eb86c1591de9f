//! The built binary: signals, pipes, a terminal.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use proto::v1::{Operation, Peer, operation::State, peer::Status};

use crate::fake::{Fake, Reply};

fn mesh(endpoint: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mesh"));
    command
        .env_clear()
        .env("MESH_ENDPOINTS", endpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

async fn finish(child: std::process::Child) -> Output {
    tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .unwrap()
        .unwrap()
}

async fn until_asked(node: &Fake, method: &str) {
    for _ in 0..500 {
        if node.asked().iter().any(|asked| asked.method == method) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{method} was never asked");
}

#[tokio::test]
async fn interrupting_a_wait_detaches() {
    let node = Fake::default();
    let operation = Operation {
        id: "op1".into(),
        version: 1,
        state: State::Running.into(),
        ..Operation::default()
    };
    node.says("GetOperation", [Reply::ok(&operation), Reply::Silence]);
    let child = mesh(&format!("http://{}", node.serve().await))
        .args(["operations", "watch", "op1"])
        .spawn()
        .unwrap();
    until_asked(&node, "GetOperation").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = finish(child).await;
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{err}");
    assert!(
        err.contains("the operation goes on") && err.contains("mesh operations watch op1"),
        "{err}"
    );
}

#[tokio::test]
async fn a_reader_that_leaves_is_no_error() {
    let script = format!("'{}' completions bash | head -n 1", env!("CARGO_BIN_EXE_mesh"));
    let output = Command::new("bash")
        .args(["-c", &format!("set -o pipefail; {script}")])
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[tokio::test]
async fn no_colour_and_no_progress_without_a_terminal() {
    let node = Fake::default();
    let status = crate::records::status();
    node.says("GetStatus", [Reply::ok(&status)]);
    let output = finish(
        mesh(&format!("http://{}", node.serve().await))
            .arg("status")
            .spawn()
            .unwrap(),
    )
    .await;
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty() && !output.stdout.contains(&0x1b));
}

/// `script` gives the command a terminal and types for us.
#[tokio::test]
async fn a_terminal_is_asked_and_its_answer_counts() {
    for (typed, exit, drained) in [
        ("y\n", 0, true),
        ("yes\n", 0, true),
        ("n\n", 1, false),
        ("\n", 1, false),
        ("maybe\n", 1, false),
    ] {
        let node = Fake::default();
        let peer = Peer {
            id: "p1".into(),
            status: Status::Draining.into(),
            operation: "op1".into(),
            ..Peer::default()
        };
        node.says("DrainPeer", [Reply::at(&peer, 9)]);
        let endpoint = format!("http://{}", node.serve().await);
        let line = format!("'{}' peers drain p1", env!("CARGO_BIN_EXE_mesh"));
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env("MESH_ENDPOINTS", &endpoint)
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, typed.as_bytes()).unwrap();
        let output = finish(child).await;
        drop(stdin);
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(exit), "{typed:?}: {out}");
        assert!(out.contains("Drain peer p1?") && out.contains("[y/N]"), "{out}");
        assert_eq!(node.asked().len(), usize::from(drained), "{typed:?}");
    }
}
