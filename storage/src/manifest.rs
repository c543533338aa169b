//! The manifest: which table files are live, and what of the log they hold. The only commit point.
//!
//! One file, replaced as a whole by every change (write, sync, rename, sync of the directory), so
//! that after a crash there is the state before or the state after. A shard has tens to hundreds
//! of files and changes their set every few seconds at most; a log of edits would save little and
//! cost a second format. The layout:
//!
//! ```text
//! manifest    := magic[8] version:u32le next_file_id:varint
//!                table_count:varint table* group_count:varint group*
//!                base_count:varint (group:varint base)* crc:u32le
//! table       := id:u128le file_count:varint file* flushed_count:varint (group:varint index:varint)*
//! file        := file_id:varint hidden_count:varint (first:i64le last:i64le)*
//! group       := group:varint closed:i64le placed:i64le far:i64le reserved:i64le switched_at:u64le
//! base        := index:varint term:varint members_index:varint members:slice
//! ```

#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

use crate::error::{Corruption, StorageError};
use crate::read::{Hidden, TokenInterval};
use crate::snapshot::{SnapshotBase, put_base, read_base};
use env::disk::Disk;
use model::TableId;
use model::codec::{Cursor, DecodeError, put_varint};
use model::entry::Placement;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"TethysM1";
const VERSION: u32 = 4;
/// A manifest of a hundred thousand files is far below this.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The manifest's name.
pub(crate) fn manifest_path(dir: &Path) -> PathBuf {
    dir.join("MANIFEST")
}

/// What the manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Above the number of every file that was ever begun.
    pub(crate) next_file_id: u64,
    pub(crate) tables: BTreeMap<TableId, ManifestTable>,
    pub(crate) placements: BTreeMap<u64, Placement>,
    /// By group, the snapshot that was installed last.
    pub(crate) bases: BTreeMap<u64, SnapshotBase>,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ManifestTable {
    /// Live files and what is hidden in them.
    pub(crate) files: BTreeMap<u64, Hidden>,
    /// By group, the highest index up to which everything is in files.
    pub(crate) flushed: BTreeMap<u64, u64>,
}

impl Manifest {
    /// The manifest of a directory; an empty one where there is none yet.
    pub(crate) fn load(disk: &Disk, dir: &Path) -> Result<Self, StorageError> {
        let path = manifest_path(dir);
        if !disk.exists(&path).map_err(StorageError::io(&path))? {
            return Ok(Manifest::default());
        }
        let bytes = disk.read(&path, MANIFEST_BYTES_MAX).map_err(StorageError::io(&path))?;
        let decoded = Manifest::decode(&bytes);
        Ok(decoded.map_err(|DecodeError(why)| Corruption::new(&path, 0, why))?)
    }

    /// Makes it the directory's manifest; durable on return.
    pub(crate) fn store(&self, disk: &Disk, dir: &Path) -> Result<(), StorageError> {
        let path = manifest_path(dir);
        disk.write_atomic(&path, &self.encode()).map_err(StorageError::io(&path))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        put_varint(&mut out, self.next_file_id);
        put_varint(&mut out, self.tables.len() as u64);
        for (id, table) in &self.tables {
            out.extend_from_slice(&id.0.to_le_bytes());
            put_varint(&mut out, table.files.len() as u64);
            for (file_id, hidden) in &table.files {
                put_varint(&mut out, *file_id);
                put_varint(&mut out, hidden.0.len() as u64);
                for interval in &hidden.0 {
                    out.extend_from_slice(&interval.first.to_le_bytes());
                    out.extend_from_slice(&interval.last.to_le_bytes());
                }
            }
            put_varint(&mut out, table.flushed.len() as u64);
            for (group, index) in &table.flushed {
                put_varint(&mut out, *group);
                put_varint(&mut out, *index);
            }
        }
        put_varint(&mut out, self.placements.len() as u64);
        for (group, placement) in &self.placements {
            put_varint(&mut out, *group);
            let Placement { closed, placed, far, reserved, switched_at } = *placement;
            for value in [closed, placed, far, reserved] {
                out.extend_from_slice(&value.to_le_bytes());
            }
            out.extend_from_slice(&switched_at.to_le_bytes());
        }
        put_varint(&mut out, self.bases.len() as u64);
        for (group, base) in &self.bases {
            put_varint(&mut out, *group);
            put_base(&mut out, base);
        }
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (covered, crc) =
            bytes.split_last_chunk::<4>().ok_or(DecodeError("the manifest is cut short"))?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return Err(DecodeError("the manifest's checksum does not fit"));
        }
        Manifest::decode_covered(covered)
    }

    /// Decodes what the checksum covers.
    fn decode_covered(covered: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(covered);
        let cursor = &mut cursor;
        if cursor.array()? != MAGIC {
            return Err(DecodeError("the manifest's magic is missing"));
        }
        if u32::from_le_bytes(cursor.array()?) != VERSION {
            return Err(DecodeError("the manifest's version is unknown"));
        }
        let mut manifest = Manifest { next_file_id: cursor.varint()?, ..Manifest::default() };
        for _ in 0..cursor.varint()? {
            let id = TableId(u128::from_le_bytes(cursor.array()?));
            manifest.tables.insert(id, decode_table(cursor)?);
        }
        for _ in 0..cursor.varint()? {
            let group = cursor.varint()?;
            let placement = Placement {
                closed: decode_i64(cursor)?,
                placed: decode_i64(cursor)?,
                far: decode_i64(cursor)?,
                reserved: decode_i64(cursor)?,
                switched_at: u64::from_le_bytes(cursor.array()?),
            };
            manifest.placements.insert(group, placement);
        }
        for _ in 0..cursor.varint()? {
            let group = cursor.varint()?;
            manifest.bases.insert(group, read_base(cursor)?);
        }
        cursor.finish()?;
        Ok(manifest)
    }
}

/// Decodes any bytes as what a checksum covers, for [`crate::fuzz`].
pub(crate) fn fuzz_manifest(covered: &[u8]) {
    if let Ok(manifest) = Manifest::decode_covered(covered) {
        assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest), "it reads back");
    }
}

fn decode_i64(cursor: &mut Cursor) -> Result<i64, DecodeError> {
    cursor.array().map(i64::from_le_bytes)
}

fn decode_table(cursor: &mut Cursor) -> Result<ManifestTable, DecodeError> {
    let mut table = ManifestTable::default();
    for _ in 0..cursor.varint()? {
        let file_id = cursor.varint()?;
        let mut hidden = Hidden::default();
        for _ in 0..cursor.varint()? {
            let interval = TokenInterval { first: decode_i64(cursor)?, last: decode_i64(cursor)? };
            hidden.add(interval);
        }
        table.files.insert(file_id, hidden);
    }
    for _ in 0..cursor.varint()? {
        let group = cursor.varint()?;
        table.flushed.insert(group, cursor.varint()?);
    }
    Ok(table)
}

#[cfg(test)]
pub(crate) use tests::fuzz_seed;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the checksum covers of a manifest.
    pub(crate) fn fuzz_seed() -> Vec<u8> {
        let mut bytes = sample().encode();
        bytes.truncate(bytes.len() - 4);
        bytes
    }

    fn sample() -> Manifest {
        let mut manifest = Manifest { next_file_id: 9, ..Manifest::default() };
        let table = manifest.tables.entry(TableId(5)).or_default();
        table.files.insert(3, Hidden::default());
        table.files.insert(4, Hidden(vec![TokenInterval { first: -5, last: 7 }]));
        table.flushed.insert(1, 300);
        let placement = Placement { closed: 1, placed: 2, far: 3, reserved: 4, switched_at: 5 };
        manifest.placements.insert(1, placement);
        let members = vec![1, 0, 7];
        let base = SnapshotBase { index: 300, term: 4, members_index: 20, members };
        manifest.bases.insert(1, base);
        manifest
    }

    #[test]
    fn a_manifest_reads_back_and_every_flip_and_cut_is_seen() {
        let bytes = sample().encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), sample());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&flipped).is_err());
        }
        for length in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn the_bytes_of_a_manifest_do_not_change_unnoticed() {
        // Without its checksum, with which the hash would be the same for all.
        let bytes = fuzz_seed();
        assert_eq!(
            (bytes.len(), crc32fast::hash(&bytes)),
            (107, 4_122_354_013),
            "a changed format"
        );
    }
}
