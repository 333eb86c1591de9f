//! `mesh backup`: what is shown and sent, and that no half file is left behind.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use proto::v1::{BackupChunk, Problem, SaveBackupRequest};
use tonic::Code;

use crate::{
    Ran,
    fake::{BREAKS_OFF, Fake, Reply},
    golden::{check, shown},
    mesh, mesh_with,
};

/// A backup as it was written once.
fn file() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../statemachine/tests/golden/mesh.backup")).unwrap()
}

fn node(data: Vec<u8>) -> Fake {
    let fake = Fake::default();
    fake.says("SaveBackup", [Reply::ok(&BackupChunk { data })]);
    fake
}

/// Without the directory that differs from run to run.
fn plain(ran: &Ran, directory: &Path) -> String {
    shown(ran).replace(&format!("{}/", directory.display()), "")
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn save_and_verify_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.backup");
    let at = path.display();
    for format in ["table", "json", "yaml", "jsonl", "name"] {
        let fake = node(file());
        let ran = mesh(
            &fake,
            &format!("backup save {at} --force --reason night --ticket OPS-1 -o {format}"),
        )
        .await;
        check(&format!("backup-save.{format}.txt"), &plain(&ran, directory.path()));
        let asked: SaveBackupRequest = fake.asked()[0].message();
        assert_eq!((asked.reason.as_str(), asked.ticket.as_str()), ("night", "OPS-1"));
        assert_eq!(fs::read(&path).unwrap(), file());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Needs no mesh.
        let ran = mesh_with(&format!("backup verify {at} -o {format}"), &[]).await;
        check(&format!("backup-verify.{format}.txt"), &plain(&ran, directory.path()));
    }
    assert_eq!(files(directory.path()), ["mesh.backup"]);
}

#[tokio::test]
async fn what_is_not_whole_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.backup");
    let save = format!("backup save {}", path.display());
    let whole = file();
    let cut = whole[..whole.len() - 20].to_vec();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let denied = Problem {
        code: "scope_missing".into(),
        detail: "it needs mesh.admin".into(),
        ..Problem::default()
    };
    let broken = Fake::default();
    let chunk = BackupChunk { data: cut.clone() };
    let Reply::Message(bytes, _) = Reply::ok(&chunk) else {
        panic!("a reply of another kind");
    };
    broken.says(
        "SaveBackup",
        [Reply::Message(bytes, vec![(BREAKS_OFF, "1".to_owned())])],
    );
    let refusing = Fake::default();
    refusing.says("SaveBackup", [Reply::Problem(Code::PermissionDenied, denied)]);
    for (fake, exit, said) in [
        (node(cut), 1, "breaks off"),
        (node(flipped), 1, "checksum"),
        (node(b"something else altogether".to_vec()), 1, "no backup"),
        (broken, 3, "broke"),
        (refusing, 4, "mesh.admin"),
    ] {
        let ran = mesh(&fake, &save).await;
        assert_eq!(ran.exit, exit, "{}", ran.err);
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
        assert!(files(directory.path()).is_empty(), "{:?}", files(directory.path()));
    }
    // What an earlier one left that was killed is no hindrance.
    fs::write(directory.path().join("mesh.backup.part"), vec![7; 100_000]).unwrap();
    assert_eq!(mesh(&node(whole.clone()), &save).await.exit, 0);
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[tokio::test]
async fn a_file_that_is_there_is_not_replaced_and_nobody_is_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.backup");
    fs::write(&path, "mine").unwrap();
    let fake = node(file());
    let ran = mesh(&fake, &format!("backup save {}", path.display())).await;
    check("backup-exists.table.txt", &plain(&ran, directory.path()));
    let ran = mesh(&fake, &format!("backup save {}", directory.path().display())).await;
    assert_eq!(ran.exit, 2, "{}", ran.err);
    let ran = mesh(&fake, &format!("backup save {}/not/there", directory.path().display())).await;
    assert_eq!(ran.exit, 2, "{}", ran.err);
    assert!(fake.asked().is_empty());
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    // Another one that is writing it.
    let part = fs::File::create(directory.path().join("other.part")).unwrap();
    part.lock().unwrap();
    let ran = mesh(&fake, &format!("backup save {}/other", directory.path().display())).await;
    assert_eq!(ran.exit, 5, "{}", ran.err);
}

#[tokio::test]
async fn damage_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.backup");
    let mut bad = file();
    let middle = bad.len() / 2;
    bad[middle] ^= 8;
    fs::write(&path, &bad).unwrap();
    let ran = mesh_with(&format!("backup verify {}", path.display()), &[]).await;
    check("backup-damaged.table.txt", &plain(&ran, directory.path()));
    let ran = mesh_with(&format!("backup verify {} -o json", path.display()), &[]).await;
    check("backup-damaged.json.txt", &plain(&ran, directory.path()));
    fs::write(&path, &file()[..middle]).unwrap();
    let ran = mesh_with(&format!("backup verify {}", path.display()), &[]).await;
    check("backup-cut.table.txt", &plain(&ran, directory.path()));
}
