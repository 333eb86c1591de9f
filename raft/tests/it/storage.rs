//! The library's storage suite, on both engines; damage in RocksDB's files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshkit_raft::engine::{Batch, Durability, Engine, EngineError, Store, Table};
use meshkit_raft::testing::{self, Disks, Engines, Network, storage_suite};
use meshkit_raft::{Fatal, FatalKind, Handle, Threads};
use raft_rocksdb::{Options, RocksEngine};
use statemachine::NodeId;
use tempfile::TempDir;

use crate::world::{init, register, soon};

#[test]
fn the_suite_passes_on_the_simulated_engine() {
    storage_suite(Threads::Inline, || ((), Disks::default().open())).unwrap();
}

#[test]
fn the_suite_passes_on_rocksdb() {
    storage_suite(Threads::Own, || {
        let folder = tempfile::tempdir().unwrap();
        let engines = open(folder.path()).unwrap();
        (folder, engines)
    })
    .unwrap();
}

fn open(folder: &Path) -> Result<Engines, EngineError> {
    let engine = |store: Store| -> Result<Arc<dyn Engine>, EngineError> {
        let path = folder.join(store.as_str());
        Ok(Arc::new(RocksEngine::open(&path, store, &Options::default())?))
    };
    Ok(Engines {
        log: engine(Store::Log)?,
        state: engine(Store::State)?,
    })
}

async fn boot(folder: &Path) -> Result<Handle, Fatal> {
    let engines = open(folder).map_err(|e| e.to_fatal())?;
    testing::start_node(&Network::default(), 1, engines, testing::config()).await
}

/// A node of its own cluster with a few peers, stopped again.
async fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let handle = boot(folder.path()).await.unwrap();
    handle
        .initialize(vec![(NodeId(1), testing::endpoint(1))], soon())
        .await
        .unwrap();
    let mut status = handle.watch_status();
    status.wait_for(|s| s.is_leader()).await.unwrap();
    handle.propose(init(), soon()).await.unwrap();
    for n in 0..100 {
        handle.propose(register(n), soon()).await.unwrap();
    }
    handle.shutdown(Duration::from_secs(10)).await.unwrap();
    folder
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == extension))
        .filter(|path| std::fs::metadata(path).unwrap().len() > 512)
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_everything() {
    let folder = written().await;
    let handle = boot(folder.path()).await.unwrap();
    handle.recovered(soon()).await.unwrap();
    assert_eq!(handle.view().state().mesh.peer_count(), 100);
    assert_eq!(handle.view().position().revision.0, 101);
    handle.shutdown(Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_log_is_found_and_named() {
    let folder = written().await;
    let file = files(&folder.path().join("log"), "log")
        .pop()
        .expect("a write-ahead log");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let fatal = boot(folder.path()).await.expect_err("damage");
    assert_eq!(fatal.kind, FatalKind::Corrupt, "{fatal}");
    assert!(fatal.detail.contains("log"), "{fatal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_log_is_found_and_named() {
    let folder = written().await;
    let file = files(&folder.path().join("log"), "log")
        .pop()
        .expect("a write-ahead log");
    let length = std::fs::metadata(&file).unwrap().len();
    std::fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len(length / 2)
        .unwrap();
    let fatal = boot(folder.path()).await.expect_err("damage");
    assert_eq!(fatal.kind, FatalKind::Corrupt, "{fatal}");
    assert!(fatal.detail.contains("log"), "{fatal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_state_is_found_and_named() {
    let folder = written().await;
    let mut found = 0;
    for file in files(&folder.path().join("state"), "sst") {
        let copy = tempfile::tempdir().unwrap();
        for store in ["log", "state"] {
            copy_folder(&folder.path().join(store), &copy.path().join(store));
        }
        let file = copy.path().join("state").join(file.file_name().unwrap());
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        match boot(copy.path()).await {
            Err(fatal) => {
                assert_eq!(fatal.kind, FatalKind::Corrupt, "{fatal}");
                assert!(fatal.detail.contains("state"), "{fatal}");
                found += 1;
            }
            // Rows that are only read for history are checked when they are.
            Ok(handle) => handle.shutdown(Duration::from_secs(10)).await.unwrap(),
        }
    }
    assert!(found > 0);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_node_is_refused() {
    let folder = written().await;
    let engines = open(folder.path()).unwrap();
    let started = testing::start_node(&Network::default(), 2, engines, testing::config()).await;
    assert_eq!(started.expect_err("another's").kind, FatalKind::Foreign);
}

#[test]
fn a_store_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = open(folder.path()).unwrap();
    let second = open(folder.path()).err().expect("it is in use");
    assert!(matches!(second, EngineError::Foreign { .. }), "{second}");
}

#[test]
fn rocksdb_keeps_what_it_promised() {
    let folder = tempfile::tempdir().unwrap();
    let put = |key: &[u8], value: &'static str| {
        let mut batch = Batch::new();
        batch.put(Table::Records, key, value);
        batch
    };
    {
        let engines = open(folder.path()).unwrap();
        engines.state.write(put(b"a", "1"), Durability::Unlogged).unwrap();
        engines.state.flush().unwrap();
        engines.state.write(put(b"b", "2"), Durability::Unlogged).unwrap();
        engines.state.checkpoint(&folder.path().join("copy")).unwrap();
        engines.state.delete_range(Table::Records, b"a", b"b").unwrap();
        assert_eq!(engines.state.get(Table::Records, b"a").unwrap(), None);
        let last = engines.state.last(Table::Records, b"", b"\xff").unwrap().unwrap();
        assert_eq!(&last.0[..], b"b");
    }
    let copy = RocksEngine::open(&folder.path().join("copy"), Store::State, &Options::default()).unwrap();
    let rows = copy.scan(Table::Records, b"", b"\xff", 10).unwrap();
    assert_eq!(rows.len(), 2);
}
