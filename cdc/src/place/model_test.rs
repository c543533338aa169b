//! Random schedules against the law of the log: whatever is written in whatever order, replaying the
//! log by its times gives the table, cell by cell; nothing appears at or below a closed time that
//! was published; images are exact; a retry adds nothing.
//!
//! A schedule is a list of readable steps, printed when it fails, with the seed that made it.

use crate::BaseChange;
use crate::testing::base_table;
use crate::testing::range::Range;
use model::{CdcOptions, FeedLog, PreimageMode};

/// How many schedules run when nothing else is asked for; `CDC_SEEDS=1000..2000` asks for others.
const SCHEDULES: u64 = 2_000;
const START: i64 = 50_000_000;

struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..8 {
            random.below(2);
        }
        random
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len() as u64) as usize]
    }
}

/// A write with bodies of every shape.
fn random_write(random: &mut Random, range: &Range, before: &[i64]) -> String {
    let statement_count = if random.below(6) == 0 { 2 } else { 1 };
    let shared = random_timestamp(random, range, before);
    let has_clustering = range.layout.base().clustering_count() > 0;
    let statements: Vec<String> = (0..statement_count)
        .map(|_| {
            let at = match random.below(3) {
                0 => random_timestamp(random, range, before),
                _ => shared,
            };
            format!("{} @{at}", random_body(random, has_clustering))
        })
        .collect();
    statements.join(" + ")
}

fn random_body(random: &mut Random, has_clustering: bool) -> String {
    let row = if has_clustering { random.pick(&["1", "2", "3"]) } else { "-" };
    let mut body = match random.below(16) {
        11 | 13 if !has_clustering => return "delete-partition".to_owned(),
        0 | 1 => format!("insert {row}"),
        2..=4 => format!("insert {row} {}", random_change(random, "a")),
        5 => format!("insert {row} {}", random_collection(random)),
        6 | 7 => format!("update {row} {}", random_change(random, "a")),
        8 => format!("update {row} {}", random_change(random, "b")),
        9 => format!("update {row} {}", random_collection(random)),
        10 => return format!("drop {row} {}", random.pick(&["m", "m a", "a b"])),
        11 => format!("update static {}", random_change(random, "s")),
        12 => return format!("delete {row}"),
        13 => {
            return format!(
                "range {}",
                random.pick(&["[1,2]", "(1,3)", "[2,)", "(,2)", "[,]", "[3,1)"])
            );
        }
        14 => return "delete-partition".to_owned(),
        _ => format!("update {row} a={} b={}", random.below(2), random.below(2)),
    };
    if random.below(8) == 0 {
        body.push_str(random.pick(&[" ttl 1000", " ttl 2000"]));
    }
    body
}

fn random_change(random: &mut Random, column: &str) -> String {
    format!("{column}={}", random.pick(&["0", "1", "2", "null"]))
}

fn random_collection(random: &mut Random) -> String {
    let shapes = ["m={}", "m={1:1}", "m={2:0}", "m+={1:0}", "m+={2:1}", "m-={1}", "m={1:0,2:2}"];
    random.pick(&shapes).to_owned()
}

/// Near everything that rules compare timestamps with.
fn random_timestamp(random: &mut Random, range: &Range, before: &[i64]) -> i64 {
    let clock = range.clock;
    let anchor = match random.below(8) {
        0 | 1 => clock,
        2 => range.times.closed.max(clock - 5_000_000),
        3 => clock - 5_000_000,
        4 => clock + 5_000_000,
        5 => clock + 6_000_000,
        _ if before.is_empty() => clock,
        _ => before[random.below(before.len() as u64) as usize],
    };
    anchor + random.below(7) as i64 - 3
}

/// Runs one schedule; the error has its steps.
fn run(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut range = random_range(&mut random);
    let mut steps: Vec<String> = Vec::new();
    let mut writes: Vec<(usize, String)> = Vec::new();
    let mut timestamps = Vec::new();
    for _ in 0..3 + random.below(8) {
        let is_retry = !writes.is_empty() && random.below(5) == 0;
        let text = if is_retry {
            writes[random.below(writes.len() as u64) as usize].1.clone()
        } else {
            random_write(&mut random, &range, &timestamps)
        };
        steps.push(format!("clock {} C {}: {text}", range.clock, range.times.closed));
        let fail = |steps: &[String], why: String| format!("seed {seed}: {steps:#?}\n{why}");
        let parse = |text: &str| text.parse().unwrap();
        let decision = range.write(&text, &parse).map_err(|why| fail(&steps, why))?;
        let changed = decision.base != BaseChange::Nothing || !range.last_log().is_empty();
        if is_retry && changed {
            return Err(fail(&steps, format!("a retry changed something: {decision:?}")));
        }
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix('@'));
        timestamps.extend(words.filter_map(|word| word.parse::<i64>().ok()));
        writes.push((range.entry_count(), text));
        range.check().map_err(|why| fail(&steps, why))?;
        steps.extend(random_event(&mut random, &mut range));
        writes.retain(|(index, _)| *index <= range.entry_count());
    }
    Ok(())
}

fn random_range(random: &mut Random) -> Range {
    let base = base_table(match random.below(5) {
        0 => "p int, a int, b int, m map<int,int>",
        1 => "p int, c int desc, s int static, a int, b int, m map<int,int>",
        _ => "p int, c int, s int static, a int, b int, m map<int,int>",
    });
    let (preimage, postimage) = random_images(random);
    let mut base = base;
    base.options.feed_log = random_feeds(random);
    let mut range = Range::new(base, CdcOptions { preimage, postimage, ..CdcOptions::default() });
    if random.below(4) == 0 {
        range.room.rows = random.below(3) as usize;
    }
    range.clock = START;
    if random.below(4) == 0 {
        let start = (START + 1_000 * (random.below(3) as i64 - 1)) / 1_000;
        range.set_generations(&[start, start + 1]);
    }
    range
}

fn random_images(random: &mut Random) -> (PreimageMode, bool) {
    match random.below(6) {
        0 => (PreimageMode::Full, true),
        1 => (PreimageMode::Touched, random.below(2) == 0),
        2 => (PreimageMode::Off, true),
        _ => (PreimageMode::Off, false),
    }
}

/// A feed on every third table tells of the rows under deletes.
fn random_feeds(random: &mut Random) -> Option<FeedLog> {
    let preimage = if random.below(2) == 0 { PreimageMode::Touched } else { PreimageMode::Full };
    let feeds = FeedLog { preimage, postimage: true, deleted_rows: true };
    (random.below(3) == 0).then_some(feeds)
}

/// What happens between two writes.
fn random_event(random: &mut Random, range: &mut Range) -> Option<String> {
    match random.below(12) {
        0..=4 => {
            range.clock += random.below(8) as i64;
            None
        }
        5 => {
            range.clock += 5_000_000;
            Some("the clock leaps".to_owned())
        }
        6 | 7 => {
            let closed = range.clock - random.below(6) as i64;
            range.publish(closed);
            Some(format!("published {closed}"))
        }
        8 | 9 => {
            let lost = random.below(3) as usize;
            range.change_leader(lost, range.clock - random.below(8) as i64);
            Some(format!("a new leader; {lost} entries lost"))
        }
        10 => {
            let (preimage, postimage) = random_images(random);
            range.switch_images(preimage, postimage);
            Some(format!("preimage {preimage:?} postimage {postimage}"))
        }
        _ => None,
    }
}

#[test]
fn replaying_the_log_gives_the_table() {
    let asked = std::env::var("CDC_SEEDS").ok();
    let bounds = asked.as_deref().and_then(|text| text.split_once(".."));
    let seeds = match bounds {
        Some((first, end)) => first.parse().unwrap()..end.parse().unwrap(),
        None => 0..SCHEDULES,
    };
    for seed in seeds {
        if let Err(why) = run(seed) {
            panic!("{why}");
        }
    }
}
