//! What bounds a statement's text, so that no text exhausts memory or stack.

/// Longest statement, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Deepest nesting of terms, selectors, types and operator chains together: everything downstream
/// recurses over the tree and relies on it. Real statements stay below ten.
pub const NESTING_DEPTH_MAX: usize = 64;

/// Most bind markers: the protocol counts values in 16 bits.
pub const MARKER_COUNT_MAX: usize = 65_535;

/// Most statements in one batch: the protocol counts them in 16 bits.
pub const BATCH_STATEMENT_COUNT_MAX: usize = 65_535;

/// Most elements of one list in the text (columns, values, relations, elements of a collection).
pub const LIST_LENGTH_MAX: usize = 65_535;

/// Most names, terms and selectors in one statement: each takes about a hundred bytes in the tree,
/// so that a tree stays below a few hundred megabytes whatever the text. A full batch of inserts
/// into seven columns just fits.
pub const NODE_COUNT_MAX: usize = 1 << 20;

const _: () = assert!(MARKER_COUNT_MAX <= u16::MAX as usize, "markers are numbered in 16 bits");
const _: () = assert!(STATEMENT_BYTES_MAX <= u32::MAX as usize, "positions are kept in 32 bits");
