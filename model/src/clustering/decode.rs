//! From ordered bytes back to values. Reads bytes from disk and from peers: malformed ones give an
//! error.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

use super::{
    AFTER, DECIMAL_NEGATIVE, DECIMAL_POSITIVE, DECIMAL_ZERO, END, ESCAPE, NULL, TAG_EMPTY,
    TAG_VALUE, TERMINATOR, VARINT_POSITIVE, not_orderable,
};
use crate::codec::Cursor;
use crate::schema::TableDef;
use crate::types::CqlType;
use crate::value::{
    DecimalValue, NUMBER_BYTES_MAX, ValueError, fixed_bytes_in_vector, write_unsigned_vint,
};

/// The serialized values of a clustering key or of a prefix of one, as many as there are.
pub fn decode_clustering(table: &TableDef, key: &[u8]) -> Result<Vec<Vec<u8>>, ValueError> {
    match decode_bound(table, key)? {
        (values, false) => Ok(values),
        (_, true) => Err(malformed()),
    }
}

/// The serialized values of a bound's prefix, and whether the bound lies after all keys with that
/// prefix (a trailing [`AFTER`]) instead of before them.
pub fn decode_bound(table: &TableDef, bound: &[u8]) -> Result<(Vec<Vec<u8>>, bool), ValueError> {
    let mut rest = bound;
    let mut values = Vec::new();
    let mut columns = table.clustering_key().iter();
    while !rest.is_empty() && rest != [AFTER] {
        let column = columns.next().ok_or_else(malformed)?;
        let mut value = Vec::new();
        decode_component(&column.cql_type, column.descending, &mut rest, &mut value)?;
        values.push(value);
    }
    Ok((values, !rest.is_empty()))
}

/// Takes one component off the front of `input` and appends its serialized value to `out`.
///
/// On error neither is in a useful state.
pub fn decode_component(
    cql_type: &CqlType,
    descending: bool,
    input: &mut &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let mask = if descending { 0xff } else { 0 };
    let mut reader = Reader { cursor: Cursor::new(input), mask };
    reader.component(cql_type, out)?;
    *input = reader.cursor.rest();
    Ok(())
}

fn malformed() -> ValueError {
    ValueError::new("Malformed clustering key")
}

/// Reads bytes through a mask that undoes the inversion of descending columns.
#[derive(Clone, Copy)]
struct Reader<'a> {
    cursor: Cursor<'a>,
    mask: u8,
}

impl Reader<'_> {
    fn u8(&mut self) -> Result<u8, ValueError> {
        Ok(self.cursor.u8().map_err(|_| malformed())? ^ self.mask)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ValueError> {
        let bytes = self.cursor.array::<N>().map_err(|_| malformed())?;
        Ok(bytes.map(|byte| byte ^ self.mask))
    }

    fn take(&mut self, length: usize, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let bytes = self.cursor.bytes(length).map_err(|_| malformed())?;
        out.extend(bytes.iter().map(|byte| byte ^ self.mask));
        Ok(())
    }

    /// Takes the next byte if it is this one.
    fn skip(&mut self, byte: u8) -> bool {
        let mut ahead = *self;
        let found = ahead.u8() == Ok(byte);
        if found {
            *self = ahead;
        }
        found
    }

    fn component(&mut self, cql_type: &CqlType, out: &mut Vec<u8>) -> Result<(), ValueError> {
        match self.u8()? {
            TAG_EMPTY => Ok(()),
            TAG_VALUE => self.payload(cql_type, out),
            _ => Err(malformed()),
        }
    }

    fn payload(&mut self, cql_type: &CqlType, out: &mut Vec<u8>) -> Result<(), ValueError> {
        match cql_type {
            CqlType::Ascii | CqlType::Text | CqlType::Blob | CqlType::Inet => self.bytes(out),
            CqlType::TinyInt => self.signed::<1>(out),
            CqlType::SmallInt => self.signed::<2>(out),
            CqlType::Int => self.signed::<4>(out),
            CqlType::BigInt | CqlType::Timestamp => self.signed::<8>(out),
            CqlType::Boolean => self.take(1, out),
            CqlType::Date => self.take(4, out),
            CqlType::Time => self.take(8, out),
            CqlType::Float => {
                let bits = u32::from_be_bytes(self.array()?);
                let bits = if bits >> 31 == 1 { bits ^ 1 << 31 } else { !bits };
                out.extend_from_slice(&bits.to_be_bytes());
                Ok(())
            }
            CqlType::Double => {
                let bits = u64::from_be_bytes(self.array()?);
                let bits = if bits >> 63 == 1 { bits ^ 1 << 63 } else { !bits };
                out.extend_from_slice(&bits.to_be_bytes());
                Ok(())
            }
            CqlType::Uuid => {
                out.extend_from_slice(&uuid_from_ordered(self.array()?));
                Ok(())
            }
            CqlType::TimeUuid => {
                out.extend_from_slice(&timeuuid_from_ordered(self.array()?));
                Ok(())
            }
            CqlType::Varint => self.varint(out),
            CqlType::Decimal => self.decimal(out),
            CqlType::List { element, .. } | CqlType::Set { element, .. } => {
                self.counted(out, |reader, out| reader.element(element, out))
            }
            CqlType::Map { key, value, .. } => self.counted(out, |reader, out| {
                reader.element(key, out)?;
                reader.element(value, out)
            }),
            CqlType::Tuple(fields) => self.tuple(fields.iter(), out),
            CqlType::Udt(udt) => self.tuple(udt.fields.iter().map(|(_, t)| t), out),
            CqlType::Vector { element, dimension } => self.vector(element, *dimension, out),
            CqlType::Duration | CqlType::Counter => Err(not_orderable(cql_type)),
        }
    }

    fn signed<const N: usize>(&mut self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let start = out.len();
        self.take(N, out)?;
        if let Some(first) = out.get_mut(start) {
            *first ^= 0x80;
        }
        Ok(())
    }

    fn bytes(&mut self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        loop {
            let mut plain = self.cursor.rest().iter();
            let length = plain.position(|byte| byte ^ self.mask <= ESCAPE).ok_or_else(malformed)?;
            self.take(length, out)?;
            match self.u8()? {
                TERMINATOR => return Ok(()),
                _ => match self.u8()? {
                    escaped @ 1..=2 => out.push(escaped - 1),
                    _ => return Err(malformed()),
                },
            }
        }
    }

    fn varint(&mut self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let first = self.u8()?;
        let sign_mask = if first >= VARINT_POSITIVE { 0 } else { 0xff };
        let length = match first ^ sign_mask {
            0xff => u32::from_be_bytes(self.array::<4>()?.map(|byte| byte ^ sign_mask)),
            length => u32::from(length - VARINT_POSITIVE),
        };
        self.take(usize::try_from(length).map_err(|_| malformed())?, out)
    }

    fn decimal(&mut self, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let negative = match self.u8()? {
            DECIMAL_ZERO => {
                out.extend_from_slice(&[0; 5]);
                return Ok(());
            }
            DECIMAL_NEGATIVE => true,
            DECIMAL_POSITIVE => false,
            _ => return Err(malformed()),
        };
        let mut reader = Reader { mask: self.mask ^ if negative { 0xff } else { 0 }, ..*self };
        let exponent = i64::from_be_bytes(reader.array()?) ^ i64::MIN;
        let mut digits = Vec::new();
        loop {
            match reader.u8()? {
                TERMINATOR => break,
                pair @ 1..=100 if digits.len() < 3 * NUMBER_BYTES_MAX => {
                    digits.extend([(pair - 1) / 10, (pair - 1) % 10]);
                }
                _ => return Err(malformed()),
            }
        }
        self.cursor = reader.cursor;
        if digits.last() == Some(&0) {
            digits.pop();
        }
        let decimal = DecimalValue { negative, exponent, digits };
        out.extend_from_slice(&decimal.to_bytes().ok_or_else(malformed)?);
        Ok(())
    }

    /// Elements until [`END`], behind their count.
    fn counted(
        &mut self,
        out: &mut Vec<u8>,
        mut element: impl FnMut(&mut Self, &mut Vec<u8>) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        let mut count = 0_u32;
        while !self.skip(END) {
            element(self, out)?;
            count += 1;
        }
        fill(out, start, count.to_be_bytes());
        Ok(())
    }

    /// A component behind its length.
    fn element(&mut self, cql_type: &CqlType, out: &mut Vec<u8>) -> Result<(), ValueError> {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.component(cql_type, out)?;
        let length = i32::try_from(out.len() - start - 4).map_err(|_| malformed())?;
        fill(out, start, length.to_be_bytes());
        Ok(())
    }

    fn tuple<'t>(
        &mut self,
        fields: impl Iterator<Item = &'t CqlType>,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        let mut ended = false;
        for field in fields {
            ended = ended || self.skip(END);
            if ended || self.skip(NULL) {
                out.extend_from_slice(&(-1_i32).to_be_bytes());
            } else {
                self.element(field, out)?;
            }
        }
        if ended || self.skip(END) { Ok(()) } else { Err(malformed()) }
    }

    fn vector(
        &mut self,
        element: &CqlType,
        dimension: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        if fixed_bytes_in_vector(element).is_some() {
            return (0..dimension).try_for_each(|_| self.component(element, out));
        }
        let mut value = Vec::new();
        for _ in 0..dimension {
            value.clear();
            self.component(element, &mut value)?;
            write_unsigned_vint(value.len() as u64, out);
            out.extend_from_slice(&value);
        }
        Ok(())
    }
}

/// Overwrites the placeholder at `start`.
fn fill(out: &mut [u8], start: usize, bytes: [u8; 4]) {
    if let Some(place) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut::<4>) {
        *place = bytes;
    }
}

fn timeuuid_from_ordered(ordered: [u8; 16]) -> [u8; 16] {
    let number = u128::from_be_bytes(ordered);
    let low = number & u128::from(u64::MAX) ^ 0x8080_8080_8080_8080;
    (time_last(number >> 64) << 64 | low).to_be_bytes()
}

fn uuid_from_ordered(ordered: [u8; 16]) -> [u8; 16] {
    let number = u128::from_be_bytes(ordered);
    let high = number >> 64;
    let version = high >> 60;
    let high = if version == 1 {
        time_last(high)
    } else {
        (high >> 12 & 0xffff_ffff_ffff) << 16 | version << 12 | high & 0xfff
    };
    (high << 64 | number & u128::from(u64::MAX)).to_be_bytes()
}

/// `version 4, time_high 12, time_mid 16, time_low 32` back to a UUID's first half.
fn time_last(high: u128) -> u128 {
    (high & 0xffff_ffff) << 32 | (high >> 32 & 0xffff) << 16 | high >> 48
}
