//! Exactly once: owners that die and wake up, and a reader of what is committed that sees every event
//! once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cdc::time_uuid::log_time_uuid;
use changefeed::Position;
use changefeed::memory::FeedMemory;
use changefeed::position::LogKey;
use changefeed::pump::{Backoff, End, MarkOf, Pace, Pump, Render, Stop, recover};
use changefeed::scan::{Scanned, Scanning};
use changefeed::sink::kafka::{KafkaSink, Settings, Transactions};
use changefeed::sink::{Failure, Message, Reached, Sink};
use changefeed::source::{LogRow, MemoryLog};
use env::Env;

use crate::kafka::Broker;
use crate::{LAST, Notes, insist_on_mark, message, run, settings, started};

/// Rows of one change, which no transaction cuts.
const ROWS_PER_GROUP: i32 = 3;

fn transactional(broker: &Broker, topic: &str) -> Settings {
    let transactions = Some(Transactions { id: format!("tethys-test-{topic}"), line: 1 });
    Settings { transactions, ..settings(broker, topic) }
}

/// Calls until it is no failure that passes.
async fn commit(
    sink: &mut KafkaSink,
    batch: &[Message],
    position: Position,
) -> Result<(), Failure> {
    loop {
        let sink = sink.transactional().expect("it has transactions");
        let reached = Reached { position, scanned: Some(scanned_to(position)) };
        match sink.commit(batch, reached).await {
            Err(error) if error.failure == Failure::Transient => {}
            outcome => return outcome.map_err(|error| error.failure),
        }
    }
}

/// How far a scan had come at some position.
fn scanned_to(position: Position) -> Arc<Scanned> {
    let rows = position.sequence;
    Arc::new(Scanned { rows, ..Scanned::default() })
}

async fn recovered(sink: &mut KafkaSink) -> Option<Position> {
    loop {
        let sink = sink.transactional().expect("it has transactions");
        match sink.recover().await {
            Ok(reached) => {
                return reached.map(|Reached { position, scanned }| {
                    assert_eq!(scanned, Some(scanned_to(position)), "they were committed together");
                    position
                });
            }
            Err(error) => assert_eq!(error.failure, Failure::Transient, "{error}"),
        }
    }
}

fn position(micros: i64) -> Position {
    Position { key: row(micros, ROWS_PER_GROUP - 1).key, sequence: micros as u64 }
}

#[test]
fn a_former_owner_is_shut_out_and_the_next_goes_on_where_it_was_committed() {
    let Some(broker) = started() else { return };
    run(async {
        let env = Env::real();
        let settings = transactional(&broker, "once");
        let mut former = KafkaSink::new(&env, settings.clone());
        while let Err(error) = former.open().await {
            assert_eq!(error.failure, Failure::Transient, "{error}");
        }
        assert_eq!(recovered(&mut former).await, None);
        let batch = |value| [message("a", Some(value)), message("b", Some(value))];
        assert_eq!(commit(&mut former, &batch("1"), position(1)).await, Ok(()));

        // The former does not say that it has committed, nor that it is still there.
        let mut next = KafkaSink::new(&env, settings.clone());
        assert_eq!(recovered(&mut next).await, Some(position(1)));
        assert_eq!(commit(&mut former, &batch("2"), position(2)).await, Err(Failure::Overtaken));
        assert_eq!(commit(&mut next, &batch("2"), position(2)).await, Ok(()));
        // Now it has no producer, and would shut out the other with a new one.
        assert_eq!(commit(&mut former, &batch("2"), position(2)).await, Ok(()), "it is there");
        assert_eq!(commit(&mut next, &batch("3"), position(3)).await, Err(Failure::Overtaken));
        assert_eq!(commit(&mut former, &batch("3"), position(3)).await, Ok(()));
        assert_eq!(commit(&mut next, &batch("4"), position(4)).await, Err(Failure::Overtaken));

        let elsewhere = Transactions { id: "tethys-test-once".to_owned(), line: 2 };
        let elsewhere = Settings { transactions: Some(elsewhere), ..settings };
        assert_eq!(recovered(&mut KafkaSink::new(&env, elsewhere)).await, None, "another line");
        let mut sink = KafkaSink::new(&env, crate::settings(&broker, "once"));
        insist_on_mark(&mut sink, LAST).await;
    });
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in broker.read("once", LAST) {
        values.entry(record.key).or_default().push(record.value);
    }
    let expected = ["1", "2", "3"].map(str::to_owned).to_vec();
    assert_eq!(values, [("a".to_owned(), expected.clone()), ("b".to_owned(), expected)].into());
}

/// One message a row, from behind a position on.
struct RowRender {
    begin: Option<Position>,
}

impl Render for RowRender {
    fn render(
        &mut self,
        group: &[LogRow],
        _: Option<&mut Scanning>,
        out: &mut Vec<Message>,
    ) -> Result<Option<Position>, String> {
        let last = group.last().expect("a group has rows").key;
        if self.begin.is_some_and(|begin| last <= begin.key) {
            return Ok(None);
        }
        for LogKey { stream, batch_seq_no, .. } in group.iter().map(|row| row.key) {
            let value = format!("{}.{batch_seq_no}", last.micros());
            out.push(message(&format!("k{}", stream[0]), Some(&value)));
        }
        Ok(Some(Position { key: last, sequence: last.micros() as u64 }))
    }

    fn render_scanned(&mut self, _: &LogRow, _: i64, _: &mut Vec<Message>) -> Result<(), String> {
        Err("this feed scans nothing".to_owned())
    }

    fn resolved(&self, closed: i64) -> u64 {
        closed as u64
    }

    fn marker(&self) -> MarkOf {
        Box::new(|_| bytes::Bytes::new())
    }
}

fn row(micros: i64, batch_seq_no: i32) -> LogRow {
    let mut bytes = log_time_uuid(micros, 1).to_vec();
    bytes.extend_from_slice(&[0; 16]);
    bytes.extend_from_slice(&[(micros % 10) as u8; 16]);
    bytes.extend_from_slice(&batch_seq_no.to_be_bytes());
    bytes.extend_from_slice(&[1, 1, 0, 0]);
    LogRow::decode_all(&bytes::Bytes::from(bytes)).expect("a row").remove(0)
}

/// An owner of the feed that knows nothing but what the brokers say.
async fn own(env: Env, settings: Settings, log: MemoryLog, notes: Notes, stop: Stop) -> End {
    let mut sink: Box<dyn Sink> = Box::new(KafkaSink::new(&env, settings));
    let mut backoff = Backoff::new(env.entropy.generator("backoff"));
    let begin = match recover(&mut *sink, &notes, &stop, &env.clock, &mut backoff).await {
        Ok(begin) => begin.map(|reached| reached.position),
        Err(end) => return end,
    };
    let pace = Pace {
        batch_size: 7,
        flush_interval: Duration::from_millis(5),
        mark_interval: None,
        retry_max: None,
        skips_too_large: false,
        skips_refused: false,
    };
    let above = begin.map_or(0, |position| position.key.micros() - 1);
    let (source, render) = (log.open(above, 50), RowRender { begin });
    let (clock, memory) = (env.clock.clone(), FeedMemory::ample());
    Pump { source, scan: None, render, sink, host: notes, pace, stop, clock, backoff, memory }
        .run()
        .await
}

#[test]
fn every_event_is_seen_once_whoever_dies_when() {
    let Some(broker) = started() else { return };
    let count = run(async {
        let env = Env::real();
        let log = MemoryLog::default();
        let settings = transactional(&broker, "lives");
        let mut micros = 0;
        for life in 0..8_u64 {
            let (notes, stop) = (Notes::default(), Stop::default());
            let owner =
                own(env.clone(), settings.clone(), log.clone(), notes.clone(), stop.clone());
            let owner = tokio::task::spawn_local(owner);
            let delivered = || notes.0.borrow().position.map_or(0, |at| at.key.micros());
            let before = micros;
            for _ in 0..120 {
                micros += 1;
                (0..ROWS_PER_GROUP).for_each(|number| log.append(row(micros, number)));
                log.close(micros);
                env.clock.sleep(Duration::from_millis(1)).await;
            }
            let goal = if life < 7 { before + 1 } else { micros };
            while delivered() < goal {
                assert!(!owner.is_finished(), "the feed has ended");
                env.clock.sleep(Duration::from_millis(1)).await;
            }
            if life == 7 {
                stop.request();
                assert_eq!(owner.await.expect("no panic"), End::Stopped);
                break;
            }
            // Somewhere in a transaction, or behind one that nobody has heard of.
            env.clock.sleep(Duration::from_millis(life * 3)).await;
            owner.abort();
        }
        let mut sink = KafkaSink::new(&env, crate::settings(&broker, "lives"));
        insist_on_mark(&mut sink, LAST).await;
        micros
    });
    let mut seen: BTreeMap<String, Vec<(i64, i32)>> = BTreeMap::new();
    for record in broker.read("lives", LAST) {
        let (micros, number) = record.value.split_once('.').expect("a time and a number");
        let event = (micros.parse().expect("a time"), number.parse().expect("a number"));
        seen.entry(record.key).or_default().push(event);
    }
    for events in seen.values() {
        assert!(events.is_sorted_by(|a, b| a < b), "in order and once: {events:?}");
    }
    let events: usize = seen.values().map(Vec::len).sum();
    assert_eq!(events, count as usize * ROWS_PER_GROUP as usize, "and all of them");
}
