//! Valid forms of everything that is fuzzed.

use super::*;

/// What the changing begins with: everything in it is valid.
pub(super) struct Samples {
    pub(super) mesh: MeshId,
    pub(super) router: Router,
    pub(super) tokens: Vec<Vec<u8>>,
    pub(super) selectors: Vec<Vec<u8>>,
    pub(super) paths: Vec<Vec<u8>>,
    pub(super) bodies: Vec<Vec<u8>>,
    pub(super) headers: Vec<Vec<u8>>,
    pub(super) forwarded: Vec<Vec<u8>>,
    pub(super) join_tokens: Vec<Vec<u8>>,
    pub(super) frames: Vec<Vec<u8>>,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) rows: Vec<Vec<u8>>,
    pub(super) backups: Vec<Vec<u8>>,
    /// A mesh to apply entries to.
    pub(super) state: State,
}

fn texts(all: &[&str]) -> Vec<Vec<u8>> {
    all.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(super) fn filter() -> Filter {
    Filter::new("peers.list", &["zone=a"])
}

pub(super) fn entry(command: impl Into<statemachine::Command>) -> Entry {
    let request = Request {
        origin: Origin::system("fuzz", NodeId(1), 7),
        conditions: Conditions::default(),
        command: command.into(),
    };
    Entry::Command(Box::new(request.stamp(Stamp {
        mesh_time_ms: 5,
        wall_ms: 9,
    })))
}

impl Samples {
    pub(super) fn new() -> Self {
        let mesh: MeshId = "dev".parse().unwrap();
        let mut state = State::default();
        let all = [
            entry(InitMesh {
                mesh: mesh.clone(),
                cluster: "c1".parse().unwrap(),
                timeline: TimelineId(77),
                settings: Overrides::new(),
                feature_level: statemachine::FEATURE_LEVEL,
            }),
            entry(RegisterPeer {
                id: "p1".parse().unwrap(),
                spec: PeerSpec {
                    cluster: "c1".parse().unwrap(),
                    role: "gateway".to_owned(),
                    region: String::new(),
                    zone: "a".to_owned(),
                    endpoints: vec!["10.0.0.1:1".to_owned()],
                    labels: [("zone".to_owned(), "a".to_owned())].into(),
                    metadata: Default::default(),
                    weight: 100,
                },
            }),
            entry(DrainPeer {
                id: "p1".parse().unwrap(),
            }),
        ];
        let mut rows = Vec::new();
        for entry in &all {
            let applied = statemachine::apply(&mut state, entry);
            rows.extend(applied.rows.into_iter().filter_map(|row| row.value));
        }
        rows.push(state.head_row());
        let position = Position {
            timeline: TimelineId(77),
            revision: Revision(3),
        };
        let tokens = ["", "p1", "op-000000000021-e626ce"].map(|last| {
            let cursor = Cursor {
                position,
                last: last.to_owned(),
            };
            BASE64_URL_SAFE_NO_PAD.decode(cursor.encode(&mesh, filter())).unwrap()
        });
        let paths = methods::all().iter().map(|method| {
            let path = method
                .http
                .template
                .text
                .replace("{id}", "p1")
                .replace("{name}", "limits.peers");
            format!(
                "{} {path}?limit=10&selector=zone%3Da&token=x&waitVersion=1",
                method.http.verb.as_str()
            )
            .into_bytes()
        });
        let mut frames = texts(&["\0\0\0\0\u{2}\n\0"]);
        frames.push(framing::frame(&[b"\n\x02p1"]).unwrap().to_vec());
        Self {
            router: Router::new(),
            tokens: tokens.into(),
            selectors: texts(&[
                "zone=a,tier!=test,gpu,!legacy",
                "a",
                "a=b",
                "",
                "app.kubernetes.io/name=x-1_2.3",
            ]),
            paths: paths.collect(),
            bodies: texts(&[
                r#"{"id":"p1","endpoints":["10.0.0.1:1"],"labels":{"zone":"a"},"weight":100,"dryRun":true}"#,
                r#"{"settings":{"limits.peers":5,"approvals.ttl":"15m","x":null},"ifRevision":9007199254740991}"#,
                r#"{"deadline":"1.5s","force":true,"confirm":"p1","ifMatch":"x-1"}"#,
                r#"{"kinds":["peer"],"progressInterval":"0.5s","state":"RUNNING","status":"drained"}"#,
                "{}",
            ]),
            headers: texts(&[
                "\"e626-4\"",
                "*",
                "2s",
                "10m",
                "500ms",
                "true",
                "local",
                "forward",
                "timeout",
                "A b",
                "10S",
            ]),
            forwarded: texts(&[
                r#"{"subject":"alice","scope":"mesh.admin","proof":"jwt","expires_s":99,"transport":"h3","address":"127.0.0.1:1"}"#,
                r#"{"subject":"","proof":"certificate","transport":"h2","address":"[::1]:65535"}"#,
            ]),
            join_tokens: texts(&[
                r#"{"mesh":"dev","cluster":"c1","node":4,"members":[{"node":1,"raft":"h:1"}],"authorities":["00"],"secret":"0f","expires_ms":9}"#,
            ]),
            frames,
            entries: all.iter().map(|entry| codec::encode(Format::Entry, entry)).collect(),
            rows,
            backups: vec![backup(&state)],
            mesh,
            state,
        }
    }
}

/// A whole backup, with rows of a mesh in it.
fn backup(state: &State) -> Vec<u8> {
    let mesh = &state.mesh;
    let header = Header {
        mesh: "dev".parse().unwrap(),
        cluster: "c1".parse().unwrap(),
        position: mesh.position(),
        epoch: mesh.epoch(),
        feature_level: mesh.feature_level(),
        floor: mesh.floor(),
        stamp: mesh.stamp(),
        chain: mesh.chain(),
        digest: mesh.digest(),
        created_wall_ms: 5,
        head: state.head_row(),
    };
    let (mut encoder, mut bytes) = Encoder::begin(header);
    bytes.extend(encoder.rows(Vec::new()));
    bytes.extend(encoder.end().1);
    bytes
}
