//! The node's port for other nodes: who comes is introduced, and handed to the shard it is for.

use crate::node::Shared;
use crate::shard::Message;
use cluster::peer::{Accepted, IntroductionError, accept_peers};
use env::net::TcpListener;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

/// Lines about who was not let in within one [`REPORT_NANOS`]: whoever knocks all the time must not
/// fill the log.
const REPORTS_MAX: u32 = 5;
const REPORT_NANOS: u64 = 10_000_000_000;

/// Lets other nodes in for as long as this one runs.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let (env, registry) = (shared.env.clone(), shared.registry.clone());
    let reports = Reports::default();
    let of_reports = shared.clone();
    let report = move |from, error: IntroductionError| {
        reports.report(of_reports.env.clock.monotonic_nanos(), from, &error);
    };
    let hand_over = move |accepted: Accepted| {
        // The registry has checked that there is such a shard.
        let shard = &shared.shards[usize::from(accepted.to_shard())];
        shard.try_send(Message::Peer(accepted)).map_err(|error| match error.into_item() {
            Message::Peer(accepted) => accepted,
            _ => unreachable!("what comes back is what was sent"),
        })
    };
    accept_peers(&env, &registry, listener, hand_over, report).await;
}

/// What was said lately of those who were not let in.
#[derive(Debug, Default)]
struct Reports {
    began_nanos: Cell<u64>,
    count: Cell<u32>,
}

impl Reports {
    fn report(&self, now_nanos: u64, from: SocketAddr, error: &IntroductionError) {
        // A node that finds itself among its seeds does nothing wrong.
        if matches!(error, IntroductionError::Itself) || !self.may_say(now_nanos) {
            return;
        }
        let is_last = self.count.get() == REPORTS_MAX;
        let rest = if is_last { "; more are turned away without a word for a while" } else { "" };
        let report = format!("{from} is turned away from the port for nodes: {error}{rest}");
        if matches!(error, IntroductionError::Removed(_)) {
            // It hears so, and ends.
            tracing::info!("{report}");
        } else {
            tracing::warn!("{report}");
        }
    }

    /// Whether one more line may be written.
    fn may_say(&self, now_nanos: u64) -> bool {
        if now_nanos.saturating_sub(self.began_nanos.get()) >= REPORT_NANOS {
            self.began_nanos.set(now_nanos);
            self.count.set(0);
        }
        self.count.set(self.count.get().saturating_add(1));
        self.count.get() <= REPORTS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_knocks_all_the_time_is_reported_a_few_times() {
        let reports = Reports::default();
        let said = |from: u64| (from..from + 100).filter(|now| reports.may_say(*now)).count();
        assert_eq!(said(REPORT_NANOS), REPORTS_MAX as usize);
        assert_eq!(said(REPORT_NANOS + 100), 0);
        assert_eq!(said(2 * REPORT_NANOS), REPORTS_MAX as usize);
    }
}
