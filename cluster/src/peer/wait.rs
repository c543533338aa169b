//! Waiting for at most so long, on the clock of `env`.

use env::Clock;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// What a future comes to within a time; `None` if it does not, and then it is dropped.
pub(super) async fn within<F: Future>(
    clock: &Clock,
    time_max: Duration,
    future: F,
) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut sleep = pin!(clock.sleep(time_max));
    poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        sleep.as_mut().poll(context).map(|()| None)
    })
    .await
}
