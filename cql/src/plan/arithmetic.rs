//! Arithmetic over serialized numbers, by Cassandra's rules.
//!
//! Two numbers are brought to one type first: a floating one if either is, and as wide as the wider
//! one (`int + float` is a float, `bigint + float` a double, anything with a varint or decimal has
//! no width). Whole numbers of a fixed width wrap around; dividing them by zero is an error,
//! dividing floats is not. A division of decimals has at least 34 significant digits.
//!
//! Numbers of any width come from clients, so their size is bounded before and after: a sum of
//! decimals whose scales are far apart would otherwise be as long as the difference.

use super::error::PlanError;
use crate::syntax::ast::ArithmeticOperator;
use model::CqlType;
use model::value::NUMBER_BYTES_MAX;
use num_bigint::{BigInt, Sign};

/// Largest exponent of ten that decimals are aligned by.
const ALIGNMENT_MAX: i64 = 10_000;
/// Significant digits of a quotient of decimals, at least.
const QUOTIENT_DIGITS_MIN: i64 = 34;
/// Bounds of the scale of a quotient of decimals.
const QUOTIENT_SCALE_MIN: i64 = 32;
const QUOTIENT_SCALE_MAX: i64 = 1_000;

/// The type of a computation on numbers of these types; `None` if one of them is no number.
pub fn result_type(left: &CqlType, right: &CqlType) -> Option<CqlType> {
    let (left, right) = (width(left)?, width(right)?);
    let is_floating = left.is_floating || right.is_floating;
    Some(match (left.bytes.max(right.bytes), is_floating) {
        (..=4, true) => CqlType::Float,
        (5..=8, true) => CqlType::Double,
        (_, true) => CqlType::Decimal,
        (1, false) => CqlType::TinyInt,
        (2, false) => CqlType::SmallInt,
        (3..=4, false) => CqlType::Int,
        (5..=8, false) => CqlType::BigInt,
        (_, false) => CqlType::Varint,
    })
}

struct Width {
    bytes: u8,
    is_floating: bool,
}

fn width(cql_type: &CqlType) -> Option<Width> {
    const ANY: u8 = u8::MAX;
    let (bytes, is_floating) = match cql_type {
        CqlType::TinyInt => (1, false),
        CqlType::SmallInt => (2, false),
        CqlType::Int => (4, false),
        CqlType::BigInt | CqlType::Counter => (8, false),
        CqlType::Varint => (ANY, false),
        CqlType::Float => (4, true),
        CqlType::Double => (8, true),
        CqlType::Decimal => (ANY, true),
        _ => return None,
    };
    Some(Width { bytes, is_floating })
}

/// A number, as wide as its computations need.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Number {
    /// Whole numbers of up to eight bytes.
    Fixed(i64),
    Varint(BigInt),
    Floating(f64),
    /// `unscaled * 10^-scale`
    Decimal {
        unscaled: BigInt,
        scale: i64,
    },
}

/// The result of an operation on two valid values, as [`result_type`] says; null when one of them
/// has no bytes.
pub fn compute(
    operator: ArithmeticOperator,
    left: (&CqlType, &[u8]),
    right: (&CqlType, &[u8]),
) -> Result<Option<Vec<u8>>, PlanError> {
    let Some(returns) = result_type(left.0, right.0) else {
        return Err(PlanError::invalid("Arithmetic takes numbers"));
    };
    let (Some(a), Some(b)) = (decode(left.0, left.1), decode(right.0, right.1)) else {
        return Ok(None);
    };
    let failed = |reason: &str| super::operation::failed(operator, left.0, right.0, reason);
    let divides_by_zero =
        matches!(operator, ArithmeticOperator::Divide | ArithmeticOperator::Remainder)
            && b.is_zero();
    let result = match returns {
        CqlType::Float | CqlType::Double => {
            Some(Number::Floating(floating(operator, a.to_f64(), b.to_f64(), &returns)))
        }
        CqlType::Decimal => decimal(operator, a.into_decimal(), b.into_decimal()),
        CqlType::Varint => varint(operator, &a.into_varint(), &b.into_varint()).map(Number::Varint),
        _ => fixed(operator, a.to_i64(), b.to_i64()).map(Number::Fixed),
    };
    let Some(result) = result else {
        let is_wide = matches!(returns, CqlType::Varint | CqlType::Decimal);
        return Err(failed(match (divides_by_zero, is_wide) {
            (true, true) => "BigInteger divide by zero",
            (true, false) => "/ by zero",
            (false, _) => "out of range",
        }));
    };
    let bytes = encode(&returns, &result);
    if bytes.len() > NUMBER_BYTES_MAX {
        return Err(failed("the result is too long"));
    }
    Ok(Some(bytes))
}

/// The negative of a valid number, of the same type; null when it has no bytes.
pub fn negate(cql_type: &CqlType, bytes: &[u8]) -> Option<Vec<u8>> {
    let negative = match decode(cql_type, bytes)? {
        Number::Fixed(number) => Number::Fixed(number.wrapping_neg()),
        Number::Varint(number) => Number::Varint(-number),
        Number::Floating(number) => Number::Floating(-number),
        Number::Decimal { unscaled, scale } => Number::Decimal { unscaled: -unscaled, scale },
    };
    Some(encode(cql_type, &negative))
}

/// How an operator is written.
pub fn symbol(operator: ArithmeticOperator) -> char {
    match operator {
        ArithmeticOperator::Add => '+',
        ArithmeticOperator::Subtract => '-',
        ArithmeticOperator::Multiply => '*',
        ArithmeticOperator::Divide => '/',
        ArithmeticOperator::Remainder => '%',
    }
}

fn fixed(operator: ArithmeticOperator, a: i64, b: i64) -> Option<i64> {
    Some(match operator {
        ArithmeticOperator::Add => a.wrapping_add(b),
        ArithmeticOperator::Subtract => a.wrapping_sub(b),
        ArithmeticOperator::Multiply => a.wrapping_mul(b),
        ArithmeticOperator::Divide if b != 0 => a.wrapping_div(b),
        ArithmeticOperator::Remainder if b != 0 => a.wrapping_rem(b),
        ArithmeticOperator::Divide | ArithmeticOperator::Remainder => return None,
    })
}

fn varint(operator: ArithmeticOperator, a: &BigInt, b: &BigInt) -> Option<BigInt> {
    Some(match operator {
        ArithmeticOperator::Add => a + b,
        ArithmeticOperator::Subtract => a - b,
        ArithmeticOperator::Multiply => a * b,
        ArithmeticOperator::Divide if b.sign() != Sign::NoSign => a / b,
        ArithmeticOperator::Remainder if b.sign() != Sign::NoSign => a % b,
        ArithmeticOperator::Divide | ArithmeticOperator::Remainder => return None,
    })
}

/// Floats are computed as floats: widening them, computing and rounding once gives the same for
/// these five operations.
fn floating(operator: ArithmeticOperator, a: f64, b: f64, returns: &CqlType) -> f64 {
    let narrow =
        |number: f64| if *returns == CqlType::Float { f64::from(number as f32) } else { number };
    let (a, b) = (narrow(a), narrow(b));
    match operator {
        ArithmeticOperator::Add => a + b,
        ArithmeticOperator::Subtract => a - b,
        ArithmeticOperator::Multiply => a * b,
        ArithmeticOperator::Divide => a / b,
        ArithmeticOperator::Remainder => a % b,
    }
}

fn decimal(
    operator: ArithmeticOperator,
    (a, a_scale): (BigInt, i64),
    (b, b_scale): (BigInt, i64),
) -> Option<Number> {
    let scale = a_scale.max(b_scale);
    let aligned =
        || Some((&a * power_of_ten(scale - a_scale)?, &b * power_of_ten(scale - b_scale)?));
    let (unscaled, scale) = match operator {
        ArithmeticOperator::Add => aligned().map(|(a, b)| (a + b, scale))?,
        ArithmeticOperator::Subtract => aligned().map(|(a, b)| (a - b, scale))?,
        ArithmeticOperator::Multiply => (a * b, a_scale + b_scale),
        _ if b.sign() == Sign::NoSign => return None,
        ArithmeticOperator::Remainder => aligned().map(|(a, b)| (a % b, scale))?,
        ArithmeticOperator::Divide => {
            let digits = |number: &BigInt| number.magnitude().to_string().len() as i64;
            let first_digit = (digits(&a) - a_scale) - (digits(&b) - b_scale);
            let scale = (QUOTIENT_DIGITS_MIN - first_digit)
                .max(scale)
                .clamp(QUOTIENT_SCALE_MIN, QUOTIENT_SCALE_MAX);
            // a / b = (a / b * 10^(scale - a_scale + b_scale)) * 10^-scale
            let shift = scale - a_scale + b_scale;
            let (numerator, denominator) = if shift >= 0 {
                (a * power_of_ten(shift)?, b)
            } else {
                (a, b * power_of_ten(-shift)?)
            };
            strip_zeros(divide_half_up(&numerator, &denominator), scale)
        }
    };
    i32::try_from(scale).ok()?;
    Some(Number::Decimal { unscaled, scale })
}

/// `None` above [`ALIGNMENT_MAX`] and below zero.
pub(super) fn power_of_ten(exponent: i64) -> Option<BigInt> {
    if exponent > ALIGNMENT_MAX {
        return None;
    }
    Some(BigInt::from(10).pow(u32::try_from(exponent).ok()?))
}

/// Rounded to the nearest, halves away from zero.
pub(super) fn divide_half_up(numerator: &BigInt, denominator: &BigInt) -> BigInt {
    let quotient = numerator / denominator;
    let rest = numerator % denominator;
    let is_half_or_more = rest.magnitude() * 2_u32 >= *denominator.magnitude();
    if !is_half_or_more {
        return quotient;
    }
    let is_negative = (numerator.sign() == Sign::Minus) != (denominator.sign() == Sign::Minus);
    if is_negative { quotient - 1 } else { quotient + 1 }
}

fn strip_zeros(mut unscaled: BigInt, mut scale: i64) -> (BigInt, i64) {
    if unscaled.sign() == Sign::NoSign {
        return (unscaled, 0);
    }
    let ten = BigInt::from(10);
    while (&unscaled % &ten).sign() == Sign::NoSign {
        unscaled /= &ten;
        scale -= 1;
    }
    (unscaled, scale)
}

/// Reads a valid number; `None` when it has no bytes.
pub(super) fn decode(cql_type: &CqlType, bytes: &[u8]) -> Option<Number> {
    Some(match cql_type {
        CqlType::TinyInt => Number::Fixed(i8::from_be_bytes(*bytes.first_chunk()?).into()),
        CqlType::SmallInt => Number::Fixed(i16::from_be_bytes(*bytes.first_chunk()?).into()),
        CqlType::Int => Number::Fixed(i32::from_be_bytes(*bytes.first_chunk()?).into()),
        CqlType::BigInt | CqlType::Counter => {
            Number::Fixed(i64::from_be_bytes(*bytes.first_chunk()?))
        }
        CqlType::Float => Number::Floating(f32::from_be_bytes(*bytes.first_chunk()?).into()),
        CqlType::Double => Number::Floating(f64::from_be_bytes(*bytes.first_chunk()?)),
        CqlType::Varint if !bytes.is_empty() => Number::Varint(BigInt::from_signed_bytes_be(bytes)),
        CqlType::Decimal => {
            let (scale, unscaled) = bytes.split_first_chunk()?;
            let scale = i64::from(i32::from_be_bytes(*scale));
            Number::Decimal { unscaled: BigInt::from_signed_bytes_be(unscaled), scale }
        }
        _ => return None,
    })
}

/// The number as that type; fixed widths wrap around.
pub(super) fn encode(cql_type: &CqlType, number: &Number) -> Vec<u8> {
    match (cql_type, number) {
        (CqlType::TinyInt, Number::Fixed(number)) => (*number as i8).to_be_bytes().to_vec(),
        (CqlType::SmallInt, Number::Fixed(number)) => (*number as i16).to_be_bytes().to_vec(),
        (CqlType::Int, Number::Fixed(number)) => (*number as i32).to_be_bytes().to_vec(),
        (_, Number::Fixed(number)) => number.to_be_bytes().to_vec(),
        (CqlType::Float, Number::Floating(number)) => (*number as f32).to_be_bytes().to_vec(),
        (_, Number::Floating(number)) => number.to_be_bytes().to_vec(),
        (_, Number::Varint(number)) => number.to_signed_bytes_be(),
        (_, Number::Decimal { unscaled, scale }) => {
            let mut bytes = (*scale as i32).to_be_bytes().to_vec();
            bytes.extend_from_slice(&unscaled.to_signed_bytes_be());
            bytes
        }
    }
}

impl Number {
    fn is_zero(&self) -> bool {
        match self {
            Number::Fixed(number) => *number == 0,
            Number::Floating(number) => *number == 0.0,
            Number::Varint(number) | Number::Decimal { unscaled: number, .. } => {
                number.sign() == Sign::NoSign
            }
        }
    }

    /// Only asked of whole numbers of a fixed width.
    fn to_i64(&self) -> i64 {
        match self {
            Number::Fixed(number) => *number,
            _ => 0,
        }
    }

    /// Only asked of numbers of a fixed width.
    fn to_f64(&self) -> f64 {
        match self {
            Number::Fixed(number) => *number as f64,
            Number::Floating(number) => *number,
            Number::Varint(_) | Number::Decimal { .. } => f64::NAN,
        }
    }

    fn into_varint(self) -> BigInt {
        match self {
            Number::Fixed(number) => number.into(),
            Number::Varint(number) => number,
            Number::Floating(_) | Number::Decimal { .. } => BigInt::ZERO,
        }
    }

    /// Unscaled value and scale. A float is taken by its shortest decimal digits, as in Java.
    fn into_decimal(self) -> (BigInt, i64) {
        match self {
            Number::Fixed(number) => (number.into(), 0),
            Number::Varint(number) => (number, 0),
            Number::Decimal { unscaled, scale } => (unscaled, scale),
            Number::Floating(number) => {
                let text = format!("{number:e}");
                let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
                let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
                let unscaled = digits.replace('.', "").parse().unwrap_or_default();
                (unscaled, fraction as i64 - exponent.parse::<i64>().unwrap_or(0))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::literal::{format_value, parse_literal};

    fn show(a: (&str, &str), operator: ArithmeticOperator, b: (&str, &str)) -> String {
        let value = |(name, text): (&str, &str)| {
            let cql_type = CqlType::native_from_name(name).unwrap();
            let bytes = parse_literal(&cql_type, text).unwrap();
            (cql_type, bytes)
        };
        let (a, b) = (value(a), value(b));
        match compute(operator, (&a.0, &a.1), (&b.0, &b.1)) {
            Ok(Some(bytes)) => {
                let returns = result_type(&a.0, &b.0).unwrap();
                format!("{} {returns}", format_value(&returns, &bytes))
            }
            Ok(None) => "null".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_wider_type_decides() {
        use ArithmeticOperator::{Add, Divide, Multiply, Remainder, Subtract};
        assert_eq!(show(("int", "7"), Divide, ("int", "2")), "3 int");
        assert_eq!(show(("int", "-7"), Remainder, ("tinyint", "2")), "-1 int");
        assert_eq!(show(("int", "2147483647"), Add, ("int", "1")), "-2147483648 int");
        assert_eq!(show(("tinyint", "100"), Multiply, ("tinyint", "2")), "-56 tinyint");
        assert_eq!(show(("int", "1"), Add, ("float", "0.5")), "1.5 float");
        assert_eq!(show(("bigint", "1"), Subtract, ("float", "0.5")), "0.5 double");
        assert_eq!(show(("varint", "9"), Multiply, ("int", "-3")), "-27 varint");
        assert_eq!(show(("varint", "9"), Multiply, ("double", "0.5")), "4.5 decimal");
        assert_eq!(show(("double", "1"), Divide, ("int", "0")), "Infinity double");
    }

    #[test]
    fn decimals_keep_their_digits() {
        use ArithmeticOperator::{Add, Divide, Multiply, Remainder};
        assert_eq!(show(("decimal", "0.1"), Add, ("decimal", "0.25")), "0.35 decimal");
        assert_eq!(show(("decimal", "1.5"), Multiply, ("int", "-2")), "-3.0 decimal");
        assert_eq!(show(("decimal", "7.5"), Remainder, ("int", "2")), "1.5 decimal");
        assert_eq!(show(("decimal", "10"), Divide, ("decimal", "4")), "2.5 decimal");
        let third = format!("0.{} decimal", "3".repeat(34));
        assert_eq!(show(("decimal", "1"), Divide, ("decimal", "3")), third);
        let two_thirds = format!("-0.{}7 decimal", "6".repeat(33));
        assert_eq!(show(("decimal", "-2"), Divide, ("decimal", "3")), two_thirds);
    }

    #[test]
    fn zero_and_giants_are_errors() {
        use ArithmeticOperator::{Add, Divide, Multiply};
        let failed =
            |types: &str, reason: &str| format!("the operation '{types}' failed: {reason}");
        let zero = "/ by zero";
        assert_eq!(show(("int", "1"), Divide, ("int", "0")), failed("int / int", zero));
        assert_eq!(
            show(("decimal", "1"), Divide, ("decimal", "0.0")),
            failed("decimal / decimal", "BigInteger divide by zero")
        );
        assert_eq!(
            show(("decimal", "1"), Add, ("decimal", "1e-100000")),
            failed("decimal + decimal", "out of range")
        );
        let giant = "9".repeat(15_000);
        assert_eq!(
            show(("varint", &giant), Multiply, ("varint", &giant)),
            failed("varint * varint", "the result is too long")
        );
        assert_eq!(
            negate(&CqlType::Int, &5_i32.to_be_bytes()),
            Some((-5_i32).to_be_bytes().into())
        );
    }
}
