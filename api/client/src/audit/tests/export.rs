//! Exports: what was written reads back, and whatever is done to the file is found.

use std::io::Cursor;

use super::{
    super::{
        Report, Result,
        export::{CHECKPOINT, FORMAT, Frame, RECORD, frame, line},
        verify_export,
    },
    AuditCheckpoint, AuditRecord, Authority, ok, trail,
};

fn file(records: &[AuditRecord], checkpoints: &[AuditCheckpoint]) -> String {
    let mesh = "m1".to_owned();
    let mut text = ok(frame(&Frame::Export { format: FORMAT, mesh }));
    for record in records {
        ok(line(RECORD, record, &mut text));
    }
    for checkpoint in checkpoints {
        ok(line(CHECKPOINT, checkpoint, &mut text));
    }
    text + &end(records)
}

fn end(records: &[AuditRecord]) -> String {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        panic!("no records");
    };
    ok(frame(&Frame::End {
        records: records.len() as u64,
        first_revision: first.revision,
        last_revision: last.revision,
        head: last.hash.clone(),
    }))
}

fn verify(ca: &Authority, text: &str, exported: &[AuditCheckpoint]) -> Result<Report> {
    let open = || Ok(Cursor::new(text.as_bytes()));
    verify_export(open, Some(ca.pem.as_bytes()), exported, |_, _| {})
}

#[test]
fn what_was_exported_verifies_offline() {
    let (ca, records) = (Authority::new(), trail(9));
    let checkpoints = [ca.node(&records[3]), ca.node(&records[6])];
    let report = ok(verify(&ca, &file(&records, &checkpoints), &[]));
    assert_eq!((report.mesh.as_str(), report.records), ("m1", 9));
    assert_eq!((report.first_revision, report.last_revision), (1, 9));
    assert_eq!((report.checkpoints, report.covered_through), (2, Some(7)));
    assert!(report.anchored && report.signatures_checked);
    // A part in the middle begins behind a signed point, or where nothing vouches for what was before.
    let middle = ok(verify(&ca, &file(&records[4..8], &checkpoints), &[]));
    assert!(middle.anchored);
    let unanchored = ok(verify(&ca, &file(&records[2..8], &checkpoints), &[]));
    assert!(!unanchored.anchored);
    // What was kept elsewhere is compared as far as the file goes.
    let exported = [ca.node(&records[0]), ca.node(&records[5]), ca.node(&records[8])];
    let compared = ok(verify(&ca, &file(&records[4..8], &checkpoints), &exported));
    assert_eq!((compared.exported_matched, compared.exported_pruned), (1, 1));
    let mut forged = ca.node(&records[5]);
    forged.hash = records[4].hash.clone();
    assert!(verify(&ca, &file(&records[4..8], &checkpoints), &[forged]).is_err());
    let other = Authority::new();
    assert!(verify(&other, &file(&records, &checkpoints), &[]).is_err());
}

#[test]
fn a_file_that_was_touched_does_not_verify() {
    let (ca, records) = (Authority::new(), trail(6));
    let checkpoints = [ca.node(&records[3])];
    let whole = file(&records, &checkpoints);
    ok(verify(&ca, &whole, &[]));
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    let without = |left_out: usize| -> String {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != left_out);
        kept.map(|(_, line)| *line).collect()
    };
    for (left_out, line) in lines.iter().enumerate() {
        // Fewer signatures are no other trail: how far they reach is in the report.
        let is_checkpoint = line.starts_with(CHECKPOINT);
        assert_eq!(
            verify(&ca, &without(left_out), &[]).is_ok(),
            is_checkpoint,
            "line {left_out}"
        );
    }
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    assert!(verify(&ca, &swapped.concat(), &[]).is_err());
    for (from, to) in [
        (r#""actor":"alice""#, r#""actor":"mallory""#),
        (r#""reason":"why""#, r#""reason":"not""#),
        (r#""mesh":"m1""#, r#""mesh":"m2""#),
        (r#""format":1"#, r#""format":2"#),
        (r#""records":6"#, r#""records":5"#),
    ] {
        assert!(whole.contains(from), "{from}");
        assert!(verify(&ca, &whole.replacen(from, to, 1), &[]).is_err(), "{from}");
    }
    // Cut off anywhere.
    for cut in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        let error = verify(&ca, &whole[..cut], &[])
            .err()
            .map(|error| error.code().to_owned());
        assert!(
            matches!(error.as_deref(), Some("audit_broken" | "invalid_argument")),
            "{cut}: {error:?}"
        );
    }
    for garbage in ["", "\n", "{}\n", "[]\n", "no json\n", &format!("{whole}{whole}")] {
        assert!(verify(&ca, garbage, &[]).is_err(), "{garbage:.40}");
    }
}
