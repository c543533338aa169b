//! Version 1 UUIDs: a time in 100 ns units since 15 October 1582, and 64 bits that tell apart the
//! UUIDs of one time.
//!
//! Nothing here reads a clock or makes random bits; callers bring both. Times outside the 60 bits
//! of a UUID (before 1582, after the year 5236) become the nearest time it can hold, so that order
//! is kept.

/// A serialized timeuuid.
pub type TimeUuidBytes = [u8; 16];

/// The Unix epoch in a UUID's units.
const UNIX_EPOCH_TICKS: i128 = 0x01b2_1dd2_1381_4000;
const TICKS_MAX: i128 = (1 << 60) - 1;
const TICKS_PER_MICRO: i128 = 10;
const TICKS_PER_MILLI: i128 = 10_000;

/// The low halves that sort before and after all others of one time: timeuuids compare them as
/// signed bytes.
const LOW_BITS_FIRST: u64 = 0x8080_8080_8080_8080;
const LOW_BITS_LAST: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// The timeuuid of a time in microseconds since the Unix epoch, with this low half. Use
/// [`ietf_low_bits`] for a low half that other UUID software recognises.
pub fn timeuuid_from_micros(micros: i64, low_bits: u64) -> TimeUuidBytes {
    from_ticks(i128::from(micros) * TICKS_PER_MICRO, low_bits)
}

/// A low half with the variant bits of RFC 4122 and 62 bits of the given ones.
pub fn ietf_low_bits(bits: u64) -> u64 {
    bits & (u64::MAX >> 2) | 1 << 63
}

/// CQL's `minTimeuuid`: not above any timeuuid of this millisecond. Not a valid UUID otherwise.
pub fn min_timeuuid(millis: i64) -> TimeUuidBytes {
    from_ticks(i128::from(millis) * TICKS_PER_MILLI, LOW_BITS_FIRST)
}

/// CQL's `maxTimeuuid`: not below any timeuuid of this millisecond. Not a valid UUID otherwise.
pub fn max_timeuuid(millis: i64) -> TimeUuidBytes {
    from_ticks((i128::from(millis) + 1) * TICKS_PER_MILLI - 1, LOW_BITS_LAST)
}

/// Microseconds since the Unix epoch, rounded down.
pub fn timeuuid_micros(uuid: &TimeUuidBytes) -> i64 {
    unix_ticks(uuid).div_euclid(TICKS_PER_MICRO) as i64
}

/// Milliseconds since the Unix epoch, rounded down.
pub fn timeuuid_millis(uuid: &TimeUuidBytes) -> i64 {
    unix_ticks(uuid).div_euclid(TICKS_PER_MILLI) as i64
}

/// A timeuuid on the other side of 2010-01-01 and as far from it: of any two timeuuids the later
/// one has the earlier reverse. Lists prepend with these, so that each prepended element sorts
/// before all that were prepended earlier, and all before what was appended (since 2010).
pub fn reversed_timeuuid(uuid: &TimeUuidBytes) -> TimeUuidBytes {
    const REFERENCE_TICKS: i128 = 1_262_304_000_000 * TICKS_PER_MILLI;
    let low_bits = u128::from_be_bytes(*uuid) as u64;
    // All but the two bits of the variant.
    let low_bits = low_bits ^ (u64::MAX >> 2);
    from_ticks(2 * REFERENCE_TICKS - unix_ticks(uuid), low_bits)
}

/// Whether these bytes are a version 1 UUID.
pub fn is_timeuuid(uuid: &TimeUuidBytes) -> bool {
    uuid[6] >> 4 == 1
}

fn from_ticks(unix_ticks: i128, low_bits: u64) -> TimeUuidBytes {
    let ticks = (unix_ticks + UNIX_EPOCH_TICKS).clamp(0, TICKS_MAX) as u128;
    let time_low = ticks & 0xffff_ffff;
    let time_mid = ticks >> 32 & 0xffff;
    let time_high = ticks >> 48;
    let high = time_low << 32 | time_mid << 16 | 1 << 12 | time_high;
    (high << 64 | u128::from(low_bits)).to_be_bytes()
}

/// At most 60 bits, so every division of it fits an `i64`.
fn unix_ticks(uuid: &TimeUuidBytes) -> i128 {
    let high = u128::from_be_bytes(*uuid) >> 64;
    let ticks = (high & 0xfff) << 48 | (high >> 16 & 0xffff) << 32 | high >> 32;
    ticks as i128 - UNIX_EPOCH_TICKS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::CqlType;
    use crate::value::{compare_values, validate};
    use std::cmp::Ordering;

    #[test]
    fn the_time_comes_back() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -12_219_292_800_000_000] {
            let uuid = timeuuid_from_micros(micros, ietf_low_bits(u64::MAX));
            assert_eq!(timeuuid_micros(&uuid), micros);
            assert_eq!(timeuuid_millis(&uuid), micros.div_euclid(1000));
            assert_eq!(validate(&CqlType::TimeUuid, &uuid), Ok(()));
            assert!(is_timeuuid(&uuid));
            assert_eq!(uuid[8] >> 6, 0b10);
        }
    }

    #[test]
    fn reversing_turns_the_order_around() {
        let uuid = |micros, bits| timeuuid_from_micros(micros, ietf_low_bits(bits));
        let now = 1_700_000_000_123_456;
        let mut ascending =
            [uuid(now, 0), uuid(now, 1), uuid(now, u64::MAX >> 2), uuid(now + 1, 0)];
        ascending.sort_by(|a, b| compare_values(&CqlType::TimeUuid, a, b));
        for pair in ascending.windows(2) {
            let [earlier, later] = [reversed_timeuuid(&pair[0]), reversed_timeuuid(&pair[1])];
            assert_eq!(compare_values(&CqlType::TimeUuid, &later, &earlier), Ordering::Less);
            assert_eq!(compare_values(&CqlType::TimeUuid, &earlier, &pair[0]), Ordering::Less);
            assert_eq!(reversed_timeuuid(&earlier), pair[0]);
        }
    }

    /// RFC 4122's own example of a time: the UUID of 1 January 1970 has the well-known prefix.
    #[test]
    fn the_epoch_has_its_well_known_bytes() {
        let uuid = timeuuid_from_micros(0, 0);
        assert_eq!(uuid[..8], [0x13, 0x81, 0x40, 0x00, 0x1d, 0xd2, 0x11, 0xb2]);
    }

    #[test]
    fn times_out_of_range_become_the_nearest() {
        let first = timeuuid_from_micros(i64::MIN, 0);
        let last = timeuuid_from_micros(i64::MAX, 0);
        assert_eq!(timeuuid_micros(&first), -12_219_292_800_000_000);
        assert!(is_timeuuid(&first) && is_timeuuid(&last));
        assert_eq!(compare_values(&CqlType::TimeUuid, &first, &last), Ordering::Less);
        assert!(is_timeuuid(&max_timeuuid(i64::MAX)) && is_timeuuid(&min_timeuuid(i64::MIN)));
    }

    #[test]
    fn the_bounds_of_a_millisecond_enclose_it() {
        let (min, max) = (min_timeuuid(1_000), max_timeuuid(1_000));
        let order = |a: &[u8], b: &[u8]| compare_values(&CqlType::TimeUuid, a, b);
        for micros in [1_000_000, 1_000_999] {
            for low in [0, u64::MAX, ietf_low_bits(0), 0x8080_8080_8080_8081] {
                let uuid = timeuuid_from_micros(micros, low);
                assert_eq!(order(&min, &uuid), Ordering::Less);
                assert_eq!(order(&uuid, &max), Ordering::Less);
            }
        }
        assert_eq!(order(&max, &min_timeuuid(1_001)), Ordering::Less);
        assert_eq!(order(&max_timeuuid(999), &min), Ordering::Less);
    }
}
