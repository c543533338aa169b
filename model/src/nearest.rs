//! The name that somebody may have meant who gave one that nobody knows.

/// Longer names are compared by their beginning.
const COMPARED_BYTES_MAX: usize = 64;

/// Of the names that there are the one that is most like this one; none when there are none.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known.min_by_key(|known| edit_distance(name, known))
}

/// How many bytes must be inserted, removed or replaced.
fn edit_distance(a: &str, b: &str) -> usize {
    let compared = |text: &str| -> Vec<u8> { text.bytes().take(COMPARED_BYTES_MAX).collect() };
    let (a, b) = (compared(a), compared(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{edit_distance, nearest};

    #[test]
    fn the_nearest_name_needs_the_fewest_changes() {
        assert_eq!(edit_distance("batchsize", "batch_size"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        let known = ["filter", "batch_size", "headers"];
        assert_eq!(nearest("batchsice", known.into_iter()), Some("batch_size"));
        assert_eq!(nearest(&"x".repeat(1 << 20), known.into_iter()), Some("filter"));
        assert_eq!(nearest("x", [].into_iter()), None);
    }
}
