//! The rules that every message and method of the contract keeps.

use std::collections::{BTreeSet, HashSet};

use meshkit_proto as proto;
use prost_reflect::{Kind, MessageDescriptor};
use proto::methods::{self, HttpVerb, Segment};

fn messages() -> Vec<MessageDescriptor> {
    let ours = |message: &MessageDescriptor| message.package_name() == "meshkit.v1" && !message.is_map_entry();
    proto::pool().all_messages().filter(ours).collect()
}

#[test]
fn every_method_is_annotated() {
    // Building the table refuses a method without a scope, an action or a usable HTTP rule.
    assert!(methods::all().len() >= 19);
    let services: BTreeSet<_> = methods::all().iter().map(|method| method.service.as_str()).collect();
    let expected = [
        "ApprovalService",
        "AuditService",
        "AuthService",
        "BackupService",
        "ClusterDescriptorService",
        "ClusterService",
        "ConfigService",
        "NamespaceService",
        "NodeService",
        "OperationService",
        "PeerService",
        "PresenceService",
        "ShardService",
        "WatchService",
    ];
    assert_eq!(services, expected.into());
}

#[test]
fn actions_and_routes_are_unique() {
    let mut actions = HashSet::new();
    let mut routes = HashSet::new();
    for method in methods::all() {
        assert!(actions.insert(&method.action), "{}", method.action);
        let shape: Vec<_> = method
            .http
            .template
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.as_str(),
                Segment::Variable(_) => "{}",
            })
            .collect();
        assert!(
            routes.insert((method.http.verb, shape.join("/"), &method.http.template.verb)),
            "{}",
            method.path
        );
        assert_eq!(
            methods::by_path(&method.path).map(|found| &found.path),
            Some(&method.path)
        );
        assert_eq!(
            methods::by_action(&method.action).map(|found| &found.path),
            Some(&method.path)
        );
    }
}

#[test]
fn routes_fit_their_requests() {
    for method in methods::all() {
        assert!(method.http.template.text.starts_with("/meshkit/"), "{}", method.path);
        for segment in &method.http.template.segments {
            if let Segment::Variable(name) = segment {
                let field = method.input.get_field_by_name(name);
                assert!(field.is_some_and(|field| !field.is_list()), "{}: `{name}`", method.path);
            }
        }
        let reads = method.http.verb == HttpVerb::Get;
        // What changes one node by itself is no mutation, which is the leader's.
        // Sessions are begun and ended by way of any node, as a backup is noted.
        let elsewhere = method.service == "NodeService" || method.service == "AuthService";
        // A simulation asks with a body, and changes nothing; what a peer says of itself is not replicated.
        let asks = method.name == "SimulateShards" || method.name == "Heartbeat";
        let changes = method.mutation || (elsewhere || asks) && !reads;
        assert_eq!(reads, !changes, "{}: GET is for reads alone", method.path);
        let bodiless = reads || method.http.verb == HttpVerb::Delete;
        assert_eq!(bodiless, !method.http.body, "{}", method.path);
        if bodiless {
            for field in method.input.fields() {
                let plain =
                    !field.is_map() && !matches!(field.kind(), Kind::Message(m) if m.package_name() == "meshkit.v1");
                assert!(plain, "{}: `{}` cannot be in a query", method.path, field.name());
            }
        }
    }
}

#[test]
fn no_word_twice_in_a_message() {
    for message in messages() {
        let mut words = HashSet::new();
        for kind in message.child_enums() {
            let zero = kind.default_value();
            assert!(
                zero.number() == 0 && zero.name().ends_with("_UNSPECIFIED"),
                "{}",
                kind.full_name()
            );
            for value in kind.values() {
                assert!(
                    words.insert(value.name().to_owned()),
                    "{}: {}",
                    message.full_name(),
                    value.name()
                );
            }
        }
    }
}

/// Every 64-bit field, with why it stays below 2^53, which JSON numbers hold exactly. A new one has to be argued here.
#[test]
fn wide_integers_fit_json_numbers() {
    let counted_by_commits = "one per commit at most: 2^53 commits take 28,000 years at 10,000 a second";
    let known: &[(&str, &str)] = &[
        ("version", counted_by_commits),
        ("created_revision", counted_by_commits),
        ("changed_revision", counted_by_commits),
        ("recorded_revision", counted_by_commits),
        ("after_revision", counted_by_commits),
        ("if_revision", counted_by_commits),
        ("revision", counted_by_commits),
        ("wait_version", counted_by_commits),
        ("epoch", "one per promotion or restore"),
        ("version_vector", "sequences: one per commit at most"),
        ("term", "one per election"),
        ("lag_entries", "entries of one log"),
        ("last_contact_ms", "milliseconds of one process"),
        ("mesh_time_ms", "milliseconds: 285,000 years"),
        ("id", "node ids are given out from 1"),
        ("node", "node ids are given out from 1"),
        ("from", "node ids are given out from 1"),
        ("to", "node ids are given out from 1"),
        ("removed", "node ids are given out from 1"),
        ("answered_by", "node ids are given out from 1"),
        ("oldest_revision", counted_by_commits),
        ("to_revision", counted_by_commits),
        ("rollback_of", counted_by_commits),
        ("last_checkpoint", counted_by_commits),
        ("checkpoints", counted_by_commits),
        ("value", "a setting: no range goes above 10^12"),
        ("default", "a setting: no range goes above 10^12"),
        ("min", "a setting: no range goes above 10^12"),
        ("max", "a setting: no range goes above 10^12"),
        ("before", "a setting: no range goes above 10^12"),
        ("after", "a setting: no range goes above 10^12"),
        ("ttl_ms", "milliseconds: seven days at most"),
        ("for_ms", "milliseconds: a day at most"),
        ("policy_version", counted_by_commits),
        ("begun", counted_by_commits),
        ("at_revision", counted_by_commits),
        ("from_revision", counted_by_commits),
        ("seen_revision", counted_by_commits),
        ("view_revision", counted_by_commits),
        ("mesh_epoch", "one per promotion or restore"),
        ("shard_epoch", counted_by_commits),
        ("epoch_before", counted_by_commits),
        ("epoch_after", counted_by_commits),
        ("capacity", "more is refused"),
        ("load", "more is refused"),
        ("telemetry", "more is refused"),
        ("keep_ms", "milliseconds: 285,000 years"),
    ];
    for message in messages() {
        for field in message.fields() {
            let kind = match field.kind() {
                Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                kind => kind,
            };
            let wide = matches!(
                kind,
                Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64
            );
            let argued = known.iter().any(|(name, _)| *name == field.name());
            assert!(!wide || argued, "{}: say why it stays below 2^53", field.full_name());
        }
    }
}

#[test]
fn lists_have_one_shape() {
    for method in methods::all()
        .iter()
        .filter(|method| method.output.get_field_by_name("next_cursor").is_some())
    {
        for name in ["items", "next_cursor", "revision", "epoch", "version_vector"] {
            assert!(
                method.output.get_field_by_name(name).is_some(),
                "{}: `{name}`",
                method.path
            );
        }
        for name in ["limit", "cursor"] {
            assert!(
                method.input.get_field_by_name(name).is_some(),
                "{}: `{name}`",
                method.path
            );
        }
    }
}

/// What leaves no line in the log of nodes where it went well.
#[test]
fn only_heartbeats_are_routine() {
    let routine = methods::all().iter().filter(|method| method.routine);
    assert_eq!(
        routine.map(|method| method.name.as_str()).collect::<Vec<_>>(),
        ["Heartbeat"]
    );
}

#[test]
fn mesh_mutations_take_the_same_options() {
    let cluster = [
        "InviteMember",
        "AddMember",
        "PromoteMember",
        "RemoveMember",
        "TransferLeadership",
        "DisarmAlarm",
    ];
    for method in methods::all()
        .iter()
        .filter(|method| method.mutation && !cluster.contains(&&*method.name))
    {
        let names = [
            ("reason", 100),
            ("ticket", 101),
            ("dry_run", 102),
            ("confirm", 103),
            ("if_match", 104),
            ("idempotency_key", 105),
            ("if_revision", 106),
        ];
        for (name, number) in names {
            let field = method.input.get_field_by_name(name);
            assert_eq!(
                field.map(|field| field.number()),
                Some(number),
                "{}: `{name}`",
                method.path
            );
        }
    }
}
