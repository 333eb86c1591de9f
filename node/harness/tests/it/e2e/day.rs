//! A day of operations as one run (M1, M2, M6, M11, S3, X1, X3): somebody cordons, drains, cancels a drain, edits metadata and
//! settings and takes that back, with the command line and the SDK, while others write; the leader is killed at each step
//! that is persisted. What was acknowledged is there exactly once, and everybody who watched saw all of it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use api_client::{CallOptions, Client, Method, methods};
use node_harness::{Mesh, Output, wait_for, wait_until};
use proto::v1::{self, AuditRecord, audit_record, operation, peer, watch_audit_message};
use serde_json::Value;

use super::{
    drains::Killer,
    views::{Held, History, lists},
    watchers::{Form, Taken, Watcher, reached},
    watching::Watching,
    world::{SOON, agreed, audit, client, drains_take, finished, register, unique, verify_audit, wait},
};

/// How long a step of a drain lasts: time enough to see it and to kill who leads.
const SETTLE: Duration = Duration::from_millis(1_500);
/// How often a drain is begun, until one is seen at the step that is meant.
const ATTEMPTS: usize = 5;

/// Everybody who watches.
struct Watchers {
    all: Vec<Watcher>,
    records: Watching,
    trail: Watching,
}

impl Watchers {
    /// On every node some, which go on elsewhere or wait for their node where it dies.
    fn start(mesh: &Mesh) -> Self {
        let all = vec![
            Watcher::moves(mesh, 1, Form::Sse1),
            Watcher::moves(mesh, 2, Form::Grpc),
            Watcher::moves(mesh, 3, Form::Sse2),
            Watcher::stays(mesh, 1, Form::Grpc),
            Watcher::stays(mesh, 2, Form::Sse1),
            Watcher::with_snapshot(mesh, 3, Form::Sse3),
        ];
        Self {
            all,
            records: Watching::start(mesh, &["watch", "--snapshot", "-o", "jsonl"]),
            trail: Watching::start(mesh, &["audit", "tail", "--all", "-o", "jsonl"]),
        }
    }

    /// All were told of everything up to a revision.
    fn reach(&self, revision: u64) {
        for watcher in &self.all {
            watcher.reaches(revision);
        }
        self.records.reaches(revision);
        self.trail.reaches(revision);
    }

    /// What each was told is the history, and nothing that might be wrong with it would have gone unseen.
    fn check(mut self, history: &History, trail: &[AuditRecord], upto: u64) {
        let happened = history.at(upto);
        for watcher in &self.all {
            assert_eq!(watcher.check(history, upto), happened, "{}", watcher.name);
            history.finds_plants(&watcher.told(), upto);
        }
        self.records.interrupt();
        let mut taken = Taken::default();
        for document in self.records.documents() {
            taken.take(proto::json::from_slice(document.to_string().as_bytes()).unwrap());
        }
        assert!(reached(&taken.told) >= upto);
        let held = history.check(&taken.told, upto);
        assert_eq!(held.unwrap_or_else(|error| panic!("mesh watch: {error}")), happened);
        history.finds_plants(&taken.told, upto);
        self.trail.interrupt();
        let told = records(&self.trail.documents());
        let told: Vec<_> = told.into_iter().filter(|record| record.revision <= upto).collect();
        let expected: Vec<_> = trail.iter().filter(|record| record.revision <= upto).cloned().collect();
        let differs = told.iter().zip(&expected).find(|(told, record)| told != record);
        assert!(
            differs.is_none() && told.len() == expected.len(),
            "mesh audit tail: {} of {} records; {differs:?}",
            told.len(),
            expected.len()
        );
    }
}

/// The records that `mesh audit tail` has shown.
fn records(documents: &[Value]) -> Vec<AuditRecord> {
    let messages = documents.iter().map(|document| {
        let message: v1::WatchAuditMessage = proto::json::from_slice(document.to_string().as_bytes()).unwrap();
        message.message
    });
    let record = |message| match message {
        Some(watch_audit_message::Message::Record(record)) => Some(record),
        Some(watch_audit_message::Message::Begun(_) | watch_audit_message::Message::Progress(_)) | None => None,
    };
    messages.filter_map(record).collect()
}

/// What was acknowledged: the reason that only this change has, and the revision that the answer named.
#[derive(Default)]
struct Acknowledged(Mutex<BTreeMap<String, u64>>);

impl Acknowledged {
    fn note(&self, reason: &str, revision: u64) {
        let before = self.all().insert(reason.to_owned(), revision);
        assert!(
            before.is_none_or(|before| before == revision),
            "{reason}: {before:?}, then {revision}"
        );
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each is in the trail once as applied, at that revision; what else has its reason is a retry of it.
    fn are_there_once(&self, trail: &[AuditRecord]) {
        let mut found: BTreeMap<&str, Vec<&AuditRecord>> = BTreeMap::new();
        for record in trail {
            found.entry(record.reason.as_str()).or_default().push(record);
        }
        for (reason, revision) in &*self.all() {
            let records = found.get(reason.as_str()).map(Vec::as_slice).unwrap_or_default();
            let is = |record: &AuditRecord, outcome| record.outcome() == outcome;
            let (applied, others): (Vec<&AuditRecord>, Vec<&AuditRecord>) = records
                .iter()
                .copied()
                .partition(|record| is(record, audit_record::Outcome::Applied));
            let applied: Vec<u64> = applied.iter().map(|record| record.revision).collect();
            assert_eq!(applied, [*revision], "{reason}: {records:?}");
            let retries =
                |record: &&AuditRecord| is(record, audit_record::Outcome::Replayed) && record.changes.is_empty();
            assert!(others.iter().all(retries), "{reason}: {others:?}");
        }
    }
}

/// Sends a change under its one key until it is acknowledged. Answers the revision, and whether that was the answer to an
/// earlier attempt.
fn persist<M: Method>(sdk: &Client, change: &M::Request) -> (M::Response, u64, bool) {
    let deadline = Instant::now() + SOON;
    loop {
        match wait(sdk.call::<M>(change.clone(), CallOptions::default())) {
            Ok(answer) => return (answer.message, answer.meta.revision.unwrap(), answer.meta.replayed),
            Err(error) if error.retryable() && Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            Err(error) => panic!("{}: {error:?}", M::PATH),
        }
    }
}

/// One who writes all day: a label at a time, each acknowledged before the next.
fn write_all_day(sdk: &Client, peer: &str, stop: &AtomicBool, acknowledged: &Acknowledged) {
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let reason = format!("{peer}: {n}");
        let change = v1::PatchPeerRequest {
            id: peer.to_owned(),
            labels: [(format!("n-{}", n % 50), n.to_string())].into(),
            reason: reason.clone(),
            idempotency_key: ulid::Ulid::new().to_string(),
            ..Default::default()
        };
        let (patched, ..) = persist::<methods::PatchPeer>(sdk, &change);
        acknowledged.note(&reason, patched.changed_revision);
        thread::sleep(Duration::from_millis(30));
    }
}

/// The operator, and whoever kills leaders behind their back.
struct Day<'m> {
    mesh: &'m mut Mesh,
    killer: Killer,
    sdk: Client,
    acknowledged: &'m Acknowledged,
}

impl Day<'_> {
    /// Runs `mesh` until it is acknowledged, always under one key, while the leader is killed; and once more when all is
    /// over: the answer is the same. Answers it.
    fn mesh_while_the_leader_dies(&mut self, arguments: &[&str]) -> Value {
        let (reason, key) = (unique("of the day"), unique("key"));
        let more = ["--reason", &reason, "--idempotency-key", &key, "--yes", "-o", "json"];
        let arguments: Vec<String> = arguments.iter().chain(&more).map(|word| (*word).to_owned()).collect();
        let (programs, context) = (self.mesh.programs().clone(), self.mesh.context("admin"));
        let run = move || {
            let place = context.parent().unwrap();
            programs.run("mesh", &arguments, &[("MESH_CONTEXT", context.as_os_str())], place)
        };
        let insist = || wait_for(SOON, "an acknowledgement", || acknowledgement(run())).unwrap();
        let before = thread::scope(|scope| {
            let operator = scope.spawn(insist);
            self.killer.kill_leader(self.mesh);
            operator.join().unwrap()
        });
        assert_eq!(insist(), before, "a retry is answered otherwise");
        self.acknowledged
            .note(&reason, before["changedRevision"].as_u64().unwrap());
        before
    }

    /// The same with the SDK.
    fn sdk_while_the_leader_dies<M: Method>(&mut self, change: M::Request, reason: &str) -> M::Response
    where
        M::Request: Sync,
    {
        let sdk = self.sdk.clone();
        let (answer, revision, _) = thread::scope(|scope| {
            let operator = scope.spawn(|| persist::<M>(&sdk, &change));
            self.killer.kill_leader(self.mesh);
            operator.join().unwrap()
        });
        let (_, again, replayed) = persist::<M>(&self.sdk, &change);
        assert!(
            replayed && again >= revision,
            "{reason}: {revision}, then {again}, replayed: {replayed}"
        );
        answer
    }

    /// Drains a peer of its own with the leader killed when the operation is at a version; begins anew until it was still at
    /// it. Answers the operation and when the leader was dead.
    fn drain_and_kill_at(&mut self, version: u64) -> (String, SystemTime) {
        for _ in 0..ATTEMPTS {
            self.killer.all_are_back(self.mesh);
            let operation = self.drain(&unique("drained"));
            if self.seen_at(&operation, version) {
                self.killer.kill_leader(self.mesh);
                return (operation, self.killer.killed_at);
            }
            finished(self.mesh, &operation);
        }
        panic!("no drain was seen at version {version}");
    }

    /// Registers a peer and begins to drain it. Answers the operation.
    fn drain(&self, id: &str) -> String {
        register(self.mesh, id);
        let reason = unique("of the day");
        let change = v1::DrainPeerRequest {
            id: id.to_owned(),
            reason: reason.clone(),
            idempotency_key: unique("key"),
            ..Default::default()
        };
        let (draining, ..) = persist::<methods::DrainPeer>(&self.sdk, &change);
        self.acknowledged.note(&reason, draining.changed_revision);
        draining.operation
    }

    /// Waits for a version of an operation; false where it is past it already.
    fn seen_at(&self, operation: &str, version: u64) -> bool {
        let mut seen = 0;
        let there = wait_until(SOON, "a version of an operation", || {
            if let Ok(answer) = wait(self.sdk.wait_operation(operation, seen, Duration::from_secs(5))) {
                seen = answer.message.version;
            }
            seen >= version
        });
        there.unwrap();
        seen == version
    }

    fn peer(&self, id: &str) -> v1::Peer {
        wait(self.sdk.get_peer(v1::GetPeerRequest { id: id.to_owned() }))
            .unwrap()
            .message
    }

    fn cordons(&mut self, id: &str) {
        register(self.mesh, id);
        self.mesh_while_the_leader_dies(&["peers", "cordon", id]);
        assert_eq!(self.peer(id).status(), peer::Status::Cordoned);
    }

    /// The leader dies when the drain was begun, when all was moved off, and when it was done; the next one goes on.
    fn drains(&mut self) -> Vec<(String, u64, SystemTime)> {
        let mut drained = Vec::new();
        for version in 1..=3 {
            let (operation, dead) = self.drain_and_kill_at(version);
            let ended = finished(self.mesh, &operation);
            assert_eq!(
                (ended.state(), ended.version),
                (operation::State::Succeeded, 3),
                "{ended:?}"
            );
            drained.push((operation, version, dead));
        }
        drained
    }

    /// The leader dies when the drain was begun, and when it was cancelled.
    fn cancels_a_drain(&mut self) -> String {
        let (operation, _) = self.drain_and_kill_at(1);
        let answer = self.mesh_while_the_leader_dies(&["operations", "cancel", &operation]);
        assert_eq!(answer["state"], "CANCELLED");
        let ended = finished(self.mesh, &operation);
        assert_eq!(ended.state(), operation::State::Cancelled);
        let returned = self.peer(ended.target.strip_prefix("peer/").unwrap());
        assert_eq!(
            (returned.status(), returned.operation.as_str()),
            (peer::Status::Active, "")
        );
        operation
    }

    /// By the command line, and by the SDK on top of that.
    fn edits_metadata(&mut self, id: &str) {
        self.mesh_while_the_leader_dies(&["peers", "label", id, "tier=test", "--metadata", "rack=r7"]);
        let (labelled, reason) = (self.peer(id), unique("of the day"));
        let change = v1::PatchPeerRequest {
            id: id.to_owned(),
            metadata: [("rack".to_owned(), "r8".to_owned())].into(),
            if_match: labelled.etag.clone(),
            reason: reason.clone(),
            idempotency_key: unique("key"),
            ..Default::default()
        };
        let patched = self.sdk_while_the_leader_dies::<methods::PatchPeer>(change, &reason);
        self.acknowledged.note(&reason, patched.changed_revision);
        assert_eq!(
            (patched.version, patched.metadata["rack"].as_str()),
            (labelled.version + 1, "r8")
        );
    }

    fn edits_settings_and_goes_back(&mut self) {
        let read = || wait(self.sdk.get_config(v1::GetConfigRequest {})).unwrap().message;
        let before = read();
        let values = |config: &v1::Config| config.items.iter().map(|item| item.value).collect::<Vec<_>>();
        self.mesh_while_the_leader_dies(&["config", "set", "limits.clusters=17"]);
        let read = || wait(self.sdk.get_config(v1::GetConfigRequest {})).unwrap().message;
        assert_ne!(values(&read()), values(&before));
        let to = before.changed_revision.to_string();
        self.mesh_while_the_leader_dies(&["config", "rollback", &to]);
        let after = wait(self.sdk.get_config(v1::GetConfigRequest {})).unwrap().message;
        assert_eq!(
            (values(&after), after.version, after.rollback_of),
            (values(&before), before.version + 2, before.changed_revision)
        );
    }
}

/// The answer, where there is one; none where it is to be asked again.
fn acknowledgement(output: Output) -> Option<Value> {
    match output.code {
        Some(0) => Some(output.json().unwrap()),
        // No leader, or none in time.
        Some(3 | 7) => None,
        _ => panic!("{output:?}"),
    }
}

#[test]
fn a_day_of_operations_is_seen_whole_while_leaders_die() {
    let mut mesh = Mesh::start(drains_take(SETTLE)).unwrap();
    let watchers = Watchers::start(&mesh);
    let (acknowledged, stop) = (Acknowledged::default(), AtomicBool::new(false));
    let writer = (client(&mesh, "operate"), unique("busy"));
    register(&mesh, &writer.1);
    let (drained, cancelled) = thread::scope(|scope| {
        let (acknowledged, stop) = (&acknowledged, &stop);
        scope.spawn(|| write_all_day(&writer.0, &writer.1, stop, acknowledged));
        // Whatever fails, the writer ends.
        let _ends = Ends(stop);
        let sdk = client(&mesh, "admin");
        let mut day = Day {
            mesh: &mut mesh,
            killer: Killer::default(),
            sdk,
            acknowledged,
        };
        let id = unique("cordoned");
        day.cordons(&id);
        let drained = day.drains();
        let cancelled = day.cancels_a_drain();
        day.edits_metadata(&id);
        day.edits_settings_and_goes_back();
        day.killer.all_are_back(day.mesh);
        assert!(day.killer.kills >= 10, "{} kills", day.killer.kills);
        (drained, cancelled)
    });
    let last = register(&mesh, &unique("last")).changed_revision;
    let shown = lists(&mesh);
    let upto = shown
        .iter()
        .map(|(_, revision, _)| *revision)
        .max()
        .unwrap_or(last)
        .max(last);
    watchers.reach(upto);
    let (trail, history) = (audit(&mesh), History::read(&mesh));
    acknowledged.are_there_once(&trail);
    for (operation, version, dead) in &drained {
        the_next_leader_went_on(&trail, operation, *version, *dead);
    }
    cancelled_once(&trail, &cancelled);
    for (kind, revision, items) in shown {
        let of_kind: Held = history
            .at(revision)
            .into_iter()
            .filter(|((of, _), _)| of == kind)
            .collect();
        assert_eq!(items, of_kind, "the list of {kind} at {revision}");
    }
    eprintln!(
        "{} changes were acknowledged up to revision {upto}",
        acknowledged.all().len()
    );
    watchers.check(&history, &trail, upto);
    agreed(&mesh);
    verify_audit(&mesh);
    mesh.stop().unwrap();
}

/// Ends the writer when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Each step after the first was persisted once: up to the version at which the leader died by that leader, and after that
/// by one that came later.
fn the_next_leader_went_on(trail: &[AuditRecord], operation: &str, version: u64, dead: SystemTime) {
    let target = format!("operation/{operation}");
    let advances: Vec<_> = trail
        .iter()
        .filter(|record| record.action == "operations.advance" && record.target == target)
        .filter(|record| record.outcome() == audit_record::Outcome::Applied && !record.changes.is_empty())
        .collect();
    assert_eq!(advances.len(), 2, "{advances:?}");
    for (step, advance) in (2..).zip(advances) {
        let proposed = SystemTime::try_from(advance.proposed_at.unwrap()).unwrap();
        assert_eq!(
            step > version,
            proposed > dead,
            "killed at version {version}: {advance:?}"
        );
    }
}

/// One command ended the drain, with the peer back in the same revision.
fn cancelled_once(trail: &[AuditRecord], operation: &str) {
    let target = format!("operation/{operation}");
    let cancels: Vec<_> = trail
        .iter()
        .filter(|record| record.action == "operations.cancel" && record.target == target)
        .filter(|record| record.outcome() == audit_record::Outcome::Applied)
        .collect();
    let [cancel] = cancels.as_slice() else {
        panic!("{cancels:?}")
    };
    let mut kinds: Vec<&str> = cancel.changes.iter().map(|change| change.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["operation", "peer"]);
}
