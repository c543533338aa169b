//! Runs `testscripts/*.txt`: writes, and the messages that a feed makes of each.
//!
//! ```text
//! > table COLUMNS            a new table `t`, see `cdc::testing`; its partition key is 7
//! > feed NAME=VALUE …        the feed's options; the log has the images that it asks for
//! > WRITE                    a write; below it each message's key and value
//! ```
//!
//! `UPDATE_GOLDEN=1` writes the results instead of comparing them.

use crate::testing::Feed;
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
