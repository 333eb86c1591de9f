#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use statemachine::{NodeId, TimelineId};

use super::*;

const LINE_BYTES: u64 = 400;

fn place(revision: u64) -> Last {
    Last {
        position: Position {
            timeline: TimelineId(7),
            revision: Revision(revision),
        },
        chain: Hash([u8::try_from(revision % 256).unwrap(); 32]),
    }
}

/// A record's line, as far as finding it again goes.
fn record_line(revision: u64) -> Vec<u8> {
    let Last { position, chain } = place(revision);
    format!(
        "{{\"kind\":\"record\",\"revision\":{revision},\"timeline\":\"{}\",\"hash\":\"{chain}\",\"reason\":\"{}\"}}\n",
        position.timeline,
        "x".repeat(usize::try_from(LINE_BYTES).unwrap() / 2)
    )
    .into_bytes()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn files_are_closed_at_their_size_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/audit");
    let (mut files, last) = Files::open(&path, 1_000, 3).unwrap();
    assert_eq!(last, None);
    for revision in 1..=40 {
        files.append(&record_line(revision)).unwrap();
    }
    let kept = names(&path);
    assert_eq!(kept.len(), 3, "{kept:?}");
    for name in &kept {
        assert!(fs::metadata(path.join(name)).unwrap().len() <= 1_000 + LINE_BYTES);
    }
    drop(files);
    // A smaller number of files is reached at once, and what is not ours stays.
    fs::write(path.join("notes.txt"), "mine").unwrap();
    let (_, last) = Files::open(&path, 1_000, 1).unwrap();
    assert_eq!(last, Some(place(40)));
    assert_eq!(names(&path).len(), 2);
}

#[test]
fn a_line_that_was_cut_off_is_cut_away_and_the_last_record_is_found_behind_other_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (mut files, _) = Files::open(path, 1_000_000, 3).unwrap();
    files.append(&record_line(1)).unwrap();
    files.append(&record_line(2)).unwrap();
    let mut lines = Vec::new();
    line::suppressed(3, &mut lines);
    line::gap(Revision(2), Revision(9), &mut lines);
    files.append(&lines).unwrap();
    drop(files);
    let name = path.join(&names(path)[0]);
    let mut text = fs::read(&name).unwrap();
    let whole = text.len();
    text.extend_from_slice(&record_line(9)[..50]);
    fs::write(&name, &text).unwrap();
    let (mut files, last) = Files::open(path, 1_000_000, 3).unwrap();
    assert_eq!(last, Some(place(2)));
    assert_eq!(fs::metadata(&name).unwrap().len(), whole as u64);
    files.append(&record_line(9)).unwrap();
    drop(files);
    assert_eq!(Files::open(path, 1_000_000, 3).unwrap().1, Some(place(9)));
    // Where the newest file has no record yet, the one before has the last.
    fs::write(path.join("audit-00000002.jsonl"), "half a li").unwrap();
    assert_eq!(Files::open(path, 1_000_000, 3).unwrap().1, Some(place(9)));
}

#[test]
fn a_refusal_is_a_line_of_json() {
    let refusal = Refusal {
        actor: "eve \"x\"\n".into(),
        action: "peers.drain".into(),
        target: "peer/p1".into(),
        code: "scope_missing".into(),
        request_id: "r".into(),
        transport: "h2".into(),
        node: NodeId(1),
        refused_wall_ms: 1_000,
    };
    let mut lines = Vec::new();
    line::refusal(&refusal, &mut lines);
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 1);
    let read: serde_json::Value = serde_json::from_slice(&lines).unwrap();
    assert_eq!(read["kind"], "refusal");
    assert_eq!(read["actor"], "eve \"x\"\n");
    assert_eq!(read["at"], "1970-01-01T00:00:01Z");
    assert_eq!(line::position(&lines), None);
}

/// A mesh of one node, and what it takes to propose something.
async fn mesh() -> (Handle, raft::testing::Disks) {
    let (handle, disks) = raft::testing::single().await.unwrap();
    let init = statemachine::InitMesh {
        mesh: raft::testing::identity(1).mesh,
        cluster: raft::testing::identity(1).cluster,
        timeline: TimelineId(7),
        settings: statemachine::record::Overrides::new(),
        feature_level: statemachine::FEATURE_LEVEL,
    };
    propose(&handle, init.into()).await;
    (handle, disks)
}

async fn propose(handle: &Handle, command: statemachine::Command) {
    let request = statemachine::Request {
        origin: statemachine::Origin::system("test", NodeId(1), 0),
        conditions: Default::default(),
        command,
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    handle.propose(request, deadline).await.unwrap();
}

fn note() -> statemachine::Command {
    statemachine::RecordBackup {
        mesh: raft::testing::identity(1).mesh,
        node: NodeId(1),
    }
    .into()
}

fn kinds(lines: &[u8]) -> Vec<(String, u64)> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let read: serde_json::Value = serde_json::from_slice(line).unwrap();
            let place = read["revision"].as_u64().or_else(|| read["afterRevision"].as_u64());
            (read["kind"].as_str().unwrap().to_owned(), place.unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn history_is_caught_up_with_and_a_fork_is_said() {
    let (handle, _disks) = mesh().await;
    for _ in 0..3 {
        propose(&handle, note()).await;
    }
    let (mut last, mut lines) = (None, Vec::new());
    assert!(!catch_up(&handle.view(), &mut last, &mut lines).unwrap());
    let records = |range: std::ops::RangeInclusive<u64>| -> Vec<(String, u64)> {
        range.map(|revision| ("record".to_owned(), revision)).collect()
    };
    assert_eq!(kinds(&lines), records(1..=4));
    // Nothing twice.
    lines.clear();
    assert!(!catch_up(&handle.view(), &mut last, &mut lines).unwrap());
    assert!(lines.is_empty());
    // What comes live follows, what was missed is read, and what came twice is skipped.
    let mut units = handle.units();
    propose(&handle, note()).await;
    let unit = units.recv().await.unwrap();
    assert!(follow(&[Arc::clone(&unit), unit], &mut last, &mut lines));
    assert_eq!(kinds(&lines), records(5..=5));
    propose(&handle, note()).await;
    propose(&handle, note()).await;
    let missed = [units.recv().await.unwrap(), units.recv().await.unwrap()];
    assert!(!follow(&missed[1..], &mut last, &mut lines), "a revision is missing");
    assert!(
        !follow(&missed, &mut None, &mut Vec::new()),
        "nothing is known of what was before"
    );
    lines.clear();
    catch_up(&handle.view(), &mut last, &mut lines).unwrap();
    assert_eq!(kinds(&lines), records(6..=7));
    // The history goes on elsewhere: lines of later revisions are of the one that was left.
    let recover = statemachine::RecoverMesh {
        mesh: raft::testing::identity(1).mesh,
        cluster: raft::testing::identity(1).cluster,
        timeline: TimelineId(8),
    };
    propose(&handle, recover.into()).await;
    propose(&handle, note()).await;
    let mut ahead = Some(Last {
        position: Position {
            timeline: TimelineId(7),
            revision: Revision(9),
        },
        chain: Hash::default(),
    });
    lines.clear();
    catch_up(&handle.view(), &mut ahead, &mut lines).unwrap();
    let mut expected = vec![("fork".to_owned(), 7)];
    expected.extend(records(8..=9));
    assert_eq!(kinds(&lines), expected);
    // One that ended at the fork just goes on.
    lines.clear();
    catch_up(&handle.view(), &mut last, &mut lines).unwrap();
    assert_eq!(kinds(&lines), records(8..=9));
}

/// Signs the trail where it is and lets go of everything up to there. Answers the oldest revision that is kept.
#[cfg(not(feature = "previous-level"))]
async fn compact(handle: &Handle) -> Revision {
    let view = handle.view();
    let mesh = &view.state().mesh;
    let checkpoint = statemachine::CheckpointAudit {
        revision: mesh.position().revision,
        hash: mesh.chain(),
        node: NodeId(1),
        certificate: vec![1],
        signature: vec![2],
    };
    propose(handle, checkpoint.into()).await;
    let compaction = statemachine::CompactHistory {
        mesh: raft::testing::identity(1).mesh,
        to: handle.view().position().revision,
        // Older than anything that a retry may ask for.
        to_mesh_time_ms: 0,
    };
    propose(handle, compaction.command().unwrap()).await;
    handle.view().oldest()
}

#[cfg(not(feature = "previous-level"))]
#[tokio::test]
async fn what_history_has_no_more_is_a_line_about_the_gap() {
    let (handle, _disks) = mesh().await;
    propose(&handle, note()).await;
    let (mut last, mut lines) = (None, Vec::new());
    catch_up(&handle.view(), &mut last, &mut lines).unwrap();
    let written = last.unwrap().position.revision;
    assert_eq!(written, Revision(2));
    let short = last;
    for _ in 0..3 {
        propose(&handle, note()).await;
    }
    catch_up(&handle.view(), &mut last, &mut Vec::new()).unwrap();
    let oldest = compact(&handle).await;
    assert_eq!(oldest, Revision(6), "everything up to the signature has to go");
    let head = handle.view().position().revision.0;
    let kept: Vec<(String, u64)> = (oldest.0..=head)
        .map(|revision| ("record".to_owned(), revision))
        .collect();
    let gap = |after: u64| {
        let mut expected = vec![("gap".to_owned(), after)];
        expected.extend(kept.clone());
        expected
    };
    // One that was away meanwhile, and one that begins with nothing: each says from where to where it knows of nothing.
    for (after, mut last) in [(written.0, short), (0, None)] {
        lines.clear();
        assert!(!catch_up(&handle.view(), &mut last, &mut lines).unwrap());
        assert_eq!(kinds(&lines), gap(after));
        let line = lines.split(|byte| *byte == b'\n').next().unwrap();
        let line: serde_json::Value = serde_json::from_slice(line).unwrap();
        assert_eq!(
            line,
            serde_json::json!({ "kind": "gap", "afterRevision": after, "nextRevision": oldest.0 })
        );
        // It is said once.
        lines.clear();
        catch_up(&handle.view(), &mut last, &mut lines).unwrap();
        assert!(lines.is_empty());
    }
    // One that had written up to the floor missed nothing, however much is gone.
    lines.clear();
    catch_up(&handle.view(), &mut last, &mut lines).unwrap();
    assert_eq!(kinds(&lines), kept);
}
