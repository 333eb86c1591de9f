//! Alarms: how they look, and what is asked of the mesh to take one down.

use proto::v1::{Alarm, DisarmAlarmRequest, ListAlarmsResponse};

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
    assert_eq!((ran.exit, ran.out.as_str()), (0, ""), "{}", ran.err);
    let ran = mesh(&node, "alarms list -o json").await;
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown, proto::json::to_value(&ListAlarmsResponse::default()).unwrap());
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
