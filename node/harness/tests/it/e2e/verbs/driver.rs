//! Runs the table: each verb, over each wire, through each of its cases.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::Ordering,
    thread,
};

use proto::{
    codes::Code,
    methods::{self, Form, Method, Scope},
};

use super::{
    rows::{self, Case, Noted, Row, Rule, Trails},
    world::{Ask, Came, PEOPLE, Trail, WIRES, World},
};
use crate::e2e::{
    wire::{Wire, method},
    world::{timeless, unique},
};

/// How many refusals of one principal a node writes into the trail at once; more would be counted only.
const REFUSALS_AT_ONCE: usize = 12;

/// Every method of the contract has a row, every row a method, and no mutation leaves a case out without need.
pub fn table_is_whole(table: &[Row]) {
    for method in methods::all() {
        let rows: Vec<_> = table.iter().filter(|row| row.rpc == method.name).collect();
        assert_eq!(
            rows.len(),
            1,
            "{} has no row of its own in the table of verbs",
            method.name
        );
        complete(method, rows[0]);
    }
    assert_eq!(table.len(), methods::all().len(), "a row of no method");
}

fn complete(method: &Method, row: &Row) {
    let why = |case: Case| match case {
        Case::Runs => "runs",
        Case::Refused(why) | Case::Void(why) => why,
    };
    for case in [row.stale_etag, row.replay, row.dry_run] {
        assert!(
            !why(case).is_empty(),
            "{}: a case is left out without a reason",
            row.rpc
        );
    }
    if let Rule::None(why) = row.rule {
        assert!(!why.is_empty(), "{}: no rule, and no reason", row.rpc);
    }
    if !method.mutation {
        return;
    }
    assert_eq!(row.trails, Trails::Record, "{}", row.rpc);
    assert_eq!((row.replay, row.dry_run), (Case::Runs, Case::Runs), "{}", row.rpc);
    assert!(matches!(row.rule, Rule::By(..)), "{}", row.rpc);
    let takes_etag = method.input.get_field_by_name("if_match").is_some();
    match row.stale_etag {
        Case::Runs => assert!(takes_etag, "{}", row.rpc),
        // What begins an operation is answered by it, and changes no one record.
        Case::Refused(_) => assert!(!takes_etag || row.rpc == "DrainPeers", "{}", row.rpc),
        Case::Void(_) => panic!("{}: an ETag that is ignored", row.rpc),
    }
}

/// Runs every case of every verb, what cannot be done at the same time one after the other.
pub fn run(world: &World<'_>) {
    let table = rows::all();
    table_is_whole(&table);
    let (streams, others): (Vec<_>, Vec<_>) = table.iter().partition(|row| method(row.rpc).form == Form::Events);
    // One change of members at a time, one alarm, one log level: these have a lane of their own.
    let (nodes, others): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|row| matches!(method(row.rpc).service.as_str(), "ClusterService" | "NodeService"));
    let (changing, reading): (Vec<_>, Vec<_>) = others.into_iter().partition(|row| method(row.rpc).mutation);
    thread::scope(|scope| {
        for row in &streams {
            for wire in WIRES {
                scope.spawn(move || try_case(world, || success(world, row, wire)));
            }
        }
        for lane in [nodes, changing, reading] {
            scope.spawn(move || {
                for row in lane {
                    for wire in WIRES {
                        cases(world, row, wire);
                    }
                }
            });
        }
        scope.spawn(|| scopes(world, &table));
    });
    for check in [
        World::refusals_are_there,
        World::trail_is_as_expected,
        World::everything_was_counted,
    ] {
        try_case(world, || check(world));
    }
    assert_eq!(world.failed.load(Ordering::Relaxed), 0, "cases failed: see above");
}

fn cases(world: &World<'_>, row: &Row, wire: Wire) {
    for case in [success, stale_etag, replay, rule, dry_run] {
        try_case(world, || case(world, row, wire));
    }
}

/// Runs a case; one that fails does not keep the others from being run.
fn try_case(world: &World<'_>, case: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(case)).is_err() {
        world.failed.fetch_add(1, Ordering::Relaxed);
    }
}

fn name(row: &Row, wire: Wire, case: &str) -> String {
    format!("{} over {wire:?}, {case}", row.rpc)
}

fn who(ask: &Ask) -> &'static str {
    // Sessions are begun by the operator.
    ask.who.unwrap_or("operate")
}

fn call(world: &World<'_>, row: &Row, wire: Wire, ask: &Ask, more: &[(&'static str, &str)]) -> Came {
    world.call(row.rpc, world.leader, wire, ask, more)
}

/// It is done, answered as the contract says, and in the trail.
fn success(world: &World<'_>, row: &Row, wire: Wire) {
    let (of, ask) = (name(row, wire, "success"), (row.ask)(world));
    let came = call(world, row, wire, &ask, &[]);
    let reply = &came.reply;
    match method(row.rpc).form {
        Form::Message | Form::Download => {
            assert!(reply.is_ok() && reply.status == 200, "{of}: {reply:?}");
            assert_eq!(reply.grpc, (!wire.is_rest()).then_some(0), "{of}");
        }
        // Until its time was over.
        Form::Events => {
            let begun = reply.text.contains("begun") || reply.text.contains(wire.label());
            assert!(begun && reply.status == 200, "{of}: {reply:?}");
            let over = Code::DeadlineExceeded;
            match reply.grpc {
                Some(status) => assert_eq!((status, reply.code()), (over.grpc() as i32, over.as_str()), "{of}"),
                None => assert!(
                    reply.text.contains("event: error") && reply.text.contains(over.as_str()),
                    "{of}: {reply:?}"
                ),
            }
        }
    }
    if method(row.rpc).form == Form::Message {
        assert!(reply.json.is_object(), "{of}: {reply:?}");
        let has_etag = method(row.rpc).output.get_field_by_name("etag").is_some();
        assert!(!has_etag || !reply.etag().is_empty(), "{of}: no ETag: {reply:?}");
    }
    assert_eq!(reply.header("mesh-replayed"), "", "{of}");
    assert_eq!(reply.header("mesh-request-id"), came.request_id, "{of}");
    expect_success(world, row, wire, of, &ask, &came);
}

fn expect_success(world: &World<'_>, row: &Row, wire: Wire, of: String, ask: &Ask, came: &Came) {
    let trail = match row.trails {
        Trails::Record => Trail::Record("APPLIED", ask.target.clone(), ""),
        Trails::Counted => Trail::Nothing,
    };
    world.expect(of, row.rpc, wire, who(ask), came, trail);
}

/// An ETag that the record has not: refused, with the one that it has.
fn stale_etag(world: &World<'_>, row: &Row, wire: Wire) {
    let (of, ask) = (name(row, wire, "stale ETag"), (row.ask)(world));
    let given = if wire.is_rest() {
        "\"never-issued\""
    } else {
        "never-issued"
    };
    let send = || call(world, row, wire, &ask, &[("if-match", given)]);
    match row.stale_etag {
        Case::Runs => {
            let came = send();
            let reply = refused(&of, &came, "etag_mismatch");
            measured(&of, &came);
            let made = matches!(row.rpc, "RegisterPeer" | "ApplyCluster" | "CreateNamespace");
            assert_eq!(
                reply["currentEtag"].is_string() && reply["currentEtag"] != "",
                !made,
                "{of}: {reply}"
            );
            let trail = Trail::Record("REJECTED", ask.target.clone(), "etag_mismatch");
            world.expect(of, row.rpc, wire, who(&ask), &came, trail);
        }
        Case::Refused(_) => not_taken(world, row, wire, of, &ask, send()),
        Case::Void(_) => {}
    }
}

/// A key that was used: the first answer again, and nothing twice.
fn replay(world: &World<'_>, row: &Row, wire: Wire) {
    let (of, ask) = (name(row, wire, "replay"), (row.ask)(world));
    if row.replay != Case::Runs {
        return;
    }
    let key = unique("verbs-key");
    let send = || call(world, row, wire, &ask, &[("idempotency-key", &key)]);
    let first = send();
    assert!(
        first.reply.is_ok() && first.reply.header("mesh-replayed").is_empty(),
        "{of}: {:?}",
        first.reply
    );
    expect_success(world, row, wire, of.clone(), &ask, &first);
    let again = send();
    assert!(again.reply.is_ok(), "{of}: {:?}", again.reply);
    assert_eq!(again.reply.header("mesh-replayed"), "true", "{of}: {:?}", again.reply);
    // What is no record is shown as it is now.
    if method(row.rpc).output.get_field_by_name("etag").is_some() {
        assert_eq!(timeless(&again.reply.json), timeless(&first.reply.json), "{of}");
        assert_eq!(again.reply.etag(), first.reply.etag(), "{of}");
    }
    let target = ask.target.replace("{id}", first.reply.str("id"));
    world.expect(
        of,
        row.rpc,
        wire,
        who(&ask),
        &again,
        Trail::Record("REPLAYED", target, ""),
    );
}

/// A rule stands against it: its name, what was measured, the limit, and how to go on.
fn rule(world: &World<'_>, row: &Row, wire: Wire) {
    let Rule::By(ask, code, noted) = row.rule else { return };
    let (of, ask) = (name(row, wire, "failed precondition"), ask(world));
    let came = call(world, row, wire, &ask, &[]);
    refused(&of, &came, code);
    measured(&of, &came);
    match noted {
        Noted::Rejected(code) => {
            let trail = Trail::Record("REJECTED", ask.target.clone(), code);
            world.expect(of, row.rpc, wire, who(&ask), &came, trail);
        }
        Noted::Refusal => {
            world.expect(of, row.rpc, wire, who(&ask), &came, Trail::Nothing);
            world.expect_refusal(row.rpc, who(&ask), code);
        }
    }
}

/// Nothing happens, and what would is said.
fn dry_run(world: &World<'_>, row: &Row, wire: Wire) {
    let (of, ask) = (name(row, wire, "dry run"), (row.ask)(world));
    let send = |ask: &Ask| call(world, row, wire, ask, &[("mesh-dry-run", "true")]);
    match row.dry_run {
        Case::Runs => {
            let came = send(&ask);
            assert!(came.reply.is_ok(), "{of}: {:?}", came.reply);
            assert_eq!(came.reply.header("mesh-dry-run"), "true", "{of}: {:?}", came.reply);
            world.expect(of, row.rpc, wire, who(&ask), &came, Trail::Nothing);
        }
        Case::Refused(_) => return not_taken(world, row, wire, of, &ask, send(&ask)),
        Case::Void(_) => return,
    }
    // It is refused as the commit would be, and neither is that in the trail.
    if let Rule::By(ask, code, _) = row.rule {
        let (of, ask) = (name(row, wire, "dry run of what a rule stands against"), ask(world));
        let came = send(&ask);
        refused(&of, &came, code);
        measured(&of, &came);
        world.expect(of, row.rpc, wire, who(&ask), &came, Trail::Nothing);
    }
}

/// What a verb does not take is refused, never ignored.
fn not_taken(world: &World<'_>, row: &Row, wire: Wire, of: String, ask: &Ask, came: Came) {
    refused(&of, &came, "invalid_argument");
    world.expect(of, row.rpc, wire, who(ask), &came, Trail::Nothing);
}

fn refused<'a>(of: &str, came: &'a Came, code: &str) -> &'a serde_json::Value {
    let reply = &came.reply;
    assert_eq!(reply.code(), code, "{of}: {reply:?}");
    let kind = Code::of(code);
    match reply.grpc {
        Some(status) => assert_eq!(status, kind.grpc() as i32, "{of}: {reply:?}"),
        None => {
            assert_eq!(reply.status, kind.http(), "{of}: {reply:?}");
            assert_eq!(
                reply.header("content-type"),
                "application/problem+json",
                "{of}: {reply:?}"
            );
        }
    }
    assert_eq!(reply.str("requestId"), came.request_id, "{of}");
    for member in ["detail", "hint"] {
        assert!(!reply.str(member).is_empty(), "{of}: no {member}: {reply:?}");
    }
    &reply.json
}

fn measured(of: &str, came: &Came) {
    for member in ["measured", "limit"] {
        assert!(
            !came.reply.str(member).is_empty(),
            "{of}: no {member}: {:?}",
            came.reply
        );
    }
}

/// Each verb, asked for by everybody who may not, at every node, and by nobody.
fn scopes(world: &World<'_>, table: &[Row]) {
    let mut asked = Vec::new();
    for row in table {
        for wire in WIRES {
            let nobody = Ask {
                who: None,
                ..lacking(row, "read")
            };
            let came = world.call(row.rpc, world.leader, wire, &nobody, &[]);
            assert_eq!(
                came.reply.code(),
                "unauthenticated",
                "{}: {:?}",
                name(row, wire, "nobody"),
                came.reply
            );
            world.expect(name(row, wire, "nobody"), row.rpc, wire, "read", &came, Trail::Nothing);
            let needed = method(row.rpc).scope;
            // What a peer may do, nobody else may.
            let lacks = |holds: &str| needed == Scope::Peer || Scope::parse(holds).unwrap() < needed;
            let below = PEOPLE.iter().filter(|(_, holds)| lacks(holds));
            asked.extend(below.map(|(who, _)| (row, wire, *who)));
        }
    }
    let nodes = world.mesh.ids();
    for (who, _) in PEOPLE {
        let own: Vec<_> = asked.iter().filter(|(_, _, by)| *by == who).collect();
        for round in own.chunks(REFUSALS_AT_ONCE * nodes.len()) {
            for (at, (row, wire, _)) in round.iter().enumerate() {
                try_case(world, || missing(world, row, *wire, who, nodes[at % nodes.len()]));
            }
            world.refusals_are_there();
        }
    }
}

fn missing(world: &World<'_>, row: &Row, wire: Wire, who: &'static str, node: u64) {
    let of = name(row, wire, who);
    let came = world.call(row.rpc, node, wire, &lacking(row, who), &[]);
    let problem = refused(&of, &came, "scope_missing");
    assert_eq!(problem["missingScope"], method(row.rpc).scope.as_str(), "{of}");
    world.expect(of, row.rpc, wire, who, &came, Trail::Nothing);
    world.expect_refusal(row.rpc, who, "scope_missing");
}

/// A request that gets no further than to who asks: only what its path is made of.
fn lacking(row: &Row, who: &'static str) -> Ask {
    let fields: Vec<_> = method(row.rpc)
        .input
        .fields()
        .map(|field| field.name().to_owned())
        .collect();
    let request = match row.rpc {
        "RemoveMember" | "PromoteMember" => serde_json::json!({ "id": 77 }),
        "AddMember" | "InviteMember" => serde_json::json!({ "id": 77 }),
        _ if fields.iter().any(|field| field == "shard") && !method(row.rpc).form.is_stream() => {
            serde_json::json!({ "namespace": "nobody", "shard": 0 })
        }
        _ if fields.iter().any(|field| field == "id") && !method(row.rpc).form.is_stream() => {
            serde_json::json!({ "id": "nobody" })
        }
        _ => serde_json::json!({}),
    };
    Ask::new(request, "").by(who)
}
