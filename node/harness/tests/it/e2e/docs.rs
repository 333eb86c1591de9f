//! What the documents tell people to type is typed here.
//!
//! Every ```` ```console ```` block of README.md, docs/runbooks/ and docs/adding-a-command.md is run, line by line,
//! against a mesh with the peers that they speak of. What builds or checks the tree is left to `./check`; a line that
//! no rule here covers fails the test, so that no document can promise what nobody tries.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use node_harness::{Mesh, Options, Output};
use serde_json::Value;

use super::{
    wire::Wire,
    world::{caller, register},
};

/// Commands of the tree itself, which run the tests rather than being run by them.
const LEFT_TO_CHECK: [&str; 5] = ["./demo", "./check", "scripts/setup.sh", "cargo ", "export "];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// Change the mesh for good or take several people, so each is played by itself, in order and between checks: see
/// [`super::approvals`], [`super::rotation`],
/// [`super::backup`], [`super::growing`], [`super::upgrade`], [`super::flips`] and [`super::fitness`].
const PLAYED_ELSEWHERE: [&str; 10] = [
    "approve-a-change.md",
    "back-up-and-restore.md",
    "corrupt-node.md",
    "decommission-a-node.md",
    "disk-full.md",
    "grow-a-cluster.md",
    "recover-lost-quorum.md",
    "replace-a-node.md",
    "rotate-certificates-and-keys.md",
    "upgrade-a-cluster.md",
];

/// Speak of a namespace that is there.
const OF_SHARDS: [&str; 4] = ["dead-peer.md", "mass-silence.md", "move-shards.md", "stuck-move.md"];

fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("docs/adding-a-command.md")];
    let runbooks = fs::read_dir(root().join("docs/runbooks")).unwrap();
    found.extend(runbooks.map(|entry| entry.unwrap().path()).filter(|path| {
        path.extension() == Some(OsStr::new("md")) && !PLAYED_ELSEWHERE.iter().any(|name| path.ends_with(name))
    }));
    found.sort();
    found
}

/// The commands of a runbook, in order.
pub fn commands_of(runbook: &str) -> Vec<String> {
    commands(&fs::read_to_string(root().join("docs/runbooks").join(runbook)).unwrap())
}

/// The commands under one heading of a runbook, in order. There are some, or the test that asks is out of date.
pub fn commands_under(runbook: &str, heading: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("docs/runbooks").join(runbook)).unwrap();
    let begin = format!("## {heading}\n");
    let mut sections = text.split_inclusive('\n').skip_while(|line| **line != begin).skip(1);
    let section: String = sections.by_ref().take_while(|line| !line.starts_with("## ")).collect();
    let found = commands(&section);
    assert!(!found.is_empty(), "{runbook} has nothing to type under `{heading}`");
    found
}

/// The commands in the console blocks of a document, without prompts; a line that ends in `\` goes on.
fn commands(text: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut inside = false;
    let mut open: Option<String> = None;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside && line.trim() == "```console";
            continue;
        }
        let begun = open.take();
        let so_far = match (begun, line.trim_start().strip_prefix("$ ")) {
            (Some(begun), _) => format!("{begun} {}", line.trim()),
            (None, Some(command)) if inside => command.to_owned(),
            (None, _) => continue,
        };
        match so_far.strip_suffix('\\') {
            Some(begun) => open = Some(begun.trim_end().to_owned()),
            None => commands.push(without_comment(&so_far)),
        }
    }
    commands
}

/// A comment begins with `#` after two blanks, as the documents write it.
fn without_comment(command: &str) -> String {
    command.split("  #").next().unwrap_or_default().trim().to_owned()
}

#[test]
fn every_command_in_the_documents_works() {
    // Signed often, so that there is a checkpoint to export.
    let often = (
        "MESHKIT_RETENTION__AUDIT_CHECKPOINT_INTERVAL_MS".to_owned(),
        "500".to_owned(),
    );
    let mesh = Mesh::start(Options {
        environment: vec![often],
        ..Options::default()
    })
    .unwrap();
    let mut run = 0;
    for document in documents() {
        // Each document starts from the same peers.
        for peer in ["edge-1", "edge-2", "edge-3"] {
            if !mesh.mesh(["peers", "get", peer]).success() {
                register(&mesh, peer);
            }
        }
        for peer in ["edge-4", "edge-5"] {
            mesh.mesh(["peers", "deregister", peer, "--yes"]);
        }
        let of_shards = OF_SHARDS.iter().any(|name| document.ends_with(name));
        if of_shards {
            mesh.mesh(["namespaces", "create", "orders", "--shards", "12", "--wait"])
                .ok()
                .unwrap();
        }
        for command in commands(&fs::read_to_string(&document).unwrap()) {
            let name = document.strip_prefix(root()).unwrap().display().to_string();
            run += usize::from(runs(&mesh, &name, &command));
        }
        if of_shards {
            // The peers are to be as they were: other documents drain them, and nobody here hands shards over.
            let forced = ["--force", "--confirm", "orders", "--wait"];
            let delete = ["namespaces", "delete", "orders"].into_iter().chain(forced);
            mesh.mesh(delete).ok().unwrap();
        }
    }
    assert!(
        run >= 15,
        "only {run} commands were found: has the form of the blocks changed?"
    );
    mesh.stop().unwrap();
}

/// Runs a command of a document; answers whether there was one to run.
fn runs(mesh: &Mesh, document: &str, command: &str) -> bool {
    if LEFT_TO_CHECK.iter().any(|left| command.starts_with(left)) {
        return false;
    }
    if command.starts_with("curl ") {
        curl(mesh, document, command);
        return true;
    }
    assert!(command.contains("mesh "), "{document}: `{command}` is run by no test");
    assert!(
        !command.contains('…') && !command.contains("..."),
        "{document}: `{command}` cannot be typed"
    );
    let output = shell(mesh, command);
    // What asks is refused here, where nobody can answer; then it is answered.
    if output.code == Some(6) && output.stderr.contains("--yes") {
        assert!(!command.contains("--yes"), "{document}: {output:?}");
        shell(mesh, &format!("{command} --yes"))
            .ok()
            .unwrap_or_else(|error| panic!("{document}: {error}"));
        return true;
    }
    // What a script goes by: whether two revisions are the same, whether a change would be refused.
    let is_answer = match output.code {
        Some(1) => command.starts_with("mesh shards diff "),
        Some(6) => command.starts_with("mesh shards simulate ") || command.contains("--dry-run"),
        Some(_) | None => false,
    };
    let output = match is_answer {
        true => output,
        false => output.ok().unwrap_or_else(|error| panic!("{document}: {error}")),
    };
    assert!(
        !output.stdout.trim().is_empty(),
        "{document}: `{command}` shows nothing"
    );
    true
}

/// Runs a line in a shell: `https://HOSTn:7401` is node n, and `jq` looks whether the members that it is asked for
/// are there.
fn shell(mesh: &Mesh, command: &str) -> Output {
    let mut script = String::from("set -e\n");
    script.push_str("node() { case $1 in\n");
    for node in mesh.ids() {
        script.push_str(&format!("{node}) echo {} ;;\n", mesh.node(node).unwrap().api));
    }
    script.push_str("esac; }\n");
    // What comes from a failed command is no JSON, so a pipe hides nothing.
    script.push_str("jq() { cat; }\n");
    let mut line = command.replace("https://HOST$n:7401", "$(node $n)");
    for node in mesh.ids() {
        line = line.replace(&format!("https://HOST{node}:7401"), &mesh.node(node).unwrap().api);
    }
    script.push_str(&line);
    let path = std::env::join_paths([
        mesh.programs().path("mesh").parent().unwrap(),
        Path::new("/usr/bin"),
        Path::new("/bin"),
    ])
    .unwrap();
    let file = mesh.scratch().join("typed.sh");
    fs::write(&file, &script).unwrap();
    let mut shell = std::process::Command::new("sh");
    shell
        .arg(&file)
        .env_clear()
        .env("PATH", path)
        .env("NO_COLOR", "1")
        .env("MESH_CONTEXT", mesh.context("admin"));
    shell.stdin(Stdio::null()).current_dir(mesh.scratch());
    let done = shell.output().unwrap();
    let output = Output {
        command: command.to_owned(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        code: done.status.code(),
    };
    if let Some((_, asked)) = command.split_once("jq ") {
        let first = serde_json::Deserializer::from_str(&output.stdout)
            .into_iter::<Value>()
            .next();
        let json = first.unwrap().unwrap();
        let asked = asked.split(['\'', '"']).nth(1).unwrap_or_default();
        for member in asked.split(',').map(|member| member.trim().trim_start_matches('.')) {
            assert!(
                json.get(member).is_some(),
                "`{command}`: there is no {member} in {json}"
            );
        }
    }
    output
}

/// Sends what a `curl` line says, without needing curl.
fn curl(mesh: &Mesh, document: &str, command: &str) {
    let words = words(command);
    let value = |flag: &str| {
        words
            .iter()
            .position(|word| word == flag)
            .map(|at| words[at + 1].clone())
    };
    let url = words
        .iter()
        .find(|word| word.starts_with("https://"))
        .unwrap_or_else(|| panic!("{document}: {command}"));
    let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap();
    let follower = super::world::follower(mesh);
    let mut at = caller(mesh, follower, Wire::H2, "admin");
    for (at_word, word) in words.iter().enumerate().filter(|(_, word)| *word == "-H") {
        let (name, text) = words[at_word + 1]
            .split_once(": ")
            .unwrap_or_else(|| panic!("{document}: {word}"));
        if name.eq_ignore_ascii_case("authorization") {
            assert_eq!(text, "Bearer $TOKEN", "{document}: {command}");
        } else {
            at.headers.insert(
                http::HeaderName::try_from(name.to_lowercase()).unwrap(),
                text.parse().unwrap(),
            );
        }
    }
    assert!(value("--cacert").is_some(), "{document}: {command} trusts anybody");
    let reply = match value("--json") {
        Some(body) => at.raw(
            &value("-X").unwrap_or_else(|| "POST".to_owned()),
            &path,
            "application/json",
            body,
        ),
        None => at.raw(&value("-X").unwrap_or_else(|| "GET".to_owned()), &path, "", ""),
    };
    reply.ok();
}

/// Splits a line as a shell does, quotes aside from expansion.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The guide to a new command names files that are there.
#[test]
fn the_guide_names_files_that_exist() {
    let text = fs::read_to_string(root().join("docs/adding-a-command.md")).unwrap();
    let mut named = 0;
    for path in text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && word.contains('.'))
    {
        let is_file = [".rs", ".md", ".proto", ".toml", ".txt"]
            .iter()
            .any(|end| path.ends_with(end));
        if !is_file || path.contains("retire") || path.contains('<') {
            continue;
        }
        named += 1;
        assert!(
            root().join(path).exists(),
            "docs/adding-a-command.md names {path}, which is not there"
        );
    }
    assert!(named >= 5, "only {named} files are named");
}

#[test]
fn blocks_are_read_as_they_are_meant() {
    let text = "```console\n$ mesh a   # why\noutput\n$ mesh b \\\n    --c 'd  e'\n```\n$ not this\n```text\n$ nor this\n```\n";
    assert_eq!(commands(text), ["mesh a", "mesh b --c 'd  e'"]);
    assert_eq!(words("curl -H 'A: b c' \"d\"e"), ["curl", "-H", "A: b c", "de"]);
}
