//! Runs `testscripts/*.txt`: writes, and the messages that a feed makes of each.
//!
//! ```text
//! > table COLUMNS            a new table `t`, see `cdc::testing`; its partition key is 7
//! > feed NAME=VALUE …        the feed's options; the log has the images that it asks for
//! > room ROWS BYTES          how many rows under deletes the log may name
//! > WRITE                    a write; below it each message's key and value
//! ```
//!
//! `UPDATE_GOLDEN=1` writes the results instead of comparing them.

use crate::pump::Skipped;
use crate::sequence::Sequencer;
use crate::sink::Message;
use crate::source::LogRow;
use crate::testing::Feed;
use model::filter::{Comparison, Filter, FilterColumn};
use model::golden;
use std::fmt::Write;

#[test]
fn golden_scripts() {
    golden::check_scripts("testscripts", run_script);
}

fn run_script(script: &str) -> String {
    let (mut columns, mut options) = (String::new(), String::new());
    let mut feed: Option<Feed> = None;
    let mut out = String::new();
    let lines = script.lines().filter(|line| line.starts_with("> ") || line.starts_with('#'));
    let mut after_comment = false;
    for line in lines {
        if !out.is_empty() && !after_comment {
            out.push('\n');
        }
        writeln!(out, "{line}").unwrap();
        after_comment = line.starts_with('#');
        let Some(command) = line.strip_prefix("> ") else { continue };
        match command.split_once(' ').unwrap_or((command, "")) {
            ("table", rest) => {
                rest.clone_into(&mut columns);
                feed = None;
            }
            ("feed", rest) => {
                rest.clone_into(&mut options);
                feed = None;
            }
            ("room", rest) => {
                let (rows, bytes) = rest.split_once(' ').unwrap();
                let (rows, bytes) = (rows.parse().unwrap(), bytes.parse().unwrap());
                let feed = feed.get_or_insert_with(|| Feed::new(&columns, &options));
                feed.range.room = cdc::Room { rows, bytes };
            }
            _ => {
                let feed = feed.get_or_insert_with(|| Feed::new(&columns, &options));
                out.push_str(&messages_of(feed, command));
            }
        }
    }
    out
}

fn messages_of(feed: &mut Feed, write: &str) -> String {
    let rows = match feed.write(write) {
        Ok(rows) => rows,
        Err(why) => return format!("error: {why}\n"),
    };
    let messages = match feed.render(&rows) {
        Ok(messages) => messages,
        Err(why) => return format!("error: {why}\n"),
    };
    let mut out = String::new();
    for message in &messages {
        let key = std::str::from_utf8(&message.key).unwrap();
        let Some(value) = &message.value else {
            writeln!(out, "{key}\n  nothing").unwrap();
            continue;
        };
        let value = std::str::from_utf8(value).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(value).is_ok(), "{value}");
        writeln!(out, "{key}\n  {value}").unwrap();
    }
    if out.is_empty() { "no message\n".to_owned() } else { out }
}

#[test]
fn marks_say_up_to_where_everything_was() {
    let feed = Feed::new("p int, a int", "");
    let renderer = super::Renderer::new("a_feed", &feed.options);
    assert_eq!(
        &renderer.resolved(1_795_266_000_123_456, 7)[..],
        br#"{"resolved":"2026-11-21T13:00:00.123456Z","sequence":7}"#
    );
}

#[test]
fn changes_from_before_their_images_were_asked_for_are_named() {
    let mut feed = Feed::new("p int, a int", "event_kind=delta");
    let rows = feed.write("insert - a=1 @91").unwrap();
    feed.options = crate::Options::default();
    assert_eq!(
        feed.render(&rows).unwrap_err().to_string(),
        "the CDC log of t does not hold the rows around the change at 1970-01-01T00:00:00.000091Z: \
         it was made before this feed asked for them"
    );
}

/// Two feeds on one table, and the log has what the one asks for.
#[test]
fn rows_that_another_feed_asks_for_are_not_told() {
    let mut feed = Feed::new("p int, c int, s int static, a int", "delete_expansion=rows");
    feed.write("insert 1 a=1 @91 + insert 2 a=2 @91 + update static s=1 @91").unwrap();
    let range = feed.write("range [1,2) @92 + delete 7 @92").unwrap();
    let partition = feed.write("delete-partition @93").unwrap();
    let told = |feed: &Feed, rows: &[LogRow]| -> Vec<String> {
        let messages = feed.render(rows).unwrap();
        messages.iter().map(|message| String::from_utf8(message.key.to_vec()).unwrap()).collect()
    };
    let (all, one, two, named) =
        (r#"t:{"p":7}"#, r#"t:{"p":7,"c":1}"#, r#"t:{"p":7,"c":2}"#, r#"t:{"p":7,"c":7}"#);
    assert_eq!(told(&feed, &range), [named, one]);
    assert_eq!(told(&feed, &partition), [all, two]);
    feed.options = crate::Options::default();
    assert_eq!(told(&feed, &range), [named, all]);
    assert_eq!(told(&feed, &partition), [all]);
    let messages = feed.render(&range).unwrap();
    let range: serde_json::Value =
        serde_json::from_slice(messages[1].value.as_ref().unwrap()).unwrap();
    assert!(range.get("range").is_some() && range.get("expanded").is_none(), "{range}");
}

#[test]
fn a_filter_sees_the_old_values_of_rows_that_go_with_a_range() {
    let mut feed =
        Feed::new("p int, c int, a int", "delete_expansion=rows include_old_values=true");
    let column = FilterColumn::new(feed.range.layout.base().column("a").unwrap());
    let value = 2_i32.to_be_bytes().into();
    feed.filter = Some(Filter::Compare(column, Comparison::Equal, value));
    feed.write("insert 1 a=1 @91 + insert 2 a=2 @91 + insert 3 a=2 @91").unwrap();
    let rows = feed.write("range [,] @92").unwrap();
    let messages = feed.render(&rows).unwrap();
    let keys: Vec<&[u8]> = messages.iter().map(|message| &message.key[..]).collect();
    assert_eq!(keys, [&br#"t:{"p":7,"c":2}"#[..], br#"t:{"p":7,"c":3}"#]);
}

#[test]
fn what_is_too_large_or_cannot_be_told_is_left_out_where_the_feed_says_so() {
    let big = format!("insert 1 a='{}' @91 + insert 2 a='small' @91", "x".repeat(2_000));
    for (policy, is_skipped) in
        [("large_message=skip", true), ("on_error=skip", true), ("on_error=pause", false)]
    {
        let mut feed =
            Feed::new("p int, c int, a text", &format!("max_message_bytes=1024 {policy}"));
        let rows = feed.write(&big).unwrap();
        let outcome = rendered(&feed, &rows);
        if !is_skipped {
            let error = outcome.unwrap_err();
            assert!(error.contains("more than max_message_bytes (1024)"), "{error}");
            continue;
        }
        let (texts, skipped) = outcome.unwrap();
        assert!(texts.len() == 1 && texts[0].contains("small"), "{texts:?}");
        assert_eq!(skipped.event_count, 1);
        assert!(skipped.last.unwrap().contains(r#"t:{"p":7,"c":1}"#));
    }

    let mut feed = Feed::new("p int, a int", "event_kind=delta");
    let rows = feed.write("insert - a=1 @91").unwrap();
    let skip = crate::options::OnError::Skip;
    feed.options = crate::Options { on_error: skip, ..crate::Options::default() };
    let (texts, skipped) = rendered(&feed, &rows).unwrap();
    assert_eq!((texts.len(), skipped.event_count), (0, 1));
    let said = skipped.last.unwrap();
    assert!(said.starts_with("the change ") && said.contains("does not hold the rows"), "{said}");
}

/// The values of the messages of these rows, and what was left out.
fn rendered(feed: &Feed, rows: &[LogRow]) -> Result<(Vec<String>, Skipped), String> {
    let renderer = super::Renderer::new("a_feed", &feed.options);
    let (mut messages, mut skipped) = (Vec::new(), Skipped::default());
    let (mut sequencer, _) = Sequencer::start(i64::MIN);
    for group in sequencer.number(rows) {
        let rendered = renderer.render(&feed.shape, group, None, None, &mut messages);
        skipped = skipped.then(rendered.map_err(|error| error.to_string())?.skipped);
    }
    let text = |message: &Message| {
        String::from_utf8(message.value.clone().expect("a value").to_vec()).expect("JSON")
    };
    Ok((messages.iter().map(text).collect(), skipped))
}
