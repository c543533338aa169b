//! What became of the messages that the client library has taken, in their order.
//!
//! The library's threads report deliveries in any order of partitions; the sink waits for the
//! front of the row, since only a prefix can be acknowledged.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::Notify;

/// Shared by the sink and the library's callbacks. Messages are numbered from 0 as they are taken.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    state: Mutex<State>,
    /// Wakes the sink when what it waits for was reported.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the message at the front of `outcomes`.
    first: usize,
    /// None while a message is under way.
    outcomes: VecDeque<Option<Result<(), RDKafkaErrorCode>>>,
    /// How many were reported in all.
    reported: usize,
    /// How many are under way.
    under_way: usize,
    /// The sink is woken when no more than so many are.
    woken_at: usize,
    /// What the library last complained of since anything went well: a broker that is away, a password
    /// that is wrong. It says so once in half a minute, however often it tries.
    complaint: Option<String>,
}

/// What stands at the front of the row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Front {
    /// Messages that were acknowledged, now taken from the row.
    pub(super) acknowledged: usize,
    /// The failure of the message that is first now.
    pub(super) failed: Option<RDKafkaErrorCode>,
    /// Rises with every report, also of messages further behind.
    pub(super) reported: usize,
}

impl Deliveries {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; were it otherwise, the row would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many messages are in the row.
    pub(super) fn count(&self) -> usize {
        self.state().outcomes.len()
    }

    /// Puts the next message at the end of the row; its number goes to the library with it.
    pub(super) fn begin(&self) -> usize {
        let mut state = self.state();
        state.outcomes.push_back(None);
        state.under_way += 1;
        state.first + state.outcomes.len() - 1
    }

    /// Takes back the last message, which the library did not take.
    pub(super) fn take_back(&self) {
        let mut state = self.state();
        let last = state.outcomes.pop_back();
        assert_eq!(last, Some(None), "a message that was not taken is last and under way");
        state.under_way -= 1;
    }

    /// Notes what the library says of a message.
    pub(super) fn report(&self, number: usize, outcome: Result<(), RDKafkaErrorCode>) {
        let mut state = self.state();
        let place = number.checked_sub(state.first);
        let entry = place.and_then(|place| state.outcomes.get_mut(place));
        let entry = entry.expect("the library reports on messages in the row");
        assert!(entry.is_none(), "the library reports once on each message");
        *entry = Some(outcome);
        if outcome.is_ok() {
            state.complaint = None;
        }
        state.reported += 1;
        state.under_way -= 1;
        let is_awaited = outcome.is_err() || state.under_way == state.woken_at;
        drop(state);
        if is_awaited {
            self.changed.notify_one();
        }
    }

    /// Takes what was acknowledged from the front of the row.
    pub(super) fn take_front(&self) -> Front {
        let mut state = self.state();
        let mut acknowledged = 0;
        while let Some(Some(Ok(()))) = state.outcomes.front() {
            state.outcomes.pop_front();
            state.first += 1;
            acknowledged += 1;
        }
        let failed = match state.outcomes.front() {
            Some(Some(Err(code))) => Some(*code),
            _ => None,
        };
        Front { acknowledged, failed, reported: state.reported }
    }

    /// Returns when all messages are settled, or half of those that are under way if there are more to
    /// give, or one has failed; also when that was so since the last return. Woken for each report of
    /// thousands, the sink would do little but look.
    pub(super) async fn settled(&self, are_more_to_give: bool) {
        {
            let mut state = self.state();
            if state.under_way == 0 {
                return;
            }
            state.woken_at = if are_more_to_give { state.under_way / 2 } else { 0 };
        }
        self.changed.notified().await;
    }

    /// Keeps what the library complains of. That no broker is there follows every other complaint,
    /// and says less.
    pub(super) fn complain(&self, code: Option<RDKafkaErrorCode>, text: String) {
        let mut state = self.state();
        if code != Some(RDKafkaErrorCode::AllBrokersDown) || state.complaint.is_none() {
            state.complaint = Some(text);
        }
    }

    /// The last complaint, for as long as nothing has gone well.
    pub(super) fn complaint(&self) -> Option<String> {
        self.state().complaint.clone()
    }

    /// The brokers have answered.
    pub(super) fn forget_complaint(&self) {
        self.state().complaint = None;
    }
}

#[cfg(test)]
mod tests {
    use super::{Deliveries, Front, RDKafkaErrorCode};
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Waker};

    #[test]
    fn only_a_prefix_is_acknowledged() {
        let deliveries = Deliveries::default();
        let numbers: Vec<usize> = (0..4).map(|_| deliveries.begin()).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        let front = |acknowledged, failed, reported| Front { acknowledged, failed, reported };

        deliveries.report(1, Ok(()));
        assert_eq!(deliveries.take_front(), front(0, None, 1));
        deliveries.report(0, Ok(()));
        assert_eq!(deliveries.take_front(), front(2, None, 2));
        let code = RDKafkaErrorCode::MessageSizeTooLarge;
        deliveries.report(3, Ok(()));
        deliveries.report(2, Err(code));
        assert_eq!(deliveries.take_front(), front(0, Some(code), 4));
        assert_eq!(deliveries.count(), 2);
        deliveries.begin();
        deliveries.take_back();
        assert_eq!(deliveries.count(), 2);
    }

    #[test]
    fn the_sink_is_woken_when_few_enough_are_under_way_and_by_failures() {
        let deliveries = Deliveries::default();
        for number in 0..5 {
            assert_eq!(deliveries.begin(), number);
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut is_done = |waiting: &mut Pin<&mut dyn Future<Output = ()>>| {
            waiting.as_mut().poll(&mut context).is_ready()
        };
        let mut half: Pin<&mut dyn Future<Output = ()>> = pin!(deliveries.settled(true));
        assert!(!is_done(&mut half));
        deliveries.report(0, Ok(()));
        deliveries.report(1, Ok(()));
        assert!(!is_done(&mut half));
        deliveries.report(2, Ok(()));
        assert!(is_done(&mut half));
        let mut all: Pin<&mut dyn Future<Output = ()>> = pin!(deliveries.settled(false));
        assert!(!is_done(&mut all));
        deliveries.report(3, Err(RDKafkaErrorCode::InvalidRecord));
        assert!(is_done(&mut all), "one has failed");
        let mut last: Pin<&mut dyn Future<Output = ()>> = pin!(deliveries.settled(true));
        assert!(!is_done(&mut last));
        deliveries.report(4, Ok(()));
        assert!(is_done(&mut last));
        let mut none: Pin<&mut dyn Future<Output = ()>> = pin!(deliveries.settled(false));
        assert!(is_done(&mut none), "nothing is under way");
    }

    #[test]
    fn a_complaint_stays_until_something_goes_well() {
        let deliveries = Deliveries::default();
        let complain = |code, text: &str| deliveries.complain(Some(code), text.to_owned());
        complain(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        assert_eq!(deliveries.complaint().as_deref(), Some("1/1 brokers are down"));
        complain(RDKafkaErrorCode::Authentication, "the password is wrong");
        complain(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down");
        for _ in 0..2 {
            assert_eq!(deliveries.complaint().as_deref(), Some("the password is wrong"));
        }
        let number = deliveries.begin();
        deliveries.report(number, Ok(()));
        assert_eq!(deliveries.complaint(), None);
    }
}
