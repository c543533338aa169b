//! Scalar functions over serialized values.
//!
//! A function is found by name ([`overloads`]); an overload is chosen from its argument types by
//! [`super::term_preparer`] (or by the selectors of a SELECT). Arguments are serialized and valid;
//! a null argument makes the result null. Functions that are not pure read the
//! [`BindContext`] and nothing else.
//!
//! Every function has Cassandra's two names where it has two: `totimestamp` and `to_timestamp`.

use super::arithmetic;
use super::context::BindContext;
use super::error::PlanError;
use super::math::MathFunction;
use super::operation;
use crate::syntax::ast::ArithmeticOperator;
use model::literal::format_value;
use model::schema::Partitioner;
use model::timeuuid::{max_timeuuid, min_timeuuid, timeuuid_millis};
use model::token::token_of;
use model::value::validate;
use model::{CqlType, TableDef};
use std::fmt;
use std::sync::Arc;

/// One overload of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    /// The name as it was called, folded, with its keyspace: `system.totimestamp`.
    pub name: Arc<str>,
    /// Types of the arguments.
    pub arguments: Vec<CqlType>,
    /// Type of the result.
    pub returns: CqlType,
    kind: FunctionKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FunctionKind {
    Now,
    Uuid,
    CurrentTimestamp,
    CurrentDate,
    CurrentTime,
    /// A timeuuid, timestamp or date to milliseconds since the epoch.
    ToMillis,
    /// A timeuuid or timestamp to its day.
    ToDate,
    MinTimeUuid,
    MaxTimeUuid,
    ToBlob,
    FromBlob,
    Token(Partitioner),
    Arithmetic(ArithmeticOperator),
    Negate,
    Math(MathFunction),
}

/// The functions of that name, in any keyspace or `system`; `table` gives `token` its arguments.
/// Empty when there are none.
pub fn overloads(keyspace: Option<&str>, name: &str, table: &TableDef) -> Vec<Arc<Function>> {
    use CqlType::{BigInt, Blob, Date, Time, TimeUuid, Timestamp, Uuid};
    if keyspace.is_some_and(|keyspace| keyspace != "system") {
        return Vec::new();
    }
    let function = |arguments: &[CqlType], returns: CqlType, kind: FunctionKind| {
        let name = format!("system.{name}").into();
        Arc::new(Function { name, arguments: arguments.to_vec(), returns, kind })
    };
    let each = |arguments: &[CqlType], returns: &CqlType, kind: FunctionKind| {
        let one = |t: &CqlType| function(std::slice::from_ref(t), returns.clone(), kind);
        arguments.iter().map(one).collect()
    };
    match name {
        "now" | "currenttimeuuid" | "current_timeuuid" => {
            vec![function(&[], TimeUuid, FunctionKind::Now)]
        }
        "uuid" => vec![function(&[], Uuid, FunctionKind::Uuid)],
        "currenttimestamp" | "current_timestamp" => {
            vec![function(&[], Timestamp, FunctionKind::CurrentTimestamp)]
        }
        "currentdate" | "current_date" => vec![function(&[], Date, FunctionKind::CurrentDate)],
        "currenttime" | "current_time" => vec![function(&[], Time, FunctionKind::CurrentTime)],
        "totimestamp" | "to_timestamp" => {
            each(&[TimeUuid, Date], &Timestamp, FunctionKind::ToMillis)
        }
        "dateof" => each(&[TimeUuid], &Timestamp, FunctionKind::ToMillis),
        "unixtimestampof" => each(&[TimeUuid], &BigInt, FunctionKind::ToMillis),
        "tounixtimestamp" | "to_unix_timestamp" => {
            each(&[TimeUuid, Timestamp, Date], &BigInt, FunctionKind::ToMillis)
        }
        "todate" | "to_date" => each(&[Timestamp, TimeUuid], &Date, FunctionKind::ToDate),
        "mintimeuuid" | "min_timeuuid" => each(&[Timestamp], &TimeUuid, FunctionKind::MinTimeUuid),
        "maxtimeuuid" | "max_timeuuid" => each(&[Timestamp], &TimeUuid, FunctionKind::MaxTimeUuid),
        "token" => {
            let key: Vec<_> = table.partition_key().iter().map(|c| c.cql_type.clone()).collect();
            vec![function(&key, BigInt, FunctionKind::Token(table.partitioner))]
        }
        "abs" | "exp" | "log" | "log10" | "round" => {
            let math = match name {
                "abs" => MathFunction::Absolute,
                "exp" => MathFunction::Exponential,
                "log" => MathFunction::Logarithm,
                "log10" => MathFunction::DecimalLogarithm,
                _ => MathFunction::Round,
            };
            let of_type = |t: &CqlType| {
                function(std::slice::from_ref(t), t.clone(), FunctionKind::Math(math))
            };
            math.types().iter().map(of_type).collect()
        }
        _ => match blob_conversion(name) {
            Some((native, true)) => each(&[native], &Blob, FunctionKind::ToBlob),
            Some((native, false)) => each(&[Blob], &native, FunctionKind::FromBlob),
            None => Vec::new(),
        },
    }
}

/// The type of `intasblob` or `int_as_blob` (true), `blobasint` or `blob_as_int` (false).
fn blob_conversion(name: &str) -> Option<(CqlType, bool)> {
    let to_blob = name.strip_suffix("_as_blob").or_else(|| name.strip_suffix("asblob"));
    let from_blob = name.strip_prefix("blob_as_").or_else(|| name.strip_prefix("blobas"));
    let convertible = |name: &str| {
        let native = CqlType::native_from_name(name);
        native.filter(|t| *t != CqlType::Blob)
    };
    to_blob
        .and_then(convertible)
        .map(|t| (t, true))
        .or_else(|| from_blob.and_then(convertible).map(|t| (t, false)))
}

/// As errors list it: `system.todate : (timeuuid) -> date`.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} : (", self.name)?;
        for (index, argument) in self.arguments.iter().enumerate() {
            write!(f, "{}{argument}", if index > 0 { ", " } else { "" })?;
        }
        write!(f, ") -> {}", self.returns)
    }
}

impl Function {
    /// An operation on values of these types, as a function; `None` if there is none.
    pub fn arithmetic(
        operator: ArithmeticOperator,
        left: CqlType,
        right: CqlType,
    ) -> Option<Arc<Function>> {
        let returns = operation::result_type(operator, &left, &right)?;
        let name = format!("system.{}", operation::function_name(operator));
        let kind = FunctionKind::Arithmetic(operator);
        Some(Arc::new(Function { name: name.into(), arguments: vec![left, right], returns, kind }))
    }

    /// The negative of a number of that type, as a function; `None` if it is no number.
    pub fn negation(cql_type: CqlType) -> Option<Arc<Function>> {
        arithmetic::result_type(&cql_type, &cql_type)?;
        let (name, kind) = ("system._negate".into(), FunctionKind::Negate);
        Some(Arc::new(Function {
            name,
            arguments: vec![cql_type.clone()],
            returns: cql_type,
            kind,
        }))
    }

    /// Whether equal arguments give equal results.
    pub fn is_pure(&self) -> bool {
        !matches!(
            self.kind,
            FunctionKind::Now
                | FunctionKind::Uuid
                | FunctionKind::CurrentTimestamp
                | FunctionKind::CurrentDate
                | FunctionKind::CurrentTime
        )
    }

    /// Its value. `arguments` are as many as [`Self::arguments`], each valid for its type.
    pub fn call(
        &self,
        arguments: &[Option<&[u8]>],
        context: &mut BindContext<'_>,
    ) -> Result<Option<Vec<u8>>, PlanError> {
        let Some(arguments) = arguments.iter().copied().collect::<Option<Vec<&[u8]>>>() else {
            return Ok(None);
        };
        let now_millis = context.now_micros.div_euclid(1_000);
        Ok(Some(match self.kind {
            FunctionKind::Now => (context.fresh_timeuuid)().to_vec(),
            FunctionKind::Uuid => (context.fresh_uuid)().to_vec(),
            FunctionKind::CurrentTimestamp => now_millis.to_be_bytes().to_vec(),
            FunctionKind::CurrentDate => date_of_millis(now_millis).to_vec(),
            FunctionKind::CurrentTime => {
                let nanos = context.now_micros.rem_euclid(DAY_MICROS) * 1_000;
                nanos.to_be_bytes().to_vec()
            }
            FunctionKind::Token(partitioner) => {
                let key = model::key::encode_partition_key(&arguments)?;
                token_of(partitioner, &key).0.to_be_bytes().to_vec()
            }
            FunctionKind::ToBlob => arguments.first().map(|a| a.to_vec()).unwrap_or_default(),
            FunctionKind::FromBlob => return self.read_blob(&arguments),
            FunctionKind::Arithmetic(operator) => {
                let ([left_type, right_type], [left, right]) =
                    (self.arguments.as_slice(), arguments.as_slice())
                else {
                    return Ok(None);
                };
                return operation::compute(operator, (left_type, left), (right_type, right));
            }
            FunctionKind::Math(function) => {
                let number = arguments.first().copied().unwrap_or_default();
                return Ok(function.call(&self.returns, number));
            }
            FunctionKind::Negate => {
                let number = arguments.first().copied().unwrap_or_default();
                return Ok(arithmetic::negate(&self.returns, number));
            }
            FunctionKind::ToMillis
            | FunctionKind::ToDate
            | FunctionKind::MinTimeUuid
            | FunctionKind::MaxTimeUuid => return Ok(self.convert_time(&arguments)),
        }))
    }

    /// Conversions between times; null for an argument of zero bytes.
    fn convert_time(&self, arguments: &[&[u8]]) -> Option<Vec<u8>> {
        let millis = millis_of(self.arguments.first()?, arguments.first()?)?;
        Some(match self.kind {
            FunctionKind::ToDate => date_of_millis(millis).to_vec(),
            FunctionKind::MinTimeUuid => min_timeuuid(millis).to_vec(),
            FunctionKind::MaxTimeUuid => max_timeuuid(millis).to_vec(),
            _ => millis.to_be_bytes().to_vec(),
        })
    }

    fn read_blob(&self, arguments: &[&[u8]]) -> Result<Option<Vec<u8>>, PlanError> {
        let bytes = arguments.first().copied().unwrap_or_default();
        validate(&self.returns, bytes).map_err(|_| {
            PlanError::invalid(format!(
                "In call to function {}, value {} is not a valid binary representation for \
                 type {}",
                self.name,
                format_value(&CqlType::Blob, bytes),
                self.returns
            ))
        })?;
        Ok(Some(bytes.to_vec()))
    }
}

const DAY_MILLIS: i64 = 86_400_000;
const DAY_MICROS: i64 = DAY_MILLIS * 1_000;
/// The date type's number of the Unix epoch's day.
const DATE_OF_EPOCH: i64 = 1 << 31;

fn millis_of(cql_type: &CqlType, bytes: &[u8]) -> Option<i64> {
    match cql_type {
        CqlType::TimeUuid => Some(timeuuid_millis(bytes.first_chunk()?)),
        CqlType::Date => {
            let day = u32::from_be_bytes(*bytes.first_chunk()?);
            Some((i64::from(day) - DATE_OF_EPOCH) * DAY_MILLIS)
        }
        _ => Some(i64::from_be_bytes(*bytes.first_chunk()?)),
    }
}

fn date_of_millis(millis: i64) -> [u8; 4] {
    let day = (millis.div_euclid(DAY_MILLIS) + DATE_OF_EPOCH).clamp(0, i64::from(u32::MAX));
    (day as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{context, table};

    /// The result of the overload that takes these types.
    fn call(name: &str, arguments: &[(CqlType, &[u8])]) -> Result<Option<Vec<u8>>, PlanError> {
        let types: Vec<_> = arguments.iter().map(|(cql_type, _)| cql_type.clone()).collect();
        let all = overloads(None, name, &table());
        let function = all.iter().find(|f| f.arguments == types).expect("such an overload");
        let values: Vec<_> = arguments.iter().map(|(_, value)| Some(*value)).collect();
        context(|context| function.call(&values, context))
    }

    #[test]
    fn times_convert_into_each_other() {
        let day = ((1_u32 << 31) + 1).to_be_bytes();
        let millis = 86_400_000_i64.to_be_bytes();
        let least = call("mintimeuuid", &[(CqlType::Timestamp, &millis)]).unwrap().unwrap();
        let greatest = call("max_timeuuid", &[(CqlType::Timestamp, &millis)]).unwrap().unwrap();
        for uuid in [&least, &greatest] {
            assert_eq!(call("todate", &[(CqlType::TimeUuid, uuid)]).unwrap().unwrap(), day);
            assert_eq!(call("dateof", &[(CqlType::TimeUuid, uuid)]).unwrap().unwrap(), millis);
        }
        assert_eq!(call("to_timestamp", &[(CqlType::Date, &day)]).unwrap().unwrap(), millis);
        assert_eq!(call("to_date", &[(CqlType::Timestamp, b"")]).unwrap(), None);
    }

    #[test]
    fn blobs_are_checked_on_their_way_back() {
        let one = 1_i32.to_be_bytes();
        assert_eq!(call("intasblob", &[(CqlType::Int, &one)]).unwrap().unwrap(), one);
        assert_eq!(call("blob_as_int", &[(CqlType::Blob, &one)]).unwrap().unwrap(), one);
        let error = call("blobasint", &[(CqlType::Blob, b"\x01\x02")]).unwrap_err();
        assert_eq!(
            error.message,
            "In call to function system.blobasint, value 0x0102 is not a valid binary \
             representation for type int"
        );
        assert!(overloads(None, "blobasblob", &table()).is_empty());
        assert!(overloads(Some("other"), "now", &table()).is_empty());
    }

    #[test]
    fn the_present_comes_from_the_context() {
        let now = call("currenttimestamp", &[]).unwrap().unwrap();
        assert_eq!(now, 1_700_000_000_123_i64.to_be_bytes());
        assert_ne!(call("now", &[]).unwrap(), None);
        assert!(!overloads(None, "uuid", &table())[0].is_pure());
    }
}
