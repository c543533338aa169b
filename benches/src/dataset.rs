//! Keys and rows that follow from a number.
//!
//! A row is about 150 bytes: a key of 16 and [`COLUMN_COUNT`] values of [`VALUE_BYTES`]. Every run
//! writes the same value under the same key, so that any row that is read can be checked without
//! knowing who wrote it when.

/// Length of a partition key in bytes.
pub const KEY_BYTES: usize = 16;
/// Regular columns of a row, `c0` and so on.
pub const COLUMN_COUNT: usize = 5;
/// Length of each value in bytes.
pub const VALUE_BYTES: usize = 27;
/// Keys at and above this number are never written: reads of them find nothing.
pub const ABSENT_FROM: u64 = 1 << 48;

/// Bytes from which values are cut.
const POOL_BYTES: usize = 64 << 10;

/// The definition of the table; `options` goes behind WITH, if there is any.
pub fn create_table(keyspace: &str, table: &str, options: &str) -> String {
    let columns = column_names().join(" blob, ");
    let with = if options.is_empty() { String::new() } else { format!(" WITH {options}") };
    format!(
        "CREATE TABLE IF NOT EXISTS {keyspace}.{table} (key blob PRIMARY KEY, {columns} blob){with}"
    )
}

/// The statement that writes a row: the key, then the columns.
pub fn insert(keyspace: &str, table: &str) -> String {
    let columns = column_names().join(", ");
    let markers = ", ?".repeat(COLUMN_COUNT);
    format!("INSERT INTO {keyspace}.{table} (key, {columns}) VALUES (?{markers})")
}

/// The statement that overwrites a row that exists: the columns, then the key.
pub fn update_if_exists(keyspace: &str, table: &str) -> String {
    let assignments = column_names().join(" = ?, ");
    format!("UPDATE {keyspace}.{table} SET {assignments} = ? WHERE key = ? IF EXISTS")
}

/// The statement that reads a row: the columns.
pub fn select(keyspace: &str, table: &str) -> String {
    format!("SELECT {} FROM {keyspace}.{table} WHERE key = ?", column_names().join(", "))
}

fn column_names() -> Vec<String> {
    (0..COLUMN_COUNT).map(|column| format!("c{column}")).collect()
}

/// The key of a row.
pub fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The source of all values.
#[derive(Clone, Debug)]
pub struct Values {
    pool: Vec<u8>,
}

impl Values {
    /// The same bytes in every run.
    pub fn new() -> Self {
        let mut random = Random::new(1);
        let words = std::iter::repeat_with(|| random.next().to_le_bytes());
        Values { pool: words.take(POOL_BYTES / 8).flatten().collect() }
    }

    /// The value of a column, from 0.
    pub fn value(&self, number: u64, column: usize) -> &[u8] {
        let window_count = (POOL_BYTES - VALUE_BYTES) as u64;
        let start = (mix(number ^ ((column as u64) << 56)) % window_count) as usize;
        &self.pool[start..start + VALUE_BYTES]
    }
}

impl Default for Values {
    fn default() -> Self {
        Self::new()
    }
}

/// A small generator of numbers that are random enough to choose keys (splitmix64).
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Random { state: seed }
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so it is no iterator")]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// A number below `bound`, close enough to even.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Spreads a number over all bits; neighbours come out unrelated.
fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_differ_and_values_follow_from_them() {
        let keys: BTreeSet<_> = (0..1000).map(key).collect();
        assert_eq!(keys.len(), 1000);
        let (one, other) = (Values::new(), Values::new());
        assert_eq!(one.value(7, 2), other.value(7, 2));
        assert_ne!(one.value(7, 2), one.value(7, 3));
        assert_ne!(one.value(7, 2), one.value(8, 2));
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_it() {
        let mut random = Random::new(3);
        let seen: BTreeSet<u64> = (0..1000).map(|_| random.below(10)).collect();
        assert_eq!(seen, (0..10).collect());
    }
}
