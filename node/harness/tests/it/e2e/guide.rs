//! The guide to the API (S8): every example of `docs/api/` is run with other people's clients against built programs, and
//! what it prints is what the guide says.
//!
//! The clients are brought by `scripts/clients.sh`, which `./check` runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use node_harness::{Mesh, Options};

use super::{wire::Wire, world::caller};

/// For everything of one page.
const PAGE: Duration = Duration::from_secs(240);
/// Left to whoever reads: what they bring is here already, or is built by whoever runs the tests.
const LEFT_OUT: [&str; 3] = ["python3 -m venv", "env/bin/pip", "cargo "];

pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// The folder of a set of clients. None where `./check` could not have them, which it lists with the reason.
///
/// # Panics
/// When they are not there and nobody said why.
pub fn clients(set: &str) -> Option<PathBuf> {
    if let Ok(why) = std::env::var("MESHKIT_CLIENTS_MISSING") {
        eprintln!("left out: {why}");
        return None;
    }
    let home = || PathBuf::from(std::env::var_os("HOME").expect("a home directory")).join(".cache/meshkit");
    let cache = std::env::var_os("MESHKIT_CACHE").map_or_else(home, PathBuf::from);
    let folder = cache.join("clients").join(set);
    let wanted = fs::read_to_string(root().join("scripts/clients").join(format!("{set}.txt"))).unwrap();
    let installed = fs::read_to_string(folder.join("installed.txt")).unwrap_or_default();
    assert!(
        installed == wanted,
        "{} is not what scripts/clients/{set}.txt names: run scripts/clients.sh",
        folder.display()
    );
    Some(folder)
}

/// A program that talks to a mesh: within a time, in a folder of its own, with nothing but this in its environment.
pub fn client(mesh: &Mesh, set: &Path, program: &Path) -> Command {
    client_within(mesh, set, program, PAGE)
}

/// The same, within a time of its own.
pub fn client_within(mesh: &Mesh, set: &Path, program: &Path, within: Duration) -> Command {
    let tokens = mesh.info().tokens.by_name();
    let programs = ["/usr/bin", "/bin", "/usr/local/bin"].map(PathBuf::from);
    let path = std::env::join_paths([set.join("bin")].iter().chain(&programs)).unwrap();
    let mut command = Command::new("timeout");
    command
        .arg("--kill-after=5")
        .arg(within.as_secs().to_string())
        .arg(program)
        .env_clear()
        .env("PATH", path)
        .env("HOME", mesh.scratch())
        .env("PYTHONPATH", "stubs")
        .env("MESH", &mesh.node(1).unwrap().api)
        .env("CA", &mesh.info().ca)
        .env("MESH_CONTEXT", mesh.context("admin"))
        .env("TOKEN", tokens["admin"])
        .env("TOKEN2", tokens["admin2"])
        .current_dir(mesh.scratch())
        .stdin(Stdio::null());
    command
}

fn ended_well(mut command: Command, what: &str) -> String {
    let done = command.output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{what} ended with {}\n{out}\n{err}", done.status);
    out
}

/// A block of a page: its language and what is in it.
fn blocks(page: &str) -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/api").join(page)).unwrap();
    let mut blocks: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                blocks.push((language.to_owned(), String::new()));
                inside = true;
            }
            None if inside => {
                let (_, block) = blocks.last_mut().unwrap();
                block.push_str(line);
                block.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// What is typed in the console blocks of a page, each with what the page says is printed.
fn typed(page: &str) -> Vec<(String, String)> {
    let mut typed: Vec<(String, String)> = Vec::new();
    for (_, block) in blocks(page).iter().filter(|(language, _)| language == "console") {
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => typed.push((command.to_owned(), String::new())),
                None => typed.last_mut().unwrap().1.push_str(line),
            }
        }
    }
    typed.retain(|(command, _)| !LEFT_OUT.iter().any(|left| command.starts_with(left)));
    typed
}

/// Whether a text is as the page says, where `…` stands for anything.
fn is_as_said(said: &str, text: &str) -> bool {
    let mut parts = said.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Types all that a page says, in one shell, and compares what is printed.
fn type_page(mesh: &Mesh, clients: &Path, page: &str) {
    let typed = typed(page);
    let mut script = String::from("set -e\n");
    for (at, (command, _)) in typed.iter().enumerate() {
        script.push_str(&format!("{command}\necho; echo '@@{at}'\n"));
    }
    let file = mesh.scratch().join(format!("{page}.sh"));
    fs::write(&file, script).unwrap();
    let mut shell = client(mesh, clients, Path::new("bash"));
    shell.arg(&file);
    let mut printed = ended_well(shell, page);
    for (at, (command, said)) in typed.iter().enumerate() {
        let (this, rest) = printed.split_once(&format!("@@{at}\n")).unwrap();
        let this: String = this.lines().collect();
        if !said.is_empty() {
            assert!(
                is_as_said(said, &this),
                "{page}: `{command}` prints\n{this}\nand not\n{said}"
            );
        }
        printed = rest.to_owned();
    }
}

/// Requests that a node counted with all of these words among their labels.
pub fn counted(mesh: &Mesh, node: u64, words: &[&str]) -> u64 {
    let text = caller(mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
    let samples = text
        .lines()
        .filter(|line| line.starts_with("meshkit_api_requests_total{") && words.iter().all(|word| line.contains(word)));
    samples
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

#[test]
fn curl_does_what_the_guide_says() {
    let Some(clients) = clients("api") else { return };
    let mesh = Mesh::start(Options::default()).unwrap();
    type_page(&mesh, &clients, "rest.md");
    assert!(
        counted(
            &mesh,
            1,
            &["transport=\"h2\"", "api=\"rest\"", "action=\"peers.register\""]
        ) >= 2
    );
    // And the older protocol, in which one connection carries one request at a time.
    let mut older = client(&mesh, &clients, Path::new("curl"));
    older.args(["-sS", "--http1.1", "--cacert"]).arg(&mesh.info().ca);
    older.args([
        "-H",
        &format!("Authorization: Bearer {}", mesh.info().tokens.by_name()["read"]),
    ]);
    older.args(["-w", "%{http_version} %{http_code}", "-o", "/dev/null"]);
    older.arg(format!("{}/meshkit/peers", mesh.node(1).unwrap().api));
    assert_eq!(ended_well(older, "curl over HTTP/1.1"), "1.1 200");
    assert_eq!(
        counted(&mesh, 1, &["transport=\"h1\"", "action=\"peers.list\"", "code=\"ok\""]),
        1
    );
    mesh.stop().unwrap();
}

#[test]
fn python_does_what_the_guide_says() {
    let Some(clients) = clients("api") else { return };
    let mesh = Mesh::start(Options::default()).unwrap();
    std::os::unix::fs::symlink(root().join("proto"), mesh.scratch().join("proto")).unwrap();
    type_page(&mesh, &clients, "python.md");
    let blocks = blocks("python.md");
    let mut run = 0;
    for (at, (_, program)) in blocks.iter().enumerate().filter(|(_, block)| block.0 == "python") {
        let (language, said) = &blocks[at + 1];
        assert_eq!(language, "text", "the page does not say what this prints:\n{program}");
        let file = mesh.scratch().join(format!("example{at}.py"));
        fs::write(&file, program).unwrap();
        let mut python = client(&mesh, &clients, &clients.join("bin/python"));
        python.arg(&file);
        assert_eq!(&ended_well(python, program), said, "{program}");
        run += 1;
    }
    assert!(
        run >= 4,
        "only {run} examples were found: has the form of the blocks changed?"
    );
    let counts = |words: &[&str]| counted(&mesh, 1, words);
    assert!(counts(&["api=\"grpc\"", "transport=\"h2\"", "action=\"peers.watch\""]) >= 2);
    // It says h3 itself; the node counted it so as well, the refusal and the stream too.
    assert_eq!(
        counts(&["transport=\"h3\"", "action=\"peers.register\"", "code=\"ok\""]),
        1
    );
    assert_eq!(
        counts(&["transport=\"h3\"", "action=\"peers.get\"", "code=\"not_found\""]),
        1
    );
    assert_eq!(
        counts(&["transport=\"h3\"", "action=\"peers.watch\"", "code=\"ok\""]),
        1
    );
    mesh.stop().unwrap();
}

#[test]
fn the_rust_example_does_what_the_guide_says() {
    let blocks = blocks("rust.md");
    let of = |wanted: &str| &blocks.iter().find(|(language, _)| language == wanted).unwrap().1;
    let source = fs::read_to_string(root().join("api/client/examples/guide.rs")).unwrap();
    assert!(
        *of("rust") == source,
        "docs/api/rust.md does not show api/client/examples/guide.rs"
    );
    let mesh = Mesh::start(Options::default()).unwrap();
    let example = mesh.programs().path("examples/guide");
    assert!(
        example.is_file(),
        "{} is not there: cargo test builds it",
        example.display()
    );
    let printed = ended_well(client(&mesh, mesh.scratch(), &example), "the example");
    assert_eq!(&printed, of("text"));
    mesh.stop().unwrap();
}

/// The page on shards: curl, then Python and Rust on what curl has made.
#[test]
fn what_the_guide_says_of_shards_is_so() {
    let Some(clients) = clients("api") else { return };
    let mesh = Mesh::start(Options::default()).unwrap();
    let stubs = mesh.scratch();
    std::os::unix::fs::symlink(root().join("proto"), stubs.join("proto")).unwrap();
    type_page(&mesh, &clients, "shards.md");
    let made: Vec<String> = typed("python.md")
        .into_iter()
        .map(|(command, _)| command)
        .filter(|command| command.contains("stubs") && !command.starts_with("export"))
        .collect();
    let file = stubs.join("stubs.sh");
    fs::write(&file, made.join("\n")).unwrap();
    let mut shell = client(&mesh, &clients, Path::new("bash"));
    shell.arg("-e").arg(&file);
    ended_well(shell, "the stubs");
    let blocks = blocks("shards.md");
    let said_after = |language: &str| {
        let at = blocks.iter().position(|block| block.0 == language).unwrap();
        assert_eq!(
            blocks[at + 1].0,
            "text",
            "the page does not say what the {language} example prints"
        );
        (&blocks[at].1, &blocks[at + 1].1)
    };
    let (program, said) = said_after("python");
    let file = stubs.join("shards.py");
    fs::write(&file, program).unwrap();
    let mut python = client(&mesh, &clients, &clients.join("bin/python"));
    python.arg(&file);
    assert_eq!(&ended_well(python, "the Python example"), said);
    let (program, said) = said_after("rust");
    let source = fs::read_to_string(root().join("api/client/examples/shards.rs")).unwrap();
    assert!(
        *program == source,
        "docs/api/shards.md does not show api/client/examples/shards.rs"
    );
    let example = mesh.programs().path("examples/shards");
    assert!(
        example.is_file(),
        "{} is not there: cargo test builds it",
        example.display()
    );
    assert_eq!(
        &ended_well(client(&mesh, mesh.scratch(), &example), "the Rust example"),
        said
    );
    mesh.stop().unwrap();
}

#[test]
fn what_is_said_is_compared() {
    assert!(is_as_said("a…c", "abc") && is_as_said("ac", "ac") && is_as_said("a…", "abc") && is_as_said("…c", "abc"));
    assert!(!is_as_said("a…c", "abd") && !is_as_said("ab", "abc") && !is_as_said("b…", "abc"));
    assert!(!is_as_said("a…x…c", "abc"));
    assert!(typed("rest.md").len() > 20 && typed("rest.md").iter().any(|(_, said)| said.contains('…')));
}
