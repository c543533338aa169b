//! How much of disk and network a node may take, by the keys of cassandra.yaml.

use super::ConfigError;
use super::value::parse_size;
use storage::commitlog::{
    BLOCK_BYTES, SEGMENT_BYTES_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
};

/// The keys.
pub(super) const KEYS: &[&str] =
    &["commitlog_segment_size", "commitlog_total_space", "stream_throughput_outbound"];

/// Log that a shard may keep unless the operator says otherwise: half of it for entries that are in
/// no table, all of it for members that are away.
const LOG_BYTES_PER_SHARD_DEFAULT: u64 = 1 << 30;
/// Cassandra's default.
const STREAM_BYTES_PER_SECOND_DEFAULT: u64 = 24 << 20;
/// A log of fewer segments would be given up while it is written.
const SEGMENTS_MIN: u64 = 4;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    segment_bytes: u64,
    /// Of all shards together.
    log_bytes_max: Option<u64>,
    stream_bytes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            log_bytes_max: None,
            stream_bytes_per_second: STREAM_BYTES_PER_SECOND_DEFAULT,
        }
    }
}

impl Limits {
    /// Takes the value of one of the keys.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        match key {
            "commitlog_segment_size" => {
                let bytes = (parse_size(key, value)? as u64).next_multiple_of(BLOCK_BYTES);
                if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) {
                    let range = "64KiB to 1GiB";
                    return Err(ConfigError(format!("{key}: `{value}` is outside {range}")));
                }
                self.segment_bytes = bytes;
            }
            "commitlog_total_space" => self.log_bytes_max = Some(parse_size(key, value)? as u64),
            _ => {
                let rate = value.strip_suffix("/s").unwrap_or(value);
                self.stream_bytes_per_second = parse_size(key, rate)? as u64;
            }
        }
        Ok(())
    }

    /// Length of the commit logs' segments.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// How much log each of so many shards may keep.
    pub(crate) fn log_bytes_per_shard(&self, shard_count: u16) -> u64 {
        let share = self.log_bytes_max.map(|bytes| bytes / u64::from(shard_count.max(1)));
        share.unwrap_or(LOG_BYTES_PER_SHARD_DEFAULT).max(SEGMENTS_MIN * self.segment_bytes)
    }

    /// How many bytes a second each of so many shards may send in bulk; 0 is no limit.
    pub(crate) fn stream_bytes_per_second_of_shard(&self, shard_count: u16) -> u64 {
        let rate = self.stream_bytes_per_second;
        if rate == 0 { 0 } else { (rate / u64::from(shard_count.max(1))).max(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_cassandra_set_what_a_shard_may_take() {
        let mut limits = Limits::default();
        assert_eq!(limits.log_bytes_per_shard(4), 1 << 30);
        assert_eq!(limits.stream_bytes_per_second_of_shard(4), 6 << 20);
        limits.set("commitlog_segment_size", "64KiB").unwrap();
        limits.set("commitlog_total_space", "8MiB").unwrap();
        limits.set("stream_throughput_outbound", "1MiB/s").unwrap();
        assert_eq!(limits.segment_bytes(), 64 << 10);
        assert_eq!(limits.log_bytes_per_shard(4), 2 << 20);
        assert_eq!(limits.log_bytes_per_shard(64), 256 << 10, "four segments at least");
        assert_eq!(limits.stream_bytes_per_second_of_shard(2), 512 << 10);
        limits.set("stream_throughput_outbound", "0").unwrap();
        assert_eq!(limits.stream_bytes_per_second_of_shard(2), 0, "no limit");
        assert!(limits.set("commitlog_segment_size", "1k").is_err());
        assert!(limits.set("commitlog_total_space", "much").is_err());
    }
}
