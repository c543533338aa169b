//! USING: the timestamp, TTL and time-out of a write.

use crate::plan::context::{BindContext, BoundValues};
use crate::plan::error::PlanError;
use crate::plan::markers::Receiver;
use crate::plan::term::{BoundTerm, PreparedTerm};
use crate::plan::term_preparer::TermPreparer;
use crate::syntax::ast::Using;
use model::row::{Expiry, UNSTAMPED};
use model::value::read_duration;
use model::{CqlType, TimestampMicros};

/// Longest TTL: 20 years, Cassandra's bound.
pub const TTL_SECONDS_MAX: i32 = 20 * 365 * 24 * 60 * 60;

/// Longest time-out, one day: nothing waits that long, and it keeps arithmetic on deadlines safe.
pub const TIMEOUT_NANOS_MAX: i64 = 24 * 60 * 60 * 1_000_000_000;

/// The USING clause, prepared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Attributes {
    timestamp: Option<PreparedTerm>,
    ttl: Option<PreparedTerm>,
    timeout: Option<PreparedTerm>,
}

/// What USING and the request's defaults come to in one execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BoundAttributes {
    /// The write's timestamp, [`UNSTAMPED`] when the leader is to assign it.
    pub timestamp: TimestampMicros,
    /// The end of what is written.
    pub expiry: Option<Expiry>,
    /// USING TIMEOUT, in nanoseconds.
    pub timeout_nanos: Option<u64>,
}

impl Attributes {
    /// Prepares a USING clause.
    pub(super) fn prepare(
        preparer: &mut TermPreparer,
        using: &Using,
    ) -> Result<Attributes, PlanError> {
        let mut prepare = |term: &Option<_>, name: &str, cql_type: CqlType| {
            term.as_ref()
                .map(|term| preparer.prepare(term, &Receiver::new(name, cql_type)))
                .transpose()
        };
        Ok(Attributes {
            timestamp: prepare(&using.timestamp, "[timestamp]", CqlType::BigInt)?,
            ttl: prepare(&using.ttl, "[ttl]", CqlType::Int)?,
            timeout: prepare(&using.timeout, "[timeout]", CqlType::Duration)?,
        })
    }

    /// Whether the statement names a timestamp of its own.
    pub(super) fn has_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }

    /// Whether the statement names a TTL.
    pub(super) fn has_ttl(&self) -> bool {
        self.ttl.is_some()
    }

    /// The attributes of one execution, in a table with that default TTL.
    pub(super) fn bind(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
        default_ttl_seconds: u32,
    ) -> Result<BoundAttributes, PlanError> {
        let ttl_seconds = self.bind_ttl(values, context, default_ttl_seconds)?;
        let expires_at = context.now_seconds.saturating_add(i64::from(ttl_seconds));
        Ok(BoundAttributes {
            timestamp: self.bind_timestamp(values, context)?,
            expiry: (ttl_seconds > 0).then_some(Expiry { ttl_seconds, expires_at }),
            timeout_nanos: self.bind_timeout(values, context)?,
        })
    }

    fn bind_timestamp(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<TimestampMicros, PlanError> {
        let default = context.default_timestamp;
        let own = match &self.timestamp {
            None => None,
            Some(term) => match term.bind(values, context)? {
                BoundTerm::Unset => None,
                BoundTerm::Null => {
                    return Err(PlanError::invalid("Invalid null value of timestamp"));
                }
                BoundTerm::Value(bytes) => Some(
                    bytes
                        .first_chunk()
                        .map(|bytes| i64::from_be_bytes(*bytes))
                        .ok_or_else(|| PlanError::invalid("Invalid null value of timestamp"))?,
                ),
            },
        };
        let timestamp = own.or(default);
        if timestamp == Some(UNSTAMPED) {
            return Err(PlanError::invalid(format!(
                "Out of bound timestamp, must be in [{}, {}]",
                i64::MIN + 1,
                i64::MAX
            )));
        }
        Ok(timestamp.unwrap_or(UNSTAMPED))
    }

    /// Null and zero bytes mean no TTL, unset means the table's own.
    fn bind_ttl(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
        default_ttl_seconds: u32,
    ) -> Result<u32, PlanError> {
        let Some(term) = &self.ttl else { return Ok(default_ttl_seconds) };
        let ttl = match term.bind(values, context)? {
            BoundTerm::Unset => return Ok(default_ttl_seconds),
            BoundTerm::Null => 0,
            BoundTerm::Value(bytes) => bytes.first_chunk().map_or(0, |b| i32::from_be_bytes(*b)),
        };
        if ttl > TTL_SECONDS_MAX {
            return Err(PlanError::invalid(format!(
                "ttl is too large. requested ({ttl}) maximum ({TTL_SECONDS_MAX})"
            )));
        }
        u32::try_from(ttl).map_err(|_| {
            PlanError::invalid(format!("A TTL must be greater or equal to 0, but was {ttl}"))
        })
    }

    fn bind_timeout(
        &self,
        values: &BoundValues,
        context: &mut BindContext,
    ) -> Result<Option<u64>, PlanError> {
        match &self.timeout {
            None => Ok(None),
            Some(term) => bind_timeout(&term.bind(values, context)?),
        }
    }
}

/// The nanoseconds of a bound USING TIMEOUT; `None` when it is unset.
pub fn bind_timeout(term: &BoundTerm) -> Result<Option<u64>, PlanError> {
    let bytes = match term {
        BoundTerm::Unset => return Ok(None),
        BoundTerm::Null => return Err(PlanError::invalid("Timeout value cannot be null")),
        BoundTerm::Value(bytes) => bytes,
    };
    let (months, days, nanos) = read_duration(bytes)?;
    if months != 0 || days != 0 {
        return Err(PlanError::invalid(
            "Timeout values cannot be expressed in days/months, use hours or smaller units",
        ));
    }
    if !(0..=TIMEOUT_NANOS_MAX).contains(&nanos) {
        return Err(PlanError::invalid("Timeout values must be between 0 and 24 hours"));
    }
    Ok(Some(nanos.unsigned_abs()))
}
