//! Kinds of writes, as errors name them.

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
