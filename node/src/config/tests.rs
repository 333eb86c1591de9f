#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config, Box<Invalid>> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(Path::new("node.toml"), text, environment)
}

/// The least a file has to say, as far as single sections go.
const LEAST: &str = "[node]\nid = 2\ndata_dir = \"/d\"\n[mesh]\nid = \"m\"\ncluster = \"c\"\n";

fn refused(extra: &str) -> String {
    parse(&format!("{LEAST}{extra}"), &[]).unwrap_err().to_string()
}

#[test]
fn what_print_default_prints_is_read_back_as_the_defaults() {
    assert_eq!(parse(&print::defaults(), &[]).unwrap(), Config::default());
}

#[test]
fn print_default_is_as_agreed() {
    insta::assert_snapshot!("print_default", print::defaults());
}

#[test]
fn what_is_written_briefly_is_read_back() {
    let mut config = parse(LEAST, &[]).unwrap();
    config.mesh.members = value::Tables(vec![
        sections::Member {
            id: 1,
            raft: "[::1]:1".into(),
            api: "a.example:2".into(),
        },
        sections::Member {
            id: 2,
            ..sections::Member::default()
        },
    ]);
    config.auth.binding = value::Tables(vec![sections::AuthBinding {
        spiffe: "spiffe://m/client/*".into(),
        subject: "q\"uo\\te\n".into(),
        scopes: value::Texts(vec!["mesh.admin".into()]),
    }]);
    config.auth.key_files = value::Paths(vec!["/k1".into(), "/k 2".into()]);
    config.auth.jwks_file = Some("/jwks".into());
    config.audit.directory = Some("/audit".into());
    config.telemetry.metrics_listen = Some(([127, 0, 0, 1], 9).into());
    config.log.format = sections::LogFormat::Json;
    let text = print::brief(&config);
    assert_eq!(parse(&text, &[]).unwrap(), config, "{text}");
    assert!(!text.contains("heartbeat"), "only what differs is written: {text}");
}

#[test]
fn an_unknown_key_is_refused_with_line_caret_and_the_nearest() {
    insta::assert_snapshot!(refused("[raft]\nheartbeat_ms = 1\nhartbeat_interval_ms = 100\n"));
}

#[test]
fn a_binding_of_another_meshs_names_is_refused_with_line_and_caret() {
    insta::assert_snapshot!(refused(
        "[[auth.binding]]\nspiffe = \"spiffe://m/client/*\"\nscopes = [\"mesh.read\"]\n\
         [[auth.binding]]\nspiffe = \"spiffe://other/client/*\"\nscopes = [\"mesh.admin\"]\n"
    ));
}

#[test]
fn every_problem_is_told_at_once() {
    insta::assert_snapshot!(refused(
        "[raft]\nheartbeat_interval_ms = 5\nelection_timeout_min_ms = \"soon\"\n[rafd]\n[log]\nlevel = \"loud\"\n\
         [limits]\nbody_bytes_max = -1\n[api]\nlisten = \"localhost\"\n"
    ));
}

#[test]
fn what_is_missing_is_named() {
    let told = parse("[node]\nid = 1\n", &[]).unwrap_err().to_string();
    for missing in [
        "`data_dir` is missing from [node]",
        "`id` is missing from [mesh]",
        "`cluster` is missing",
    ] {
        assert!(told.contains(missing), "{missing}: {told}");
    }
}

#[test]
fn broken_toml_is_shown_where_it_breaks() {
    let told = refused("[raft\n");
    assert!(told.contains("node.toml:7"), "{told}");
}

#[test]
fn the_environment_overrides_the_file_and_is_checked_alike() {
    let environment = [
        ("MESHKIT_RAFT__HEARTBEAT_INTERVAL_MS", "60"),
        ("MESHKIT_API__LISTEN", "127.0.0.1:9"),
        ("MESHKIT_LOG__LEVEL", "debug"),
        ("MESHKIT_MESH__ID", "\"quoted\""),
        ("MESHKIT_AUTH__KEY_FILES", "[\"/k\"]"),
        ("MESHKIT_BIN_DIR", "not ours"),
    ];
    let config = parse(&format!("{LEAST}[raft]\nheartbeat_interval_ms = 50\n"), &environment).unwrap();
    assert_eq!(config.raft.heartbeat_interval_ms, 60);
    assert_eq!(config.api.listen.port(), 9);
    assert_eq!(config.log.level, sections::LogLevel::Debug);
    assert_eq!(config.mesh.id, "quoted");
    assert_eq!(config.auth.key_files.0, [Path::new("/k")]);

    let wrong = [
        ("MESHKIT_RAFT__HEARTBEAT", "1"),
        ("MESHKIT_RAFD__X", "1"),
        ("MESHKIT_LIMITS__HEADERS_MAX", "1"),
    ];
    let told = parse(LEAST, &wrong).unwrap_err().to_string();
    for (name, _) in wrong {
        assert!(told.contains(name), "{name}: {told}");
    }
}

#[test]
fn values_have_to_fit_each_other() {
    for (extra, told) in [
        (
            "[raft]\nelection_timeout_min_ms = 2000\n",
            "more than `election_timeout_min_ms`",
        ),
        ("[raft]\nheartbeat_interval_ms = 400\n", "less than three heartbeats"),
        ("[api]\nlong_poll_default_ms = 70000\n", "more than `long_poll_max_ms`"),
        (
            "[telemetry]\nmetrics_listen = \"0.0.0.0:9\"\n",
            "not a loopback address",
        ),
        ("[tls]\nca_file = \"\"\n", "`ca_file` is empty"),
        ("[log]\nfilter = \"a=b=c\"\n", "`filter`"),
        (
            "[[auth.binding]]\nspiffe = \"spiffe://m/client/a\"\nscopes = [\"root\"]\n",
            "unknown scope",
        ),
        (
            "[[auth.binding]]\nspiffe = \"https://m/client/a\"\nscopes = [\"mesh.read\"]\n",
            "must begin with `spiffe://m/`",
        ),
        (
            "[[auth.binding]]\nspiffe = \"spiffe://m/client/*\"\nscopes = [\"mesh.peer\"]\n",
            "`mesh.peer` is for peers alone",
        ),
        (
            "[[auth.binding]]\nspiffe = \"spiffe://n/client/a\"\nscopes = [\"mesh.read\"]\n",
            "must begin with `spiffe://m/`",
        ),
        (
            "[[auth.binding]]\nspiffe = \"spiffe://m/client/a*\"\nscopes = [\"mesh.read\"]\n",
            "stands for one whole segment",
        ),
        (
            "[[auth.binding]]\nspiffe = \"spiffe://m//a\"\nscopes = [\"mesh.read\"]\n",
            "empty segment",
        ),
        (
            "[[auth.binding]]\nspiffe = \"spiffe://m/client/a\"\n",
            "`scopes` is missing from this entry",
        ),
        (
            "[[mesh.members]]\nid = 1\nraft = \"a:1\"\napi = \"nowhere\"\n",
            "not `host:port`",
        ),
        (
            "[[mesh.members]]\nid = 1\nraft = \"a:1\"\napi = \"a:2\"\n[[mesh.members]]\nid = 1\nraft = \"a:1\"\napi = \"a:2\"\n",
            "listed twice",
        ),
    ] {
        let refusal = parse(&format!("{}{extra}", LEAST), &[]);
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains(told), "{extra}: {refusal}");
    }
    assert!(
        parse(&LEAST.replace("\"c\"", "\"C\""), &[])
            .unwrap_err()
            .to_string()
            .contains("is not an id")
    );
}

#[test]
fn relative_paths_count_from_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    std::fs::write(&file, format!("{LEAST}[tls]\nca_file = \"ca.crt\"\n")).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.tls.ca_file, dir.path().join("ca.crt"));
    assert_eq!(config.node.data_dir, Path::new("/d"));
    let missing = Config::load(&dir.path().join("none.toml")).unwrap_err().to_string();
    assert!(
        missing.contains("none.toml") && missing.contains("print-default"),
        "{missing}"
    );
}

#[test]
fn no_input_makes_the_reader_panic() {
    let good = print::defaults();
    for cut in (0..good.len()).filter(|cut| good.is_char_boundary(*cut)).step_by(7) {
        let _ = parse(&good[..cut], &[]).map_err(|invalid| invalid.to_string());
        let _ = parse(&format!("{}\u{0}[[\u{e9}{}", &good[..cut], &good[cut..]), &[]).map_err(|i| i.to_string());
    }
}
