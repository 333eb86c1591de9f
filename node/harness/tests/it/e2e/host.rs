//! Runbooks that are typed on the machine of one node: paths and the service manager are those of an installed node, so
//! a test puts its own in their place.

use std::{path::Path, process::Stdio};

use node_harness::{Mesh, Output};
use rustix::process::Signal;

use super::{docs::commands_under, world::SOON};

/// Where the runbooks have the data directory of a node.
const DATA: &str = "/var/lib/meshkit/data";
/// And what it is in.
const HOME: &str = "/var/lib/meshkit";

/// Types the commands under one heading of a runbook on the machine of a node, and answers what each printed. A node that
/// is started by them is waited for. Commands that ask are answered.
///
/// # Panics
/// Where one ends with a code that `codes` does not hold.
pub fn play(mesh: &mut Mesh, node: u64, runbook: &str, heading: &str, codes: &[i32]) -> Vec<Output> {
    let mut printed = Vec::new();
    for command in commands_under(runbook, heading) {
        if let Some(verb) = command.strip_prefix("systemctl ") {
            service(mesh, node, verb);
            continue;
        }
        let mut output = typed(mesh, node, &command);
        if output.stderr.contains("--yes") && !command.contains("--yes") {
            output = typed(mesh, node, &format!("{command} --yes"));
        }
        assert!(
            output.code.is_some_and(|code| codes.contains(&code)),
            "{runbook}: {output:?}"
        );
        printed.push(output);
    }
    printed
}

fn service(mesh: &mut Mesh, node: u64, verb: &str) {
    match verb {
        "stop meshkit-node" => {
            // It may have ended by itself.
            if mesh.is_running(node).unwrap() {
                mesh.signal(node, Signal::TERM).unwrap();
            }
            mesh.wait_ended(node, SOON).unwrap();
        }
        "start meshkit-node" => {
            mesh.restart(node).unwrap();
            mesh.wait_ready(node, SOON).unwrap();
        }
        other => panic!("`systemctl {other}` is done by no test"),
    }
}

fn typed(mesh: &Mesh, node: u64, command: &str) -> Output {
    let data = mesh.node(node).unwrap().data.clone();
    let line = command.replace(DATA, "$DATA").replace(HOME, "$HOME");
    let programs = mesh.programs().path("mesh").parent().unwrap().to_owned();
    let path = std::env::join_paths([programs.as_path(), Path::new("/usr/bin"), Path::new("/bin")]).unwrap();
    let done = std::process::Command::new("sh")
        .args(["-e", "-c", &line])
        .env_clear()
        .env("PATH", &path)
        .env("DATA", &data)
        .env("HOME", data.parent().unwrap())
        .env("NO_COLOR", "1")
        .env("MESH_CONTEXT", mesh.context("admin"))
        .stdin(Stdio::null())
        .current_dir(mesh.scratch())
        .output()
        .unwrap();
    Output {
        command: command.to_owned(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        code: done.status.code(),
    }
}
