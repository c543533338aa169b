//! Reading one segment back: which records are there, and where they end.
//!
//! The judgement between a torn tail and corruption is made here, see "Torn or corrupt" in
//! `docs/formats/commitlog.md`. Knows nothing of groups and other segments.
#![deny(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss
)]

use env::planted::{Bug, is_planted};

use super::error::Corruption;
use super::format::{
    BATCH_HEADER_BYTES, BLOCK_BYTES, BatchHeader, Record, SegmentHeader, round_up_to_block,
};

/// What is known about where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentEnd {
    /// The next segment says so: all before was synced.
    Known(u64),
    /// The log's last segment: its last write may not have reached the disk as a whole.
    Last,
}

/// Where the valid records of a segment end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// The first offset behind them.
    pub(super) end: u64,
    /// Whether something was found there that was being written when the node went down.
    pub(super) is_torn: bool,
}

/// A segment's bytes with the header already read.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentView<'a> {
    bytes: &'a [u8],
    seed: u32,
}

/// What stopped the walk over a batch.
enum BatchWalk {
    /// All records were valid; the next batch begins here.
    Complete(u64),
    /// The segment's known end.
    End,
    /// What is here is not the record that has to be.
    Bad(u64),
}

impl<'a> SegmentView<'a> {
    /// Reads the header of the segment that `bytes` are.
    pub(super) fn new(bytes: &'a [u8]) -> Result<(SegmentHeader, SegmentView<'a>), Corruption> {
        let (header, seed) = SegmentHeader::decode(bytes)?;
        let found = bytes.len() as u64;
        if header.segment_bytes != found {
            return Err(Corruption::FileLength { found });
        }
        Ok((header, SegmentView { bytes, seed }))
    }

    /// Verifies every record and hands each with its offset to `each`, in order, up to the end.
    /// An error names the offset.
    pub(super) fn scan(
        &self,
        end: SegmentEnd,
        mut each: impl FnMut(u64, Record<'a>) -> Result<(), Corruption>,
    ) -> Result<Scanned, (u64, Corruption)> {
        let mut offset = BLOCK_BYTES;
        loop {
            if end == SegmentEnd::Known(offset) {
                return Ok(Scanned { end: offset, is_torn: false });
            }
            let Some((header, crc)) = BatchHeader::decode(self.bytes, offset, self.seed) else {
                return self.judge((offset, offset), false, end);
            };
            match self.scan_batch(&header, crc, end, &mut each)? {
                BatchWalk::Complete(next) => offset = next,
                BatchWalk::End => {
                    let SegmentEnd::Known(end) = end else { unreachable!("only then returned") };
                    return Ok(Scanned { end, is_torn: false });
                }
                BatchWalk::Bad(bad) => return self.judge((offset, bad), true, end),
            }
        }
    }

    fn scan_batch(
        &self,
        header: &BatchHeader,
        mut crc: u32,
        end: SegmentEnd,
        each: &mut impl FnMut(u64, Record<'a>) -> Result<(), Corruption>,
    ) -> Result<BatchWalk, (u64, Corruption)> {
        let mut offset = header.offset + BATCH_HEADER_BYTES as u64;
        let batch_end = header.offset + u64::from(header.length);
        for _ in 0..header.record_count {
            if end == SegmentEnd::Known(offset) {
                return Ok(BatchWalk::End);
            }
            let decoded =
                self.between(offset, batch_end).and_then(|bytes| Record::decode(bytes, crc));
            let Some((record, length, record_crc)) = decoded else {
                return Ok(BatchWalk::Bad(offset));
            };
            each(offset, record).map_err(|corruption| (offset, corruption))?;
            crc = record_crc;
            offset += length as u64;
        }
        if end == SegmentEnd::Known(offset) {
            return Ok(BatchWalk::End);
        }
        if offset != batch_end {
            return Ok(BatchWalk::Bad(offset));
        }
        Ok(BatchWalk::Complete(round_up_to_block(batch_end)))
    }

    /// Hands every record before `end`, which [`SegmentView::scan`] returned, to `each` again.
    /// Trusts the checksums.
    pub(super) fn walk<E>(
        &self,
        end: u64,
        mut each: impl FnMut(u64, Record<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut batch_offset = BLOCK_BYTES;
        while batch_offset < end {
            let Some((header, _)) = BatchHeader::decode(self.bytes, batch_offset, self.seed) else {
                break;
            };
            let mut offset = batch_offset + BATCH_HEADER_BYTES as u64;
            let batch_end = batch_offset + u64::from(header.length);
            while offset < batch_end.min(end) {
                let bytes = self.between(offset, batch_end).unwrap_or_default();
                let Some((record, length, _)) = Record::decode_trusted(bytes) else { break };
                each(offset, record)?;
                offset += length as u64;
            }
            batch_offset = round_up_to_block(batch_end);
        }
        Ok(())
    }

    /// Says what it means that valid records end at `bad`, in the batch that has to be at `batch`.
    fn judge(
        &self,
        (batch, bad): (u64, u64),
        is_in_batch: bool,
        end: SegmentEnd,
    ) -> Result<Scanned, (u64, Corruption)> {
        if is_planted(Bug::ReplayStopsAtDamage) {
            return Ok(Scanned { end: bad, is_torn: true });
        }
        if let SegmentEnd::Known(expected) = end {
            let is_before = bad < expected;
            let corruption =
                if is_before { Corruption::Record } else { Corruption::End { expected } };
            return Err((bad, corruption));
        }
        if batch == BLOCK_BYTES {
            // The groups' states were synced before the file got the segment's name.
            return Err((bad, Corruption::Record));
        }
        let mut is_torn = is_in_batch;
        let mut offset = round_up_to_block(bad + 1);
        while offset < self.bytes.len() as u64 {
            if let Some((header, _)) = BatchHeader::decode(self.bytes, offset, self.seed) {
                if header.synced_offset > bad {
                    return Err((bad, Corruption::Record));
                }
                is_torn = true;
            }
            offset += BLOCK_BYTES;
        }
        Ok(Scanned { end: bad, is_torn })
    }

    fn between(&self, start: u64, end: u64) -> Option<&'a [u8]> {
        self.bytes.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }
}

/// Fuzz entry: whatever the bytes are, reading them ends, without a panic, with valid records that
/// `SegmentView::walk` finds again or with an error. Returns how many there are.
pub fn fuzz_segment(bytes: &[u8]) -> usize {
    let Ok((_, view)) = SegmentView::new(bytes) else { return 0 };
    let mut records = Vec::new();
    let scanned = view.scan(SegmentEnd::Last, |offset, record| {
        records.push((offset, record));
        Ok(())
    });
    let Ok(scanned) = scanned else { return records.len() };
    let mut again = Vec::new();
    let walked = view.walk(scanned.end, |offset, record| {
        again.push((offset, record));
        Ok::<(), ()>(())
    });
    assert!(walked.is_ok(), "the walk ended early without being told to");
    assert!(records == again, "the second pass differs from the first");
    records.len()
}
