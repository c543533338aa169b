//! Many tests one after the other, and a page that says what came of them.
//!
//! Tests go through the workloads in turn, each with the next set of faults and the next seed, until
//! the time is over. One that cannot be run to its end is a line of its own, and no verdict.

use crate::catalogue::Name;
use crate::checker::Verdict;
use crate::history::{Event, Kind};
use crate::nemesis::Fault;
use crate::page::{self, Heading};
use crate::run::{Report, RunOptions};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// What happens to the nodes of a test: every kind of fault alone and with others.
const FAULTS: &[&[Fault]] = &[
    &[],
    &[Fault::Kill],
    &[Fault::Halves, Fault::Isolate],
    &[Fault::Pause],
    &[Fault::Mute, Fault::Deafen, Fault::Bridge],
    &[Fault::Restart, Fault::PauseAll],
    &[Fault::KillAll],
    &[Fault::Clock],
    &[Fault::SlowDisk, Fault::BrokenDisk],
    &[Fault::Join, Fault::Remove],
    &[Fault::Join, Fault::Remove, Fault::Kill, Fault::Isolate, Fault::Pause],
    &[
        Fault::Kill,
        Fault::Pause,
        Fault::Restart,
        Fault::Halves,
        Fault::Mute,
        Fault::Deafen,
        Fault::Bridge,
    ],
];

/// One test of a campaign.
#[derive(Debug)]
struct Line {
    workload: Name,
    faults: &'static [Fault],
    seed: u64,
    outcome: Result<Figures, String>,
}

/// What is said of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Figures {
    verdict: Verdict,
    ok_count: usize,
    fail_count: usize,
    unknown_count: usize,
    fault_count: usize,
    /// The longest time in which clients asked and no call of any of them ended well.
    longest_silence: Duration,
    /// The longest call that ended well.
    longest_call: Duration,
}

/// Runs tests until the time is over; the options' faults and seed are those of the first. Writes
/// `index.md` into the folder, and there a folder of each test that was not valid ([`page`]). Returns
/// whether all were.
pub async fn run(
    options: &RunOptions,
    time: Duration,
    folder: &Path,
    title: &str,
) -> io::Result<bool> {
    std::fs::create_dir_all(folder)?;
    let (began, mut lines) = (Instant::now(), Vec::new());
    while began.elapsed() < time {
        let count = lines.len();
        let workload = Name::ALL[count % Name::ALL.len()];
        let faults = FAULTS[faults_of(count)];
        let seed = options.seed + count as u64;
        let mut options = RunOptions { faults: faults.to_vec(), seed, ..options.clone() };
        options.cluster.folder = options.cluster.folder.join(format!("{workload}-{seed}"));
        std::fs::create_dir_all(&options.cluster.folder)?;
        let report = workload.run(&options).await;
        if let Ok(report) = &report
            && report.verdict != Verdict::Valid
        {
            let heading = Heading {
                workload: workload.to_string(),
                seed,
                commit: page::commit(),
                terms: options.terms(),
            };
            let folder = folder.join(format!("{workload}-{seed}"));
            page::write_folder(&folder, &heading, report, &options.cluster.folder)?;
        } else if report.is_ok() {
            std::fs::remove_dir_all(&options.cluster.folder)?;
        }
        let outcome = report.as_ref().map(Figures::of).map_err(ToString::to_string);
        lines.push(Line { workload, faults, seed, outcome });
        std::fs::write(folder.join("index.md"), index(title, &lines, began.elapsed()))?;
    }
    Ok(lines.iter().all(Line::is_valid))
}

impl Line {
    fn is_valid(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|figures| figures.verdict == Verdict::Valid)
    }
}

impl Figures {
    fn of(report: &Report) -> Figures {
        let Report { verdict, ok_count, fail_count, unknown_count, faults, history } = report;
        Figures {
            verdict: verdict.clone(),
            ok_count: *ok_count,
            fail_count: *fail_count,
            unknown_count: *unknown_count,
            fault_count: faults.len(),
            longest_silence: longest_silence(history),
            longest_call: longest_call(history),
        }
    }
}

/// From a call that ended well, or the first one since nobody asked anything, to the next that ends
/// well. While a change of the ring is seen through behind the load, nobody asks.
fn longest_silence(history: &[Event]) -> Duration {
    let (mut open_count, mut since, mut longest) = (0_usize, None, 0);
    for event in history {
        match event.kind {
            Kind::Invoke => {
                open_count += 1;
                since.get_or_insert(event.nanos);
            }
            Kind::Ok => {
                open_count = open_count.saturating_sub(1);
                longest = longest.max(event.nanos - since.unwrap_or(event.nanos));
                since = (open_count > 0).then_some(event.nanos);
            }
            Kind::Fail | Kind::Info => open_count = open_count.saturating_sub(1),
        }
    }
    Duration::from_nanos(longest)
}

fn longest_call(history: &[Event]) -> Duration {
    let mut open: BTreeMap<u32, u64> = BTreeMap::new();
    let mut longest = 0;
    for event in history {
        match event.kind {
            Kind::Invoke => _ = open.insert(event.process, event.nanos),
            Kind::Ok => {
                let began = open.remove(&event.process).unwrap_or(event.nanos);
                longest = longest.max(event.nanos - began);
            }
            Kind::Fail | Kind::Info => _ = open.remove(&event.process),
        }
    }
    Duration::from_nanos(longest)
}

/// The page, in Markdown.
fn index(title: &str, lines: &[Line], elapsed: Duration) -> String {
    let mut text = format!("# {title}\n\n");
    let figures: Vec<&Figures> =
        lines.iter().filter_map(|line| line.outcome.as_ref().ok()).collect();
    let sum = |of: fn(&Figures) -> usize| -> usize { figures.iter().map(|each| of(each)).sum() };
    let wrong = lines.iter().filter(|line| !line.is_valid()).count();
    // Writing into a text does not fail.
    writeln!(
        text,
        "{} tests in {} minutes, {} faults; {} calls were done, {} refused, {} unknown.\n\
         {wrong} tests were not valid.\n",
        lines.len(),
        elapsed.as_secs() / 60,
        sum(|each| each.fault_count),
        sum(|each| each.ok_count),
        sum(|each| each.fail_count),
        sum(|each| each.unknown_count),
    )
    .ok();
    text.push_str(
        "*Silence* is the longest time in which clients asked and no call of any of them ended well, \
         *longest call* the longest that did; both in milliseconds.\n\n\
         | workload | seed | faults | inflicted | done | refused | unknown | silence | longest call \
         | verdict |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        let Line { workload, faults, seed, outcome } = line;
        let names: Vec<String> = faults.iter().map(|fault| format!("{fault:?}")).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        let rest = match outcome {
            Ok(figures) => format!(
                "{} | {} | {} | {} | {} | {} | {}",
                figures.fault_count,
                figures.ok_count,
                figures.fail_count,
                figures.unknown_count,
                figures.longest_silence.as_millis(),
                figures.longest_call.as_millis(),
                figures.verdict,
            ),
            Err(error) => format!("| | | | | | not run: {error}"),
        };
        writeln!(text, "| {workload} | {seed} | {names} | {rest} |").ok();
    }
    text
}

/// Which faults the test of that number has: each workload's sets move on by one with each round of
/// workloads, so every workload meets every set.
fn faults_of(count: usize) -> usize {
    (count % Name::ALL.len() + count / Name::ALL.len()) % FAULTS.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Operation;

    #[test]
    fn figures_are_of_calls_that_ended_well() {
        let event = |millis: u64, process, kind| {
            let operation = Operation::Add { value: 1 };
            Event { nanos: millis * 1_000_000, process, kind, operation, error: None }
        };
        let history = [
            event(1, 0, Kind::Invoke),
            event(2, 1, Kind::Invoke),
            event(5, 0, Kind::Ok),
            event(6, 0, Kind::Invoke),
            event(70, 1, Kind::Fail),
            event(80, 0, Kind::Ok),
            event(200, 0, Kind::Invoke),
            event(250, 0, Kind::Info),
            event(270, 2, Kind::Invoke),
            event(274, 2, Kind::Ok),
        ];
        // From 80 to 200 nobody asks; from 200 on nobody is answered until 274.
        assert_eq!(longest_silence(&history), Duration::from_millis(75));
        assert_eq!(longest_silence(&history[6..]), Duration::from_millis(74));
        assert_eq!(longest_call(&history), Duration::from_millis(74));
        let options = |outcome| Line { workload: Name::Set, faults: FAULTS[1], seed: 3, outcome };
        let text = index("A run", &[options(Err("no port".to_owned()))], Duration::from_secs(90));
        assert!(text.contains("1 tests in 1 minutes, 0 faults;"), "{text}");
        assert!(text.contains("| set | 3 | Kill | | | | | | | not run: no port |"), "{text}");
    }

    #[test]
    fn every_workload_meets_every_set_of_faults() {
        let mut met = std::collections::BTreeSet::new();
        for count in 0..Name::ALL.len() * FAULTS.len() {
            met.insert((count % Name::ALL.len(), faults_of(count)));
        }
        assert_eq!(met.len(), Name::ALL.len() * FAULTS.len());
    }
}
