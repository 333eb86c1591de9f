//! A disk in memory: loses what was not synced when the power goes, fails on demand, and counts
//! which of its faults really fired.
//!
//! A [`Disk`] is the device and outlives crashes; [`Disk::open`] gives an [`Engine`] on it. After
//! a crash every engine opened before it answers with an error, as a dead process would.

mod device;

use std::fmt;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use self::device::{Device, RowKey, eio};
use super::{Batch, Durability, Engine, EngineError, KeyRange, Row, Store, Table, Visit};

pub use self::device::{Fault, Lost};

/// A simulated disk with the tables of one [`Store`].
#[derive(Clone)]
pub struct Disk {
    store: Store,
    device: Arc<Mutex<Device>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Disk {
    /// An empty disk.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            device: Arc::default(),
        }
    }

    /// An engine on it. Any number may be open at a time; they see the same content.
    pub fn open(&self) -> Arc<dyn Engine> {
        let life = self.device.lock().life;
        Arc::new(Memory {
            disk: self.clone(),
            life,
        })
    }

    /// The power goes: of what is not safe, the first `survivors(n)` of the `n` logged but
    /// unsynced writes happen to have reached the disk; everything unlogged is gone.
    pub fn power_loss(&self, survivors: impl FnOnce(usize) -> usize) -> Lost {
        let mut device = self.device.lock();
        let logged = device.pending_logged();
        device.restart(survivors(logged).min(logged))
    }

    /// The process dies, the machine does not: logged writes stay, unlogged ones are gone.
    pub fn process_death(&self) -> Lost {
        self.device.lock().restart(usize::MAX)
    }

    /// The next `times` occasions for `fault` have it.
    pub fn inject(&self, fault: Fault, times: u64) {
        self.device.lock().inject(fault, times);
    }

    /// How long a [`Fault::Slow`] write takes.
    pub fn set_delay(&self, delay: Duration) {
        self.device.lock().delay = delay;
    }

    /// How often each fault really happened.
    pub fn fired(&self, fault: Fault) -> u64 {
        self.device.lock().fired(fault)
    }

    /// Writes that are not safe yet: what a power loss at this moment might take.
    pub fn unsynced(&self) -> usize {
        self.device.lock().unsynced()
    }

    /// Completed writes so far.
    pub fn writes(&self) -> u64 {
        self.device.lock().writes
    }

    /// Completed syncs so far.
    pub fn syncs(&self) -> u64 {
        self.device.lock().syncs
    }

    /// Flips the lowest bit of byte `at` (counted modulo its length) of a stored value. `false`
    /// if there is no such row or it is empty.
    pub fn flip(&self, table: Table, key: &[u8], at: usize) -> bool {
        self.edit(table, key, |value| {
            let length = value.len();
            if let Some(byte) = value.get_mut(at % length.max(1)) {
                *byte ^= 1;
            }
        })
    }

    /// Cuts a stored value to its first `keep` bytes. `false` if there is no such row.
    pub fn truncate(&self, table: Table, key: &[u8], keep: usize) -> bool {
        self.edit(table, key, |value| value.truncate(keep))
    }

    /// Removes a row behind the engine's back. `false` if there is no such row.
    pub fn lose(&self, table: Table, key: &[u8]) -> bool {
        let mut device = self.device.lock();
        let row = (table, key.to_vec());
        let found = device.current.remove(&row).is_some();
        device.safe.remove(&row);
        found
    }

    /// The keys of a table as a process would read them now.
    pub fn keys(&self, table: Table) -> Vec<Vec<u8>> {
        let device = self.device.lock();
        device
            .current
            .keys()
            .filter(|(t, _)| *t == table)
            .map(|(_, k)| k.clone())
            .collect()
    }

    /// A new disk with the content of a checkpoint, if there is one of that name.
    pub fn from_checkpoint(&self, at: &Path) -> Option<Self> {
        let rows = self.device.lock().checkpoints.get(at).cloned()?;
        let device = Device::holding(rows);
        Some(Self {
            store: self.store,
            device: Arc::new(Mutex::new(device)),
        })
    }

    fn edit(&self, table: Table, key: &[u8], change: impl Fn(&mut Vec<u8>)) -> bool {
        let mut device = self.device.lock();
        let row = (table, key.to_vec());
        let mut found = false;
        let device = &mut *device;
        for rows in [&mut device.current, &mut device.safe] {
            if let Some(value) = rows.get_mut(&row) {
                let mut bytes = value.to_vec();
                change(&mut bytes);
                *value = bytes.into();
                found = true;
            }
        }
        found
    }
}

/// An open engine on a [`Disk`].
struct Memory {
    disk: Disk,
    life: u64,
}

impl Memory {
    fn with<T>(&self, context: &str, work: impl FnOnce(&mut Device) -> io::Result<T>) -> Result<T, EngineError> {
        let mut device = self.disk.device.lock();
        let place = || format!("simulated {} disk: {context}", self.disk.store.as_str());
        if device.life != self.life {
            return Err(EngineError::io(place(), io::Error::other("the process has died")));
        }
        work(&mut device).map_err(|source| EngineError::io(place(), source))
    }
}

fn bounds(table: Table, from: &[u8], to: &[u8]) -> (Bound<RowKey>, Bound<RowKey>) {
    (
        Bound::Included((table, from.to_vec())),
        Bound::Excluded((table, to.to_vec())),
    )
}

fn row((key, value): (&(Table, Vec<u8>), &Bytes)) -> Row {
    (Bytes::copy_from_slice(&key.1), value.clone())
}

impl Engine for Memory {
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), EngineError> {
        self.with("write", |device| device.write(batch, durability))
    }

    fn delete_range(&self, table: Table, from: &[u8], to: &[u8]) -> Result<(), EngineError> {
        let mut batch = Batch::new();
        batch.delete_range(table, from, to);
        self.write(batch, Durability::Logged)
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.with("flush", |device| device.sync(Device::sync_all))
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.with("read", |device| {
            if device.fires(Fault::ReadError) {
                return Err(eio());
            }
            Ok(device.current.get(&(table, key.to_vec())).cloned())
        })
    }

    fn scan(&self, table: Table, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, EngineError> {
        self.with("scan", |device| {
            if device.fires(Fault::ReadError) {
                return Err(eio());
            }
            if from >= to {
                return Ok(Vec::new());
            }
            Ok(device
                .current
                .range(bounds(table, from, to))
                .take(limit)
                .map(row)
                .collect())
        })
    }

    fn last(&self, table: Table, from: &[u8], to: &[u8]) -> Result<Option<Row>, EngineError> {
        self.with("scan", |device| {
            if device.fires(Fault::ReadError) {
                return Err(eio());
            }
            if from >= to {
                return Ok(None);
            }
            Ok(device.current.range(bounds(table, from, to)).next_back().map(row))
        })
    }

    fn export(&self, ranges: &[KeyRange], visit: &mut dyn FnMut(Visit) -> ControlFlow<()>) -> Result<(), EngineError> {
        let mut pinned = Vec::new();
        for KeyRange { table, from, to } in ranges {
            let rows = self.scan(*table, from, to, usize::MAX)?;
            pinned.extend(rows.into_iter().map(|row| Visit::Row(*table, row)));
        }
        for item in std::iter::once(Visit::Pinned).chain(pinned) {
            if visit(item).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn checkpoint(&self, to: &Path) -> Result<(), EngineError> {
        self.with("checkpoint", |device| {
            if device.checkpoints.contains_key(to) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            let rows = device.current.clone();
            device.checkpoints.insert(to.to_path_buf(), rows);
            Ok(())
        })
    }

    fn simulated_delay(&self) -> Option<Duration> {
        let mut device = self.disk.device.lock();
        device.fires(Fault::Slow).then_some(device.delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(value: &'static str) -> Batch {
        let mut batch = Batch::new();
        batch.put(Table::Log, b"k".to_vec(), value);
        batch
    }

    fn read(disk: &Disk) -> Option<Bytes> {
        disk.open().get(Table::Log, b"k").ok().flatten()
    }

    #[test]
    fn power_loss_keeps_what_was_synced_and_no_more() {
        let disk = Disk::new(Store::Log);
        let engine = disk.open();
        engine.write(put("a"), Durability::Synced).ok();
        engine.write(put("b"), Durability::Logged).ok();
        engine.write(put("c"), Durability::Logged).ok();
        disk.power_loss(|n| {
            assert_eq!(n, 2);
            1
        });
        assert_eq!(read(&disk).as_deref(), Some(&b"b"[..]));
        assert!(
            engine.get(Table::Log, b"k").is_err(),
            "an engine of the life before is dead"
        );
    }

    #[test]
    fn process_death_loses_only_what_was_not_logged() {
        let disk = Disk::new(Store::State);
        let engine = disk.open();
        engine.write(put("a"), Durability::Logged).ok();
        engine.write(put("b"), Durability::Unlogged).ok();
        disk.process_death();
        assert_eq!(read(&disk).as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn flush_makes_unlogged_writes_safe() {
        let disk = Disk::new(Store::State);
        let engine = disk.open();
        engine.write(put("a"), Durability::Unlogged).ok();
        engine.flush().ok();
        engine.write(put("b"), Durability::Unlogged).ok();
        disk.power_loss(|_| 0);
        assert_eq!(read(&disk).as_deref(), Some(&b"a"[..]));
    }

    #[test]
    fn a_lying_sync_is_counted_and_loses_data() {
        let disk = Disk::new(Store::Log);
        let engine = disk.open();
        disk.inject(Fault::LyingSync, 1);
        assert!(engine.write(put("a"), Durability::Synced).is_ok());
        disk.power_loss(|_| 0);
        assert_eq!(read(&disk), None);
        assert_eq!(disk.fired(Fault::LyingSync), 1);
    }

    #[test]
    fn faults_fire_as_often_as_told() {
        let disk = Disk::new(Store::Log);
        let engine = disk.open();
        disk.inject(Fault::NoSpace, 2);
        assert!(engine.write(put("a"), Durability::Logged).is_err());
        assert!(engine.write(put("a"), Durability::Logged).is_err());
        assert!(engine.write(put("a"), Durability::Logged).is_ok());
        assert_eq!(disk.fired(Fault::NoSpace), 2);
    }
}
