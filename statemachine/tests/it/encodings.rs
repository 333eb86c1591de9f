//! Golden bytes of everything that is stored: what feature level 1 writes must be readable for ever.

use std::{fmt::Write as _, fs, path::PathBuf};

use meshkit_statemachine::{
    DrainPeer, Entry,
    codec::{self, Format},
    rows::Table,
};

use crate::world::{World, key, peer_id, register};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Compares with the golden file; `MESHKIT_BLESS=1` writes it.
fn golden(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("MESHKIT_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == text,
        "{} differs; an encoding changed:\n{text}",
        path.display()
    );
}

#[test]
fn level_1() {
    let mut world = World::new();
    world.run(register(1)).unwrap();
    let mut proposal = world.proposal(DrainPeer { id: peer_id(1) }.into());
    proposal.origin.reason = "kernel".into();
    proposal.origin.ticket = "OPS-1".into();
    proposal.origin.idempotency = key("key-1", 7);
    let entry = Entry::Command(Box::new(proposal.clone()));
    let mut text = format!("entry {}\n", hex(&codec::encode(Format::Entry, &entry)));
    assert_eq!(
        codec::decode::<Entry>(Format::Entry, &codec::encode(Format::Entry, &entry)),
        Ok(entry)
    );
    world.propose(proposal);
    for table in Table::ALL {
        for (key, value) in world.rows.get(&table).into_iter().flatten() {
            writeln!(text, "{table:?} {} {}", hex(key), hex(value)).unwrap();
        }
    }
    writeln!(text, "head {}", hex(&world.state.head_row())).unwrap();
    golden("level-1.txt", &text);
}
