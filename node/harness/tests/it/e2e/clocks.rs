//! Wall clocks that are off: one node runs with a clock that a test sets, while it leads and while it follows. The mesh
//! has to name it, to be led by another, and to neither expire nor freeze anything; by the runbook `clock-off.md`.
//!
//! The clock is `clock_off.c`, compiled here and preloaded into the one node.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use node_harness::{Mesh, Options, wait_for, wait_until};
use serde_json::{Value, json};

use super::{
    bad_input::token,
    docs::commands_of,
    growing::{JOINED, Load},
    wire::{Caller, Reply, Wire},
    world::{SOON, agreed, audit, client, dev_file, follower, leader, register, tls, unique, verify_audit},
};

const HOUR_S: i64 = 3_600;
const YEAR_S: i64 = 365 * 86_400;
/// By how much a measured offset may differ from the one that was set, on a busy machine.
const MEASURED_WITHIN_S: f64 = 3.0;
/// The name of a credential that is good by any clock.
const TIMELESS: &str = "timeless";

/// A wall clock that the test sets.
struct Clock {
    shim: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// One that is right so far.
    fn make(place: &Path) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/e2e/clock_off.c");
        let shim = place.join("clock_off.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(source);
        let compiled = compiler.arg("-ldl").output().unwrap();
        assert!(compiled.status.success(), "{compiled:?}");
        let clock = Self {
            shim,
            file: place.join("clock"),
        };
        clock.set(0);
        clock
    }

    /// Puts it this far ahead of the machine's, at once.
    fn set(&self, seconds: i64) {
        let new = self.file.with_extension("new");
        fs::write(&new, seconds.to_string()).unwrap();
        fs::rename(new, &self.file).unwrap();
    }

    fn environment(&self) -> [(&str, &OsStr); 2] {
        [
            ("LD_PRELOAD", self.shim.as_os_str()),
            ("MESHKIT_TEST_CLOCK", self.file.as_os_str()),
        ]
    }
}

/// A mesh of three, one of which has a clock of its own.
struct World {
    mesh: Mesh,
    clock: Clock,
    odd: u64,
    load: Load,
    /// A mutation under a key, to be repeated later: its body, its key, and what was answered.
    first: (Value, String, Reply),
    began: Instant,
    /// The revision from which on mesh time is looked at.
    from: u64,
}

impl World {
    /// The odd one's clock is still right; it leads, or not.
    fn start(leads: bool) -> Self {
        let mut mesh = Mesh::start(Options {
            environment: vec![("MESHKIT_RAFT__CHECKUP_INTERVAL_MS".to_owned(), "300".to_owned())],
            ..Options::default()
        })
        .unwrap();
        let clock = Clock::make(mesh.scratch());
        timeless(&mesh);
        let odd = follower(&mesh);
        mesh.kill(odd).unwrap();
        mesh.restart_with(odd, &clock.environment()).unwrap();
        mesh.wait_ready(odd, SOON).unwrap();
        if leads {
            lead(&mesh, odd);
        }
        let id = unique("kept");
        register(&mesh, &id);
        let (body, key) = (json!({ "id": id, "labels": { "n": "1" } }), unique("key"));
        let at = at(&mesh, leader(&mesh), TIMELESS).with("idempotency-key", &key);
        let reply = at.call("PatchPeer", body.clone()).ok();
        assert_eq!(reply.header("mesh-replayed"), "", "{reply:?}");
        let load = Load::by(client(&mesh, TIMELESS));
        load.goes_on("writes before");
        let from = reply.revision();
        let world = Self {
            mesh,
            clock,
            odd,
            load,
            first: (body, key, reply),
            began: Instant::now(),
            from,
        };
        let offset = wait_for(SOON, "a measured clock", || world.measured()).unwrap();
        assert!(offset.abs() < 1.0, "it is right and measured as {offset} s off");
        assert_eq!(world.alarms(), []);
        world
    }

    fn sound(&self) -> Vec<u64> {
        self.mesh.ids().into_iter().filter(|node| *node != self.odd).collect()
    }

    /// What the leader measured of the odd one's clock, in seconds.
    fn measured(&self) -> Option<f64> {
        let begins = format!("meshkit_clock_offset_seconds{{node=\"{}\"}} ", self.odd);
        let text = at(&self.mesh, leader(&self.mesh), TIMELESS).get("/metrics").ok().text;
        text.lines().find_map(|line| line.strip_prefix(&begins)?.parse().ok())
    }

    /// The alarms that are up, as a sound node has them: name, node, detail.
    fn alarms(&self) -> Vec<(String, u64, String)> {
        let reply = at(&self.mesh, self.sound()[0], TIMELESS).call("ListAlarms", json!({}));
        let items = reply.json["items"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        items
            .iter()
            .map(|item| {
                let node = item["node"].as_u64().unwrap_or_default();
                (text(&item["name"]), node, text(&item["detail"]))
            })
            .collect()
    }

    /// Waits until the odd one, and nobody else, is named with the offset that was set: as the leader measured it, or as
    /// the node itself saw its clock jump, whichever came first.
    fn is_named(&self, offset_s: i64) {
        let mut last = Vec::new();
        let named = wait_until(SOON, "the alarm", || {
            last = self.alarms();
            matches!(&last[..], [(name, node, _)] if name == "CLOCK" && *node == self.odd)
        });
        named.unwrap_or_else(|error| panic!("{error}: {last:?}"));
        let detail = &last[0].2;
        let ways = if offset_s < 0 {
            ["behind the others'", "ms back"]
        } else {
            ["ahead of the others'", "ms ahead"]
        };
        assert!(ways.iter().any(|way| detail.contains(way)), "{detail}");
        // "its clock is 3600012 ms ahead of …" or "its clock has jumped 3600012 ms ahead, …"
        let ms = detail.split(' ').find_map(|word| word.parse::<f64>().ok()).unwrap();
        let off = ms / 1_000.0 - offset_s.unsigned_abs() as f64;
        assert!(off.abs() < MEASURED_WITHIN_S, "{detail}");
    }

    /// Waits until another leads.
    fn is_led_by_another(&self) {
        wait_until(SOON, "another to lead", || leader(&self.mesh) != self.odd).unwrap();
    }

    /// Waits until there is no alarm any more.
    fn is_well_again(&self) {
        let mut last = Vec::new();
        let well = wait_until(JOINED, "no alarms", || {
            last = self.alarms();
            last.is_empty()
        });
        well.unwrap_or_else(|error| panic!("{error}: {last:?}"));
    }

    /// The mutation from before, once more: nothing has expired.
    fn is_replayed(&self) {
        let (body, key, first) = &self.first;
        for node in self.sound() {
            let at = at(&self.mesh, node, TIMELESS)
                .with("mesh-route", "forward")
                .with("idempotency-key", key);
            let again = at.call("PatchPeer", body.clone()).ok();
            assert_eq!(again.header("mesh-replayed"), "true", "{again:?}");
            assert_eq!((again.revision(), &again.json), (first.revision(), &first.json));
        }
    }

    /// Ends the load, of which nothing may have failed, and looks at everything that was recorded.
    fn end(self) {
        let written = self.load.end();
        let passed = self.began.elapsed();
        assert!(agreed(&self.mesh).0 > written);
        verify_audit(&self.mesh);
        let records = audit(&self.mesh);
        let times: Vec<u64> = records
            .iter()
            .filter(|record| record.revision >= self.from)
            .map(|record| record.mesh_time_ms)
            .collect();
        assert!(
            times.len() as u64 > written,
            "{} records of {written} writes",
            times.len()
        );
        assert!(times.is_sorted(), "mesh time stepped back");
        // A tenth is what it is nudged by at the most; the rest is for what this machine does meanwhile.
        let moved = Duration::from_millis(times[times.len() - 1] - times[0]);
        let least = passed.mul_f64(0.85).saturating_sub(Duration::from_secs(8));
        let most = passed.mul_f64(1.15) + Duration::from_secs(8);
        assert!((least..most).contains(&moved), "{passed:?} are {moved:?} of mesh time");
        self.mesh.stop().unwrap();
    }
}

/// Makes a credential that no clock here finds too old or too new, and a context for it.
fn timeless(mesh: &Mesh) {
    let token = token(mesh, &dev_file(mesh, "jwt.key"), |claims| {
        claims["nbf"] = 0.into();
        claims["exp"] = 4_000_000_000_u64.into();
    });
    let file = mesh.scratch().join("timeless.jwt");
    fs::write(&file, token).unwrap();
    let known = fs::read_to_string(mesh.context("admin")).unwrap();
    let context = known.replace("admin.jwt", "timeless.jwt");
    assert_ne!(context, known);
    fs::write(mesh.context(TIMELESS), context).unwrap();
}

/// A caller of one node, with a token of `dev` or the timeless one.
fn at(mesh: &Mesh, node: u64, who: &str) -> Caller {
    let token = fs::read_to_string(mesh.scratch().join(format!("{who}.jwt"))).unwrap();
    Caller::new(&mesh.node(node).unwrap().api, Wire::H2, tls(mesh)).bearer(token.trim())
}

/// Has a node lead.
fn lead(mesh: &Mesh, node: u64) {
    let mut said = None;
    let leads = wait_until(SOON, "it to lead", || {
        let now = leader(mesh);
        if now != node {
            let transfer = json!({ "to": node, "reason": "a test" });
            said = Some(at(mesh, now, TIMELESS).call("TransferLeadership", transfer));
        }
        now == node
    });
    leads.unwrap_or_else(|error| panic!("{error}: {said:?}"));
}

/// A command of a runbook.
fn typed(mesh: &Mesh, command: &str) -> String {
    let words = command.strip_prefix("mesh ").unwrap_or_else(|| panic!("`{command}`"));
    mesh.mesh_as(TIMELESS, words.split_whitespace()).ok().unwrap().stdout
}

#[test]
fn a_node_an_hour_off_does_everything_but_lead() {
    let mut world = World::start(true);
    let commands = commands_of("clock-off.md");
    let [status, alarms, check] = &commands[..] else {
        panic!("{commands:?}")
    };
    world.clock.set(HOUR_S);
    world.is_named(HOUR_S);
    world.is_led_by_another();
    let offset = wait_for(SOON, "a measured clock", || world.measured()).unwrap();
    assert!((offset - HOUR_S as f64).abs() < MEASURED_WITHIN_S, "{offset}");
    for command in [status, alarms] {
        let shown = typed(&world.mesh, command);
        assert!(
            shown.contains("CLOCK") && shown.contains("its clock "),
            "`{command}`: {shown}"
        );
    }
    world.is_replayed();
    world.load.goes_on("writes with the clock off");
    agreed(&world.mesh);

    // Its vote and its disk count: of the two others one goes, and the last one cannot do without it.
    let gone = leader(&world.mesh);
    world.mesh.kill(gone).unwrap();
    world.load.goes_on("writes of two");
    assert!(![gone, world.odd].contains(&leader(&world.mesh)));
    world.mesh.restart(gone).unwrap();
    world.mesh.wait_ready(gone, SOON).unwrap();

    world.clock.set(0);
    world.is_well_again();
    let shown = typed(&world.mesh, check);
    assert!(!shown.contains("CLOCK"), "{shown}");
    lead(&world.mesh, world.odd);
    world.is_replayed();
    world.load.goes_on("writes after");
    world.end();
}

/// By a clock that is a year off, certificates that last a year are not good: the node is on its own then.
fn a_year_off(leads: bool, offset_s: i64) {
    let world = World::start(leads);
    world.clock.set(offset_s);
    world.is_named(offset_s);
    world.is_led_by_another();
    if !leads {
        // It told of itself while it still spoke with the others; now it does not even let itself be asked.
        let log = fs::read_to_string(&world.mesh.node(world.odd).unwrap().log).unwrap();
        assert!(
            log.contains("a node connection is refused") && log.contains("has expired"),
            "{log}"
        );
    }
    world.is_replayed();
    world.load.goes_on("writes with the clock off");

    // The others take who comes with an ordinary token, the odd one says what it does not like.
    for node in world.sound() {
        at(&world.mesh, node, "admin2").call("ListPeers", json!({})).ok();
    }
    let refused = at(&world.mesh, world.odd, "admin2").call("ListPeers", json!({}));
    let code = if offset_s > 0 {
        "credential_expired"
    } else {
        "unauthenticated"
    };
    let refused = refused.refused(code);
    assert!(refused.str("detail").contains("by this node's clock"), "{refused:?}");
    assert!(refused.str("hint").contains("mesh status"), "{refused:?}");

    world.clock.set(0);
    world.is_well_again();
    agreed(&world.mesh);
    at(&world.mesh, world.odd, "admin2").call("ListPeers", json!({})).ok();
    lead(&world.mesh, world.odd);
    world.is_replayed();
    world.load.goes_on("writes after");
    world.end();
}

#[test]
fn a_leader_a_year_ahead_expires_nothing() {
    a_year_off(true, YEAR_S);
}

#[test]
fn a_leader_a_year_behind_freezes_nothing() {
    a_year_off(true, -YEAR_S);
}

#[test]
fn a_follower_a_year_ahead_is_left_behind_and_comes_back() {
    a_year_off(false, YEAR_S);
}
