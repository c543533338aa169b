//! Tests of [`crate::clock`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use super::Clock;

/// 2026-11-21T00:00:00Z.
const START_MICROS: i64 = 1_795_219_200_000_000;

#[derive(Default)]
struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_real_clock_is_past_the_day_it_was_written_and_monotonic() {
    let clock = Clock::real();
    assert!(clock.now_micros() > 1_700_000_000_000_000);
    assert!(clock.now_seconds() <= clock.now_micros() / 1_000_000);
    let first = clock.monotonic_nanos();
    assert!(first <= clock.monotonic_nanos());
}

#[test]
fn a_clock_by_hand_stands_until_it_is_moved() {
    let (clock, control) = Clock::simulated(START_MICROS);
    assert_eq!(clock.now_micros(), START_MICROS);
    control.advance(Duration::from_millis(1_500));
    assert_eq!(clock.now_micros(), START_MICROS + 1_500_000);
    assert_eq!(clock.now_seconds(), START_MICROS / 1_000_000 + 1);
    assert_eq!(clock.monotonic_nanos(), 1_500_000_000);
}

#[test]
fn seconds_before_the_epoch_round_down() {
    let (clock, _control) = Clock::simulated(-1);
    assert_eq!(clock.now_seconds(), -1);
}

#[test]
fn a_jump_changes_one_nodes_wall_clock_only() {
    let (first, control) = Clock::simulated(START_MICROS);
    let (second, second_control) = control.another_node(-300);
    second_control.jump_wall(-1_000);
    control.advance(Duration::from_millis(1));
    assert_eq!(first.now_micros(), START_MICROS + 1_000);
    assert_eq!(second.now_micros(), START_MICROS - 300);
    assert_eq!(first.monotonic_nanos(), second.monotonic_nanos());
}

#[test]
fn sleepers_wake_when_their_time_has_come() {
    let (clock, control) = Clock::simulated(START_MICROS);
    let wakes = Arc::new(CountWakes::default());
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    let mut sleep = Box::pin(clock.sleep(Duration::from_secs(2)));
    let mut until = Box::pin(clock.sleep_until(3_000_000_000));
    assert!(sleep.as_mut().poll(&mut context).is_pending());
    assert!(until.as_mut().poll(&mut context).is_pending());
    control.advance(Duration::from_millis(1_999));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    control.advance(Duration::from_millis(1));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(sleep.as_mut().poll(&mut context).is_ready());
    drop(until);
    control.advance(Duration::from_secs(9));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1, "a sleep that was given up woke somebody");
    let mut past = Box::pin(clock.sleep_until(1));
    assert!(past.as_mut().poll(&mut context).is_ready());
}

/// A sleeper that took what is left for the time to sleep slept on when the clock was moved between
/// its two looks at it.
#[test]
fn a_deadline_is_met_however_the_clock_moves_while_its_sleeper_lies_down() {
    for round in 0..2_000 {
        let (clock, control) = Clock::simulated(START_MICROS);
        let begins = AtomicBool::new(false);
        let sleeper = || {
            let mut context = Context::from_waker(Waker::noop());
            begins.store(true, Ordering::Release);
            let mut sleep = Box::pin(clock.sleep_until(2_000));
            if sleep.as_mut().poll(&mut context).is_ready() {
                return true;
            }
            while clock.monotonic_nanos() < 2_000 {
                thread::yield_now();
            }
            sleep.as_mut().poll(&mut context).is_ready()
        };
        let is_woken = thread::scope(|scope| {
            let sleeper = scope.spawn(sleeper);
            while !begins.load(Ordering::Acquire) {
                thread::yield_now();
            }
            (0..40).for_each(|_| control.advance(Duration::from_nanos(50)));
            sleeper.join().unwrap()
        });
        assert!(is_woken, "round {round}");
    }
}

#[tokio::test(start_paused = true)]
async fn beats_of_one_interval_fall_together_whenever_they_are_waited_for() {
    let (clock, _control) = Clock::simulated_on_tokio(START_MICROS);
    clock.sleep(Duration::from_millis(230)).await;
    let interval = Duration::from_millis(100);
    let late = async {
        clock.sleep(Duration::from_millis(40)).await;
        clock.beat(interval).await;
        clock.monotonic_nanos()
    };
    let early = async {
        clock.beat(interval).await;
        clock.monotonic_nanos()
    };
    assert_eq!(tokio::join!(early, late), (300_000_000, 300_000_000));
    clock.beat(interval).await;
    assert_eq!(clock.monotonic_nanos(), 400_000_000, "one that is at a beat waits for the next");
}

#[tokio::test(start_paused = true)]
async fn a_clock_on_paused_tokio_time_jumps_to_the_next_sleeper() {
    let (clock, _control) = Clock::simulated_on_tokio(START_MICROS);
    clock.sleep(Duration::from_hours(1)).await;
    assert_eq!(clock.now_micros(), START_MICROS + 3_600_000_000);
    assert_eq!(clock.monotonic_nanos(), 3_600_000_000_000);
}
