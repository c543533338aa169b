//! Consistency levels and kinds of writes: codes and names as they stand on the wire.

use std::fmt;

/// How many replicas must answer, as the client asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Consistency {
    /// Writes only: any node, even one that holds no replica.
    Any = 0x0,
    /// One replica.
    One = 0x1,
    /// Two replicas.
    Two = 0x2,
    /// Three replicas.
    Three = 0x3,
    /// A majority of the replicas.
    Quorum = 0x4,
    /// Every replica.
    All = 0x5,
    /// A majority of the replicas in the coordinator's data centre.
    LocalQuorum = 0x6,
    /// A majority of the replicas in each data centre.
    EachQuorum = 0x7,
    /// Linearizable, over all data centres.
    Serial = 0x8,
    /// Linearizable, within the coordinator's data centre.
    LocalSerial = 0x9,
    /// One replica in the coordinator's data centre.
    LocalOne = 0xA,
}

impl Consistency {
    /// Every level, in the order of their codes.
    pub const EVERY: [Consistency; 11] = [
        Consistency::Any,
        Consistency::One,
        Consistency::Two,
        Consistency::Three,
        Consistency::Quorum,
        Consistency::All,
        Consistency::LocalQuorum,
        Consistency::EachQuorum,
        Consistency::Serial,
        Consistency::LocalSerial,
        Consistency::LocalOne,
    ];

    /// The level with this code.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::EVERY.get(usize::from(code)).copied()
    }

    /// The code on the wire.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The name that messages and cqlsh use.
    pub fn name(self) -> &'static str {
        match self {
            Consistency::Any => "ANY",
            Consistency::One => "ONE",
            Consistency::Two => "TWO",
            Consistency::Three => "THREE",
            Consistency::Quorum => "QUORUM",
            Consistency::All => "ALL",
            Consistency::LocalQuorum => "LOCAL_QUORUM",
            Consistency::EachQuorum => "EACH_QUORUM",
            Consistency::Serial => "SERIAL",
            Consistency::LocalSerial => "LOCAL_SERIAL",
            Consistency::LocalOne => "LOCAL_ONE",
        }
    }

    /// Whether this is `SERIAL` or `LOCAL_SERIAL`.
    pub fn is_serial(self) -> bool {
        matches!(self, Consistency::Serial | Consistency::LocalSerial)
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was being written when a write timed out or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteType {
    /// One partition, not in a batch.
    Simple,
    /// A logged batch; its log is written, so it will finish.
    Batch,
    /// An unlogged batch.
    UnloggedBatch,
    /// A counter.
    Counter,
    /// The log of a batch; nothing of the batch is applied.
    BatchLog,
    /// A conditional write.
    Cas,
    /// A materialized view.
    View,
    /// A change data capture log.
    Cdc,
}

impl WriteType {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            WriteType::Simple => "SIMPLE",
            WriteType::Batch => "BATCH",
            WriteType::UnloggedBatch => "UNLOGGED_BATCH",
            WriteType::Counter => "COUNTER",
            WriteType::BatchLog => "BATCH_LOG",
            WriteType::Cas => "CAS",
            WriteType::View => "VIEW",
            WriteType::Cdc => "CDC",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_positions_in_every() {
        for (position, level) in Consistency::EVERY.into_iter().enumerate() {
            assert_eq!(usize::from(level.code()), position);
            assert_eq!(Consistency::from_code(level.code()), Some(level));
        }
        assert_eq!(Consistency::from_code(11), None);
        assert_eq!(Consistency::from_code(0xFFFF), None);
    }
}
