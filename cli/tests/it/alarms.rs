//! Alarms: how they look, and what is asked of the mesh to take one down.

use proto::v1::{Alarm, DisarmAlarmRequest, ListAlarmsResponse, Status, status};

use crate::{
    fake::{Fake, Reply},
    golden::{check, shown},
    mesh, records,
};

fn alarms() -> ListAlarmsResponse {
    let mut items = records::status().alarms;
    items.push(Alarm {
        name: "CLOCK".into(),
        node: 1,
        detail: "its clock is 4000 ms behind the others' (± 2 ms), \u{1b}[31mover the limit of 1000 ms".into(),
        since: None,
    });
    ListAlarmsResponse { items }
}

fn node() -> Fake {
    let node = Fake::default();
    node.says("ListAlarms", [Reply::ok(&alarms())])
        .says("DisarmAlarm", [Reply::ok(&ListAlarmsResponse::default())]);
    node
}

#[tokio::test]
async fn every_format_of_the_list() {
    let node = node();
    for format in ["table", "wide", "json", "yaml", "jsonl", "name"] {
        let ran = mesh(&node, &format!("alarms list -o {format}")).await;
        assert_eq!(ran.exit, 0, "{}", ran.err);
        check(&format!("alarms-list.{format}.txt"), &shown(&ran));
    }
}

#[tokio::test]
async fn no_alarms_are_said_to_people_and_listed_to_programs() {
    let node = Fake::default();
    node.says("ListAlarms", [Reply::ok(&ListAlarmsResponse::default())]);
    let ran = mesh(&node, "alarms list").await;
    assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (0, "", "no alarms\n"));
    let ran = mesh(&node, "alarms list -o json").await;
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown, proto::json::to_value(&ListAlarmsResponse::default()).unwrap());
}

/// The mesh runs, and what it is for does not: it is not called healthy, whatever consensus says.
#[tokio::test]
async fn too_many_silent_peers_are_the_first_thing_that_is_said() {
    let silence = Alarm {
        name: "MASS_SILENCE".into(),
        node: 0,
        detail: "18 of 18 peers are silent at once".into(),
        since: None,
    };
    let peers_by_health = status::PeersByHealth {
        suspect: 18,
        ..status::PeersByHealth::default()
    };
    let status = Status {
        nodes: records::status().nodes.into_iter().take(2).collect(),
        alarms: vec![silence.clone()],
        peers: Some(status::PeersByStatus {
            active: 17,
            draining: 1,
            ..status::PeersByStatus::default()
        }),
        peers_by_health: Some(peers_by_health),
        ..records::status()
    };
    let node = Fake::default();
    node.says("GetStatus", [Reply::ok(&status)])
        .says("ListAlarms", [Reply::ok(&ListAlarmsResponse { items: vec![silence] })]);
    let ran = mesh(&node, "status").await;
    assert_eq!(ran.exit, 0, "{}", ran.err);
    for said in [
        "mesh demo, cluster dev-1: degraded: too many peers are silent, 40 shards of silent peers, with alarms\n",
        " 18: 17 active, 1 draining; 18 suspect\n",
        " 96: 95 active, 1 disabled; 40 owned by silent peers: mesh presence list\n",
        "MASS_SILENCE  -     -      18 of 18 peers are silent at once\n",
    ] {
        assert!(ran.out.contains(said), "{said}: {}", ran.out);
    }
    let ran = mesh(&node, "alarms list").await;
    assert_eq!(
        ran.out,
        "ALARM         NODE  SINCE  DETAIL\nMASS_SILENCE  -     -      18 of 18 peers are silent at once\n"
    );
}

#[tokio::test]
async fn disarming_says_which_and_why() {
    let node = node();
    let ran = mesh(&node, "alarms disarm 3 nospace --reason grown --ticket OPS-9").await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (0, "alarm NOSPACE of node 3 disarmed\n"),
        "{}",
        ran.err
    );
    let asked: DisarmAlarmRequest = node.asked()[0].message();
    let DisarmAlarmRequest {
        node: of,
        name,
        reason,
        ticket,
    } = asked;
    assert_eq!(
        (of, name.as_str(), reason.as_str(), ticket.as_str()),
        (3, "nospace", "grown", "OPS-9")
    );
    let ran = mesh(&node, "alarms disarm 3 NOSPACE -o json").await;
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown, proto::json::to_value(&ListAlarmsResponse::default()).unwrap());
    for wrong in ["alarms disarm 0 CLOCK", "alarms disarm three CLOCK", "alarms disarm 3"] {
        assert_eq!(mesh(&node, wrong).await.exit, 2, "{wrong}");
    }
}
