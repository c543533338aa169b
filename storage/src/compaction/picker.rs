//! Which files to merge: a pure function of the files' figures and the table's options.
//!
//! SizeTiered merges files of similar size, as Cassandra's strategy of that name: when
//! `min_threshold` files of one bucket have a token in common, up to `max_threshold` of them become
//! one. Files that share no token cost a read nothing, such as those of the ranges that a node took
//! over; neighbours among them are merged only when there are more than `max_threshold`.
//! TimeWindow puts files by their newest timestamp into windows; in the newest window it merges as
//! SizeTiered does, an older one is merged into one file once, and windows are never merged with
//! each other. In both, files whose whole content is gone are merged with nothing: they vanish.
//! Other strategies' names are treated as SizeTiered.

use crate::sstable::SsTable;
use model::{EpochSeconds, TimestampMicros};
use std::collections::BTreeMap;

/// A file that may be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) file_id: u64,
    pub(crate) bytes: u64,
    /// The lowest and the highest token of it.
    pub(crate) tokens: (i64, i64),
    pub(crate) oldest: TimestampMicros,
    pub(crate) newest: TimestampMicros,
    /// When its last content is deleted or expired.
    pub(crate) all_gone_at: EpochSeconds,
}

impl Candidate {
    pub(crate) fn new(table: &SsTable) -> Self {
        Candidate {
            file_id: table.id(),
            bytes: table.file.length_bytes,
            tokens: (table.statistics.first.0, table.statistics.last.0),
            oldest: table.statistics.timestamps.oldest,
            newest: table.statistics.timestamps.newest,
            all_gone_at: table.statistics.all_gone_at,
        }
    }
}

/// What limits forgetting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Horizon {
    /// What was deleted or expired before this may go.
    pub(crate) gc_before: EpochSeconds,
    /// The oldest timestamp in memtables and in files that are no candidates.
    pub(crate) oldest_elsewhere: TimestampMicros,
}

/// The files to merge next, if any.
pub(crate) fn pick(
    options: &BTreeMap<String, String>,
    candidates: &[Candidate],
    horizon: Horizon,
) -> Option<Vec<u64>> {
    if options.get("enabled").is_some_and(|v| v == "false") {
        return None;
    }
    if let Some(gone) = pick_gone(candidates, horizon) {
        return Some(gone);
    }
    let tiers = SizeTiered::new(options);
    let class = options.get("class").map_or("", |c| c.rsplit('.').next().unwrap_or(c));
    match class {
        "TimeWindowCompactionStrategy" => pick_window(options, &tiers, candidates),
        _ => tiers.pick(&candidates.iter().collect::<Vec<_>>()),
    }
}

/// Files of which nothing is left, and which hide nothing elsewhere.
fn pick_gone(candidates: &[Candidate], horizon: Horizon) -> Option<Vec<u64>> {
    let is_gone = |c: &Candidate| c.all_gone_at < horizon.gc_before;
    let kept = candidates.iter().filter(|c| !is_gone(c)).map(|c| c.oldest).min();
    let oldest = kept.unwrap_or(i64::MAX).min(horizon.oldest_elsewhere);
    let gone: Vec<u64> =
        candidates.iter().filter(|c| is_gone(c) && c.newest < oldest).map(|c| c.file_id).collect();
    (!gone.is_empty()).then_some(gone)
}

/// The options of SizeTiered, with Cassandra's defaults.
struct SizeTiered {
    min_threshold: usize,
    max_threshold: usize,
    bucket_low: f64,
    bucket_high: f64,
    min_bytes: u64,
}

fn option<T: std::str::FromStr>(options: &BTreeMap<String, String>, name: &str, default: T) -> T {
    options.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
}

impl SizeTiered {
    fn new(options: &BTreeMap<String, String>) -> Self {
        SizeTiered {
            min_threshold: option(options, "min_threshold", 4_usize).max(2),
            max_threshold: option(options, "max_threshold", 32_usize).max(2),
            bucket_low: option(options, "bucket_low", 0.5),
            bucket_high: option(options, "bucket_high", 1.5),
            min_bytes: option(options, "min_sstable_size", 50 << 20),
        }
    }

    /// The most files that are due in a bucket of similar ones, the smallest first.
    fn pick(&self, candidates: &[&Candidate]) -> Option<Vec<u64>> {
        let mut sorted = candidates.to_vec();
        sorted.sort_by_key(|c| (c.bytes, c.file_id));
        let mut buckets: Vec<Vec<&Candidate>> = Vec::new();
        for candidate in sorted {
            match buckets.last_mut() {
                Some(bucket) if self.fits(bucket, candidate) => bucket.push(candidate),
                _ => buckets.push(vec![candidate]),
            }
        }
        let due = buckets.iter().filter_map(|bucket| self.due(bucket));
        let best = due.rev().max_by_key(Vec::len)?;
        Some(best.iter().take(self.max_threshold).map(|c| c.file_id).collect())
    }

    /// What is to be merged of files of similar size.
    fn due<'c>(&self, bucket: &[&'c Candidate]) -> Option<Vec<&'c Candidate>> {
        let token = deepest(bucket)?;
        let covers = |c: &&&Candidate| c.tokens.0 <= token && token <= c.tokens.1;
        let stack: Vec<&Candidate> = bucket.iter().filter(covers).copied().collect();
        if stack.len() >= self.min_threshold {
            return Some(stack);
        }
        if bucket.len() <= self.max_threshold {
            return None;
        }
        let mut in_order = bucket.to_vec();
        in_order.sort_by_key(|c| (c.tokens, c.file_id));
        let neighbours = in_order.windows(self.max_threshold);
        let fewest = neighbours.min_by_key(|files| files.iter().map(|c| c.bytes).sum::<u64>())?;
        Some(fewest.to_vec())
    }

    fn fits(&self, bucket: &[&Candidate], candidate: &Candidate) -> bool {
        let mean = bucket.iter().map(|c| c.bytes as f64).sum::<f64>() / bucket.len() as f64;
        let size = candidate.bytes as f64;
        (self.bucket_low * mean <= size && size <= self.bucket_high * mean)
            || (candidate.bytes < self.min_bytes && mean < self.min_bytes as f64)
    }
}

/// A token that is in as many of the files as any other.
fn deepest(files: &[&Candidate]) -> Option<i64> {
    let mut firsts: Vec<i64> = files.iter().map(|c| c.tokens.0).collect();
    let mut lasts: Vec<i64> = files.iter().map(|c| c.tokens.1).collect();
    firsts.sort_unstable();
    lasts.sort_unstable();
    let depths = firsts.iter().enumerate().map(|(begun, &token)| {
        let ended = lasts.partition_point(|&last| last < token);
        (begun + 1 - ended, token)
    });
    depths.rev().max_by_key(|(depth, _)| *depth).map(|(_, token)| token)
}

fn pick_window(
    options: &BTreeMap<String, String>,
    tiers: &SizeTiered,
    candidates: &[Candidate],
) -> Option<Vec<u64>> {
    let unit_seconds: i64 = match options.get("compaction_window_unit").map(String::as_str) {
        Some("MINUTES") => 60,
        Some("HOURS") => 3_600,
        _ => 86_400,
    };
    let size = option(options, "compaction_window_size", 1_i64).max(1);
    let window_micros = unit_seconds.saturating_mul(size).saturating_mul(1_000_000);
    let mut windows: BTreeMap<i64, Vec<&Candidate>> = BTreeMap::new();
    for candidate in candidates {
        windows.entry(candidate.newest.div_euclid(window_micros)).or_default().push(candidate);
    }
    let (_, newest) = windows.pop_last()?;
    if let Some(picked) = tiers.pick(&newest) {
        return Some(picked);
    }
    let older = windows.into_values().rev().find(|files| files.len() > 1)?;
    Some(older.iter().take(tiers.max_threshold).map(|c| c.file_id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pick` and the lines up to `---` make a question; what follows it, up to an empty line or
    /// the next command, is the answer.
    struct Script {
        options: BTreeMap<String, String>,
        candidates: Vec<Candidate>,
        horizon: Horizon,
    }

    impl Script {
        fn run(&mut self, line: &str) -> Option<String> {
            let mut words = line.split_whitespace();
            let command = words.next()?;
            let pairs = |words: std::str::SplitWhitespace| -> BTreeMap<String, String> {
                words
                    .filter_map(|word| word.split_once('='))
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect()
            };
            match command {
                "options" => self.options = pairs(words),
                "clear" => self.candidates.clear(),
                "gc_before" => self.horizon.gc_before = words.next()?.parse().unwrap(),
                "elsewhere" => self.horizon.oldest_elsewhere = words.next()?.parse().unwrap(),
                "file" => {
                    let file_id = words.next()?.parse().unwrap();
                    let values = pairs(words);
                    self.candidates.push(Candidate {
                        file_id,
                        bytes: option(&values, "bytes", 0),
                        tokens: (option(&values, "first", 1), option(&values, "last", 100)),
                        oldest: option(&values, "oldest", 0),
                        newest: option(&values, "newest", 0),
                        all_gone_at: option(&values, "gone", i64::MAX),
                    });
                }
                "pick" => {
                    let picked = pick(&self.options, &self.candidates, self.horizon);
                    return Some(picked.map_or("none".to_owned(), |ids| {
                        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
                        format!("merge {}", ids.join(" "))
                    }));
                }
                other => panic!("unknown command {other}"),
            }
            None
        }
    }

    fn replay(text: &str) -> String {
        let horizon = Horizon { gc_before: i64::MIN, oldest_elsewhere: i64::MAX };
        let mut script = Script { options: BTreeMap::new(), candidates: Vec::new(), horizon };
        let mut out = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            out.push_str(line);
            out.push('\n');
            if line.starts_with('#') || line.is_empty() {
                continue;
            }
            if let Some(answer) = script.run(line) {
                assert_eq!(lines.next(), Some("---"), "an answer follows {line}");
                lines.next();
                out.push_str("---\n");
                out.push_str(&answer);
                out.push('\n');
            }
        }
        out
    }

    #[test]
    fn scripts_pick_as_they_say() {
        model::golden::check_scripts("testscripts/compaction", replay);
    }
}
