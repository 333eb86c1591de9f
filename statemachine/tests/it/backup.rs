//! Backups: what goes in comes out, and nothing that was changed on the way is taken for it.

use meshkit_statemachine::{
    self as sm, ClusterId, Epoch, Event, Outcome, Rejection, RestoreMesh, Revision, TimelineId,
    backup::{Check, Checked, Decoder, Encoder, End, Header, Part, Row, TABLES, index_rows},
    record::{ClusterPhase, Kind},
    rows::{Table, history_key},
};

use crate::world::{World, peer_id, register};

fn world() -> World {
    let mut world = World::new();
    for n in 1..=5 {
        world.run(register(n)).unwrap();
    }
    world.run(sm::DrainPeer { id: peer_id(2) }.into()).unwrap();
    world.run(sm::DeregisterPeer { id: peer_id(5) }.into()).unwrap();
    world
}

/// A backup of a world, a few rows to a part.
pub fn save(world: &World) -> Vec<u8> {
    let header = Header::of(&world.state, ClusterId::new("c1").unwrap(), 5).unwrap();
    let (mut encoder, mut bytes) = Encoder::begin(header);
    for table in TABLES {
        let rows: Vec<Row> = world
            .rows
            .get(&table)
            .into_iter()
            .flatten()
            .filter(|(key, _)| table == Table::Records || **key >= history_key(world.state.mesh.floor()).to_vec())
            .map(|(key, value)| Row::new(table, key.clone(), value.clone()).unwrap())
            .collect();
        for rows in rows.chunks(3) {
            bytes.extend(encoder.rows(rows.to_vec()));
        }
    }
    bytes.extend(encoder.end().1);
    bytes
}

/// Every part of a backup, pushed in pieces of this size.
fn parts(bytes: &[u8], piece: usize) -> Result<(Vec<Part>, End), String> {
    let mut decoder = Decoder::new();
    let mut parts = Vec::new();
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        while let Some(part) = decoder.part().map_err(|damage| damage.to_string())? {
            parts.push(part);
        }
    }
    let end = decoder.finish().map_err(|damage| damage.to_string())?;
    Ok((parts, end))
}

pub fn check(bytes: &[u8]) -> Result<Checked, String> {
    let (parts, end) = parts(bytes, 4096)?;
    let mut check = Check::new();
    for part in &parts {
        check.part(part).map_err(|wrong| wrong.to_string())?;
    }
    check.finish(end).map_err(|wrong| wrong.to_string())
}

#[test]
fn a_backup_is_the_state_again() {
    let world = world();
    let bytes = save(&world);
    assert_eq!(parts(&bytes, 1), parts(&bytes, 1 << 20));
    let Checked { contents, state } = check(&bytes).unwrap();
    assert_eq!(state.mesh.digest(), world.state.mesh.digest());
    assert_eq!(contents.header.digest, world.state.mesh.digest());
    assert_eq!((contents.peers, contents.revisions), (4, 8));
    assert!(contents.anchored);
    assert_eq!(contents.end.bytes as usize, bytes.len() - end_bytes(&bytes));

    // The index is what the history says.
    let mut index: Vec<_> = world.rows[&Table::History]
        .values()
        .flat_map(|row| index_rows(row).unwrap())
        .collect();
    index.sort();
    let stored: Vec<_> = world.rows[&Table::Index].keys().cloned().collect();
    assert_eq!(index, stored);
}

/// How long the last part is.
fn end_bytes(bytes: &[u8]) -> usize {
    let mut at = sm::backup::MAGIC.len();
    loop {
        let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let next = at + 4 + length + 8;
        if next == bytes.len() {
            return next - at;
        }
        at = next;
    }
}

/// The file itself, for programs that have to read it ever after. `MESHKIT_BLESS=1` writes it.
#[test]
fn the_file_is_pinned() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mesh.backup");
    let bytes = save(&world());
    if std::env::var_os("MESHKIT_BLESS").is_some() {
        std::fs::write(&path, &bytes).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_default();
    assert!(golden == bytes, "{} differs: an encoding changed", path.display());
    assert_eq!(check(&golden).unwrap().contents.peers, 4);
}

#[test]
fn every_flipped_bit_and_every_cut_is_found_and_named() {
    let bytes = save(&world());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let damage = parts(&bad, 4096).unwrap_err();
        let place: usize = damage
            .split("at byte ")
            .nth(1)
            .and_then(|rest| rest.split(':').next()?.parse().ok())
            .unwrap_or_else(|| panic!("byte {at}: {damage}"));
        // The part that it names has the byte in it, or (where a length was hit) begins before it.
        assert!(place <= at, "byte {at} was flipped: {damage}");
    }
    for length in 0..bytes.len() {
        let damage = parts(&bytes[..length], 4096).unwrap_err();
        assert!(damage.contains("breaks off"), "cut to {length}: {damage}");
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    assert!(parts(&longer, 4096).unwrap_err().contains("follows the end"));
}

#[test]
fn parts_of_two_backups_do_not_make_one() {
    let (first, mut later) = (world(), world());
    later.run(register(9)).unwrap();
    let (one, two) = (save(&first), save(&later));
    // Same header length: the rest of one behind the header of the other.
    let header = sm::backup::MAGIC.len() + 12 + u32::from_be_bytes(one[16..20].try_into().unwrap()) as usize;
    let mixed = [&one[..header], &two[header..]].concat();
    assert!(parts(&mixed, 4096).unwrap_err().contains("checksum"));
}

#[test]
fn rows_that_do_not_hold_together_are_found_though_the_file_is_whole() {
    let lost = |table: Table, which: usize| {
        let mut world = world();
        let key = world.rows[&table].keys().nth(which).unwrap().clone();
        world.rows.get_mut(&table).unwrap().remove(&key);
        check(&save(&world)).unwrap_err()
    };
    assert!(
        lost(Table::Records, 3).contains("digest"),
        "{}",
        lost(Table::Records, 3)
    );
    assert!(lost(Table::History, 4).contains("does not follow"));
    assert!(
        lost(Table::History, 0).contains("begin at revision 1"),
        "{}",
        lost(Table::History, 0)
    );
    assert!(lost(Table::History, 7).contains("newest revision is missing"));

    let mut altered = world();
    let (key, row) = altered.rows[&Table::History]
        .iter()
        .nth(3)
        .map(|(k, v)| (k.clone(), v.clone()))
        .unwrap();
    let mut row = row;
    row[10] ^= 1;
    altered.rows.get_mut(&Table::History).unwrap().insert(key, row);
    assert!(check(&save(&altered)).unwrap_err().contains("do not hash"));
}

fn restore(world: &mut World, cluster: &str, timeline: u128) -> Result<Vec<Event>, Rejection> {
    let command = RestoreMesh {
        mesh: world.state.mesh.mesh().unwrap().id.clone(),
        cluster: ClusterId::new(cluster).unwrap(),
        timeline: TimelineId(timeline),
    };
    let recorded = world.run(command.into())?;
    match &recorded.unit.outcome {
        Outcome::Applied { events, .. } => Ok(events.clone()),
        Outcome::Rejected(_) | Outcome::Replayed { .. } | Outcome::Staged { .. } => panic!("{recorded:?}"),
    }
}

#[test]
fn a_restored_mesh_goes_on_on_its_own_timeline() {
    let mut world = world();
    let before = world.state.mesh.position();
    let events = restore(&mut world, "c2", 77).unwrap();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::MeshRestored(line) if line.fork == before.revision))
    );
    let mesh = &world.state.mesh;
    let record = mesh.mesh().unwrap();
    let timeline = record.timeline().unwrap();
    assert_eq!(mesh.position().timeline, TimelineId(77));
    assert_eq!(mesh.position().revision, before.revision.next());
    assert_eq!((timeline.epoch, timeline.parent), (Epoch(2), Some(before.timeline)));
    assert_eq!((timeline.fork, timeline.cluster.as_str()), (before.revision, "c2"));
    let state = |id: &str| mesh.cluster(&ClusterId::new(id).unwrap()).unwrap().state;
    assert_eq!(
        (state("c1"), state("c2")),
        (ClusterPhase::Maintenance, ClusterPhase::Active)
    );
    assert!(
        mesh.version_vector()
            .any(|(id, epoch, _)| id.as_str() == "c2" && epoch == Epoch(2))
    );
    // A record that changes from here on has an ETag of the new timeline, and the next command follows.
    world.run(register(8)).unwrap();
    assert_eq!(
        world.state.mesh.meta(Kind::Peer, "p8").unwrap().changed.timeline,
        TimelineId(77)
    );
    // And it can be backed up and checked in turn, over the fork.
    assert_eq!(check(&save(&world)).unwrap().contents.header.epoch, Epoch(2));
}

#[test]
fn a_restore_that_is_refused_begins_no_timeline() {
    let mut world = world();
    let before = world.state.mesh.position();
    assert!(matches!(
        restore(&mut world, "c1", 77),
        Err(Rejection::AlreadyExists { .. })
    ));
    let used = before.timeline.0;
    assert!(matches!(
        restore(&mut world, "c2", used),
        Err(Rejection::InvalidArgument { .. })
    ));
    let position = world.state.mesh.position();
    assert_eq!(
        (position.timeline, position.revision),
        (before.timeline, Revision(before.revision.0 + 2))
    );
    assert_eq!(world.state.mesh.epoch(), Epoch(1));
}
