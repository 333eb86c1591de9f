//! Many operators at once: what they change, ask for and approve is carried out once each, is in the audit trail, and is
//! seen by everybody who watches; and the rate at which they do it, beside the rate of plain changes alone.
//!
//! One run has phases. In *plain* ones, operators with a token each change peers that they share: with ETags and
//! without, some twice with one idempotency key. In *full* ones the same operators do the same, and ask for mass drains
//! and edits of clusters and settings that others of them have to approve, while every node is watched in every form.
//! Plain and full phases alternate, so that whatever else the machine does hits both. Last comes a full phase in which the
//! leader is killed. Then the [`journal`] of what operators were told is held against the trail ([`book`]), and
//! both against what the watchers saw ([`check`]).

mod asks;
pub mod book;
pub mod check;
mod drains;
pub mod journal;
mod people;
mod phase;
mod sse;
mod stage;
mod tracker;
pub mod watchers;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use api_client::Client;
use node_harness::Mesh;
use proto::v1::{
    AuditRecord, GetConfigRequest, ListApprovalsRequest, ListClustersRequest, ListOperationsRequest, ListPeersRequest,
};

use crate::{Error, Result, cluster::Cluster, error::Doing as _};

pub use check::{Evidence, check};
pub use phase::Phase;
use stage::Stage;

/// How long the nodes may take to agree in the end.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// How many mass drains run at once.
const MASS_DRAINS: usize = 2;

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Operators, each with a token and a client.
    pub operators: usize,
    /// Peers that they share.
    pub peers: usize,
    /// Cluster records that the peers are spread over.
    pub clusters: usize,
    /// How long a phase is.
    pub length: Duration,
    /// Pairs of a plain and a full phase.
    pub rounds: usize,
    /// Whether each node is watched in each form in the counted phases, too, as it is while the leader is killed. Otherwise
    /// everything is watched as messages at one, as events at another, and the trail at the third.
    pub at_each: bool,
    /// Whether there is a last, full phase in which the leader is killed.
    pub kill: bool,
    /// Decides what operators choose. Runs are not repeatable: the machine's timing is part of them.
    pub seed: u64,
    /// Settings of the nodes.
    pub environment: Vec<(String, String)>,
}

/// What came of it.
pub struct Verdict {
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// What is known.
    pub evidence: Evidence,
    /// What is wrong, one entry each. Empty where all is well.
    pub violations: Vec<String>,
    /// What the run should have done and did not. Empty where it counts.
    pub missing: Vec<String>,
    /// The records of the trail, where the plan asked to keep them.
    pub trail: Vec<AuditRecord>,
}

impl Verdict {
    /// Whether the run counts and found nothing wrong.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missing.is_empty()
    }

    /// The rate of each full phase, as a share of the rate of the plain one right before it.
    pub fn ratios(&self) -> Vec<f64> {
        let pairs = self.phases.windows(2).filter_map(|two| match two {
            [plain, full] if plain.name == phase::PLAIN && full.name == phase::FULL => Some(full.rate() / plain.rate()),
            _ => None,
        });
        pairs.collect()
    }

    /// The median of [`Verdict::ratios`]: a phase in which the machine did something else counts no more than others.
    pub fn ratio(&self) -> Option<f64> {
        median(self.ratios())
    }

    /// Processor time for a change in plain phases, of nodes, operators and watchers together, as a share of that in full
    /// ones: the ratio of the rates where processors are all there is to wait for, and nobody else uses them. Medians.
    pub fn cpu_ratio(&self) -> Option<f64> {
        let of = |name: &str| {
            let phases = self.phases.iter().filter(|phase| phase.name == name);
            let each = phases.map(|phase| {
                let (nodes, own) = phase.cpu_us();
                nodes + own
            });
            median(each.collect())
        };
        Some(of(phase::PLAIN)? / of(phase::FULL)?)
    }

    /// The verdict in words.
    pub fn told(&self) -> String {
        let mut text = String::from(
            "| phase | s | acknowledged/s | all revisions/s | CPU us each: nodes | operators and watchers |\n|---|---|---|---|---|---|\n",
        );
        for phase in &self.phases {
            let (seconds, name) = (phase.counted.as_secs_f64(), phase.name);
            let all = phase.revisions as f64 / seconds.max(f64::EPSILON);
            let (rate, (nodes, own)) = (phase.rate(), phase.cpu_us());
            let _ = writeln!(
                text,
                "| {name} | {seconds:.1} | {rate:.0} | {all:.0} | {nodes:.0} | {own:.0} |"
            );
        }
        if let (Some(ratio), Some(cpu)) = (self.ratio(), self.cpu_ratio()) {
            let each: Vec<_> = self.ratios().iter().map(|ratio| format!("{ratio:.2}")).collect();
            let each = each.join(", ");
            let _ = writeln!(
                text,
                "\nfull beside plain: {ratio:.2} ({each}); by processor time {cpu:.2}\n"
            );
        }
        for (what, times) in counts(&self.evidence) {
            let _ = writeln!(text, "{what:<44} {times:>8}");
        }
        for missing in &self.missing {
            let _ = writeln!(text, "MISSING     {missing}");
        }
        for violation in self.violations.iter().take(30) {
            let _ = writeln!(text, "VIOLATION   {violation}");
        }
        let word = if self.is_good() { "good" } else { "BAD" };
        let _ = writeln!(text, "{} violations: {word}", self.violations.len());
        text
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (
        values.get(values.len().checked_sub(1)? / 2)?,
        values.get(values.len() / 2)?,
    );
    Some((low + high) / 2.0)
}

/// What happened, counted.
fn counts(evidence: &Evidence) -> BTreeMap<String, usize> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &evidence.journal {
        let what = match &entry.end {
            journal::End::Done { replayed: true, .. }
            | journal::End::Staged { replayed: true, .. }
            | journal::End::Rejected { replayed: true, .. } => "answered again from the first attempt".to_owned(),
            journal::End::Done { .. } => format!("done: {}", entry.action),
            journal::End::Staged { .. } => format!("waits: {}", entry.action),
            journal::End::Rejected { code, .. } => format!("rejected: {code}"),
            journal::End::Refused => "refused: scope_missing".to_owned(),
            journal::End::Failed { code } => format!("not carried out: {code}"),
            journal::End::Unknown { code } => format!("unknown: {code}"),
        };
        *counts.entry(what).or_default() += 1;
    }
    for states in evidence.book.approvals.values() {
        if let Some((_, status)) = states.last() {
            *counts.entry(format!("requests for approval: {status:?}")).or_default() += 1;
        }
    }
    let (masses, peers) = evidence.book.drains.succeeded();
    counts.insert("mass drains that succeeded".to_owned(), masses);
    counts.insert("peers drained by them".to_owned(), peers);
    for watched in &evidence.watched {
        *counts.entry(format!("told: {}", watched.name)).or_default() += watched.told.len();
        *counts.entry("streams that were taken up again".to_owned()).or_default() +=
            usize::try_from(watched.interrupted).unwrap_or(usize::MAX);
    }
    counts.insert("audit records".to_owned(), evidence.book.trail.len());
    counts
}

/// Starts a mesh, lets the operators work, and judges. `keep`: whether the verdict is to hold the trail's records.
///
/// # Errors
/// Where the run could not be done. What it found wrong is in the verdict.
pub fn run(plan: &Plan, keep: bool, say: impl Fn(&str)) -> Result<Verdict> {
    let mut mesh = Mesh::start(node_harness::Options {
        nodes: 3,
        environment: plan.environment.clone(),
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let cluster = Cluster::of(&mesh)?;
    let people = {
        let _within = runtime.enter();
        people::People::invite(&mesh, plan.operators)?
    };
    let root = people.root.client.clone();
    let stage = runtime.block_on(Stage::set(&root, plan.peers, plan.clusters, MASS_DRAINS))?;
    let mut work = phase::Work::new(Arc::new(stage), people, plan.seed);
    let (mut phases, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        say("plain changes");
        phases.push(runtime.block_on(work.plain(&mesh, plan.length))?);
        say("everything");
        let (phase, told) = runtime.block_on(work.full(&mesh, &cluster, plan.at_each, plan.length))?;
        phases.push(phase);
        watched.extend(told);
    }
    if plan.kill {
        say("everything, and the leader is killed");
        let (phase, told) = work.killed(&mut mesh, &cluster, &runtime, plan.length)?;
        phases.push(phase);
        watched.extend(told);
    }
    say("reading the trail");
    let mut trail = Vec::new();
    let evidence = runtime.block_on(gather(
        &root,
        &cluster,
        work.into_journal(),
        watched,
        plan.kill,
        |record| {
            if keep {
                trail.push(record);
            }
        },
    ))?;
    let mut violations = check(&evidence);
    for node in mesh.ids() {
        let verified = mesh.mesh_at(node, ["audit", "verify"])?;
        if !verified.success() {
            violations.push(format!(
                "`mesh audit verify` at node {node}: {}{}",
                verified.stdout, verified.stderr
            ));
        }
    }
    violations.extend(runtime.block_on(same_digests(&cluster, &root))?);
    let missing = missing(plan, &evidence);
    Ok(Verdict {
        phases,
        evidence,
        violations,
        missing,
        trail,
    })
}

/// Everything that is there in the end.
async fn gather(
    root: &Client,
    cluster: &Cluster,
    journal: Vec<journal::Entry>,
    watched: Vec<watchers::Watched>,
    killed: bool,
    mut keep: impl FnMut(AuditRecord),
) -> Result<Evidence> {
    cluster.wait_settled(root, SETTLE_WITHIN).await?;
    let left = left(root).await?;
    let mut book = book::Book::default();
    book::read(root, |record| {
        book.take(&record);
        keep(record);
    })
    .await?;
    Ok(Evidence {
        journal,
        book,
        watched,
        left,
        killed,
    })
}

/// The records that there are, by kind, each list at its revision.
async fn left(root: &Client) -> Result<Vec<check::Left>> {
    macro_rules! list {
        ($kind:literal $call:ident $request:ident) => {{
            let mut left = check::Left::new($kind);
            let mut cursor = String::new();
            loop {
                let request = $request {
                    limit: 1_000,
                    cursor,
                    ..$request::default()
                };
                let page = root.$call(request).await.doing("listing what there is")?.message;
                left.revision = page.revision;
                let items = page.items.into_iter().map(|item| (item.id, (item.version, item.etag)));
                left.records.extend(items);
                if page.next_cursor.is_empty() {
                    break left;
                }
                cursor = page.next_cursor;
            }
        }};
    }
    let config = root
        .get_config(GetConfigRequest {})
        .await
        .doing("reading the settings")?;
    let mut settings = check::Left::new("config");
    settings.revision = config.meta.revision.unwrap_or(0);
    let config = config.message;
    settings
        .records
        .insert(journal::CONFIG.to_owned(), (config.version, config.etag));
    Ok(vec![
        list!("peer" list_peers ListPeersRequest),
        list!("cluster" list_clusters ListClustersRequest),
        list!("operation" list_operations ListOperationsRequest),
        list!("approval" list_approvals ListApprovalsRequest),
        settings,
    ])
}

/// All nodes have the same state at the same revision.
async fn same_digests(cluster: &Cluster, root: &Client) -> Result<Option<String>> {
    let statuses = cluster.wait_settled(root, SETTLE_WITHIN).await?;
    let digests: BTreeSet<_> = statuses.iter().map(|(_, status)| &status.digest).collect();
    Ok((digests.len() != 1).then(|| format!("the nodes' digests are {digests:?}")))
}

/// What a run has to have done to count: everything of what it is about, at least once.
fn missing(plan: &Plan, evidence: &Evidence) -> Vec<String> {
    let counts = counts(evidence);
    let mut wanted = vec![
        "done: peers.patch",
        "done: peers.cordon",
        "done: peers.uncordon",
        "done: peers.drain",
        "done: peers.undrain",
        "done: peers.register",
        "done: peers.deregister",
        "done: approvals.approve",
        "done: approvals.reject",
        "waits: peers.drain_many",
        "waits: config.set",
        "waits: clusters.apply",
        "requests for approval: Approved",
        "requests for approval: Rejected",
        "mass drains that succeeded",
        "peers drained by them",
        "rejected: etag_mismatch",
        "rejected: idempotency_key_reused",
        "rejected: approval_finished",
        "answered again from the first attempt",
        "refused: scope_missing",
    ];
    // Nothing runs out before a minute has gone by.
    if plan.length.saturating_mul(u32::try_from(plan.rounds).unwrap_or(1)) > Duration::from_secs(45) {
        wanted.push("requests for approval: Expired");
    }
    let seen = |what: &&str| counts.get(*what).copied().unwrap_or(0) == 0;
    wanted.into_iter().filter(seen).map(str::to_owned).collect()
}
