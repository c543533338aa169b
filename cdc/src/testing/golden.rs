//! Runs `testscripts/*.txt`: a range's leader takes writes, and what it decides is shown below each.
//!
//! ```text
//! > table COLUMNS                       a new table, see `testing`
//! > options KEY=VALUE …                 preimage, postimage, delta, ttl; deleted_rows=true: a feed
//!                                       asks for the rows under deletes, and for both images
//! > room rows=COUNT bytes=COUNT         how many of them may be told
//! > clock TIME | closed TIME            the leader's clock, its closed time
//! > generations MILLIS …                when generations of streams start
//! > publish TIME                        closes time and tells readers; entries so far are committed
//! > leader lost=COUNT clock=TIME        a new leader; that many entries are lost
//! > images preimage=… postimage=…       ALTER TABLE
//! > WRITE                               see `testing::statement`
//! > show                                the table, and whether the log tells of the same
//! ```
//!
//! Times are microseconds. `far+N` is N microseconds more than a write may be ahead of time zero; a
//! script whose clock stands at 100 counts `far+100` as the last timestamp on time.
//! `UPDATE_GOLDEN=1` writes the results instead of comparing them.

use super::base_table;
use super::range::Range;
use crate::fold::{LogRow, live_rows};
use crate::place::LATENESS_MICROS_MAX;
use crate::{BaseChange, Decision, Room};
use model::clustering::decode_clustering;
use model::golden;
use model::literal::format_value;
use model::path::{decode_path, path_type};
use model::{CdcOptions, CqlType, DeltaMode, FeedLog, PreimageMode, TableDef};
use std::collections::BTreeMap;
use std::fmt::Write;

#[test]
fn golden_scripts() {
    golden::check_scripts("testscripts", run_script);
}

fn run_script(script: &str) -> String {
    let mut out = String::new();
    let (columns, options) = (String::new(), CdcOptions::default());
    let mut runner = Runner { columns, options, feed_log: None, range: None };
    let lines = script.lines().filter(|line| line.starts_with("> ") || line.starts_with('#'));
    let mut after_comment = false;
    for line in lines {
        let is_comment = line.starts_with('#');
        if !out.is_empty() && !after_comment {
            out.push('\n');
        }
        writeln!(out, "{line}").unwrap();
        if let Some(command) = line.strip_prefix("> ") {
            runner.run(command, &mut out);
        }
        after_comment = is_comment;
    }
    out
}

struct Runner {
    columns: String,
    options: CdcOptions,
    feed_log: Option<FeedLog>,
    range: Option<Range>,
}

impl Runner {
    fn run(&mut self, command: &str, out: &mut String) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "table" => {
                rest.clone_into(&mut self.columns);
                (self.options, self.feed_log) = (CdcOptions::default(), None);
                self.range = None;
            }
            "options" => {
                let of_feeds = "deleted_rows=true";
                let (preimage, postimage) = (PreimageMode::Touched, true);
                let feed_log = FeedLog { preimage, postimage, deleted_rows: true };
                self.feed_log = rest.contains(of_feeds).then_some(feed_log);
                self.options = parse_options(&rest.replace(of_feeds, ""), self.options);
                self.range = None;
            }
            "room" => {
                let pairs = parse_pairs(rest);
                let [rows, bytes] = ["rows", "bytes"].map(|name| pairs[name].parse().unwrap());
                self.range().room = Room { rows, bytes };
            }
            "clock" => self.range().clock = parse_time(rest),
            "closed" => self.range().times.closed = parse_time(rest),
            "generations" => {
                let starts: Vec<i64> = rest.split(' ').map(|s| s.parse().unwrap()).collect();
                self.range().set_generations(&starts);
            }
            "leader" => {
                let pairs = parse_pairs(rest);
                self.range()
                    .change_leader(pairs["lost"].parse().unwrap(), parse_time(&pairs["clock"]));
            }
            "images" => {
                let options = parse_options(rest, CdcOptions::default());
                self.range().switch_images(options.preimage, options.postimage);
            }
            "publish" => self.range().publish(parse_time(rest)),
            "show" => show(self.range(), out),
            _ => {
                let range = self.range();
                match range.write(command, &parse_time) {
                    Ok(decision) => show_decision(range, &decision, out),
                    Err(why) => writeln!(out, "error: {why}").unwrap(),
                }
            }
        }
    }

    fn range(&mut self) -> &mut Range {
        self.range.get_or_insert_with(|| {
            let mut base = base_table(&self.columns);
            base.options.feed_log = self.feed_log;
            let mut range = Range::new(base, self.options);
            range.clock = 100;
            range.times.closed = 90;
            range
        })
    }
}

fn parse_pairs(text: &str) -> BTreeMap<String, String> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn parse_options(text: &str, old: CdcOptions) -> CdcOptions {
    let mut options = old;
    for (key, value) in parse_pairs(text) {
        match (key.as_str(), value.as_str()) {
            ("preimage", "false") => options.preimage = PreimageMode::Off,
            ("preimage", "true") => options.preimage = PreimageMode::Touched,
            ("preimage", "full") => options.preimage = PreimageMode::Full,
            ("postimage", value) => options.postimage = value == "true",
            ("delta", "keys") => options.delta = DeltaMode::Keys,
            ("ttl", value) => options.ttl_seconds = value.parse().unwrap(),
            other => panic!("no such option: {other:?}"),
        }
    }
    options
}

fn parse_time(text: &str) -> i64 {
    match text.strip_prefix("far+") {
        Some(rest) => LATENESS_MICROS_MAX + rest.parse::<i64>().unwrap(),
        None => text.parse().unwrap_or_else(|_| panic!("not a time: {text}")),
    }
}

fn shown_time(micros: i64) -> String {
    match micros {
        i64::MIN => "never".to_owned(),
        LATENESS_MICROS_MAX.. => format!("far+{}", micros - LATENESS_MICROS_MAX),
        _ => micros.to_string(),
    }
}

fn show_decision(range: &Range, decision: &Decision, out: &mut String) {
    let base = match decision.base {
        BaseChange::AsItStands => "as it stands",
        BaseChange::Reduced(_) => "reduced",
        BaseChange::Nothing => "nothing",
    };
    let times = decision.times;
    let [closed, placed, far] = [times.closed, times.placed, times.far].map(shown_time);
    writeln!(out, "base: {base}; C {closed}, M {placed}, FAR {far}").unwrap();
    for row in range.rows_of(range.last_log()) {
        show_log_row(&range.layout.log, &row, out);
    }
}

fn show_log_row(log: &TableDef, row: &LogRow, out: &mut String) {
    const OPERATIONS: [&str; 10] = [
        "preimage",
        "update",
        "insert",
        "row delete",
        "partition delete",
        "range from, inclusive",
        "range from, exclusive",
        "range to, inclusive",
        "range to, exclusive",
        "postimage",
    ];
    let operation = OPERATIONS[row.operation as usize];
    let time = shown_time(row.micros());
    write!(out, "{time} #{} {} {operation}:", row.batch_seq_no, row.operation).unwrap();
    for (name, value) in &row.columns {
        let cql_type = &log.column(name).unwrap().cql_type;
        write!(out, " {name}={}", format_value(cql_type, value)).unwrap();
    }
    if let Some(ttl) = row.ttl_seconds {
        write!(out, " cdc$ttl={ttl}").unwrap();
    }
    out.push_str(if row.end_of_batch { " (end)\n" } else { "\n" });
}

/// The table's live rows, and the law.
fn show(range: &Range, out: &mut String) {
    let base = &range.layout.base;
    let mut is_empty = true;
    for (clustering, row) in live_rows(&range.stored(), range.clock.div_euclid(1_000_000)) {
        is_empty = false;
        match clustering {
            None => out.push_str("static"),
            Some(clustering) => {
                let values = decode_clustering(base, &clustering).unwrap();
                let texts: Vec<String> = base
                    .clustering_key()
                    .iter()
                    .zip(&values)
                    .map(|(column, value)| format_value(&column.cql_type, value))
                    .collect();
                write!(out, "row {}", texts.join("/")).unwrap();
            }
        }
        if row.has_marker {
            out.push_str(" inserted");
        }
        for ((column, path), value) in &row.cells {
            let column = base.column_by_id(*column).unwrap();
            write!(out, " {}", column.name).unwrap();
            match path {
                None => write!(out, "={}", format_value(&column.cql_type, value)).unwrap(),
                Some(path) => show_element(&column.cql_type, path, value, out),
            }
        }
        out.push('\n');
    }
    if is_empty {
        out.push_str("no rows\n");
    }
    match range.check() {
        Ok(()) => out.push_str("the log tells of the same table\n"),
        Err(why) => writeln!(out, "{why}").unwrap(),
    }
}

fn show_element(column: &CqlType, path: &[u8], value: &[u8], out: &mut String) {
    let mut key = Vec::new();
    decode_path(column, path, &mut key).unwrap();
    let key = format_value(path_type(column).unwrap(), &key);
    let cql_type = match column {
        CqlType::Map { value, .. } => value,
        CqlType::List { element, .. } => element,
        CqlType::Udt(udt) => {
            let index = key.parse::<usize>().unwrap();
            let (name, cql_type) = &udt.fields[index];
            return write!(out, ".{name}={}", format_value(cql_type, value)).unwrap();
        }
        _ => return write!(out, "[{key}]").unwrap(),
    };
    write!(out, "[{key}]={}", format_value(cql_type, value)).unwrap();
}
