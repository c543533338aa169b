//! Where a page ended, as the opaque bytes that a client gives back to get the next one.
//!
//! ```text
//! state := version:u8 crc32:u32be body
//! body  := fingerprint:u32be limit_left:u32be partition_rows:u32be flags:u8 key:slice [clustering:slice]
//! flags := 0x01 a clustering key follows
//! ```
//!
//! Nothing in it depends on a node or on its memory, so it is good on any node and after a
//! restart. The checksum finds accidents; somebody who forges a state gets at most the rows that a
//! statement of his own could ask for.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use crate::plan::error::PlanError;
use model::codec::{Cursor, DecodeError, put_slice};

const VERSION: u8 = 1;
const FLAG_CLUSTERING: u8 = 1;

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PagingState {
    /// What statement it belongs to.
    pub(super) fingerprint: u32,
    /// Rows that LIMIT still allows.
    pub(super) limit_left: u32,
    /// Rows, or groups, of the partition so far.
    pub(super) partition_rows: u32,
    /// The partition of the last row.
    pub(super) key: Vec<u8>,
    /// The last row; `None` when its partition is finished.
    pub(super) clustering: Option<Vec<u8>>,
}

impl PagingState {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(32 + self.key.len());
        body.extend_from_slice(&self.fingerprint.to_be_bytes());
        body.extend_from_slice(&self.limit_left.to_be_bytes());
        body.extend_from_slice(&self.partition_rows.to_be_bytes());
        body.push(if self.clustering.is_some() { FLAG_CLUSTERING } else { 0 });
        put_slice(&mut body, &self.key);
        if let Some(clustering) = &self.clustering {
            put_slice(&mut body, clustering);
        }
        let mut state = vec![VERSION];
        state.extend_from_slice(&crc32fast::hash(&body).to_be_bytes());
        state.append(&mut body);
        state
    }

    /// Reads a state of the statement with that fingerprint.
    pub(super) fn decode(bytes: &[u8], fingerprint: u32) -> Result<PagingState, PlanError> {
        let state = read(bytes).ok().filter(|state| state.fingerprint == fingerprint);
        state.ok_or_else(invalid)
    }
}

pub(super) fn invalid() -> PlanError {
    PlanError::invalid("Invalid value for the paging state")
}

fn read(bytes: &[u8]) -> Result<PagingState, DecodeError> {
    let mut cursor = Cursor::new(bytes);
    if cursor.u8()? != VERSION {
        return Err(DecodeError("unknown version of a paging state"));
    }
    let checksum = u32::from_be_bytes(cursor.array()?);
    if crc32fast::hash(cursor.rest()) != checksum {
        return Err(DecodeError("wrong checksum of a paging state"));
    }
    let fingerprint = u32::from_be_bytes(cursor.array()?);
    let limit_left = u32::from_be_bytes(cursor.array()?);
    let partition_rows = u32::from_be_bytes(cursor.array()?);
    let has_clustering = match cursor.u8()? {
        0 => false,
        FLAG_CLUSTERING => true,
        _ => return Err(DecodeError("unknown flags of a paging state")),
    };
    let key = cursor.slice()?.to_vec();
    let clustering = if has_clustering { Some(cursor.slice()?.to_vec()) } else { None };
    cursor.finish()?;
    Ok(PagingState { fingerprint, limit_left, partition_rows, key, clustering })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_whole_or_not_at_all() {
        let state = PagingState {
            fingerprint: 7,
            limit_left: u32::MAX,
            partition_rows: 3,
            key: b"key".to_vec(),
            clustering: Some(b"clustering".to_vec()),
        };
        let bytes = state.encode();
        assert_eq!(PagingState::decode(&bytes, 7), Ok(state.clone()));
        let finished = PagingState { clustering: None, ..state };
        assert_eq!(PagingState::decode(&finished.encode(), 7), Ok(finished));
        let error = PagingState::decode(&bytes, 8).unwrap_err();
        assert_eq!(error.message, "Invalid value for the paging state");
        for length in 0..bytes.len() {
            assert!(PagingState::decode(&bytes[..length], 7).is_err(), "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(PagingState::decode(&damaged, 7).is_err(), "bit {bit}");
        }
    }
}
