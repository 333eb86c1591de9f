//! What a watcher was told, held against the history (X3): no gap, no repeat, no turn, no torn revision, whatever became of
//! the streams that told it; and what it holds in the end is what lists show.
//!
//! The checker is itself checked: [`History::finds_plants`] puts bugs into what a watcher was told, each of which has to be
//! found.

use std::collections::BTreeMap;

use node_harness::Mesh;
use proto::v1::{self, AuditRecord, watch_message};

use super::world::{audit, client, wait};

/// A record of the contract.
pub type Record = v1::audit_record::Record;
/// Kind and id of a record.
pub type Key = (String, String);
/// Records, as somebody holds them.
pub type Held = BTreeMap<Key, Record>;

/// What became of one record.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub key: Key,
    pub before: Option<Record>,
    pub after: Option<Record>,
}

/// Everything of one revision that is about records of the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    pub revision: u64,
    pub timeline: String,
    pub action: String,
    pub target: String,
    pub actor: String,
    pub reason: String,
    pub ticket: String,
    pub request_id: String,
    pub mesh_time_ms: u64,
    pub changes: Vec<Change>,
}

impl Unit {
    /// As the audit trail has it; none where no record of the contract was changed.
    fn of_audit(record: &AuditRecord) -> Option<Self> {
        let changes = record
            .changes
            .iter()
            .filter(|change| change.before.is_some() || change.after.is_some());
        let changes = changes.map(|change| Change {
            key: (change.kind.clone(), change.id.clone()),
            before: change.before.clone(),
            after: change.after.clone(),
        });
        let changes: Vec<_> = changes.collect();
        (!changes.is_empty()).then(|| Self {
            revision: record.revision,
            timeline: record.timeline.clone(),
            action: record.action.clone(),
            target: record.target.clone(),
            actor: record.actor.clone(),
            reason: record.reason.clone(),
            ticket: record.ticket.clone(),
            request_id: record.request_id.clone(),
            mesh_time_ms: record.mesh_time_ms,
            changes,
        })
    }

    /// As a watch of everything tells it.
    pub fn of_watch(revision: u64, unit: &watch_message::Unit) -> Self {
        let changes = unit.changes.iter().map(|change| Change {
            key: (change.kind.clone(), change.id.clone()),
            before: change.before.clone(),
            after: change.after.clone(),
        });
        Self {
            revision,
            timeline: unit.timeline.clone(),
            action: unit.action.clone(),
            target: unit.target.clone(),
            actor: unit.actor.clone(),
            reason: unit.reason.clone(),
            ticket: unit.ticket.clone(),
            request_id: unit.request_id.clone(),
            mesh_time_ms: unit.mesh_time_ms,
            changes: changes.collect(),
        }
    }
}

/// What a watcher was told, in the order in which it was.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// A stream was opened, which goes on behind this revision.
    Begun(u64),
    /// What there was at a revision, whole.
    Snapshot(u64, Vec<Record>),
    Unit(Unit),
    /// Everything up to here was told.
    Progress(u64),
    /// A stream was refused or ended with this code.
    Refused(String),
}

/// Refusals after which a watcher begins anew with a snapshot, since what comes next cannot be told.
const BEGIN_ANEW: [&str; 2] = ["compacted", "diverged"];

/// The history of a mesh from its first revision on, as far as records of the contract go.
#[derive(Debug, Clone, Default)]
pub struct History {
    units: BTreeMap<u64, Unit>,
    /// The last revision that it knows of, also where that changed no record.
    head: u64,
}

impl History {
    /// As the audit trail tells it now.
    pub fn read(mesh: &Mesh) -> Self {
        let mut history = Self::default();
        history.extend(mesh);
        history
    }

    /// Adds what happened since, where not all of the history is kept any more.
    pub fn extend(&mut self, mesh: &Mesh) {
        for record in audit(mesh) {
            assert!(
                record.revision <= self.head + 1,
                "the trail does not go on after {}",
                self.head
            );
            if record.revision > self.head {
                self.head = record.revision;
                self.units
                    .extend(Unit::of_audit(&record).map(|unit| (unit.revision, unit)));
            }
        }
    }

    /// All units after a revision.
    fn after(&self, revision: u64) -> impl Iterator<Item = &Unit> {
        self.units.range(revision + 1..).map(|(_, unit)| unit)
    }

    /// Whether anything was changed after a revision and up to another.
    fn changes(&self, after: u64, upto: u64) -> bool {
        self.units.range(after + 1..=upto).next().is_some()
    }

    /// What there was at a revision.
    pub fn at(&self, revision: u64) -> Held {
        let mut held = Held::new();
        for (_, unit) in self.units.range(..=revision) {
            apply(&mut held, unit).unwrap_or_else(|error| panic!("the history contradicts itself: {error}"));
        }
        held
    }

    /// Holds what a watcher was told against the history up to a revision. Answers what it holds then.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, told: &[Told], upto: u64) -> Result<Held, String> {
        self.until(upto).whole(until(told, upto))
    }

    /// Every bug that can be planted in what this watcher was told has to be found.
    pub fn finds_plants(&self, told: &[Told], upto: u64) {
        let history = self.until(upto);
        for (words, planted) in plants(until(told, upto)) {
            let found = history.whole(&planted).expect_err(words);
            assert!(words.split('|').any(|word| found.contains(word)), "{words}: {found}");
        }
    }

    fn until(&self, upto: u64) -> Self {
        Self {
            units: self
                .units
                .range(..=upto)
                .map(|(at, unit)| (*at, unit.clone()))
                .collect(),
            head: self.head.min(upto),
        }
    }

    /// Whether a watcher was told all of it, from where it began.
    fn whole(&self, told: &[Told]) -> Result<Held, String> {
        let mut reader = Reader {
            history: self,
            at: None,
            refused: false,
            held: Held::new(),
        };
        for message in told {
            reader.take(message)?;
        }
        let at = reader.at.ok_or("nothing was told")?;
        match self.after(at).next() {
            Some(unit) => Err(format!("revision {} was never told", unit.revision)),
            None => Ok(reader.held),
        }
    }
}

/// What was told before anything of a later revision was.
fn until(told: &[Told], upto: u64) -> &[Told] {
    let beyond = |message: &Told| match message {
        Told::Unit(unit) => unit.revision > upto,
        Told::Begun(revision) | Told::Snapshot(revision, _) | Told::Progress(revision) => *revision > upto,
        Told::Refused(_) => false,
    };
    &told[..told.iter().position(beyond).unwrap_or(told.len())]
}

/// Puts what happened at a revision to what somebody holds.
fn apply(held: &mut Held, unit: &Unit) -> Result<(), String> {
    for change in &unit.changes {
        let before = match &change.after {
            Some(after) => held.insert(change.key.clone(), after.clone()),
            None => held.remove(&change.key),
        };
        if before != change.before {
            return Err(format!(
                "revision {} changes {:?} from {:?}, and it was {before:?}",
                unit.revision, change.key, change.before
            ));
        }
    }
    Ok(())
}

/// Goes through what a watcher was told.
struct Reader<'h> {
    history: &'h History,
    /// Everything up to here was told; none before it began, and where it has to begin anew.
    at: Option<u64>,
    /// Whether the last stream ended with a refusal, whose token may be ahead of the last message: nothing was to be told
    /// in between.
    refused: bool,
    held: Held,
}

impl Reader<'_> {
    fn take(&mut self, message: &Told) -> Result<(), String> {
        let refused = std::mem::replace(&mut self.refused, matches!(message, Told::Refused(_)));
        match message {
            Told::Begun(revision) => match self.at {
                None => {
                    self.at = Some(*revision);
                    self.held = self.history.at(*revision);
                    Ok(())
                }
                Some(at) if at == *revision => Ok(()),
                Some(at) if refused && at < *revision && !self.history.changes(at, *revision) => {
                    self.at = Some(*revision);
                    Ok(())
                }
                Some(at) => Err(format!("told up to {at}, it goes on behind {revision}")),
            },
            Told::Snapshot(revision, records) => self.snapshot(*revision, records),
            Told::Unit(unit) => self.unit(unit),
            Told::Progress(revision) => self.progress(*revision),
            Told::Refused(code) => {
                if BEGIN_ANEW.contains(&code.as_str()) {
                    self.at = None;
                }
                Ok(())
            }
        }
    }

    fn begun(&self, what: &str) -> Result<u64, String> {
        self.at.ok_or_else(|| format!("{what} before a watch has begun"))
    }

    fn snapshot(&mut self, revision: u64, records: &[Record]) -> Result<(), String> {
        if self.begun("a snapshot")? != revision {
            return Err(format!("a snapshot of {revision}, where the watch begins elsewhere"));
        }
        let mut shown = Held::new();
        for record in records {
            if shown.insert(key(record), record.clone()).is_some() {
                return Err(format!("the snapshot has {:?} twice", key(record)));
            }
        }
        if shown != self.held {
            let differs = |key: &&Key| shown.get(*key) != self.held.get(*key);
            let wrong: Vec<_> = shown.keys().chain(self.held.keys()).filter(differs).take(5).collect();
            return Err(format!("the snapshot of {revision} is wrong in {wrong:?}"));
        }
        Ok(())
    }

    fn unit(&mut self, unit: &Unit) -> Result<(), String> {
        let at = self.begun("a revision")?;
        let revision = unit.revision;
        if revision <= at {
            return Err(format!("revision {revision} after {at}"));
        }
        match self.history.after(at).next() {
            Some(next) if next.revision < revision => {
                return Err(format!("revision {} is missing before {revision}", next.revision));
            }
            Some(next) if next == unit => {}
            Some(next) if next.revision == revision && next.changes.len() > unit.changes.len() => {
                return Err(format!("revision {revision} is torn: {unit:?} of {next:?}"));
            }
            Some(next) if next.revision == revision => {
                return Err(format!(
                    "revision {revision} is not what happened: {unit:?}, not {next:?}"
                ));
            }
            Some(_) | None => return Err(format!("revision {revision} never happened")),
        }
        self.at = Some(revision);
        apply(&mut self.held, unit)
    }

    fn progress(&mut self, revision: u64) -> Result<(), String> {
        let at = self.begun("progress")?;
        if revision < at {
            return Err(format!("progress to {revision} after {at}"));
        }
        match self.history.after(at).next() {
            Some(next) if next.revision <= revision => {
                Err(format!("progress to {revision} overtook revision {}", next.revision))
            }
            Some(_) | None => {
                self.at = Some(revision);
                Ok(())
            }
        }
    }
}

fn key(record: &Record) -> Key {
    use v1::audit_record::record::Record;
    let (kind, id) = match record.record.as_ref().expect("a record of a known kind") {
        Record::Peer(peer) => ("peer", peer.id.as_str()),
        Record::Operation(operation) => ("operation", operation.id.as_str()),
        Record::Cluster(cluster) => ("cluster", cluster.id.as_str()),
        Record::Config(_) => ("config", CONFIG),
        Record::Approval(approval) => ("approval", approval.id.as_str()),
        Record::Namespace(namespace) => ("namespace", namespace.id.as_str()),
        Record::Shard(shard) => return ("shard".to_owned(), format!("{}/{}", shard.namespace, shard.shard)),
    };
    (kind.to_owned(), id.to_owned())
}

/// The id of the one record that holds the settings.
const CONFIG: &str = "mesh";

/// Every list of the mesh, each with the revision that it shows, and which kind it is of.
pub fn lists(mesh: &Mesh) -> Vec<(&'static str, u64, Held)> {
    use v1::audit_record::record::Record;
    let sdk = client(mesh, "read");
    let held = |records: Vec<Record>| {
        let records = records
            .into_iter()
            .map(|record| v1::audit_record::Record { record: Some(record) });
        records.map(|record| (key(&record), record)).collect::<Held>()
    };
    macro_rules! list {
        ($kind:literal, $list:ident, $request:ident, $record:path) => {{
            let (mut records, mut request) = (
                Vec::new(),
                v1::$request {
                    limit: 1_000,
                    ..Default::default()
                },
            );
            let revision = loop {
                let page = wait(sdk.$list(request.clone())).unwrap().message;
                records.extend(page.items.into_iter().map($record));
                request.cursor = page.next_cursor;
                if request.cursor.is_empty() {
                    break page.revision;
                }
            };
            ($kind, revision, held(records))
        }};
    }
    let settings = wait(sdk.get_config(v1::GetConfigRequest {})).unwrap();
    let at = settings.meta.revision.expect("mesh-revision");
    vec![
        ("config", at, held(vec![Record::Config(settings.message)])),
        list!("peer", list_peers, ListPeersRequest, Record::Peer),
        list!("operation", list_operations, ListOperationsRequest, Record::Operation),
        list!("cluster", list_clusters, ListClustersRequest, Record::Cluster),
        list!("approval", list_approvals, ListApprovalsRequest, Record::Approval),
    ]
}

/// A bug of a kind, put into what a watcher was told, and a word of what the checker has to say of it.
fn plants(told: &[Told]) -> Vec<(&'static str, Vec<Told>)> {
    let units: Vec<usize> = (0..told.len())
        .filter(|at| matches!(told[*at], Told::Unit(_)))
        .collect();
    let torn = units.iter().copied().find(|at| match &told[*at] {
        Told::Unit(unit) => unit.changes.len() > 1,
        _ => false,
    });
    let (middle, torn) = (
        units[units.len() / 2],
        torn.expect("a revision that changes several records"),
    );
    let (after, last) = (units[units.len() / 2 + 1], *units.last().unwrap());
    let revision = |at: usize| match &told[at] {
        Told::Unit(unit) => unit.revision,
        other => panic!("{other:?} is no unit"),
    };
    let with = |edit: &dyn Fn(&mut Vec<Told>)| {
        let mut planted = told.to_vec();
        edit(&mut planted);
        planted
    };
    let change = |at: usize, edit: &dyn Fn(&mut Unit)| {
        with(&|told| {
            if let Told::Unit(unit) = &mut told[at] {
                edit(unit);
            }
        })
    };
    let skipped = revision(after);
    let again = match &told[last] {
        Told::Unit(unit) => Told::Unit(Unit {
            revision: unit.revision + 1_000_000,
            ..unit.clone()
        }),
        other => other.clone(),
    };
    // What comes next gives it away: another revision, progress, or a stream that goes on elsewhere.
    let gap = "is missing before|overtook|goes on behind";
    vec![
        (gap, with(&|told| drop(told.remove(middle)))),
        ("was never told", with(&|told| told.truncate(last))),
        (" after ", with(&|told| told.insert(middle + 1, told[middle].clone()))),
        (gap, with(&|told| told.swap(middle, after))),
        ("is torn", change(torn, &|unit| drop(unit.changes.pop()))),
        ("is not what happened", change(middle, &|unit| unit.actor.push('x'))),
        (
            "is not what happened",
            change(middle, &|unit| unit.changes[0].before = unit.changes[0].after.clone()),
        ),
        ("is not what happened", change(torn, &|unit| unit.changes.swap(0, 1))),
        ("never happened", with(&|told| told.push(again.clone()))),
        ("overtook", with(&|told| told.insert(middle, Told::Progress(skipped)))),
        (
            "goes on behind",
            with(&|told| told.insert(middle, Told::Begun(skipped))),
        ),
    ]
}

#[test]
fn the_checker_sees_what_can_be_wrong() {
    let mut history = History::default();
    let mut held = Held::new();
    for (revision, ids) in [
        (2, vec!["a"]),
        (3, vec!["b", "c"]),
        (5, vec!["a"]),
        (7, vec!["a", "b"]),
        (8, vec!["d"]),
    ] {
        let changes = ids.into_iter().map(|id| {
            let key = ("peer".to_owned(), id.to_owned());
            let before = held.get(&key).cloned();
            // Deleted where it was there before, but for `a` of revision 5.
            let after = (revision == 5 || before.is_none()).then(|| peer(id, revision));
            match &after {
                Some(after) => held.insert(key.clone(), after.clone()),
                None => held.remove(&key),
            };
            Change { key, before, after }
        });
        let unit = Unit {
            revision,
            timeline: "7".into(),
            action: "peers.patch".into(),
            target: String::new(),
            actor: "alice".into(),
            reason: String::new(),
            ticket: String::new(),
            request_id: revision.to_string(),
            mesh_time_ms: revision * 10,
            changes: changes.collect(),
        };
        history.units.insert(revision, unit);
        history.head = revision;
    }
    let unit = |revision: u64| Told::Unit(history.units[&revision].clone());
    let records = |revision| history.at(revision).into_values().collect::<Vec<_>>();
    let good = vec![
        Told::Begun(1),
        unit(2),
        unit(3),
        Told::Progress(4),
        Told::Begun(4),
        Told::Progress(4),
        unit(5),
        Told::Refused("unavailable".into()),
        Told::Begun(5),
        unit(7),
        unit(8),
    ];
    let end = history.check(&good, 8).unwrap();
    assert_eq!((&end, end.len()), (&held, 2));
    assert_eq!(history.check(&good[..9], 6).unwrap(), history.at(6));
    // What was told on is not looked at.
    assert_eq!(history.check(&good, 5).unwrap(), history.at(5));
    history.finds_plants(&good, 8);

    // Begun anew with a snapshot, after a refusal that says that it has to be, and not without.
    let anew = |before: Told, snapshot: Vec<Record>| {
        let told = [
            &good[..2],
            &[before, Told::Begun(7), Told::Snapshot(7, snapshot), unit(8)],
        ]
        .concat();
        history.check(&told, 8)
    };
    let compacted = || Told::Refused("compacted".into());
    anew(compacted(), records(7)).unwrap();
    let found = |told: Result<Held, String>, why: &str| {
        let found = told.expect_err(why);
        assert!(found.contains(why), "{why}: {found}");
    };
    found(anew(Told::Refused("future".into()), records(7)), "goes on behind 7");
    // The token of a refusal may be of a later revision, as long as nothing happened up to there.
    let ahead = |at| {
        [
            &good[..3],
            &[Told::Refused("unavailable".into()), Told::Begun(at)],
            &good[6..],
        ]
        .concat()
    };
    history.check(&ahead(4), 8).unwrap();
    found(history.check(&ahead(5), 8), "goes on behind 5");
    found(anew(compacted(), records(5)), "is wrong in");
    found(anew(compacted(), Vec::new()), "is wrong in");
    found(anew(compacted(), [records(7), records(7)].concat()), "twice");
    found(history.check(&[], 8), "nothing was told");
    found(history.check(&good[1..], 8), "before a watch has begun");
    found(
        history.check(&[&good[..3], &[Told::Progress(1)]].concat(), 8),
        "progress to 1 after 3",
    );
}

/// A peer that differs from revision to revision.
#[cfg(test)]
fn peer(id: &str, revision: u64) -> Record {
    let peer = v1::Peer {
        id: id.into(),
        changed_revision: revision,
        ..Default::default()
    };
    Record {
        record: Some(v1::audit_record::record::Record::Peer(peer)),
    }
}
