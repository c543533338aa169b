//! The bytes of a simulated file. Zeros behind the last byte that was written are counted and not
//! kept: commit logs prepare segments of megabytes, of which a simulation writes a few kilobytes.

use std::hash::{Hash, Hasher};

/// Invariant: `written` is not longer than `length`; all bytes behind it are zeros.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    written: Vec<u8>,
    length: usize,
}

impl Contents {
    /// A file without bytes.
    pub(super) const fn empty() -> Contents {
        Contents { written: Vec::new(), length: 0 }
    }

    pub(super) fn len(&self) -> u64 {
        self.length as u64
    }

    /// Cuts the file, or extends it with zeros.
    pub(super) fn set_len(&mut self, length: u64) {
        self.length = length as usize;
        self.written.truncate(self.length);
    }

    /// Writes into the file, growing it with zeros as far as needed.
    pub(super) fn write_at(&mut self, offset: u64, bytes: &[u8]) {
        let start = offset as usize;
        let end = start + bytes.len();
        if self.written.len() < end {
            self.written.resize(end, 0);
        }
        self.written[start..end].copy_from_slice(bytes);
        self.length = self.length.max(end);
    }

    /// Fills the buffer as far as the file reaches; how far that is.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let start = (offset as usize).min(self.length);
        let count = buffer.len().min(self.length - start);
        let kept = self.written.get(start..).unwrap_or(&[]);
        let kept = &kept[..kept.len().min(count)];
        buffer[..kept.len()].copy_from_slice(kept);
        buffer[kept.len()..count].fill(0);
        count
    }

    /// The whole file.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        // Memory that comes zeroed is not touched where the file has nothing but zeros.
        let mut bytes = vec![0; self.length];
        bytes[..self.written.len()].copy_from_slice(&self.written);
        bytes
    }

    /// Inverts one bit; nothing if the file does not reach there.
    pub(super) fn flip_bit(&mut self, bit: u64) {
        let index = (bit / 8) as usize;
        if index < self.length {
            self.written.resize(self.written.len().max(index + 1), 0);
            self.written[index] ^= 1 << (bit % 8);
        }
    }
}

/// Equal bytes, equal hash, whichever of the zeros at the end were written.
impl Hash for Contents {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let end = self.written.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.length.hash(hasher);
        self.written[..end].hash(hasher);
    }
}
