//! A real browser's `EventSource`: it trades a token for a cookie, watches, and when its node is killed finds its way back
//! by itself, by `Last-Event-ID`, without a gap and without a repeat (S3). Runs where Chromium is; `scripts/browser.sh`
//! installs it and runs this.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use node_harness::{Mesh, Options};
use serde_json::{Value, json};

use super::world::{SOON, admin, follower, registration};

/// The page, and what it tells.
struct Page {
    browser: Child,
    /// The browser goes when this does.
    input: Option<ChildStdin>,
    told: Receiver<Value>,
    seen: Vec<Value>,
}

impl Page {
    fn open(mesh: &Mesh, node: u64, path: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/clients/browser.py");
        let token = mesh.scratch().join("browser.jwt");
        std::fs::write(&token, &mesh.info().tokens.operate).unwrap();
        let mut browser = Command::new("python3")
            .arg(script)
            .arg(&mesh.node(node).unwrap().api)
            .args([token.as_os_str(), path.as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(browser.stdout.take().unwrap()).lines();
        let (tell, told) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self {
            input: browser.stdin.take(),
            browser,
            told,
            seen: Vec::new(),
        }
    }

    /// Waits for an event that is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + 2 * SOON;
        while !self.seen.last().is_some_and(&is_so) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(event) => self.seen.push(event),
                Err(error) => panic!("no {what}: {error}: {:?}", self.seen),
            }
        }
    }

    fn until_registered(&mut self, id: &str) {
        let target = format!("peer/{id}");
        self.until(id, |event| event["data"]["unit"]["target"] == *target);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.browser.wait();
    }
}

#[test]
fn an_event_source_finds_its_way_back() {
    if !Path::new("/usr/bin/chromium").exists() {
        eprintln!("left out: Chromium is not installed (scripts/browser.sh does that)");
        return;
    }
    let mut mesh = Mesh::start(Options::default()).unwrap();
    let node = follower(&mesh);
    let register = |mesh: &Mesh, id: &str| drop(admin(mesh).call("RegisterPeer", registration(id)).ok());
    register(&mesh, "before");
    let mut page = Page::open(&mesh, node, "/meshkit/peers:watch?snapshot=true&progressInterval=0.2s");
    page.until("snapshot", |event| {
        event["kind"] == "snapshot" && event["data"]["snapshot"]["last"] == true
    });
    let shown = page.seen.last().unwrap()["data"]["snapshot"]["items"].clone();
    assert_eq!(shown[0]["peer"]["id"], "before", "{shown}");
    let mut ids = Vec::new();
    // Its node dies twice, and much happens meanwhile.
    for round in 0..3 {
        for n in 0..5 {
            ids.push(format!("live-{round}-{n}"));
            register(&mesh, ids.last().unwrap());
        }
        page.until_registered(ids.last().unwrap());
        if round == 2 {
            break;
        }
        mesh.kill(node).unwrap();
        page.until("loss", |event| event["kind"] == "broken");
        for n in 0..20 {
            ids.push(format!("missed-{round}-{n}"));
            register(&mesh, ids.last().unwrap());
        }
        mesh.restart(node).unwrap();
        page.until("way back", |event| event["kind"] == "open");
    }
    let units: Vec<&Value> = page.seen.iter().filter(|event| event["kind"] == "unit").collect();
    let told: Vec<&str> = units
        .iter()
        .map(|unit| {
            unit["data"]["unit"]["target"]
                .as_str()
                .unwrap()
                .strip_prefix("peer/")
                .unwrap()
        })
        .collect();
    assert_eq!(told, ids, "every change once, in order");
    let revisions = units.iter().map(|unit| unit["data"]["revision"].as_u64().unwrap());
    assert!(revisions.is_sorted_by(|one, next| one < next), "{units:?}");
    assert!(
        units
            .iter()
            .all(|unit| unit["id"] == unit["data"]["token"] && unit["id"] != "")
    );
    let count = |kind: &str| page.seen.iter().filter(|event| event["kind"] == kind).count();
    let counts: BTreeMap<_, _> = ["snapshot", "open"].map(|kind| (kind, count(kind))).into();
    assert_eq!(
        json!(counts),
        json!({ "open": 3, "snapshot": 1 }),
        "it went on, and did not begin anew"
    );
    drop(page);
    mesh.stop().unwrap();
}
