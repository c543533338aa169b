//! One feed under everything that happens to it: a sink that fails, pauses, owners that die, that
//! are frozen and wake up; and what a pump does in single situations.

mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::TableId;

use super::buffer::{Advance, Buffer};
use super::{BUFFERED_MESSAGES_MAX, End, Pace, Stop};
use crate::memory::FeedMemory;
use crate::position::Position;
use crate::sink::memory::{Answer, MemorySink};
use crate::sink::{Failure, SinkError};
use crate::source::SourceError;
use world::{Destination, FILTERED, POISON, PickySink, RefusingSink, World, message, row};

fn pace() -> Pace {
    Pace {
        batch_size: 5,
        flush_interval: Duration::from_millis(20),
        mark_interval: None,
        retry_max: None,
        skips_too_large: false,
        skips_refused: false,
    }
}

/// Runs in tokio's paused time, which jumps to the next timer whenever nothing else is to be done.
fn run<F: Future>(test: impl FnOnce() -> F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async { test().await })
}

/// Each key's first arrivals are in order, whatever was repeated.
fn check_order(destination: &Destination) {
    let mut newest: BTreeMap<u8, i64> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for (key, micros) in &destination.received {
        if seen.insert(*micros) {
            let former = newest.insert(*key, *micros).unwrap_or(i64::MIN);
            assert!(former < *micros, "key {key}: {micros} arrived after {former}");
        }
    }
}

/// Whatever a mark says will not follow does not follow for the first time.
fn check_marks(destination: &Destination) {
    for (before, sequence) in &destination.marks {
        let (first, rest) = destination.received.split_at(*before);
        for (_, micros) in rest.iter().filter(|(_, micros)| *micros as u64 <= *sequence) {
            assert!(first.iter().any(|(_, earlier)| earlier == micros), "{micros} {sequence}");
        }
    }
}

/// A history: changes come, owners come and go, and in the end everything has arrived. Counts
/// changes of owner, repeats, and positions of former owners that were refused.
async fn history(seed: u64) -> (usize, usize, usize) {
    let mut world = World::new(seed);
    let pace = Pace { mark_interval: Some(Duration::from_millis(10)), ..pace() };
    let sink = world.shaky_sink(10);
    let (mut running, mut stop, mut owner) = world.appoint(sink, pace.clone());
    let mut frozen = Vec::new();
    let mut handovers = 0;
    for _ in 0..60 {
        for _ in 0..world.entropy.below(8) {
            let key = world.entropy.below(5) as u8;
            world.append(key);
        }
        if world.entropy.below(3) > 0 {
            world.close();
        }
        let pause = Duration::from_millis(world.entropy.below(60));
        world.clock.sleep(pause).await;
        let event = world.entropy.below(10);
        if event > 2 {
            continue;
        }
        handovers += 1;
        match event {
            // A pause: it returns when what was under way is settled.
            0 => {
                stop.request();
                assert_eq!((&mut running.task).await.expect("no panic"), End::Stopped);
            }
            // A kill.
            1 => running.task.abort(),
            // A frozen process, which wakes up later.
            _ => running.freeze(),
        }
        let sink = world.shaky_sink(10);
        let next = world.appoint(sink, pace.clone());
        let former = std::mem::replace(&mut running, next.0);
        stop = next.1;
        owner = next.2;
        if event == 2 {
            frozen.push(former);
        }
        if world.entropy.below(2) == 0 {
            frozen.iter().for_each(world::Running::thaw);
        }
    }
    world.append(1);
    world.close();
    world.log.end(SourceError::TableGone(TableId(7)));
    let ended = running.task.await.expect("no panic");
    assert_eq!(ended, End::SourceEnded(SourceError::TableGone(TableId(7))));
    for former in frozen {
        former.thaw();
        assert_eq!(former.task.await.expect("no panic"), End::Lost);
    }
    let destination = world.destination.borrow();
    check_order(&destination);
    check_marks(&destination);
    let sent: Vec<_> =
        world.keys.borrow().iter().filter(|key| key.stream[0] != FILTERED).copied().collect();
    for key in &sent {
        assert!(destination.acknowledged.contains(&key.micros()), "{key:?} is lost");
    }
    let last = world.keys.borrow().last().copied();
    assert_eq!(owner.last_status().position.map(|position| position.key), last);
    (handovers, destination.received.len() - sent.len(), world.store.refused.get())
}

#[test]
fn nothing_is_lost_or_out_of_order_under_failures_pauses_and_changes_of_owner() {
    let (mut handovers, mut repeats, mut refused) = (0, 0, 0);
    for seed in 0..150 {
        let (handed_over, repeated, fenced) = run(|| history(seed));
        handovers += handed_over;
        repeats += repeated;
        refused += fenced;
    }
    // The histories have in them what they are for.
    assert!(handovers > 1_000, "{handovers}");
    assert!(repeats > 1_000, "{repeats}");
    assert!(refused > 10, "{refused}");
}

#[test]
fn histories_are_repeatable() {
    assert_eq!(run(|| history(7)), run(|| history(7)));
}

/// Saved before it was delivered: whoever takes over leaves out what its former owner had not sent.
#[cfg(debug_assertions)]
#[test]
fn a_position_saved_too_early_is_noticed() {
    use env::planted::{Bug, is_noticed};
    let test = |seed| {
        run(|| history(seed));
    };
    assert!(is_noticed(Bug::SavesBeforeDelivery, 0..20, test), "nothing noticed");
}

#[test]
fn an_incomplete_batch_waits_for_the_flush_interval_and_a_full_one_does_not() {
    run(async || {
        let mut world = World::new(1);
        let sink = MemorySink::new();
        let slow = Pace { flush_interval: Duration::from_hours(1), ..pace() };
        let (running, stop, owner) = world.appoint(Box::new(sink.clone()), slow);
        for _ in 0..7 {
            let micros = world.append(1);
            world.destination.borrow_mut().acknowledged.insert(micros);
        }
        world.close();
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!((sink.call_count(), sink.received().len()), (1, 5));
        assert_eq!(owner.last_status().events_delivered, 5);
        world.clock.sleep(Duration::from_hours(1)).await;
        assert_eq!((sink.call_count(), sink.received().len()), (2, 7));
        stop.request();
        assert_eq!(running.task.await.expect("no panic"), End::Stopped);
    });
}

#[test]
fn a_stuck_feed_holds_itself_alone_and_one_buffer() {
    run(async || {
        let mut world = World::new(1);
        world.rows_max = 1_000;
        // Feeds of their own over one log: each has its own store.
        let stuck_sink = Box::new(RefusingSink(None));
        let (stuck, _, _) = world.appoint(stuck_sink, pace());
        let sink = MemorySink::new();
        world.store = Rc::default();
        let (running, stop, _) = world.appoint(Box::new(sink.clone()), pace());
        let count = BUFFERED_MESSAGES_MAX + 5_000;
        for _ in 0..count {
            let micros = world.append(1);
            world.destination.borrow_mut().acknowledged.insert(micros);
        }
        // Not through `append`'s keys: every report would look at all of them.
        world.keys.borrow_mut().clear();
        world.close();
        while sink.received().len() < count {
            world.clock.sleep(Duration::from_millis(100)).await;
        }
        stop.request();
        assert_eq!(running.task.await.expect("no panic"), End::Stopped);
        assert!(!stuck.task.is_finished());
        stuck.task.abort();
    });
}

/// What they hold together has a limit; the one that delivers goes on, and waits for no fuller batches
/// than it has room for.
#[test]
fn many_feeds_that_are_stuck_hold_no_more_than_they_may_and_hold_nobody_else() {
    const STUCK: usize = 50;
    const CHANGES: usize = 2_000;
    const LIMIT_BYTES: usize = 256 << 10;
    run(|| async {
        let shown = Arc::new(AtomicUsize::new(0));
        let memory = FeedMemory::new(LIMIT_BYTES, 2 * (STUCK + 1), shown.clone());
        let world = |seed| {
            let mut world = World { memory: memory.clone(), ..World::new(seed) };
            for _ in 0..CHANGES {
                world.append(1);
            }
            world.close();
            world
        };
        let mut stuck: Vec<World> = (0..STUCK as u64).map(world).collect();
        let hanging = |world: &mut World| world.appoint(Box::new(RefusingSink(None)), pace());
        let stopped: Vec<_> = stuck.iter_mut().map(hanging).collect();
        let mut fast = world(99);
        let clock = fast.clock.clone();
        clock.sleep(Duration::from_secs(1)).await;
        let of_stuck = shown.load(Ordering::Relaxed);
        assert!(of_stuck > LIMIT_BYTES / 2, "they take what there is: {of_stuck}");

        let began = clock.monotonic_nanos();
        let flush_interval = Duration::from_hours(1);
        let pace = Pace { batch_size: CHANGES, flush_interval, ..pace() };
        let sink = fast.shaky_sink(u64::MAX);
        let (running, ..) = fast.appoint(sink, pace);
        fast.log.end(SourceError::TableGone(TableId(7)));
        let ended = running.task.await.expect("no panic");
        assert_eq!(ended, End::SourceEnded(SourceError::TableGone(TableId(7))));
        assert_eq!(fast.destination.borrow().received.len(), CHANGES);
        let waited_nanos = u128::from(clock.monotonic_nanos() - began);
        assert!(waited_nanos < flush_interval.as_nanos(), "no batch was waited for");
        let held = shown.load(Ordering::Relaxed);
        assert!(held <= LIMIT_BYTES, "{held}");
        assert_eq!(held, of_stuck);
        drop(stopped);
    });
}

#[test]
fn reading_waits_for_room() {
    run(async || {
        let (clock, _) = env::Clock::simulated_on_tokio(0);
        let buffer = Buffer::new(clock.clone(), FeedMemory::ample().account());
        buffer.room().await;
        buffer.push((0..BUFFERED_MESSAGES_MAX).map(|_| message(1, 1)), Advance::default());
        let waiting =
            async { tokio::time::timeout(Duration::from_secs(1), buffer.room()).await.is_err() };
        assert!(waiting.await, "there is no room");
        let stop = Stop::default();
        let taken = buffer.take(1, 10, Duration::ZERO, &stop).await;
        assert_eq!(taken.messages.len(), 10);
        buffer.room().await;

        // Bytes count as well, and one message that is larger than a call goes alone.
        let large = |length: usize| crate::sink::Message {
            key: Bytes::new(),
            value: Some(Bytes::from(vec![0; length])),
        };
        let buffer = Buffer::new(clock, FeedMemory::ample().account());
        buffer.push([20 << 20, 5 << 20, 5 << 20].map(large).into_iter(), Advance::default());
        assert!(tokio::time::timeout(Duration::from_secs(1), buffer.room()).await.is_err());
        for _ in 0..3 {
            assert_eq!(buffer.take(9, 9, Duration::ZERO, &stop).await.messages.len(), 1);
        }
        buffer.room().await;
    });
}

#[test]
fn what_goes_with_its_position_is_taken_by_whole_groups() {
    run(async || {
        let (clock, _) = env::Clock::simulated_on_tokio(0);
        let buffer = Buffer::of_whole_groups(clock, FeedMemory::ample().account());
        let behind = |micros| {
            let position = Some(Position { key: row(micros, 1).key, sequence: 1 });
            Advance { position, ..Advance::default() }
        };
        for micros in [1, 2] {
            buffer.push((0..3).map(|_| message(1, micros)), behind(micros));
        }
        for micros in [1, 2] {
            let taken = buffer.take(1, 2, Duration::ZERO, &Stop::default()).await;
            assert_eq!((taken.messages.len(), &taken.advances[2]), (3, &behind(micros)));
        }
    });
}

/// The end of a feed whose sink answers so to the first of three changes.
fn end_after(answers: Vec<Answer>, pace: Pace) -> (End, Vec<String>, super::Status) {
    run(async || {
        let mut world = World::new(1);
        for _ in 0..3 {
            let micros = world.append(1);
            world.destination.borrow_mut().acknowledged.insert(micros);
        }
        world.close();
        world.log.end(SourceError::Failed("the end".to_owned()));
        let sink = MemorySink::new();
        for answer in answers {
            sink.plan(answer);
        }
        let (running, _, owner) = world.appoint(Box::new(sink.clone()), pace);
        let end = running.task.await.expect("no panic");
        let texts = sink.received().iter().map(|message| format!("{:?}", message.value)).collect();
        (end, texts, owner.last_status())
    })
}

fn failing(failure: Failure, acknowledged: usize) -> Answer {
    let suspects = usize::from(failure == Failure::TooLarge);
    let error = SinkError { failure, acknowledged, suspects, ..SinkError::transient("why") };
    Answer::Fail { received: acknowledged, error }
}

#[test]
fn an_error_that_stays_ends_the_feed_behind_what_was_acknowledged() {
    let (end, received, status) = end_after(vec![failing(Failure::Permanent, 1)], pace());
    assert_eq!(end, End::Failed("why".to_owned()));
    assert_eq!((received.len(), status.events_delivered), (1, 1));
    assert_eq!(status.last_error.as_deref(), Some("why"));
    assert!(status.position.is_some() && status.resolved.is_none());
}

#[test]
fn retries_end_where_the_feed_says() {
    let limited = Pace { retry_max: Some(2), ..pace() };
    let stubborn = vec![failing(Failure::Transient, 0); 3];
    let (end, _, status) = end_after(stubborn, limited.clone());
    assert_eq!(end, End::Failed("why (given up after 2 retries)".to_owned()));
    assert_eq!(status.retries, 2);
    let (end, received, status) = end_after(vec![failing(Failure::Transient, 0); 2], limited);
    assert_eq!(end, End::SourceEnded(SourceError::Failed("the end".to_owned())));
    assert_eq!((received.len(), status.events_delivered, status.retries), (3, 3, 2));
    assert_eq!(status.last_error, None);
}

#[test]
fn what_is_too_large_for_the_sink_is_left_out_or_an_error() {
    let answers = vec![failing(Failure::TooLarge, 1)];
    let (end, _, _) = end_after(answers.clone(), pace());
    assert_eq!(end, End::Failed("why".to_owned()));
    let (end, received, status) = end_after(answers, Pace { skips_too_large: true, ..pace() });
    assert_eq!(end, End::SourceEnded(SourceError::Failed("the end".to_owned())));
    assert_eq!((received.len(), status.events_delivered, status.skipped.event_count), (2, 2, 1));
    assert!(status.resolved.is_some());
}

/// What arrives of twenty changes, some of which are refused, and how the feed stands then.
fn after_refusals(
    refused: &[u64],
    failure: Failure,
    names_the_first: bool,
    pace: Pace,
) -> (End, Vec<i64>, super::Status, u64) {
    run(async || {
        let mut world = World::new(1);
        let times: Vec<i64> = (0..20).map(|key| world.append(1 + key % 3)).collect();
        world.destination.borrow_mut().acknowledged.extend(&times);
        world.close();
        world.log.end(SourceError::Failed("the end".to_owned()));
        let sink = PickySink {
            refused: refused.iter().map(|index| times[*index as usize]).collect(),
            failure,
            names_the_first,
            received: Rc::default(),
            calls: Rc::default(),
        };
        let (received, calls) = (sink.received.clone(), sink.calls.clone());
        let (running, _, owner) = world.appoint(Box::new(sink), pace);
        let end = running.task.await.expect("no panic");
        let received = received.borrow().iter().map(|time| index_of(&times, *time)).collect();
        (end, received, owner.last_status(), calls.get())
    })
}

fn index_of(times: &[i64], time: i64) -> i64 {
    times.iter().position(|known| *known == time).expect("it was sent") as i64
}

#[test]
fn events_that_are_refused_are_found_and_left_out_and_the_others_arrive_in_order() {
    let skips = Pace { batch_size: 20, skips_refused: true, retry_max: Some(2), ..pace() };
    for failure in [Failure::Permanent, Failure::TooLarge, Failure::Transient] {
        for names_the_first in [false, true] {
            for refused in [&[0][..], &[19], &[7], &[7, 8], &[3, 4, 5, 12, 19]] {
                let outcome = after_refusals(refused, failure, names_the_first, skips.clone());
                let (end, received, status, calls) = outcome;
                assert_eq!(end, End::SourceEnded(SourceError::Failed("the end".to_owned())));
                let left: Vec<i64> =
                    (0..20).filter(|index| !refused.contains(&(*index as u64))).collect();
                assert_eq!(received, left, "{refused:?} {failure:?}");
                assert_eq!(status.skipped.event_count, refused.len() as u64);
                assert_eq!(status.events_delivered, left.len() as u64);
                let last = status.skipped.last.expect("one was left out");
                assert!(last.ends_with(": not this one"), "{last}");
                // A search of twenty takes five halves, and the one alone its retries.
                assert!(calls <= refused.len() as u64 * 12 + 3, "{refused:?} {calls}");
            }
        }
    }
}

#[test]
fn what_the_destination_itself_refuses_is_never_left_out() {
    let skips = Pace { skips_refused: true, skips_too_large: true, retry_max: Some(1), ..pace() };
    for (answer, times) in
        [(failing(Failure::Permanent, 0), 1), (failing(Failure::Transient, 0), 2)]
    {
        let (end, received, status) = end_after(vec![answer; times], skips.clone());
        assert!(matches!(end, End::Failed(_)), "{end:?}");
        assert_eq!((received.len(), status.skipped.event_count), (0, 0));
    }
}

#[test]
fn a_batch_that_is_too_large_only_as_a_whole_is_sent_in_parts() {
    let large = SinkError::too_large("why").suspecting(3);
    let answers = vec![Answer::Fail { received: 0, error: large }];
    let (end, received, status) = end_after(answers, pace());
    assert_eq!(end, End::SourceEnded(SourceError::Failed("the end".to_owned())));
    assert_eq!((received.len(), status.events_delivered, status.retries), (3, 3, 1));
    assert_eq!(status.skipped.event_count, 0);
}

#[test]
fn a_change_that_cannot_be_rendered_ends_the_feed_behind_those_before_it() {
    run(async || {
        let mut world = World::new(1);
        for key in [1, 2, POISON, 3] {
            world.append(key);
        }
        world.close();
        let sink = world.shaky_sink(u64::MAX);
        let (running, _, _) = world.appoint(sink, pace());
        let end = running.task.await.expect("no panic");
        assert_eq!(end, End::Failed("a value that is none".to_owned()));
        assert_eq!(world.destination.borrow().received.len(), 2);
        assert_eq!(world.store.position.get().map(|at| at.key), Some(world.keys.borrow()[1]));
    });
}

#[test]
fn a_pause_does_not_wait_for_a_sink_that_is_away() {
    run(async || {
        let mut world = World::new(1);
        world.append(1);
        world.close();
        let away = SinkError::transient("away");
        let away = SinkError { retry_after: Some(Duration::from_hours(1)), ..away };
        let (running, stop, owner) = world.appoint(Box::new(RefusingSink(Some(away))), pace());
        world.clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(owner.last_status().last_error.as_deref(), Some("away"));
        let asked = world.clock.monotonic_nanos();
        stop.request();
        assert_eq!(running.task.await.expect("no panic"), End::Stopped);
        assert_eq!(world.clock.monotonic_nanos(), asked, "no time has passed");
    });
}

#[test]
fn time_that_passes_without_changes_is_delivered_too() {
    run(async || {
        let mut world = World::new(1);
        let sink = MemorySink::new();
        let marked = Pace { mark_interval: Some(Duration::from_millis(50)), ..pace() };
        let (running, stop, owner) = world.appoint(Box::new(sink.clone()), marked);
        for (closed, pause_millis) in [(2_000, 60), (3_000, 60), (4_000, 10), (5_000, 10)] {
            world.log.close(closed);
            world.clock.sleep(Duration::from_millis(pause_millis)).await;
        }
        let marks: Vec<Bytes> = sink.marks().into_iter().map(|(_, text)| text).collect();
        assert_eq!(marks, ["2000", "3000", "4000"]);
        let status = owner.last_status();
        assert_eq!(status.resolved.map(|resolved| resolved.closed), Some(5_000));
        assert_eq!(status.position, None);
        stop.request();
        assert_eq!(running.task.await.expect("no panic"), End::Stopped);
    });
}

#[test]
fn whoever_may_not_send_does_not() {
    run(async || {
        let mut world = World::new(1);
        let sink = MemorySink::new();
        let (running, _, _) = world.appoint(Box::new(sink.clone()), pace());
        world.clock.sleep(Duration::from_secs(1)).await;
        world.store.epoch.set(99);
        world.append(1);
        world.close();
        assert_eq!(running.task.await.expect("no panic"), End::Lost);
        assert_eq!(sink.call_count(), 0);
    });
}
