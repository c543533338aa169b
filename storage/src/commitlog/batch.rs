//! One write in the making: the header's place, then records, in one buffer.
//!
//! A record is appended without system call and without allocation of its own.
//! Checksums are filled in by [`BatchBuffer::seal`], on the log's thread: they are seeded with where
//! the batch comes to lie, and the shard's core has better things to do.

use super::format::{
    BATCH_HEADER_BYTES, BatchHeader, GroupId, Index, RECORD_HEADER_BYTES, RecordKind, Term,
    round_up_to_block, write_checksum,
};

/// A buffer that grew beyond this for a burst is given back to the allocator afterwards.
const KEPT_CAPACITY_BYTES_MAX: usize = 4 << 20;

/// Records on their way to the disk.
#[derive(Debug)]
pub(super) struct BatchBuffer {
    /// The header's place and the records; after sealing also zeros up to a whole block.
    bytes: Vec<u8>,
    record_count: u32,
}

impl Default for BatchBuffer {
    fn default() -> BatchBuffer {
        BatchBuffer { bytes: vec![0; BATCH_HEADER_BYTES], record_count: 0 }
    }
}

impl BatchBuffer {
    /// Whether there are no records.
    pub(super) fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the header and the records.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a record whose payload is `parts` put together. The caller has checked the limits.
    pub(super) fn push(
        &mut self,
        kind: RecordKind,
        (group, term, index): (GroupId, Term, Index),
        parts: &[&[u8]],
    ) {
        let payload_bytes: usize = parts.iter().map(|part| part.len()).sum();
        let length = u32::try_from(RECORD_HEADER_BYTES + payload_bytes)
            .expect("the caller keeps records below the segment's size, itself below 4 GiB");
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&length.to_le_bytes());
        header[8] = kind as u8;
        header[12..20].copy_from_slice(&group.to_le_bytes());
        header[20..28].copy_from_slice(&term.to_le_bytes());
        header[28..36].copy_from_slice(&index.to_le_bytes());
        self.bytes.reserve(length as usize);
        self.bytes.extend_from_slice(&header);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.record_count += 1;
    }

    /// Fills in the header and the checksums for this place in a segment, and returns the whole
    /// blocks to write there. `seed` is the segment header's checksum.
    pub(super) fn seal(&mut self, seed: u32, offset: u64, synced_offset: u64) -> &[u8] {
        let length = self.bytes.len();
        let header = BatchHeader {
            length: u32::try_from(length)
                .expect("the shard closes a batch at half a segment, itself below 4 GiB"),
            record_count: self.record_count,
            offset,
            synced_offset,
        };
        let (header, mut crc) = header.encode(seed);
        self.bytes[..BATCH_HEADER_BYTES].copy_from_slice(&header);
        let mut rest = &mut self.bytes[BATCH_HEADER_BYTES..];
        while let Some(length) = rest.get(4..8) {
            let length = u32::from_le_bytes(length.try_into().expect("four bytes were taken"));
            let (record, behind) = rest.split_at_mut(length as usize);
            crc = write_checksum(record, crc);
            rest = behind;
        }
        self.bytes.resize(round_up_to_block(length as u64) as usize, 0);
        &self.bytes
    }

    /// Empties the buffer for the next batch.
    pub(super) fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.bytes.shrink_to(KEPT_CAPACITY_BYTES_MAX);
        self.record_count = 0;
    }
}
