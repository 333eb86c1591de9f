use super::*;
use crate::v1::{
    DrainPeerRequest, GetOperationRequest, ListPeersRequest, Node, Operation, Peer, RegisterPeerRequest, peer,
};

fn peer() -> Peer {
    Peer {
        id: "p1".into(),
        endpoints: vec!["h:1".into()],
        labels: [("zone".into(), "a".into()), ("app".into(), "x".into())].into(),
        status: peer::Status::Drained.into(),
        version: 9_007_199_254_740_991,
        created_at: Some(prost_types::Timestamp {
            seconds: 1,
            nanos: 500_000_000,
        }),
        ..Peer::default()
    }
}

#[test]
fn writes_the_documented_form() {
    let text = to_string(&peer()).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"id":"p1","cluster":"","role":"","region":"","zone":"","endpoints":["h:1"],"#,
            r#""labels":{"app":"x","zone":"a"},"metadata":{},"weight":0,"status":"DRAINED","#,
            r#""version":9007199254740991,"etag":"","operation":"","createdRevision":0,"changedRevision":0,"#,
            r#""createdAt":"1970-01-01T00:00:01.500Z","statusReason":""}"#
        )
    );
}

#[test]
fn reads_back_what_it_writes() {
    let text = to_string(&peer()).unwrap();
    assert_eq!(from_slice::<Peer>(text.as_bytes()).unwrap(), peer());
}

#[test]
fn optional_fields_show_only_when_set() {
    assert!(!to_string(&Node::default()).unwrap().contains("lagEntries"));
    let node = Node {
        lag_entries: Some(0),
        ..Node::default()
    };
    assert!(to_string(&node).unwrap().contains(r#""lagEntries":0"#));
}

#[test]
fn enum_words_come_in_any_case() {
    for word in ["drained", "DRAINED", "Drained"] {
        let request = from_slice::<ListPeersRequest>(format!(r#"{{"status":"{word}"}}"#).as_bytes()).unwrap();
        assert_eq!(request.status(), peer::Status::Drained);
    }
    let error = from_slice::<ListPeersRequest>(br#"{"status":"gone"}"#).unwrap_err();
    assert_eq!(error.field, "status");
    assert!(error.detail.contains("ACTIVE, CORDONED"), "{error}");
    from_slice::<ListPeersRequest>(br#"{"status":"STATUS_UNSPECIFIED"}"#).unwrap_err();
    from_slice::<ListPeersRequest>(br#"{"status":1}"#).unwrap_err();
}

#[test]
fn refusals_name_the_field() {
    let field = |text: &str| from_slice::<RegisterPeerRequest>(text.as_bytes()).unwrap_err().field;
    assert_eq!(field(r#"{"idd":"p"}"#), "idd");
    assert_eq!(field(r#"{"id":1}"#), "id");
    assert_eq!(field(r#"{"weight":-1}"#), "weight");
    assert_eq!(field(r#"{"weight":4294967296}"#), "weight");
    assert_eq!(field(r#"{"weight":1.5}"#), "weight");
    assert_eq!(field(r#"{"endpoints":["a",2]}"#), "endpoints[1]");
    assert_eq!(field(r#"{"endpoints":"a"}"#), "endpoints");
    assert_eq!(field(r#"{"labels":{"zone":3}}"#), "labels.zone");
    assert_eq!(field(r#"{"labels":[]}"#), "labels");
    assert_eq!(field(r#"{"dryRun":"yes"}"#), "dryRun");
    assert_eq!(field(r#"{"dryRun":true,"dry_run":true}"#), "dryRun");
    for whole in [
        r"[]",
        "",
        "{",
        r#"{"id":"a","id":"b"}"#,
        r#"{"labels":{"a":"1","a":"2"}}"#,
        "{}x",
        "1e999",
    ] {
        assert_eq!(field(whole), "", "{whole}");
    }
    assert_eq!(
        field(&format!("{}{}", r#"{"labels":"#.repeat(1000), "}".repeat(1000))),
        ""
    );
}

#[test]
fn integers_come_as_numbers_or_strings() {
    for text in [
        r#"{"ifRevision":12}"#,
        r#"{"ifRevision":"12"}"#,
        r#"{"if_revision":12}"#,
    ] {
        assert_eq!(from_slice::<DrainPeerRequest>(text.as_bytes()).unwrap().if_revision, 12);
    }
    from_slice::<DrainPeerRequest>(br#"{"ifRevision":true}"#).unwrap_err();
    from_slice::<DrainPeerRequest>(br#"{"ifRevision":1e3}"#).unwrap_err();
}

#[test]
fn null_is_not_given() {
    let request = from_slice::<DrainPeerRequest>(br#"{"id":"p","reason":null}"#).unwrap();
    assert_eq!(
        request,
        DrainPeerRequest {
            id: "p".into(),
            ..DrainPeerRequest::default()
        }
    );
}

#[test]
fn durations_and_times() {
    let request = from_slice::<GetOperationRequest>(br#"{"timeout":"1.5s","waitVersion":0}"#).unwrap();
    assert_eq!(
        request.timeout,
        Some(prost_types::Duration {
            seconds: 1,
            nanos: 500_000_000
        })
    );
    assert_eq!(request.wait_version, Some(0));
    assert_eq!(
        from_slice::<GetOperationRequest>(br#"{"timeout":"soon"}"#)
            .unwrap_err()
            .field,
        "timeout"
    );
    assert_eq!(
        from_slice::<Operation>(br#"{"createdAt":"yesterday"}"#)
            .unwrap_err()
            .field,
        "createdAt"
    );
}

#[test]
fn a_setting_is_a_number_a_text_or_null() {
    use prost_types::value::Kind;
    let read = |json: &str| from_slice::<crate::v1::PatchConfigRequest>(json.as_bytes());
    let request = read(r#"{"settings": {"a": 7, "b": "15m", "c": null, "d": true}}"#).unwrap();
    let kind = |name: &str| request.settings[name].kind.clone().unwrap();
    assert_eq!(kind("a"), Kind::NumberValue(7.0));
    assert_eq!(kind("b"), Kind::StringValue("15m".into()));
    assert_eq!(kind("c"), Kind::NullValue(0));
    assert_eq!(kind("d"), Kind::BoolValue(true));
    let json = to_value(&request).unwrap();
    assert_eq!(
        json["settings"],
        serde_json::json!({ "a": 7.0, "b": "15m", "c": null, "d": true })
    );
    for bad in [
        r#"{"settings": {"a": [1]}}"#,
        r#"{"settings": {"a": {}}}"#,
        r#"{"settings": 1}"#,
    ] {
        let error = read(bad).unwrap_err().to_string();
        assert!(error.contains("settings"), "{error}");
    }
}

#[test]
fn a_document_has_so_many_values_and_no_more() {
    let document = |items: usize| format!(r#"{{"nodes":[{}]}}"#, vec!["{}"; items].join(","));
    // The document itself and its list are values as well.
    let most = VALUES_MAX - 2;
    assert!(Object::parse(document(most).as_bytes()).is_ok());
    let refused = Object::parse(document(most + 1).as_bytes()).unwrap_err();
    assert!(refused.to_string().contains("at most 65536 values"), "{refused}");
}
