//! A look at a store's journals before RocksDB reads them.
//!
//! RocksDB checks every record it reads, but trusts the type byte of a record before its checksum: one flipped bit
//! there (a whole record, 1, read as a recycled one, 5) sends its reader into an endless loop, and a node that never
//! starts says nothing of what is wrong. We recycle no files, so such a type is damage in any case. The form is that
//! of `db/log_format.h`: blocks of 32 KiB; in each, records of checksum (4), length (2), type (1) and payload.

use std::fs;
use std::io;
use std::path::Path;

use raft::engine::EngineError;

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;

/// Types of records in recycled files.
const RECYCLED: [u8; 6] = [5, 6, 7, 8, 11, 131];

/// What kind of journal a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Journal {
    /// Which files make up the store. Small; every record has to check out.
    Manifest,
    /// The write-ahead log. Its end may be torn by a crash: RocksDB judges the records themselves.
    WriteAhead,
}

/// Checks the journals in the directory of a store, which may be absent.
///
/// # Errors
/// [`EngineError::Corrupt`] names the file and the place in it.
pub(crate) fn check(directory: &Path) -> Result<(), EngineError> {
    let failed = |path: &Path, error: io::Error| EngineError::io(format!("reading {}", path.display()), error);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(directory, error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let journal = if name.starts_with("MANIFEST-") {
            Journal::Manifest
        } else if name.ends_with(".log") {
            Journal::WriteAhead
        } else {
            continue;
        };
        let bytes = fs::read(&path).map_err(|error| failed(&path, error))?;
        if let Err((offset, what)) = walk(&bytes, journal) {
            return Err(EngineError::corrupt(
                path.display().to_string(),
                format!("at byte {offset}: {what}"),
            ));
        }
    }
    Ok(())
}

/// Walks over all records. The error is where and what.
fn walk(bytes: &[u8], journal: Journal) -> Result<(), (usize, &'static str)> {
    for (number, block) in bytes.chunks(BLOCK).enumerate() {
        let start = number * BLOCK;
        let mut at = 0;
        // What is left of a block and too short for a header is padding.
        while let Some(header) = block.get(at..at + HEADER) {
            let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let kind = header[6];
            if RECYCLED.contains(&kind) {
                return Err((start + at, "a record of a type that is not written here"));
            }
            let Some(payload) = block.get(at + HEADER..at + HEADER + length) else {
                // Torn by a crash at the very end of the file; elsewhere no record leaves its block.
                let at_end = start + block.len() == bytes.len();
                if at_end || journal == Journal::WriteAhead {
                    return Ok(());
                }
                return Err((start + at, "a record that is longer than its block"));
            };
            if journal == Journal::Manifest {
                let empty = kind == 0 && length == 0 && header[..4] == [0; 4];
                if !empty && masked_crc(kind, payload).to_le_bytes() != header[..4] {
                    return Err((start + at, "a record whose checksum does not match its content"));
                }
            }
            at += HEADER + length;
        }
    }
    Ok(())
}

/// The checksum in a record's header: CRC-32C of type and payload, masked as RocksDB does.
fn masked_crc(kind: u8, payload: &[u8]) -> u32 {
    let step = |crc: u32, byte: u8| TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8);
    let crc = !payload.iter().fold(step(u32::MAX, kind), |crc, byte| step(crc, *byte));
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, reflected), one byte at a time.
const TABLE: [u32; 256] = {
    let mut table = [0_u32; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with records of these types and payloads, as RocksDB writes them.
    fn file(records: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, payload) in records {
            bytes.extend(masked_crc(*kind, payload).to_le_bytes());
            bytes.extend(u16::try_from(payload.len()).unwrap_or_default().to_le_bytes());
            bytes.push(*kind);
            bytes.extend(*payload);
        }
        bytes
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // RFC 3720, B.4: 32 bytes of zeros give 0x8a9136aa. The first of them stands in the type's place here.
        assert_eq!(
            masked_crc(0, &[0; 31]),
            0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8)
        );
    }

    #[test]
    fn every_flipped_bit_of_a_manifest_is_found_but_in_what_looks_torn() {
        let good = file(&[(1, b"first"), (1, b""), (1, b"third and last")]);
        assert_eq!(walk(&good, Journal::Manifest), Ok(()));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let longer = matches!(bit / 8, 4 | 5 | 16 | 17 | 23 | 24);
            assert!(longer || walk(&bad, Journal::Manifest).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_torn_end_is_left_to_rocksdb_and_a_recycled_type_is_not() {
        let good = file(&[(1, b"first"), (1, b"second")]);
        for length in 0..good.len() {
            assert_eq!(walk(&good[..length], Journal::Manifest), Ok(()), "{length}");
            assert_eq!(walk(&good[..length], Journal::WriteAhead), Ok(()), "{length}");
        }
        assert!(walk(&file(&[(1, b"first"), (5, b"second")]), Journal::WriteAhead).is_err());
    }
}
