//! A node that is parted from the others, on a network of the test's own, for longer than their logs reach back, with
//! watchers attached (S3, X3). Its watchers wait; those who come with a token from elsewhere are refused with `future`, and
//! those who come with none with `unavailable`. When the cable is back the node is given a snapshot, and everybody is told
//! exactly what happened in between, or that it cannot be told any more.

use std::{fs, thread, time::Duration};

use node_harness::{Mesh, Network, Options, wait_for, wait_until};
use proto::v1;
use serde_json::{Value, json};

use super::{
    growing::Load,
    trail::{files_of, lines},
    views::{History, lists},
    watchers::{Form, Watcher},
    wire::Wire,
    world::{SOON, admin, agreed, caller, client, follower, register, status_of, unique, verify_audit, wait},
};

/// What a node says when others send it their state as a whole.
const BY_SNAPSHOT: &str = "a snapshot begins";
/// How long writes go on until logs are cut behind a node that is away.
const LOGS_ARE_CUT_WITHIN: Duration = Duration::from_secs(60);
/// How long history is kept for retries at the least.
const HISTORY_IS_NEEDED: Duration = Duration::from_secs(60);

/// Three nodes that cut their logs every so many entries, keep little of them and sign the trail often.
fn options(entries: &str) -> Options {
    let settings = [
        ("RAFT__SNAPSHOT_ENTRIES", entries),
        ("RAFT__LOG_ENTRIES_KEPT", "0"),
        ("RAFT__LOG_PURGE_ENTRIES_MIN", "1"),
        ("RETENTION__AUDIT_CHECKPOINT_RECORDS", "20"),
    ];
    let environment = settings.map(|(name, value)| (format!("MESHKIT_{name}"), value.to_owned()));
    Options {
        environment: environment.into(),
        ..Options::default()
    }
}

/// A mesh of which one follower is parted from the others.
struct Parted {
    mesh: Mesh,
    /// Which, and where it stands.
    node: u64,
    at: u64,
    /// The last place in its log.
    last_index: u64,
    /// How often a snapshot had begun there before.
    snapshots: usize,
}

impl Parted {
    /// Pulls the cable of a node, and sees to it that it is really alone.
    fn from_the_others(mesh: Mesh, node: u64) -> Self {
        agreed(&mesh);
        let network = mesh.network().unwrap();
        let others: Vec<u64> = mesh.ids().into_iter().filter(|other| *other != node).collect();
        for other in &others {
            assert!(network.reaches(node, *other) && network.reaches(*other, node));
        }
        network.part(node).unwrap();
        for other in &others {
            assert!(!network.reaches(node, *other) && !network.reaches(*other, node));
        }
        let sdk = client(&mesh, "read");
        // It hears of no leader any more, and goes on answering what it knows.
        let alone = wait_for(SOON, "the node to be on its own", || {
            status_of(&mesh, &sdk, node).filter(|status| !status.quorum)
        });
        let at = alone.unwrap().revision;
        let (last_index, snapshots) = (log_index(&mesh, node, "last"), snapshots(&mesh, node));
        Self {
            mesh,
            node,
            at,
            last_index,
            snapshots,
        }
    }

    fn others(&self) -> Vec<u64> {
        self.mesh.ids().into_iter().filter(|node| *node != self.node).collect()
    }

    /// Writes until no other node's log reaches back to where this one stands.
    fn logs_are_cut(&self) {
        self.logs_are_cut_behind(self.last_index);
    }

    /// Writes until no other node's log reaches back to an entry: whoever needs it is given a state that has it.
    fn logs_are_cut_behind(&self, entry: u64) {
        let load = Load::start(&self.mesh);
        let cut = wait_until(LOGS_ARE_CUT_WITHIN, "logs that are cut", || {
            let purged = |node| log_index(&self.mesh, node, "purged");
            self.others().into_iter().all(|node| purged(node) > entry)
        });
        cut.unwrap();
        load.end();
    }

    /// Whether a node's log reaches back to where this one stands.
    fn reaches_back(&self, node: u64) -> bool {
        log_index(&self.mesh, node, "purged") <= self.last_index
    }

    /// The last entry that the others have.
    fn last_of_others(&self) -> u64 {
        let last = self
            .others()
            .into_iter()
            .map(|node| log_index(&self.mesh, node, "last"));
        last.max().unwrap()
    }

    /// What the node's clients see has not moved.
    fn stands_still(&self) {
        let status = status_of(&self.mesh, &client(&self.mesh, "read"), self.node).unwrap();
        assert_eq!((status.revision, status.quorum), (self.at, false));
        assert_eq!(snapshots(&self.mesh, self.node), self.snapshots);
    }

    /// Puts the cable back. Answers the mesh when the node has been given a snapshot and holds what the others hold.
    fn healed(self) -> Mesh {
        self.stands_still();
        self.mesh.network().unwrap().join(self.node).unwrap();
        wait_until(SOON, "a snapshot", || snapshots(&self.mesh, self.node) > self.snapshots).unwrap();
        agreed(&self.mesh);
        self.mesh
    }
}

/// How often others began to send a node their state as a whole.
fn snapshots(mesh: &Mesh, node: u64) -> usize {
    let said = fs::read_to_string(&mesh.node(node).unwrap().log).unwrap();
    said.matches(BY_SNAPSHOT).count()
}

/// A place in a node's log, by its own metrics; 0 where it has none.
fn log_index(mesh: &Mesh, node: u64, at: &str) -> u64 {
    let begins = format!("meshkit_raft_log_index{{at=\"{at}\"}} ");
    let text = caller(mesh, node, Wire::H2, "observe").get("/metrics").ok().text;
    let found = text.lines().find_map(|line| line.strip_prefix(&begins)?.parse().ok());
    found.unwrap_or_default()
}

/// Operations beside the load, so that revisions change several records.
fn operate(mesh: &Mesh) {
    for _ in 0..3 {
        let peer = unique("worked");
        register(mesh, &peer);
        mesh.mesh(["peers", "drain", &peer, "--yes", "--wait"]).ok().unwrap();
        mesh.mesh(["peers", "undrain", &peer]).ok().unwrap();
    }
}

/// What each watcher was told is the history, nothing that might be wrong with it would have gone unseen, and lists show the
/// same.
fn all_saw_everything(mesh: &Mesh, watchers: &[&Watcher], history: &mut History) {
    let last = register(mesh, &unique("last")).changed_revision;
    for watcher in watchers {
        watcher.reaches(last);
    }
    let shown = lists(mesh);
    history.extend(mesh);
    for (kind, revision, items) in shown {
        let mut held = history.at(revision);
        held.retain(|(of, _), _| of == kind);
        assert_eq!(items, held, "the list of {kind} at {revision}");
    }
    let held = history.at(last);
    for watcher in watchers {
        assert_eq!(watcher.check(history, last), held, "{}", watcher.name);
        history.finds_plants(&watcher.told(), last);
    }
}

#[test]
fn watchers_of_a_parted_node_miss_nothing() {
    let name = "e2e::partition::watchers_of_a_parted_node_miss_nothing";
    let Some(network) = Network::enter(name, 3).unwrap() else {
        return;
    };
    let mesh = Mesh::start_apart(network, options("100")).unwrap();
    let node = follower(&mesh);
    let elsewhere = mesh.ids().into_iter().find(|other| *other != node).unwrap();
    let attached = [Form::Sse1, Form::Sse2, Form::Sse3, Form::Grpc].map(|form| Watcher::stays(&mesh, node, form));
    let comes = [Form::Sse2, Form::Grpc].map(|form| Watcher::stays(&mesh, elsewhere, form));
    operate(&mesh);

    let parted = Parted::from_the_others(mesh, node);
    let late = Watcher::with_snapshot(&parted.mesh, node, Form::Sse1);
    let loads = [(); 3].map(|()| Load::start(&parted.mesh));
    operate(&parted.mesh);
    parted.logs_are_cut();
    // Those who come with what they were told elsewhere know more than the node: it refuses, and tells them nothing old.
    for watcher in &comes {
        watcher.goes_to(&parted.mesh, node);
        let refused = wait_until(SOON, "a refusal", || !watcher.refusals().is_empty());
        refused.unwrap();
    }
    assert!(attached.iter().all(|watcher| watcher.reached() == parted.at));
    // Who knows nothing yet is not begun with what may be old.
    let refused = late.refusals();
    assert!(
        !refused.is_empty() && refused.iter().all(|code| code == "unavailable"),
        "{refused:?}"
    );
    assert_eq!(late.reached(), 0);
    let mesh = parted.healed();
    wait_until(SOON, "the late one to begin", || late.reached() > 0).unwrap();
    operate(&mesh);
    for load in loads {
        load.goes_on("writes with it");
        load.end();
    }
    for watcher in &attached {
        assert_eq!(watcher.streams(), 1, "{} had to connect again", watcher.name);
        assert!(
            watcher.refusals().is_empty(),
            "{}: {:?}",
            watcher.name,
            watcher.refusals()
        );
    }
    for watcher in &comes {
        assert!(
            watcher.refusals().iter().all(|code| code == "future"),
            "{:?}",
            watcher.refusals()
        );
    }
    let watchers: Vec<&Watcher> = attached.iter().chain(&comes).chain([&late]).collect();
    all_saw_everything(&mesh, &watchers, &mut History::read(&mesh));
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

/// What happened meanwhile was also compacted away: it cannot be told any more, and that is said, with what to do. The
/// node's audit files say so in their place. It takes a minute, since history that retries may need is kept so long.
#[test]
fn watchers_of_a_parted_node_that_history_has_left_begin_anew() {
    let name = "e2e::partition::watchers_of_a_parted_node_that_history_has_left_begin_anew";
    let Some(network) = Network::enter(name, 3).unwrap() else {
        return;
    };
    let mesh = Mesh::start_apart(network, options("400")).unwrap();
    let setting = json!({ "settings": { "retention.idempotency_key": HISTORY_IS_NEEDED.as_millis() as u64 } });
    admin(&mesh).call("PatchConfig", setting).ok();
    let node = follower(&mesh);
    let elsewhere = mesh.ids().into_iter().find(|other| *other != node).unwrap();
    let attached = [Form::Sse1, Form::Sse2, Form::Sse3, Form::Grpc].map(|form| Watcher::stays(&mesh, node, form));
    let spared = Watcher::stays(&mesh, elsewhere, Form::Grpc);
    operate(&mesh);

    let parted = Parted::from_the_others(mesh, node);
    // The last that is let go of, some of what the node has not heard of among it; and all of it as it was.
    let forgotten = (0..60).map(|_| register(&parted.mesh, &unique("forgotten")).changed_revision);
    let to = forgotten.max().unwrap();
    assert!(to > parted.at + 50);
    let mut history = History::read(&parted.mesh);
    let floor = compacted(&parted.mesh, to);
    assert!(
        floor > parted.at + 1,
        "the floor is {floor}, and the node stands at {}",
        parted.at
    );
    // Logs are cut only now: as soon as they are, a state is read for the node, and one of before still tells what happened.
    assert!(parted.others().iter().all(|node| parted.reaches_back(*node)));
    parted.logs_are_cut_behind(parted.last_of_others());
    operate(&parted.mesh);
    let stood = parted.at;
    let mesh = parted.healed();
    for watcher in &attached {
        let told = wait_until(SOON, "a refusal", || watcher.refusals() == ["compacted"]);
        told.unwrap_or_else(|error| panic!("{error}: {}: {:?}", watcher.name, watcher.refusals()));
    }
    let watchers: Vec<&Watcher> = attached.iter().chain([&spared]).collect();
    all_saw_everything(&mesh, &watchers, &mut history);
    assert!(spared.refusals().is_empty() && spared.streams() == 1);
    the_files_say_that_there_is_a_gap(&mesh, node, stood, floor);
    mesh.stop().unwrap();
}

/// Lets go of history as soon as it may be. Answers the oldest revision that is kept.
fn compacted(mesh: &Mesh, to: u64) -> u64 {
    let sdk = client(mesh, "admin");
    let request = v1::CompactHistoryRequest {
        revision: to,
        reason: "room".into(),
        ..Default::default()
    };
    let compacted = wait_for(HISTORY_IS_NEEDED * 2, "history old enough", || {
        match wait(sdk.compact_history(request.clone())) {
            Ok(answer) => Some(answer.message.oldest_revision),
            Err(error) => {
                assert_eq!(error.code(), "history_in_use", "{error:?}");
                thread::sleep(Duration::from_secs(1));
                None
            }
        }
    });
    compacted.unwrap()
}

/// One line in the place of what the node never heard of; before and after it every record once.
fn the_files_say_that_there_is_a_gap(mesh: &Mesh, node: u64, stood: u64, floor: u64) {
    let head = agreed(mesh).0;
    let number = |line: &Value, name: &str| line[name].as_u64().unwrap();
    let written = |lines: &[Value]| {
        let last = lines.iter().rfind(|line| line["kind"] == "record");
        last.map_or(0, |line| number(line, "revision"))
    };
    let lines = wait_for(SOON, "the files to hold the trail", || {
        Some(lines(&files_of(mesh, node))).filter(|lines| written(lines) >= head)
    });
    let lines = lines.unwrap();
    let gaps: Vec<usize> = (0..lines.len()).filter(|at| lines[*at]["kind"] == "gap").collect();
    let [gap] = gaps.as_slice() else {
        panic!("{} lines about a gap", gaps.len())
    };
    let (before, after) = lines.split_at(*gap);
    // It may have had entries more when its cable was pulled, of which it hears only later that they are committed.
    let (left, next) = (number(&after[0], "afterRevision"), number(&after[0], "nextRevision"));
    assert!(
        stood <= left && left + 1 < floor,
        "it stood at {stood}, left at {left}, and goes on at {floor}"
    );
    assert_eq!(next, floor);
    let revisions = |lines: &[Value]| -> Vec<u64> {
        let records = lines.iter().filter(|line| line["kind"] == "record");
        records.map(|line| number(line, "revision")).collect()
    };
    assert_eq!(revisions(before), (1..=left).collect::<Vec<_>>());
    let kept = revisions(after);
    assert_eq!(kept, (floor..=kept[kept.len() - 1]).collect::<Vec<_>>());
    // The others were there all the time.
    for other in mesh.ids().into_iter().filter(|other| *other != node) {
        let lines = super::trail::lines(&files_of(mesh, other));
        assert!(lines.iter().all(|line| line["kind"] != "gap"), "node {other} has a gap");
    }
}
