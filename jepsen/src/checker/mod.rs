//! Whether a history can be true: each checker is a function of the calls.
//!
//! - [`linearizable`]: registers behave as one copy that is changed at one moment within each call.
//! - [`set`]: no acknowledged element is lost, no refused one appears.
//! - [`counter`]: what is read lies between what was surely added and what may have been.
//! - [`batch`]: of a logged batch both rows are there, or neither.
//! - [`feed`]: changefeeds tell of all of a table's writes, in order, and again only with a cause.
//! - [`followed`]: a reader of a change log saw what is in it, in its order, each once.
//! - [`append`]: transactions on lists have one order, which keeps that of time.
//! - [`overwrite`]: the highest timestamp wins, and nothing deleted comes back.
//! - [`isolation`]: of what is written together nobody sees a part.
//! - [`convergence`]: all replicas have the same in the end, and it is what was acknowledged.
//! - [`paging`]: pages show each element once that was there throughout.
//! - [`log`]: the change log tells each write once and in order, and replayed it is the table.
//!
//! A checker that cannot decide says [`Verdict::Unknown`]; that is no pass. Each is tested with
//! histories that are wrong.

pub mod append;
pub mod batch;
pub mod convergence;
pub mod counter;
pub mod feed;
pub mod followed;
pub mod isolation;
pub mod linearizable;
pub mod log;
pub mod overwrite;
pub mod paging;
pub mod set;

use std::fmt;

/// What a checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The history can be true.
    Valid,
    /// It cannot; the text says why.
    Invalid(String),
    /// The checker gave up; the text says why.
    Unknown(String),
}

impl Verdict {
    /// The graver of both: invalid, then unknown.
    #[must_use]
    pub fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (invalid @ Verdict::Invalid(_), _) | (_, invalid @ Verdict::Invalid(_)) => invalid,
            (unknown @ Verdict::Unknown(_), _) | (_, unknown @ Verdict::Unknown(_)) => unknown,
            (Verdict::Valid, Verdict::Valid) => Verdict::Valid,
        }
    }

    /// Valid if nothing contradicts.
    fn of(contradiction: Option<String>) -> Verdict {
        contradiction.map_or(Verdict::Valid, Verdict::Invalid)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Valid => f.write_str("valid"),
            Verdict::Invalid(reason) => write!(f, "INVALID: {reason}"),
            Verdict::Unknown(reason) => write!(f, "unknown: {reason}"),
        }
    }
}
