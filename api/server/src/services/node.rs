//! `NodeService`: one node by itself. Answered by whichever node is asked, leader or not, with or without a quorum.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use proto::{
    codes::Code,
    v1::{self, node_report, node_service_server::NodeService},
};
use serde_json::{Value, json};
use statemachine::NodeAction;
use tonic::{Request, Response, Status};

use super::{Api, Received, changes::Change};
use crate::{
    Error, convert, headers, metrics,
    ports::{Inspect, Section},
};

/// Reports that one node puts together at once; further callers wait their turn, each until its deadline.
pub(super) const REPORTS_AT_ONCE: usize = 2;

/// For how long another filter is in force where the caller does not say.
const LOG_LEVEL_FOR: Duration = Duration::from_secs(10 * 60);
/// The shortest and the longest time for which one may be asked.
const LOG_LEVEL_FOR_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// Size of a filter, as in the configuration.
const FILTER_BYTES_MAX: usize = 1_024;

/// Size of the sections that are made here.
const METRICS_BYTES_MAX: usize = 512 << 10;
const RAFT_BYTES_MAX: usize = 128 << 10;

#[tonic::async_trait]
impl NodeService for Api {
    async fn get_node_report(
        &self,
        request: Request<v1::GetNodeReportRequest>,
    ) -> Result<Response<v1::NodeReport>, Status> {
        self.answer(request, async |received: Received<v1::GetNodeReportRequest>| {
            let sections = self.sections(received.call.deadline).await?;
            let report = v1::NodeReport {
                node: self.core.handle.node().0,
                made_at: Some(convert::time(self.core.clock.wall_ms())),
                sections: sections.into_iter().map(section).collect(),
            };
            Ok(Response::new(report))
        })
        .await
    }

    async fn set_log_level(&self, request: Request<v1::SetLogLevelRequest>) -> Result<Response<v1::LogLevel>, Status> {
        self.answer(request, async |received: Received<v1::SetLogLevelRequest>| {
            headers::no_dry_run(&received.headers)?;
            let subject = format!("node/{}", self.core.handle.node());
            let change = Change::of(&received, NodeAction::LogLevel, subject, ("", ""))?;
            let level = self.change_log_level(&received)?;
            self.tell(&received, &change).await?;
            Ok(Response::new(level))
        })
        .await
    }
}

impl Api {
    fn inspect(&self) -> Result<Arc<dyn Inspect>, Error> {
        let inspect = self.core.facts.inspect();
        inspect.ok_or_else(|| Error::new(Code::Unimplemented, "this node has nothing to look into"))
    }

    async fn sections(&self, deadline: tokio::time::Instant) -> Result<Vec<Section>, Error> {
        let inspect = self.inspect()?;
        let place = tokio::time::timeout_at(deadline, Arc::clone(&self.reports).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(Error::new(
                Code::ResourceExhausted,
                "other reports of this node are being put together",
            )
            .hint("try again in a moment"));
        };
        let mut sections = vec![
            Section::head("raft.json", format!("{:#}\n", self.raft()), RAFT_BYTES_MAX),
            Section::head("metrics.txt", self.metrics()?, METRICS_BYTES_MAX),
        ];
        // The place is held until the work is done, also where nobody waits for it any more.
        let own = tokio::task::spawn_blocking(move || {
            let own = inspect.sections();
            drop(place);
            own
        });
        match tokio::time::timeout_at(deadline, own).await {
            Ok(Ok(own)) => sections.extend(own),
            Ok(Err(_)) => return Err(Error::internal("the report could not be put together")),
            Err(_) => {
                return Err(
                    Error::new(Code::DeadlineExceeded, "the node did not read its own files in time")
                        .hint("its disk is slow or stuck: look at the kernel's log of that machine"),
                );
            }
        }
        Ok(sections)
    }

    fn metrics(&self) -> Result<String, Error> {
        let text = metrics::render(&self.core.registry.lock());
        text.map_err(|_| Error::internal("the metrics could not be written"))
    }

    /// Consensus as this node sees it.
    fn raft(&self) -> Value {
        let status = self.core.handle.status();
        let view = self.core.handle.view();
        let mesh = &view.state().mesh;
        let members: Vec<Value> = status.members.iter().map(member).collect();
        let log = self.core.handle.log_counters();
        json!({
            "node": status.node.0,
            "role": status.role.as_str(),
            "term": status.term,
            "leader": status.leader.as_ref().map(|leader| leader.node.0),
            "initialized": status.initialized,
            "recovering": status.recovering,
            "fatal": status.fatal.as_ref().map(ToString::to_string),
            "quorum": {
                "ok": status.quorum.ok,
                "voters": status.quorum.voters,
                "needed": status.quorum.needed,
                "reachable": status.quorum.reachable,
            },
            "log": {
                "last": status.last_log_index,
                "committed": status.committed_index,
                "applied": status.applied_index,
                "durable": status.durable_index,
                "purged": status.purged_index,
                "batches": log.batches.load(Ordering::Relaxed),
            },
            "members": members,
            "mesh": {
                "timeline": mesh.position().timeline.to_string(),
                "revision": mesh.position().revision.0,
                "oldestRevision": mesh.floor().0,
                "digest": mesh.digest().to_string(),
            },
        })
    }

    fn change_log_level(&self, received: &Received<v1::SetLogLevelRequest>) -> Result<v1::LogLevel, Error> {
        let (call, message) = (&received.call, &received.message);
        let inspect = self.inspect()?;
        if message.filter.len() > FILTER_BYTES_MAX {
            let detail = format!("a filter has at most {FILTER_BYTES_MAX} bytes");
            return Err(Error::invalid("filter", detail));
        }
        let within = match message.for_ms {
            0 => LOG_LEVEL_FOR,
            ms if LOG_LEVEL_FOR_MS.contains(&ms) => Duration::from_millis(ms),
            _ => return Err(Error::invalid("for_ms", "expected 1 s to 24 h: 1000 to 86400000")),
        };
        let change = (!message.filter.is_empty()).then_some((message.filter.as_str(), within));
        let level = inspect.log_level(change).map_err(|why| Error::invalid("filter", why))?;
        // Under a name of its own, which no filter leaves out.
        tracing::info!(
            target: "meshkit::audit",
            request_id = %call.request_id,
            actor = %call.principal.subject,
            filter = %level.filter,
            for_s = level.until.as_ref().map(|_| within.as_secs()),
            "the log level was changed by request"
        );
        let (configured, until) = level.until.unzip();
        Ok(v1::LogLevel {
            filter: level.filter,
            configured: configured.unwrap_or_default(),
            until: until.map(|until| convert::time(unix_ms(until))),
            node: self.core.handle.node().0,
        })
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn member(member: &raft::status::Member) -> Value {
    json!({
        "node": member.node.0,
        "api": member.api,
        "raft": member.raft,
        "voter": member.voter,
        "matched": member.matched_index,
        "lagEntries": member.lag_entries,
        "lastContactMs": member.last_contact.map(|ago| u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
    })
}

fn section(section: Section) -> node_report::Section {
    let Section { name, text, truncated } = section;
    node_report::Section {
        name: name.to_owned(),
        text,
        truncated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_cut_at_its_limit() {
        let head = Section::head("a", "grün".to_owned(), 3);
        assert_eq!((head.text.as_str(), head.truncated), ("gr", true));
        let whole = Section::tail("a", "one\ntwo\n".to_owned(), 8);
        assert_eq!((whole.text.as_str(), whole.truncated), ("one\ntwo\n", false));
        let tail = Section::tail("a", "one\ntwo\nthree\n".to_owned(), 8);
        assert_eq!((tail.text.as_str(), tail.truncated), ("three\n", true));
    }
}
