//! Which nodes are alive, on this node: [`Liveness`] on shard 0, and copies of what it knows.
//!
//! Shard 0 asks the other nodes of the ring for support and answers what they ask, over messages
//! of shard 0 to shard 0. Whenever it has learned something it publishes a [`Board`]; every shard
//! acts by the newest one that it has seen, and finds out from the difference what its groups have
//! to know: whose support has ended, and that some was gained. So no notice can be lost, however
//! full a shard's queue is: one that was not woken looks a moment later.

use super::{Message, Shard};
use crate::internode::MessageKind;
use cluster::HostId;
use cluster::leadership::Support as _;
use cluster::liveness::{self, Board, Effect, Incarnation, Liveness, MonotonicNanos};
use cluster::peer::{Class, Peer};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The newest board, for all threads.
#[derive(Debug, Default)]
pub(crate) struct Boards {
    version: AtomicU64,
    newest: Mutex<Arc<Board>>,
}

impl Boards {
    fn publish(&self, board: Board) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = Arc::new(board);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// The newest board, unless it is the one that was seen last.
    fn newer(&self, seen: &mut u64) -> Option<Arc<Board>> {
        if self.version.load(Ordering::Acquire) == *seen {
            return None;
        }
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = self.version.load(Ordering::Acquire);
        Some(newest.clone())
    }
}

/// This node's part in liveness, in the life that its identity names. That is on the disk since the
/// data directory was opened, before anything is sent.
pub(super) fn start_liveness(incarnation: u64, now: MonotonicNanos) -> Liveness {
    let former = incarnation.checked_sub(1).filter(|former| *former > 0).map(Incarnation);
    let mut liveness = Liveness::start(former, now, &mut Vec::new());
    assert!(liveness.incarnation().0 == incarnation, "each start is a life of its own");
    liveness.incarnation_saved();
    liveness
}

impl Shard {
    /// Asks for support and withdraws it as time passes; on shard 0.
    pub(super) async fn run_liveness(self: Rc<Self>) {
        loop {
            let clock = &self.shared.env.clock;
            let now = MonotonicNanos(clock.monotonic_nanos());
            self.step_liveness(now, |liveness, effects| liveness.tick(now, effects));
            let next = self.liveness.borrow().as_ref().and_then(Liveness::next_tick);
            let tick = async {
                match next {
                    Some(moment) => clock.sleep_until(moment.0).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tick => {}
                () = self.liveness_work.notified() => {}
            }
        }
    }

    /// Knows the other nodes of the ring from here on; on shard 0.
    pub(super) fn know_nodes(&self) {
        let view = self.view();
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        let us = self.shared.host_id;
        let mut liveness = self.liveness.borrow_mut();
        let Some(liveness) = liveness.as_mut() else { return };
        for node in view.ring.nodes().iter().filter(|node| node.host_id != us) {
            if !liveness.add_peer(node.host_id, now) {
                tracing::error!("there are too many nodes to know which of them are alive");
                break;
            }
        }
        self.liveness_work.notify_one();
    }

    /// Whether another node has promised support that lasts: it is alive, as far as is known.
    pub(crate) fn is_live(&self, node: HostId) -> bool {
        self.state.borrow().support.is_live(node, MonotonicNanos(self.monotonic_nanos()))
    }

    /// Whether another node has been silent for so long that no request waits for it, or is unknown.
    pub(crate) fn is_down(&self, node: HostId) -> bool {
        self.state.borrow().support.is_down(node, MonotonicNanos(self.monotonic_nanos()))
    }

    /// Takes a message about support. Whether it is one, and came to where it belongs.
    pub(crate) fn take_liveness(&self, from: Peer, bytes: &[u8]) -> bool {
        let Ok(message) = liveness::Message::decode(bytes) else { return false };
        if from.shard != 0 || self.index != 0 {
            return false;
        }
        let now = MonotonicNanos(self.shared.env.clock.monotonic_nanos());
        self.step_liveness(now, |liveness, effects| {
            liveness.receive(from.host_id, message, now, effects);
        });
        true
    }

    fn step_liveness(
        &self,
        now: MonotonicNanos,
        act: impl FnOnce(&mut Liveness, &mut Vec<Effect>),
    ) {
        let mut effects = Vec::new();
        let board = {
            let mut liveness = self.liveness.borrow_mut();
            let Some(liveness) = liveness.as_mut() else { return };
            act(liveness, &mut effects);
            liveness.board()
        };
        if *self.state.borrow().support != board {
            self.shared.boards.publish(board);
        }
        let is_news =
            |effect: &Effect| matches!(effect, Effect::Withdrawn { .. } | Effect::Gained { .. });
        if effects.iter().any(is_news) {
            for (index, shard) in (0_u16..).zip(&self.shared.shards) {
                if index != self.index {
                    // One that is too busy looks by itself.
                    shard.try_send(Message::SupportChanged).ok();
                }
            }
        }
        self.adopt_board(now);
        for effect in effects {
            if let Effect::Send { to, message } = effect {
                self.send_liveness(to, &message);
            }
        }
    }

    /// What is not sent is lost, and asked again.
    fn send_liveness(&self, to: HostId, message: &liveness::Message) {
        let mut bytes = vec![MessageKind::Liveness as u8];
        message.encode(&mut bytes);
        self.peers.send(Peer { host_id: to, shard: 0 }, Class::Urgent, &[&bytes]).ok();
    }

    /// Whether this node takes another one for alive: it supports it.
    pub(crate) fn supports(&self, node: HostId) -> bool {
        self.state.borrow().support.supports(node).is_some()
    }

    /// Returns when support was withdrawn from some node.
    pub(crate) async fn wait_for_withdrawal(&self) {
        self.withdrawn.notified().await;
    }

    /// Acts by the newest board: groups hear whose support has ended, and that some was gained.
    pub(super) fn adopt_board(&self, now: MonotonicNanos) {
        let mut seen = self.seen_board.get();
        let Some(board) = self.shared.boards.newer(&mut seen) else { return };
        self.seen_board.set(seen);
        let mut state = self.state.borrow_mut();
        let former = std::mem::replace(&mut state.support, board);
        let board = state.support.clone();
        let mut is_news = false;
        for node in board.withdrawn_since(&former) {
            state.replicas.support_withdrawn(node, now);
            self.withdrawn.notify_waiters();
            is_news = true;
        }
        if board.has_gained_since(&former) {
            state.replicas.support_gained(now);
            is_news = true;
        }
        drop(state);
        if is_news {
            self.wake_log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_seen_once_by_each_that_looks() {
        let boards = Boards::default();
        let (mut one, mut other) = (0, 0);
        assert!(boards.newer(&mut one).is_none(), "nothing was published");
        boards.publish(Board::default());
        assert!(boards.newer(&mut one).is_some() && boards.newer(&mut one).is_none());
        assert!(boards.newer(&mut other).is_some());
    }

    #[test]
    fn each_start_is_the_life_that_the_identity_names() {
        let now = MonotonicNanos(5);
        let first = start_liveness(1, now);
        assert!(first.may_vote(), "a node that never ran has promised nothing");
        assert!(!start_liveness(2, now).may_vote(), "its former life may have promised something");
    }
}
