//! `mesh upgrade`: what is shown, what is asked, and what is sent.

use proto::v1::{FeatureLevel, FinalizeUpgradeRequest, Problem, Upgrade, upgrade::NodeLevel};
use tonic::Code;

use crate::{
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh,
};

fn node(node: u64, version: &str, feature_level: u32) -> NodeLevel {
    NodeLevel {
        node,
        version: version.into(),
        feature_level,
    }
}

/// Two of three nodes run the newer program; the third has not told what it runs.
fn half_way() -> Upgrade {
    Upgrade {
        feature_level: 1,
        possible: 0,
        nodes: vec![node(1, "0.2.0", 2), node(2, "0.1.0", 1), node(3, "", 0)],
        blockers: vec![
            "node 3 has not told yet what it runs".into(),
            "node 2 runs 0.1.0, which goes up to feature level 1; others go up to 2\u{1b}[2J".into(),
        ],
    }
}

#[tokio::test]
async fn status_in_every_format() {
    let ready = Upgrade {
        feature_level: 1,
        possible: 2,
        nodes: vec![node(1, "0.2.0", 2), node(2, "0.2.0", 2)],
        blockers: vec![],
    };
    let done = Upgrade {
        feature_level: 2,
        blockers: vec!["feature level 2 is the highest that the nodes know".into()],
        ..ready.clone()
    };
    let fake = Fake::default();
    fake.says("GetUpgrade", [Reply::ok(&half_way())]);
    for format in ["table", "wide", "json", "yaml", "jsonl", "name"] {
        let ran = mesh(&fake, &format!("upgrade status -o {format}")).await;
        assert_eq!(ran.exit, 0, "{}", ran.err);
        check(&format!("upgrade-status.{format}.txt"), &shown(&ran));
    }
    for (name, answer) in [("ready", ready), ("done", done)] {
        let fake = Fake::default();
        fake.says("GetUpgrade", [Reply::ok(&answer)]);
        let ran = mesh(&fake, "upgrade status").await;
        check(&format!("upgrade-status-{name}.table.txt"), &shown(&ran));
    }
}

#[tokio::test]
async fn finalize_asks_and_says_what_it_means() {
    let fake = Fake::default();
    let raised = FeatureLevel {
        feature_level: 2,
        etag: "00000000000000000000000000000007-2b".into(),
    };
    fake.says("FinalizeUpgrade", [Reply::at(&raised, 43)]);
    for line in ["upgrade finalize", "upgrade finalize --to 2"] {
        let ran = mesh(&fake, line).await;
        assert_eq!((ran.exit, ran.out.as_str()), (6, ""), "{line}");
        assert!(ran.err.contains("no way back"), "{}", ran.err);
    }
    assert!(fake.asked().is_empty(), "nobody has confirmed");
    let mut text = String::new();
    for (line, to, dry_run) in [
        ("upgrade finalize --yes", 0, false),
        (
            "upgrade finalize --yes --to 2 --reason rollout --ticket OPS-9",
            2,
            false,
        ),
        ("upgrade finalize --dry-run", 0, true),
        ("upgrade finalize --yes -o json", 0, false),
        ("upgrade finalize --yes -o name", 0, false),
    ] {
        let ran = mesh(&fake, line).await;
        assert_eq!(ran.exit, 0, "{line}: {}", ran.err);
        text.push_str(&format!("$ mesh {line}\n{}", shown(&ran)));
        let sent = fake.asked().last().unwrap().message::<FinalizeUpgradeRequest>();
        assert_eq!((sent.to, sent.dry_run), (to, dry_run), "{line}");
        assert_eq!(sent.reason == "rollout", line.contains("rollout"));
    }
    check("upgrade-finalize.txt", &text);
}

#[tokio::test]
async fn nodes_that_are_behind_are_named() {
    let fake = Fake::default();
    let problem = Problem {
        code: "upgrade_incomplete".into(),
        detail: half_way().blockers.join("; "),
        hint: "run the newer program on every node first; `mesh upgrade status` shows which is left".into(),
        request_id: "01J0000000000000000000000R".into(),
        ..Problem::default()
    };
    fake.says("FinalizeUpgrade", [Reply::Problem(Code::FailedPrecondition, problem)]);
    let ran = mesh(&fake, "upgrade finalize --yes").await;
    assert_eq!(ran.exit, 6);
    check("upgrade-incomplete.table.txt", &shown(&ran));
    assert_eq!(mesh(&fake, "upgrade finalize --yes --to 0").await.exit, 2);
}
