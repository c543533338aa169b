//! Cassandra's variable-length integers: the count of leading one bits in the first byte says how
//! many bytes follow, the number is big endian in the remaining bits.

use crate::codec::Cursor;

pub(crate) fn read_unsigned_vint(cursor: &mut Cursor<'_>) -> Option<u64> {
    let first = cursor.u8().ok()?;
    let extra = first.leading_ones();
    let head = u64::from(first) & (0xff_u64 >> extra);
    let tail = cursor.bytes(usize::try_from(extra).ok()?).ok()?;
    Some(tail.iter().fold(head, |number, byte| (number << 8) | u64::from(*byte)))
}

pub(crate) fn read_signed_vint(cursor: &mut Cursor<'_>) -> Option<i64> {
    let zigzag = read_unsigned_vint(cursor)?;
    Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
}

pub(crate) fn write_unsigned_vint(number: u64, out: &mut Vec<u8>) {
    let bits = 64 - (number | 1).leading_zeros();
    let extra = ((bits - 1) / 7).min(8) as usize;
    let mark = if extra == 8 { 0xff } else { !(0xff_u8 >> extra) };
    let bytes = number.to_be_bytes();
    if extra == 8 {
        out.push(mark);
        out.extend_from_slice(&bytes);
    } else {
        out.push(mark | bytes[7 - extra]);
        out.extend_from_slice(&bytes[8 - extra..]);
    }
}

pub(crate) fn write_signed_vint(number: i64, out: &mut Vec<u8>) {
    write_unsigned_vint(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_round_trips() {
        for shift in 0..64 {
            for number in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                write_unsigned_vint(number, &mut out);
                let mut cursor = Cursor::new(&out);
                assert_eq!(read_unsigned_vint(&mut cursor), Some(number));
                assert!(cursor.is_empty());
                for signed in [number.cast_signed(), number.cast_signed().wrapping_neg()] {
                    out.clear();
                    write_signed_vint(signed, &mut out);
                    assert_eq!(read_signed_vint(&mut Cursor::new(&out)), Some(signed));
                }
            }
        }
    }

    #[test]
    fn known_bytes() {
        for (number, bytes) in
            [(0_u64, &b"\0"[..]), (127, b"\x7f"), (128, b"\x80\x80"), (u64::MAX, &[0xff; 9])]
        {
            let mut out = Vec::new();
            write_unsigned_vint(number, &mut out);
            assert_eq!(out, bytes);
        }
        assert_eq!(read_unsigned_vint(&mut Cursor::new(b"\x81")), None);
    }
}
