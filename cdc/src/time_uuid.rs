//! `cdc$time`: a version 1 UUID of a log time, whose low half keeps the order of commits.
//!
//! Time uuids of one microsecond compare by their low halves as signed bytes, so a plain counter
//! there would not stay in order. The counter is written in digits of seven bits, which are the same
//! signed or not; the first byte has the variant and six bits.

use model::TimestampMicros;
use model::timeuuid::{TimeUuidBytes, timeuuid_from_micros};

/// Most significant bits of a counter are lost beyond this many.
pub const COUNTER_BITS: u32 = 6 + 7 * 7;

/// The `cdc$time` of a group. `counter` grows from group to group of a range, over all its leaders
/// (an entry's index and the group's number in it will do), so that groups of one microsecond are
/// in the order of their commits and no two are the same.
pub fn log_time_uuid(micros: TimestampMicros, counter: u64) -> TimeUuidBytes {
    let mut low = [0_u8; 8];
    let mut rest = counter;
    for byte in low.iter_mut().rev() {
        *byte = (rest & 0x7f) as u8;
        rest >>= 7;
    }
    low[0] = 0x80 | (low[0] & 0x3f);
    timeuuid_from_micros(micros, u64::from_be_bytes(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::CqlType;
    use model::timeuuid::timeuuid_micros;
    use model::value::compare_values;
    use std::cmp::Ordering;

    #[test]
    fn groups_of_one_microsecond_are_in_the_order_of_their_counter() {
        let counters = [0, 1, 127, 128, 129, 0x3fff, 0x4000, 1 << 48, (1 << COUNTER_BITS) - 1];
        for pair in counters.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|counter| log_time_uuid(1_000, counter));
            assert_eq!(compare_values(&CqlType::TimeUuid, &a, &b), Ordering::Less, "{pair:?}");
            assert_eq!(timeuuid_micros(&a), 1_000);
            assert_eq!(a[8] >> 6, 0b10);
        }
        let next = log_time_uuid(1_001, 0);
        let last = log_time_uuid(1_000, u64::MAX);
        assert_eq!(compare_values(&CqlType::TimeUuid, &last, &next), Ordering::Less);
    }
}
