//! Varints and decimals by value: their shortest bytes, their order, their digits.

use num_bigint::{BigInt, Sign};
use std::cmp::Ordering;

/// Longest varint, and longest unscaled part of a decimal, in bytes (about 19,700 digits).
/// Conversion to digits takes time that grows with the square of the length; the bound keeps
/// that below a millisecond.
pub const NUMBER_BYTES_MAX: usize = 8 * 1024;

/// The number without redundant sign bytes. Empty stays empty.
pub(crate) fn minimal_varint(mut bytes: &[u8]) -> &[u8] {
    while let Some((first, rest)) = bytes.split_first() {
        let redundant = match rest.first() {
            Some(second) => *first == if *second < 0x80 { 0 } else { 0xff },
            None => false,
        };
        if !redundant {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Order of two non-empty varints by value.
pub(crate) fn compare_varints(a: &[u8], b: &[u8]) -> Ordering {
    let (a, b) = (minimal_varint(a), minimal_varint(b));
    let negative = |bytes: &[u8]| bytes.first().is_some_and(|first| *first >= 0x80);
    match (negative(a), negative(b)) {
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (true, true) => b.len().cmp(&a.len()).then_with(|| a.cmp(b)),
    }
}

/// A decimal as its value alone: `0.d1d2d3… * 10^exponent`, without leading or trailing zeros among
/// the digits (each 0 to 9). Zero has no digits and the exponent 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecimalValue {
    pub(crate) negative: bool,
    pub(crate) exponent: i64,
    pub(crate) digits: Vec<u8>,
}

impl DecimalValue {
    /// From a serialized decimal; `None` when it is not at least four bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<DecimalValue> {
        let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
        let scale = i64::from(i32::from_be_bytes(*scale));
        let (sign, mut digits) = signed_digits(unscaled);
        let exponent = digits.len() as i64 - scale;
        let significant = digits.iter().rposition(|digit| *digit != 0).map_or(0, |last| last + 1);
        digits.truncate(significant);
        Some(if digits.is_empty() {
            DecimalValue { negative: false, exponent: 0, digits }
        } else {
            DecimalValue { negative: sign == Sign::Minus, exponent, digits }
        })
    }

    /// A serialized decimal of this value. Its scale is the smallest that needs no exponent for
    /// numbers of a usual size; `None` when no 32-bit scale can express it.
    pub(crate) fn to_bytes(&self) -> Option<Vec<u8>> {
        /// Whole numbers of up to this many digits are written without a negative scale. Far
        /// below [`NUMBER_BYTES_MAX`], so that what comes back is never too long to go in again.
        const PLAIN_DIGITS_MAX: i64 = 128;

        let shortest = if self.digits.is_empty() {
            0
        } else {
            (self.digits.len() as i64).checked_sub(self.exponent)?
        };
        let scale = if shortest < 0 && self.exponent <= PLAIN_DIGITS_MAX {
            0
        } else {
            shortest.max(i64::from(i32::MIN))
        };
        let zeros = usize::try_from(scale.checked_sub(shortest)?).ok()?;
        if zeros > 3 * NUMBER_BYTES_MAX {
            return None;
        }
        let mut digits = self.digits.clone();
        digits.resize(digits.len() + zeros, 0);
        let sign = if self.negative { Sign::Minus } else { Sign::Plus };
        let unscaled = BigInt::from_radix_be(sign, &digits, 10).unwrap_or_default();
        let mut bytes = i32::try_from(scale).ok()?.to_be_bytes().to_vec();
        bytes.extend_from_slice(&unscaled.to_signed_bytes_be());
        Some(bytes)
    }

    fn sign(&self) -> i8 {
        match (self.digits.is_empty(), self.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }
    }
}

/// Order of two serialized decimals by value (1.0 equals 1.00).
pub(crate) fn compare_decimals(a: &[u8], b: &[u8]) -> Ordering {
    if let (Some((scale_a, rest_a)), Some((scale_b, rest_b))) =
        (a.split_first_chunk::<4>(), b.split_first_chunk::<4>())
        && scale_a == scale_b
        && !rest_a.is_empty()
        && !rest_b.is_empty()
    {
        return compare_varints(rest_a, rest_b);
    }
    let (Some(a), Some(b)) = (DecimalValue::from_bytes(a), DecimalValue::from_bytes(b)) else {
        return a.cmp(b);
    };
    a.sign().cmp(&b.sign()).then_with(|| {
        let magnitude = a.exponent.cmp(&b.exponent).then_with(|| a.digits.cmp(&b.digits));
        if a.negative { magnitude.reverse() } else { magnitude }
    })
}

/// Sign and decimal digits, most significant first, no leading zeros; zero has none.
fn signed_digits(bytes: &[u8]) -> (Sign, Vec<u8>) {
    let bytes = minimal_varint(bytes);
    if bytes.len() > 16 {
        let (sign, digits) = BigInt::from_signed_bytes_be(bytes).to_radix_be(10);
        return (sign, digits);
    }
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let number = bytes
        .iter()
        .fold(if negative { -1_i128 } else { 0 }, |number, byte| (number << 8) | i128::from(*byte));
    let mut rest = number.unsigned_abs();
    let mut digits = Vec::with_capacity(40);
    while rest > 0 {
        digits.push((rest % 10) as u8);
        rest /= 10;
    }
    digits.reverse();
    (if negative { Sign::Minus } else { Sign::Plus }, digits)
}
