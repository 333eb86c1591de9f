//! Metrics (M7, S9): what a node shows is what `docs/metrics.md` says, in both directions, and in good form.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use node_harness::{Mesh, Options, wait_for};

use super::{
    guide::root,
    wire::Wire,
    world::{SOON, caller, leader, register, unique},
};

/// What the page says: kind, labels, and whether the metric is shown from the start.
type Said = BTreeMap<String, (String, BTreeSet<String>, bool)>;

fn documented() -> Said {
    let text = fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `meshkit_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, kind, labels, help, shown] = cells[..5] else {
            panic!("{row}")
        };
        assert!(!help.is_empty(), "{row}");
        let labels = labels
            .split(',')
            .map(|label| label.trim().to_owned())
            .filter(|label| !label.is_empty());
        let name = format!("meshkit_{}", name.trim_end_matches('`'));
        (name, (kind.to_owned(), labels.collect(), shown.is_empty()))
    })
    .collect()
}

/// A scrape of the leader, once it has looked at its members.
fn scrape(mesh: &Mesh) -> String {
    let leader = leader(mesh);
    let seen = wait_for(SOON, "the leader's view of the clocks", || {
        let text = caller(mesh, leader, Wire::H2, "observe").get("/metrics").ok().text;
        text.contains("meshkit_clock_offset_seconds{").then_some(text)
    });
    seen.unwrap()
}

#[test]
fn what_is_shown_is_what_is_documented() {
    let mesh = Mesh::start(Options::default()).unwrap();
    register(&mesh, &unique("counted"));
    caller(&mesh, leader(&mesh), Wire::H1, "read")
        .get("/meshkit/peers/nobody")
        .refused("not_found");
    let text = scrape(&mesh);
    let said = documented();
    let mut shown = BTreeSet::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            let (documented, ..) = said
                .get(name)
                .unwrap_or_else(|| panic!("docs/metrics.md does not know {name}"));
            assert_eq!(kind, documented, "{name}");
            shown.insert(name.to_owned());
            continue;
        }
        let Some((sample, labels)) = line.split_once('{').filter(|_| !line.starts_with('#')) else {
            continue;
        };
        let (labels, _) = labels.rsplit_once('}').unwrap();
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| sample.strip_suffix(end))
            .unwrap_or(sample);
        let (_, known, _) = said
            .get(base)
            .or_else(|| said.get(sample))
            .unwrap_or_else(|| panic!("{line}"));
        for label in labels
            .split("\",")
            .filter_map(|pair| pair.split_once('='))
            .map(|(label, _)| label)
        {
            assert!(
                label == "le" || known.contains(label),
                "{sample} has a label that nobody told of: {label}"
            );
        }
    }
    for (name, (.., always)) in &said {
        assert!(!always || shown.contains(name), "{name} is documented and not shown");
    }
    in_good_form(&text);
    mesh.stop().unwrap();
}

/// What is shown only when there was one is in the source nevertheless.
#[test]
fn what_is_documented_is_counted_somewhere() {
    let mut source = String::new();
    for folder in ["api/server/src", "node/src", "controllers/src"] {
        read_all(&root().join(folder), &mut source);
    }
    for name in documented().keys() {
        let name = name.trim_end_matches("_total");
        let short = name.strip_prefix("meshkit_api_").unwrap_or(name);
        assert!(source.contains(&format!("\"{short}\"")), "{name} is counted nowhere");
    }
}

fn read_all(folder: &std::path::Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

/// What Prometheus' own tool says of it. `./check` lists it as left out where the tool is not installed.
fn in_good_form(text: &str) {
    let tool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut tool = match tool {
        Ok(tool) => tool,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("left out: promtool is not installed");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    tool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = tool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && told.trim().is_empty(), "promtool: {told}");
}
