//! How slow the disk of a simulated machine is: what workers and blocking calls do takes no time of
//! itself, so whoever is to find the disk slow waits before each of them.
//!
//! A worker waits whenever it has something to do, with all that has come up meanwhile: the commit
//! log then writes and syncs it as one batch, as behind a device that is busy.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::ready;
use std::time::Duration;

/// The time that each use of the disk takes. There is one for each simulated node and it is never given
/// back, so that [`super::Tasks`] stays a value to copy.
pub(super) type Pace = AtomicU64;

/// A disk that takes no time.
pub(super) static AT_ONCE: Pace = AtomicU64::new(0);

/// Sets how slow the disk of one simulated node is.
#[derive(Clone, Copy, Debug)]
pub struct SimTasksControl(&'static Pace);

impl SimTasksControl {
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn new() -> SimTasksControl {
        SimTasksControl(Box::leak(Box::default()))
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn pace(self) -> &'static Pace {
        self.0
    }

    /// How much longer whatever is done with the disk takes from now on.
    pub fn set_disk_delay(self, delay: Duration) {
        self.0.store(delay.as_micros() as u64, Ordering::Relaxed);
    }
}

fn delay(pace: &Pace) -> Option<Duration> {
    let micros = pace.load(Ordering::Relaxed);
    (micros > 0).then(|| Duration::from_micros(micros))
}

/// Waits as long as the disk takes.
pub(super) async fn wait(pace: &'static Pace) {
    if let Some(delay) = delay(pace) {
        tokio::time::sleep(delay).await;
    }
}

/// Runs a worker that waits for the disk whenever it has been woken.
pub(super) async fn run_slowly(body: impl Future<Output = ()>, pace: &'static Pace) {
    let (mut body, mut waiting) = (pin!(body), None);
    std::future::poll_fn(|context| {
        if waiting.is_none() {
            waiting = delay(pace).map(|delay| Box::pin(tokio::time::sleep(delay)));
        }
        if let Some(sleep) = &mut waiting {
            ready!(sleep.as_mut().poll(context));
            waiting = None;
        }
        body.as_mut().poll(context)
    })
    .await;
}
