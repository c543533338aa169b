//! A page about one test, for people: when which fault was there, how long each call took and how it
//! ended, and what the judge says. One file of HTML without scripts and without anything from elsewhere,
//! in a folder with the history and what the nodes have printed.

use crate::history::{self, Event, Kind};
use crate::nemesis::Inflicted;
use crate::run::Report;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// The picture, in its own units.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 320.0;
/// Latencies of the picture's lower and upper edge, in milliseconds; each line is ten times the last.
const MILLIS_MIN: f64 = 0.1;
const DECADES: i32 = 6;
/// Calls that are drawn: of more, every n-th; those that did not end well are all drawn.
const CALLS_DRAWN_MAX: usize = 6_000;
/// Errors that are listed, each with how often it came.
const ERRORS_MAX: usize = 20;

/// What a test was.
#[derive(Clone, Debug)]
pub struct Heading {
    /// The workload's name.
    pub workload: String,
    /// The seed.
    pub seed: u64,
    /// The commit of the program, as far as it is known.
    pub commit: String,
    /// Nodes, clients, seconds, faults, in words.
    pub terms: String,
}

/// A call as it is drawn: its beginning and its length in nanoseconds.
struct Drawn {
    began: u64,
    nanos: u64,
    kind: Kind,
}

/// Leaves a test's folder: `page.html`, `history.jsonl`, and the nodes' logs, which lie in `logs_in`.
pub fn write_folder(
    folder: &Path,
    heading: &Heading,
    report: &Report,
    logs_in: &Path,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("page.html"), html(heading, report))?;
    fs::write(folder.join("history.jsonl"), history::to_lines(&report.history))?;
    for entry in fs::read_dir(logs_in)? {
        let path = entry?.path();
        if let (Some("log"), Some(name)) =
            (path.extension().and_then(|extension| extension.to_str()), path.file_name())
        {
            fs::copy(&path, folder.join(name))?;
        }
    }
    Ok(())
}

/// The commit that is checked out here, if git knows one.
pub fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let said = asked.ok().filter(|output| output.status.success());
    let said = said.and_then(|output| String::from_utf8(output.stdout).ok());
    said.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The page.
pub fn html(heading: &Heading, report: &Report) -> String {
    let Heading { workload, seed, commit, terms } = heading;
    let verdict = escaped(&report.verdict.to_string());
    let (calls, end) = drawn(&report.history);
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>{workload} {seed}</title><style>{STYLE}</style></head><body>\
         <h1>{workload}, seed {seed}</h1><p class=\"verdict\">{verdict}</p>\
         <p>{} calls done, {} refused, {} unknown; {} faults. {}. Commit {}.</p>",
        report.ok_count,
        report.fail_count,
        report.unknown_count,
        report.faults.len(),
        escaped(terms),
        escaped(commit),
    );
    page.push_str(&picture(&calls, &report.faults, end));
    page.push_str(&fault_table(&report.faults));
    page.push_str(&error_table(&report.history));
    page.push_str("</body></html>\n");
    page
}

const STYLE: &str = "body{font:15px sans-serif;margin:2em;max-width:70em;color:#222}\
    .verdict{font-weight:bold;white-space:pre-wrap;overflow-wrap:anywhere}\
    table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ddd}\
    svg{width:100%;background:#fafafa}.fault{fill:#e8b04a;opacity:.35}.ok{fill:#2a7}\
    .fail{fill:#26c}.info{fill:#c22}line{stroke:#ddd}text{font-size:11px;fill:#666}";

/// The calls to be drawn, and when the last event was.
fn drawn(history: &[Event]) -> (Vec<Drawn>, u64) {
    let end = history.last().map_or(1, |event| event.nanos.max(1));
    let mut open: BTreeMap<u32, u64> = BTreeMap::new();
    let mut calls = Vec::new();
    for event in history {
        if event.kind == Kind::Invoke {
            open.insert(event.process, event.nanos);
        } else if let Some(began) = open.remove(&event.process) {
            calls.push(Drawn { began, nanos: event.nanos - began, kind: event.kind });
        }
    }
    calls.extend(open.into_values().map(|began| Drawn {
        began,
        nanos: end.saturating_sub(began),
        kind: Kind::Info,
    }));
    let each = calls.len() / CALLS_DRAWN_MAX + 1;
    let mut number = 0;
    calls.retain(|call| {
        number += 1;
        call.kind != Kind::Ok || number % each == 0
    });
    (calls, end)
}

fn picture(calls: &[Drawn], faults: &[Inflicted], end: u64) -> String {
    let x = |nanos: u64| nanos as f64 / end as f64 * WIDTH;
    let y = |nanos: u64| {
        let millis = (nanos as f64 / 1e6).max(MILLIS_MIN);
        HEIGHT - (millis / MILLIS_MIN).log10() / f64::from(DECADES) * HEIGHT
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"latency of each call over time, with faults\">"
    );
    // Writing into a text does not fail.
    for fault in faults {
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(end);
        let (left, right) = (x(nanos(fault.began)), x(nanos(fault.healed)).min(WIDTH));
        write!(
            svg,
            "<rect class=\"fault\" x=\"{left:.1}\" y=\"0\" width=\"{:.1}\" height=\"{HEIGHT}\">\
             <title>{}</title></rect>",
            (right - left).max(1.0),
            escaped(&fault.what),
        )
        .ok();
    }
    for decade in 0..DECADES {
        let millis = MILLIS_MIN * 10_f64.powi(decade);
        let at = y((millis * 1e6) as u64);
        write!(
            svg,
            "<line x1=\"0\" x2=\"{WIDTH}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"2\" y=\"{:.1}\">{millis} ms</text>",
            at - 2.0
        )
        .ok();
    }
    for call in calls {
        let class = match call.kind {
            Kind::Ok => "ok",
            Kind::Fail => "fail",
            Kind::Invoke | Kind::Info => "info",
        };
        let (at, height) = (x(call.began + call.nanos), y(call.nanos));
        write!(svg, "<circle class=\"{class}\" cx=\"{at:.1}\" cy=\"{height:.1}\" r=\"1.5\"/>").ok();
    }
    svg.push_str("</svg><p>Each dot is a call at its end: green done, blue refused, red unknown; ");
    write!(svg, "yellow is a fault. {:.1} seconds from left to right.</p>", end as f64 / 1e9).ok();
    svg
}

fn fault_table(faults: &[Inflicted]) -> String {
    let mut table =
        "<h2>Faults</h2><table><tr><th>fault</th><th>from</th><th>to</th></tr>".to_owned();
    for Inflicted { what, began, healed } in faults {
        let (began, healed) = (began.as_secs_f64(), healed.as_secs_f64());
        write!(
            table,
            "<tr><td>{}</td><td>{began:.2} s</td><td>{healed:.2} s</td></tr>",
            escaped(what)
        )
        .ok();
    }
    table.push_str("</table>");
    table
}

fn error_table(history: &[Event]) -> String {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for event in history {
        let what = if event.kind == Kind::Fail { "refused" } else { "unknown" };
        if let Some(error) = &event.error {
            *counts.entry((what, error)).or_default() += 1;
        }
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut table = "<h2>What was not done</h2><table>".to_owned();
    for ((what, error), count) in counts.iter().take(ERRORS_MAX) {
        write!(table, "<tr><td>{count}</td><td>{what}</td><td>{}</td></tr>", escaped(error)).ok();
    }
    table.push_str("</table>");
    table
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Verdict;
    use crate::history::Operation;
    use std::time::Duration;

    #[test]
    fn a_page_shows_calls_faults_errors_and_the_verdict_and_takes_nothing_from_elsewhere() {
        let event = |nanos, kind, error: Option<&str>| Event {
            nanos,
            process: 1,
            kind,
            operation: Operation::Add { value: 1 },
            error: error.map(str::to_owned),
        };
        let report = Report {
            verdict: Verdict::Invalid("1 < 2 & lost".to_owned()),
            ok_count: 1,
            fail_count: 0,
            unknown_count: 1,
            faults: vec![Inflicted {
                what: "Kill node 2".to_owned(),
                began: Duration::from_millis(1),
                healed: Duration::from_millis(2),
            }],
            history: vec![
                event(1_000_000, Kind::Invoke, None),
                event(2_000_000, Kind::Ok, None),
                event(3_000_000, Kind::Invoke, None),
                event(4_000_000, Kind::Info, Some("no <answer>")),
            ],
        };
        let heading = Heading {
            workload: "set".to_owned(),
            seed: 7,
            commit: "abc".to_owned(),
            terms: "3 nodes".to_owned(),
        };
        let page = html(&heading, &report);
        for part in
            ["set, seed 7", "1 &lt; 2 &amp; lost", "Kill node 2", "no &lt;answer&gt;", "abc"]
        {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert_eq!(page.matches("<circle").count(), 2);
        assert!(!page.contains("<script") && !page.contains("http"), "{page}");
    }
}
