//! The operators `+ - * / %` over all types that have them: numbers ([`arithmetic`]), durations
//! added to times, texts put together.

use super::arithmetic::{self, symbol};
use super::error::PlanError;
use crate::syntax::ast::ArithmeticOperator;
use model::CqlType;
use model::literal::{add_months, format_value};
use model::value::read_duration;

const DAY_MILLIS: i64 = 86_400_000;
const MILLI_NANOS: i64 = 1_000_000;
/// The date type's number of the Unix epoch's day.
const DATE_OF_EPOCH: i64 = 1 << 31;

/// The type of `left operator right`; `None` if there is no such operation.
pub(super) fn result_type(
    operator: ArithmeticOperator,
    left: &CqlType,
    right: &CqlType,
) -> Option<CqlType> {
    use ArithmeticOperator::{Add, Subtract};
    use CqlType::{Ascii, Date, Duration, Text, Timestamp};
    match (left, operator, right) {
        (Timestamp | Date, Add | Subtract, Duration) => Some(left.clone()),
        (Ascii, Add, Ascii) => Some(Ascii),
        (Ascii | Text, Add, Ascii | Text) => Some(Text),
        _ => arithmetic::result_type(left, right),
    }
}

/// The result for two valid values, as [`result_type`] says; null where a number or time has no
/// bytes.
pub(super) fn compute(
    operator: ArithmeticOperator,
    left: (&CqlType, &[u8]),
    right: (&CqlType, &[u8]),
) -> Result<Option<Vec<u8>>, PlanError> {
    match (left.0, right.0) {
        (CqlType::Ascii | CqlType::Text, _) => Ok(Some([left.1, right.1].concat())),
        (CqlType::Timestamp | CqlType::Date, CqlType::Duration) => shift(operator, left, right.1)
            .map_err(|reason| failed(operator, left.0, right.0, &reason)),
        _ => arithmetic::compute(operator, left, right),
    }
}

/// The error of an operation that has no result.
pub(super) fn failed(
    operator: ArithmeticOperator,
    left: &CqlType,
    right: &CqlType,
    reason: &str,
) -> PlanError {
    let message = format!("the operation '{left} {} {right}' failed: {reason}", symbol(operator));
    let types = vec![left.to_string(), right.to_string()];
    PlanError::function_failure(function_name(operator), types, message)
}

/// The function that stands behind an operator, in the keyspace `system`.
pub(super) fn function_name(operator: ArithmeticOperator) -> &'static str {
    match operator {
        ArithmeticOperator::Add => "_add",
        ArithmeticOperator::Subtract => "_substract",
        ArithmeticOperator::Multiply => "_multiply",
        ArithmeticOperator::Divide => "_divide",
        ArithmeticOperator::Remainder => "_modulo",
    }
}

/// A time moved by a duration: first its months, by the calendar in UTC, then the rest.
fn shift(
    operator: ArithmeticOperator,
    (cql_type, time): (&CqlType, &[u8]),
    duration: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    if time.is_empty() || duration.is_empty() {
        return Ok(None);
    }
    let (months, days, nanos) = read_duration(duration).map_err(|error| error.to_string())?;
    let sign = if operator == ArithmeticOperator::Subtract { -1 } else { 1 };
    let months = sign * i64::from(months);
    if *cql_type == CqlType::Date {
        if nanos != 0 {
            let shown = format_value(&CqlType::Duration, duration);
            return Err(format!("The duration must have a day precision. Was: {shown}"));
        }
        let day = i64::from(u32::from_be_bytes(time.first_chunk().copied().unwrap_or_default()));
        let moved = add_months(day - DATE_OF_EPOCH, months)
            .and_then(|day| u32::try_from(day + sign * i64::from(days) + DATE_OF_EPOCH).ok());
        let moved = moved.ok_or("the date is out of range")?;
        return Ok(Some(moved.to_be_bytes().to_vec()));
    }
    let millis = i64::from_be_bytes(time.first_chunk().copied().unwrap_or_default());
    let day = add_months(millis.div_euclid(DAY_MILLIS), months);
    let moved = day
        .and_then(|day| day.checked_add(sign * i64::from(days))?.checked_mul(DAY_MILLIS))
        .and_then(|moved| moved.checked_add(millis.rem_euclid(DAY_MILLIS)))
        .and_then(|moved| moved.checked_add(sign * (nanos / MILLI_NANOS)));
    let moved = moved.ok_or("the timestamp is out of range")?;
    Ok(Some(moved.to_be_bytes().to_vec()))
}
