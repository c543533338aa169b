//! The mathematical functions: `abs`, `exp`, `log`, `log10`, `round`.
//!
//! Each gives a number of the type it was given. A result that is not whole becomes whole as in
//! Java: by cutting its fraction off and stopping at the bounds of 32 or 64 bits.

use super::arithmetic::{Number, decode, divide_half_up, encode, power_of_ten};
use model::CqlType;
use num_bigint::BigInt;

/// A mathematical function of one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MathFunction {
    /// `abs`
    Absolute,
    /// `exp`
    Exponential,
    /// `log`, the natural one.
    Logarithm,
    /// `log10`
    DecimalLogarithm,
    /// `round`: halves away from zero in decimals; up in floats, which also stop at the bounds of 32
    /// or 64 bits, as Java's `Math.round` does.
    Round,
}

impl MathFunction {
    /// The types of numbers that it takes. Powers and logarithms of numbers of any width are not
    /// served.
    pub(super) fn types(self) -> &'static [CqlType] {
        use CqlType::{BigInt, Decimal, Double, Float, Int, SmallInt, TinyInt, Varint};
        const ALL: &[CqlType] = &[TinyInt, SmallInt, Int, BigInt, Float, Double, Varint, Decimal];
        const FIXED: &[CqlType] = &[TinyInt, SmallInt, Int, BigInt, Float, Double];
        match self {
            MathFunction::Absolute | MathFunction::Round => ALL,
            _ => FIXED,
        }
    }

    /// Its value for a valid number, of the number's own type; null when it has no bytes.
    pub(super) fn call(self, cql_type: &CqlType, value: &[u8]) -> Option<Vec<u8>> {
        let number = decode(cql_type, value)?;
        let result = match (self, number) {
            (MathFunction::Absolute, Number::Fixed(number)) => Number::Fixed(number.wrapping_abs()),
            (MathFunction::Absolute, Number::Varint(number)) => {
                Number::Varint(number.magnitude().clone().into())
            }
            (MathFunction::Absolute, Number::Decimal { unscaled, scale }) => {
                Number::Decimal { unscaled: unscaled.magnitude().clone().into(), scale }
            }
            (MathFunction::Round, Number::Decimal { unscaled, scale }) if scale > 0 => {
                let unscaled = match power_of_ten(scale) {
                    Some(divisor) => divide_half_up(&unscaled, &divisor),
                    None if scale as u64 > unscaled.bits() => BigInt::ZERO,
                    None => return None,
                };
                Number::Decimal { unscaled, scale: 0 }
            }
            (MathFunction::Round, number @ (Number::Fixed(_) | Number::Varint(_))) => number,
            (MathFunction::Round, number @ Number::Decimal { .. }) => number,
            (function, Number::Fixed(number)) => {
                let result = function.of_float(number as f64);
                let is_wide = *cql_type == CqlType::BigInt;
                Number::Fixed(if is_wide { result as i64 } else { i64::from(result as i32) })
            }
            (MathFunction::Round, Number::Floating(number)) => {
                let floor = number.floor();
                let rounded = if number - floor >= 0.5 { floor + 1.0 } else { floor };
                let is_wide = *cql_type == CqlType::Double;
                let whole = if is_wide { rounded as i64 } else { i64::from(rounded as i32) };
                Number::Floating(whole as f64)
            }
            (function, Number::Floating(number)) => Number::Floating(function.of_float(number)),
            (_, Number::Varint(_) | Number::Decimal { .. }) => return None,
        };
        Some(encode(cql_type, &result))
    }

    /// Rounding depends on the type and is not asked of this.
    fn of_float(self, number: f64) -> f64 {
        match self {
            MathFunction::Absolute => number.abs(),
            MathFunction::Exponential => number.exp(),
            MathFunction::Logarithm => number.ln(),
            MathFunction::DecimalLogarithm => number.log10(),
            MathFunction::Round => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::literal::{format_value, parse_literal};

    #[test]
    fn functions_of_numbers_keep_the_type() {
        let call = |function: MathFunction, name: &str, text: &str| {
            let cql_type = CqlType::native_from_name(name).unwrap();
            let value = parse_literal(&cql_type, text).unwrap();
            format_value(&cql_type, &function.call(&cql_type, &value).unwrap())
        };
        assert_eq!(call(MathFunction::Absolute, "int", "-5"), "5");
        assert_eq!(call(MathFunction::Absolute, "decimal", "-0.50"), "0.50");
        assert_eq!(
            call(MathFunction::Absolute, "varint", "-99999999999999999999"),
            "99999999999999999999"
        );
        assert_eq!(call(MathFunction::Round, "decimal", "-2.5"), "-3");
        assert_eq!(call(MathFunction::Round, "double", "2.5"), "3.0");
        assert_eq!(call(MathFunction::Round, "float", "-2.5"), "-2.0");
        assert_eq!(call(MathFunction::Exponential, "tinyint", "10"), "10");
        assert_eq!(call(MathFunction::DecimalLogarithm, "int", "-1"), "0");
        assert_eq!(call(MathFunction::Exponential, "int", "1"), "2");
        assert_eq!(call(MathFunction::DecimalLogarithm, "double", "1000"), "3.0");
        assert_eq!(call(MathFunction::Logarithm, "bigint", "1"), "0");
    }
}
