//! Tests of [`crate::tasks`] and its queue, under threads and under two executors.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::queue::{SendError, queue};
use super::{BLOCKING_THREADS_MAX, Priority, TaskDied, Tasks, core_count};

/// An executor that is nothing but `park`.
fn block_on_by_parking<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn block_on_tokio<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

#[derive(Default)]
struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

type Received = [u64; 4];

/// Four threads send 20,000 numbers each, through a queue of 16, to a receiver that sleeps often.
fn every_item_arrives_once_and_in_order(
    block_on: fn(std::pin::Pin<Box<dyn Future<Output = Received>>>) -> Received,
) {
    const ITEMS_PER_SENDER: u64 = 20_000;
    let (sender, mut receiver) = queue::<u64>(16);
    thread::scope(|scope| {
        for number in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || {
                for item in 0..ITEMS_PER_SENDER {
                    let mut item = number << 32 | item;
                    while let Err(error) = sender.try_send(item) {
                        item = error.into_item();
                        thread::yield_now();
                    }
                }
            });
        }
        drop(sender);
        let received = block_on(Box::pin(async move {
            let mut next = [0; 4];
            let mut batch = Vec::new();
            while receiver.recv_many(&mut batch, 7).await > 0 {
                assert!(batch.len() <= 7);
                for item in batch.drain(..) {
                    let sender = (item >> 32) as usize;
                    assert_eq!(item & 0xFFFF_FFFF, next[sender]);
                    next[sender] += 1;
                }
            }
            next
        }));
        assert_eq!(received, [ITEMS_PER_SENDER; 4]);
    });
}

#[test]
fn every_item_arrives_once_and_in_order_under_tokio() {
    every_item_arrives_once_and_in_order(block_on_tokio);
}

#[test]
fn every_item_arrives_once_and_in_order_under_parking() {
    every_item_arrives_once_and_in_order(block_on_by_parking);
}

/// One item at a time, so that each hop finds the other side asleep: a lost wake-up hangs here.
#[test]
fn two_threads_that_answer_each_other_never_sleep_over_an_item() {
    let (to_echo, mut echo_in) = queue::<u64>(1);
    let (to_caller, mut caller_in) = queue::<u64>(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            block_on_by_parking(async {
                while let Some(item) = echo_in.recv().await {
                    to_caller.try_send(item + 1).unwrap();
                }
            });
        });
        block_on_tokio(async move {
            for item in 0..10_000 {
                to_echo.try_send(item).unwrap();
                assert_eq!(caller_in.recv().await, Some(item + 1));
            }
        });
    });
}

#[test]
fn a_full_queue_gives_the_item_back() {
    let (sender, mut receiver) = queue(2);
    sender.try_send("a").unwrap();
    sender.try_send("b").unwrap();
    assert_eq!(sender.try_send("c"), Err(SendError::Full("c")));
    assert_eq!(sender.item_count(), 2);
    assert_eq!(receiver.try_recv(), Some("a"));
    sender.try_send("c").unwrap();
    let mut items = Vec::new();
    assert_eq!(receiver.drain(&mut items, 9), 2);
    assert_eq!(items, ["b", "c"]);
}

#[test]
fn only_a_sleeping_receiver_is_woken_and_only_once() {
    let (sender, mut receiver) = queue(8);
    let wakes = Arc::new(CountWakes::default());
    let waker = Waker::from(wakes.clone());
    let mut context = Context::from_waker(&waker);
    sender.try_send(1).unwrap();
    assert_eq!(receiver.poll_recv(&mut context), Poll::Ready(Some(1)));
    sender.try_send(2).unwrap();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    assert_eq!(receiver.try_recv(), Some(2));
    assert_eq!(receiver.poll_recv(&mut context), Poll::Pending);
    sender.push(3).unwrap();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    sender.try_send(4).unwrap();
    sender.try_send(5).unwrap();
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn each_end_learns_that_the_other_is_gone() {
    let (sender, mut receiver) = queue(8);
    let second = sender.clone();
    sender.try_send(1).unwrap();
    drop(sender);
    drop(second);
    assert_eq!(block_on_tokio(receiver.recv()), Some(1));
    assert_eq!(block_on_tokio(receiver.recv()), None);

    let (sender, receiver) = queue(8);
    let item = Arc::new(());
    sender.try_send(item.clone()).unwrap();
    drop(receiver);
    assert_eq!(Arc::strong_count(&item), 1, "an item outlived its receiver");
    assert!(matches!(sender.try_send(item), Err(SendError::Closed(_))));
}

#[test]
fn shards_and_workers_run_on_threads_of_their_own() {
    let (results, mut receiver) = queue(8);
    for number in 0..2 {
        let results = results.clone();
        let body = move || async move {
            // Not `Send`: the state of a shard stays on its thread.
            let name = std::rc::Rc::new(thread::current().name().map(str::to_owned));
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            results.try_send((*name).clone()).unwrap();
        };
        let task = match number {
            0 => Tasks::real().spawn_shard("shard-0", Some(5), body),
            _ => Tasks::real().spawn_worker("flush", Priority::Background, body),
        };
        block_on_tokio(task.unwrap().finished()).unwrap();
    }
    let mut names = Vec::new();
    receiver.drain(&mut names, 8);
    assert_eq!(names, [Some("shard-0".to_owned()), Some("flush".to_owned())]);
}

#[test]
fn a_task_that_panics_is_known_to_have_died() {
    let task = Tasks::real()
        .spawn_worker("doomed", Priority::Normal, || async { panic!("as the test wants it") });
    assert_eq!(block_on_tokio(task.unwrap().finished()), Err(TaskDied));
}

#[test]
fn simulated_tasks_run_in_the_thread_that_starts_them() {
    tokio::task::LocalSet::new().block_on(&runtime(), async {
        let here = thread::current().id();
        let body = move || async move { assert_eq!(thread::current().id(), here) };
        let task = Tasks::simulated().spawn_worker("log", Priority::Normal, body).unwrap();
        task.finished().await.unwrap();
        assert_eq!(Tasks::simulated().run_blocking(|| thread::current().id()).await, here);
    });
}

#[test]
fn blocking_calls_run_elsewhere_and_at_once() {
    let here = thread::current().id();
    block_on_tokio(async {
        // As many calls as there are threads meet at a barrier: none waits for another's end.
        let barrier = Arc::new(std::sync::Barrier::new(BLOCKING_THREADS_MAX));
        let calls: Vec<_> = (0..BLOCKING_THREADS_MAX)
            .map(|_| {
                let barrier = barrier.clone();
                tokio::spawn(async move {
                    let call = move || {
                        barrier.wait();
                        thread::current().id()
                    };
                    Tasks::real().run_blocking(call).await
                })
            })
            .collect();
        for call in calls {
            assert_ne!(call.await.unwrap(), here);
        }
    });
}

#[test]
fn a_panic_in_a_blocking_call_reaches_its_caller_and_spares_the_pool() {
    let outcome = std::panic::catch_unwind(|| {
        block_on_tokio(Tasks::real().run_blocking(|| panic!("as the test wants it")));
    });
    assert!(outcome.is_err());
    assert_eq!(block_on_tokio(Tasks::real().run_blocking(|| 7)), 7);
}

#[test]
fn there_is_a_core() {
    assert!(core_count() >= 1);
}

#[test]
fn a_slow_disk_makes_workers_and_blocking_calls_wait_and_shards_not() {
    use std::time::Duration;
    use tokio::time::Instant;
    const DELAY: Duration = Duration::from_millis(300);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (tasks, control) = Tasks::simulated_with_disk();
        for delay in [Duration::ZERO, DELAY, Duration::ZERO] {
            control.set_disk_delay(delay);
            let began = Instant::now();
            tasks.run_blocking(|| ()).await;
            assert!(began.elapsed() >= delay);
            let worker = tasks.spawn_worker("log", Priority::Normal, || async {}).unwrap();
            worker.finished().await.unwrap();
            assert!(began.elapsed() >= delay * 2);
            let shard = tasks.spawn_shard("shard", None, || async {}).unwrap();
            shard.finished().await.unwrap();
            assert!(began.elapsed() < delay * 2 + DELAY / 2);
        }
    });
}
