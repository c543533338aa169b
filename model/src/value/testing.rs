//! Random types and values for property tests, from a seed.

use super::{NUMBER_BYTES_MAX, fixed_bytes_in_vector, write_signed_vint, write_unsigned_vint};
use crate::types::{CqlType, UdtType};
use std::sync::Arc;

/// xorshift64*: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.number() >> 33) as usize % bound
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Bytes that like the borders: 0, 1, 0x7f, 0x80, 0xff.
    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length)
            .map(|_| {
                if self.one_in(2) {
                    self.number() as u8
                } else {
                    self.pick(&[0, 1, 2, 0x7f, 0x80, 0xff])
                }
            })
            .collect()
    }
}

const NATIVE: &[CqlType] = &[
    CqlType::Ascii,
    CqlType::BigInt,
    CqlType::Blob,
    CqlType::Boolean,
    CqlType::Decimal,
    CqlType::Double,
    CqlType::Float,
    CqlType::Int,
    CqlType::Timestamp,
    CqlType::Uuid,
    CqlType::Text,
    CqlType::Varint,
    CqlType::TimeUuid,
    CqlType::Inet,
    CqlType::Date,
    CqlType::Time,
    CqlType::SmallInt,
    CqlType::TinyInt,
];

/// A frozen type that can be ordered, nested up to `depth`.
pub(crate) fn random_type(random: &mut Random, depth: usize) -> CqlType {
    if depth == 0 || !random.one_in(3) {
        return random.pick(NATIVE);
    }
    let element = Arc::new(random_type(random, depth - 1));
    match random.below(6) {
        0 => CqlType::List { element, frozen: true },
        1 => CqlType::Set { element, frozen: true },
        2 => {
            let value = Arc::new(random_type(random, depth - 1));
            CqlType::Map { key: element, value, frozen: true }
        }
        3 => {
            let fields = (0..=random.below(3)).map(|_| random_type(random, depth - 1));
            CqlType::Tuple(fields.collect())
        }
        4 => CqlType::Udt(Arc::new(UdtType {
            keyspace: "ks".into(),
            name: "u".into(),
            fields: (0..=random.below(3))
                .map(|i| (format!("f{i}").into(), random_type(random, depth - 1)))
                .collect(),
            frozen: true,
        })),
        _ => CqlType::Vector { element, dimension: 1 + random.below(3) as u16 },
    }
}

/// A tuple type of these fields.
pub(crate) fn tuple_of(fields: &[CqlType]) -> CqlType {
    CqlType::Tuple(Arc::from(fields))
}

/// A valid value, small and often equal or close to others of its type.
pub(crate) fn random_value(random: &mut Random, cql_type: &CqlType) -> Vec<u8> {
    let may_be_empty = !cql_type.is_collection()
        && !matches!(
            cql_type,
            CqlType::TinyInt
                | CqlType::SmallInt
                | CqlType::Date
                | CqlType::Time
                | CqlType::Duration
                | CqlType::Vector { .. }
        );
    if may_be_empty && random.one_in(12) {
        return Vec::new();
    }
    random_non_empty(random, cql_type)
}

fn random_non_empty(random: &mut Random, cql_type: &CqlType) -> Vec<u8> {
    let length = random.below(4);
    match cql_type {
        CqlType::Ascii => (0..length).map(|_| random.pick(&[0, 1, 2, b'a', 0x7f])).collect(),
        CqlType::Text => {
            let characters = ['\0', '\u{1}', 'a', 'ß', '日', '😀'];
            let text: String = (0..length).map(|_| random.pick(&characters)).collect();
            text.into_bytes()
        }
        CqlType::Blob => random.bytes(length),
        CqlType::Boolean | CqlType::TinyInt => random.bytes(1),
        CqlType::SmallInt => random.bytes(2),
        CqlType::Int | CqlType::Date => random.bytes(4),
        CqlType::BigInt | CqlType::Counter | CqlType::Timestamp => random.bytes(8),
        CqlType::Float => {
            let special = [-0.0, 0.0, f32::NAN, -f32::NAN, f32::INFINITY, f32::MIN, 1.5];
            if random.one_in(2) {
                random.bytes(4)
            } else {
                random.pick(&special).to_be_bytes().to_vec()
            }
        }
        CqlType::Double => {
            let special = [-0.0, 0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::MIN, 1.5];
            if random.one_in(2) {
                random.bytes(8)
            } else {
                random.pick(&special).to_be_bytes().to_vec()
            }
        }
        CqlType::Uuid => random.bytes(16),
        CqlType::TimeUuid => {
            let mut bytes = random.bytes(16);
            bytes[6] = 0x10 | bytes[6] & 0xf;
            bytes
        }
        CqlType::Inet => {
            let length = random.pick(&[4, 16]);
            random.bytes(length)
        }
        CqlType::Time => (random.number() % 86_400_000_000_000).to_be_bytes().to_vec(),
        CqlType::Varint => random_varint(random),
        CqlType::Decimal => {
            let scale = random.pick(&[0, 1, 2, 3, -1, -2, -70, i32::MAX, i32::MIN]);
            let unscaled = match random.below(3) {
                0 => random_varint(random),
                _ => random.pick(&[vec![0], vec![1], vec![10], vec![100], vec![0xf6], vec![0xff]]),
            };
            [&scale.to_be_bytes(), unscaled.as_slice()].concat()
        }
        CqlType::Duration => {
            let mut bytes = Vec::new();
            for _ in 0..3 {
                write_signed_vint(random.below(1000) as i64, &mut bytes);
            }
            bytes
        }
        _ => random_nested(random, cql_type),
    }
}

fn random_nested(random: &mut Random, cql_type: &CqlType) -> Vec<u8> {
    let length = random.below(4);
    match cql_type {
        CqlType::List { element, .. } | CqlType::Set { element, .. } => {
            let mut bytes = (length as i32).to_be_bytes().to_vec();
            (0..length).for_each(|_| push(&mut bytes, &random_value(random, element)));
            bytes
        }
        CqlType::Map { key, value, .. } => {
            let mut bytes = (length as i32).to_be_bytes().to_vec();
            for _ in 0..length {
                push(&mut bytes, &random_value(random, key));
                push(&mut bytes, &random_value(random, value));
            }
            bytes
        }
        CqlType::Tuple(fields) => random_tuple(random, &fields.iter().collect::<Vec<_>>()),
        CqlType::Udt(udt) => {
            random_tuple(random, &udt.fields.iter().map(|(_, t)| t).collect::<Vec<_>>())
        }
        CqlType::Vector { element, dimension } => {
            let mut bytes = Vec::new();
            for _ in 0..*dimension {
                if fixed_bytes_in_vector(element).is_some() {
                    bytes.extend(random_non_empty(random, element));
                } else {
                    let value = random_value(random, element);
                    write_unsigned_vint(value.len() as u64, &mut bytes);
                    bytes.extend(value);
                }
            }
            bytes
        }
        native => unreachable!("{native} is made in random_non_empty"),
    }
}

fn random_varint(random: &mut Random) -> Vec<u8> {
    let length = match random.below(40) {
        0 => random.pick(&[125, 126, 127, 128, 300, NUMBER_BYTES_MAX]),
        1..10 => 1 + random.below(20),
        _ => 1 + random.below(3),
    };
    random.bytes(length)
}

/// Often with nulls, often shorter than declared.
fn random_tuple(random: &mut Random, fields: &[&CqlType]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = 1 + random.below(fields.len());
    for field in &fields[..count] {
        if random.one_in(3) {
            bytes.extend((-1_i32).to_be_bytes());
        } else {
            push(&mut bytes, &random_value(random, field));
        }
    }
    bytes
}

fn push(out: &mut Vec<u8>, value: &[u8]) {
    out.extend((value.len() as i32).to_be_bytes());
    out.extend(value);
}

/// A few bytes changed, added or taken away, for corpora.
pub(crate) fn mutate(data: &[u8], random: &mut Random) -> Vec<u8> {
    let mut data = data.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(data.len() + 1);
        let other = random.number() as u8;
        let byte = random.pick(&[0, 1, 4, 0x7f, 0x80, 0xfe, 0xff, other]);
        match random.below(4) {
            0 => data.truncate(at),
            1 => data.insert(at, byte),
            2 if at < data.len() => drop(data.remove(at)),
            _ if at < data.len() => data[at] = byte,
            _ => data.push(byte),
        }
    }
    data
}
