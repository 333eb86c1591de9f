//! The published contract against a node that runs (S8): an OpenAPI validator has nothing to say, and schemathesis, which
//! makes requests up from the document, finds no server error and no answer that the document does not describe.

use std::{fs, path::Path, time::Duration};

use node_harness::{Mesh, Options};

use super::{
    guide::{client, client_within, clients},
    wire::Wire,
    world::{caller, register, unique},
};

/// Requests that are made up for each operation, beside those that try every keyword of its schemas.
/// `MESHKIT_CONTRACT_EXAMPLES` asks for more; `scripts/soak.sh` does.
const EXAMPLES: u32 = 10;
/// How long the tool may take for each example it is asked for, with room for a machine that is busy with other tests: it
/// takes some 20 s for ten where it is alone.
const PER_EXAMPLE: Duration = Duration::from_secs(60);
/// What it makes up follows from this and the document, so that a run can be repeated; `MESHKIT_CONTRACT_SEED` names another.
const SEED: &str = "20261121";
/// Streams do not end, which the tool waits for; the tests of watches and backups hold them to the contract.
const STREAMS: &str = "watch|backup";
/// What takes the mesh away from under the test: the tests of members hold these to the contract.
const UNSETTLING: [&str; 2] = ["TransferLeadership", "RemoveMember"];
/// It asks that whatever fits the schemas is taken. The contract has rules that no schema can state: what is refused for
/// them is compared in the tests of each verb.
const LEFT_OUT: &str = "positive_data_acceptance";

#[test]
fn a_node_keeps_to_the_published_contract() {
    let Some(clients) = clients("contract") else { return };
    let mesh = Mesh::start(Options::default()).unwrap();
    register(&mesh, &unique("contract"));
    let document = mesh.scratch().join("openapi.json");
    fs::write(
        &document,
        caller(&mesh, 1, Wire::H2, "read").get("/openapi.json").ok().text,
    )
    .unwrap();

    let python = clients.join("bin/python");
    let mut validator = client(&mesh, &clients, &python);
    validator.args(["-m", "openapi_spec_validator"]).arg(&document);
    ends_well(validator, "the OpenAPI validator");

    let examples = std::env::var("MESHKIT_CONTRACT_EXAMPLES").map_or(EXAMPLES, |number| number.parse().unwrap());
    let mut schemathesis = client_within(&mesh, &clients, Path::new("st"), PER_EXAMPLE * examples);
    schemathesis.arg("run").arg(&document);
    schemathesis
        .args(["--url", &mesh.node(1).unwrap().api, "--no-color", "--tls-verify"])
        .arg(&mesh.info().ca);
    schemathesis.args([
        "-H",
        &format!("Authorization: Bearer {}", mesh.info().tokens.by_name()["admin"]),
    ]);
    // Whichever node leads.
    schemathesis.args(["-H", "Mesh-Route: forward", "--phases", "examples,coverage,fuzzing"]);
    // A node that is read as it is may be behind a revision that is asked for, and says so: 503, `future`. That is no fault.
    schemathesis.args(["-H", "Mesh-Consistency: linearizable"]);
    let seed = std::env::var("MESHKIT_CONTRACT_SEED").unwrap_or_else(|_| SEED.to_owned());
    schemathesis.args(["--seed", &seed]);
    schemathesis.args(["--max-examples", &examples.to_string(), "--exclude-path-regex", STREAMS]);
    schemathesis.args(["--exclude-checks", LEFT_OUT]);
    for operation in UNSETTLING {
        schemathesis.args(["--exclude-operation-id", operation]);
    }
    let told = ends_well(schemathesis, "schemathesis");
    let said = told.lines().find_map(|line| line.trim().split_once(" generated, "));
    let made: u32 = said.and_then(|(made, _)| made.parse().ok()).unwrap_or_default();
    assert!(made > 1_000, "it made up {made} requests only:\n{told}");
    // It made up what a mesh must survive: the nodes are still of one mind.
    super::world::agreed(&mesh);
    mesh.stop().unwrap();
}

fn ends_well(mut command: std::process::Command, what: &str) -> String {
    let done = command.output().unwrap();
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    // `timeout` ends with 124 where it had to end what it ran.
    assert_ne!(
        done.status.code(),
        Some(124),
        "{what} did not end in time; so far:\n{told}\n{errors}"
    );
    let status = done.status;
    assert!(status.success(), "{what} found something ({status}):\n{told}\n{errors}");
    told
}
