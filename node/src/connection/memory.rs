//! How much memory the connections of a shard may hold together: parts of requests, answers in the
//! making, and answers that nobody has taken yet.
//!
//! A connection's own limits bound what one client can ask for; a thousand clients that ask for a
//! page each and do not read would still be a gigabyte. So there is one limit for the shard:
//!
//! - An answer that is large by experience is made when there is room for it. Reads wait for room
//!   in the order in which they came, for at most [`ROOM_WAIT`], and are then refused as
//!   `Overloaded`. What is small does not wait behind what is large.
//! - Over the limit, a connection that holds nothing is heard, and one that holds something goes on
//!   only in its turn. Turns are given one at a time, in the order of asking, so a large request is
//!   finished however full the shard is, and nobody starves.
//! - Beyond twice the limit requests are refused as `Overloaded` unread.
//! - While room is wanted, clients that take no answers are ended soon ([`super::Session`]).
//!
//! What is held is what connections report after each of their turns, so it may exceed the limit by
//! what one turn of each brings: a read of the socket, and answers small enough not to wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a read waits for room.
pub(crate) const ROOM_WAIT: Duration = Duration::from_secs(4);
/// What the first page of rows is taken for.
const PAGE_BYTES_AT_FIRST: usize = 1 << 20;
/// The least that is set aside for an answer, and what the first row is taken for.
const ANSWER_BYTES_MIN: usize = 4 << 10;
/// Answers up to this do not wait for room.
const SMALL_ANSWER_BYTES_MAX: usize = 16 << 10;

/// Answers that come to about the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnswerKind {
    /// One row, or what a system table says.
    Row,
    /// A page of rows.
    Page,
}

/// The memory of one shard's connections.
#[derive(Debug)]
pub(crate) struct ConnectionMemory {
    bytes_max: usize,
    held_bytes: Cell<usize>,
    /// What the next answer of each kind may come to: the largest of late, which counts less with
    /// every answer.
    expected_bytes: [Cell<usize>; 2],
    /// Reads that wait for room.
    reads: RefCell<VecDeque<(usize, oneshot::Sender<Held>)>>,
    /// Connections that wait for their turn.
    paused: RefCell<VecDeque<(Weak<Place>, Waker)>>,
    /// Whose turn it is.
    turn: RefCell<Weak<Place>>,
    me: Weak<ConnectionMemory>,
}

/// A connection's place in the queue for turns.
#[derive(Debug, Default)]
pub(crate) struct Place {
    is_queued: Cell<bool>,
}

/// Memory that is counted as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Rc<ConnectionMemory>,
    bytes: usize,
}

impl ConnectionMemory {
    pub(crate) fn new(bytes_max: usize) -> Rc<Self> {
        Rc::new_cyclic(|me| ConnectionMemory {
            bytes_max,
            held_bytes: Cell::new(0),
            expected_bytes: [ANSWER_BYTES_MIN, PAGE_BYTES_AT_FIRST].map(Cell::new),
            reads: RefCell::default(),
            paused: RefCell::default(),
            turn: RefCell::default(),
            me: me.clone(),
        })
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    /// Whether more is held than may be.
    pub(crate) fn is_full(&self) -> bool {
        self.held_bytes.get() > self.bytes_max
    }

    /// Whether somebody waits for what others hold.
    pub(crate) fn is_wanted(&self) -> bool {
        self.forget_given_up();
        self.is_full() || !self.reads.borrow().is_empty()
    }

    /// Whether requests are to be refused.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.held_bytes.get() / 2 > self.bytes_max
    }

    /// What a connection holds, nothing at first.
    pub(crate) fn account(&self) -> Held {
        Held { memory: self.me.upgrade().expect("it is borrowed, so it lives"), bytes: 0 }
    }

    /// Waits until there is room for an answer. Cancelling the wait is harmless.
    pub(crate) async fn room(&self, kind: AnswerKind) -> Held {
        let bytes = self.expected_bytes[kind as usize].get().min(self.bytes_max);
        self.forget_given_up();
        let is_first = self.reads.borrow().is_empty();
        if bytes <= SMALL_ANSWER_BYTES_MAX || (is_first && self.has_room(bytes)) {
            let mut held = self.account();
            held.resize(bytes);
            return held;
        }
        let (grant, granted) = oneshot::channel();
        self.reads.borrow_mut().push_back((bytes, grant));
        granted.await.expect("waiting reads are granted or cancelled")
    }

    /// An answer came to so many bytes.
    pub(crate) fn note_answer(&self, kind: AnswerKind, bytes: usize) {
        let expected = &self.expected_bytes[kind as usize];
        let faded = expected.get() - expected.get() / 16;
        expected.set(faded.max(bytes).max(ANSWER_BYTES_MIN));
    }

    /// Whether a connection that holds something may go on: always while there is room, else in its
    /// turn, for which it is woken.
    pub(crate) fn may_go_on(&self, place: &Rc<Place>, waker: &Waker) -> bool {
        if !self.is_full() {
            return true;
        }
        let turn = self.turn.borrow().upgrade();
        match turn {
            None => *self.turn.borrow_mut() = Rc::downgrade(place),
            Some(other) if Rc::ptr_eq(&other, place) => {}
            Some(_) => {
                if !place.is_queued.replace(true) {
                    self.paused.borrow_mut().push_back((Rc::downgrade(place), waker.clone()));
                }
                return false;
            }
        }
        true
    }

    /// The connection holds nothing any more.
    pub(crate) fn end_turn(&self, place: &Rc<Place>) {
        let is_its_turn = std::ptr::eq(self.turn.borrow().as_ptr(), Rc::as_ptr(place));
        if is_its_turn {
            *self.turn.borrow_mut() = Weak::new();
            self.wake_paused();
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.held_bytes.get() + bytes <= self.bytes_max
    }

    /// Reads that gave up before their turn stand in nobody's way.
    fn forget_given_up(&self) {
        let mut reads = self.reads.borrow_mut();
        while reads.front().is_some_and(|(_, grant)| grant.is_closed()) {
            reads.pop_front();
        }
    }

    /// Something was given back: lets those go on who have waited longest.
    fn hand_out(&self) {
        loop {
            self.forget_given_up();
            let next = self.reads.borrow_mut().pop_front_if(|(bytes, _)| self.has_room(*bytes));
            let Some((bytes, grant)) = next else { break };
            let mut held = self.account();
            held.resize(bytes);
            // A read that has just given up drops it, which hands it out again.
            drop(grant.send(held));
        }
        self.wake_paused();
    }

    /// Wakes all that are paused when there is room, else the first one when it is nobody's turn.
    fn wake_paused(&self) {
        loop {
            let is_turn_free = self.turn.borrow().strong_count() == 0;
            if self.is_full() && !is_turn_free {
                return;
            }
            let Some((place, waker)) = self.paused.borrow_mut().pop_front() else { return };
            let Some(place) = place.upgrade() else { continue };
            place.is_queued.set(false);
            waker.wake();
            if self.is_full() {
                // It takes the turn when it runs.
                return;
            }
        }
    }
}

impl Held {
    /// Counts another number of bytes from now on.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let held = &self.memory.held_bytes;
        held.set(held.get() - before + bytes);
        if bytes < before {
            // A copy of the handle: what is handed out may end this connection's own wait.
            self.memory.clone().hand_out();
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll};

    const MAX: usize = 4 << 20;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn ready<T>(poll: Poll<T>) -> T {
        match poll {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("there is room"),
        }
    }

    #[test]
    fn reads_get_room_in_the_order_in_which_they_came() {
        let memory = ConnectionMemory::new(MAX);
        let mut unread = memory.account();
        unread.resize(MAX);
        let (mut first, mut given_up, mut last) = (
            pin!(memory.room(AnswerKind::Page)),
            Box::pin(memory.room(AnswerKind::Page)),
            pin!(memory.room(AnswerKind::Page)),
        );
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(given_up.as_mut()).is_pending());
        assert!(poll(last.as_mut()).is_pending());
        drop(given_up);
        unread.resize(MAX - PAGE_BYTES_AT_FIRST);
        let held = ready(poll(first));
        assert!(poll(last.as_mut()).is_pending(), "the room is taken");
        drop(held);
        drop(ready(poll(last)));
        drop(unread);
        assert_eq!(memory.held_bytes(), 0);
    }

    #[test]
    fn a_grant_that_nobody_takes_goes_to_the_next() {
        let memory = ConnectionMemory::new(MAX);
        let mut unread = memory.account();
        unread.resize(MAX);
        let mut first = Box::pin(memory.room(AnswerKind::Page));
        let mut last = pin!(memory.room(AnswerKind::Page));
        assert!(poll(first.as_mut()).is_pending() && poll(last.as_mut()).is_pending());
        unread.resize(MAX - PAGE_BYTES_AT_FIRST);
        drop(first);
        drop(ready(poll(last)));
    }

    #[test]
    fn what_is_expected_follows_the_answers() {
        let memory = ConnectionMemory::new(MAX);
        let room = |kind| ready(poll(pin!(memory.room(kind)))).bytes();
        assert_eq!((room(AnswerKind::Row), room(AnswerKind::Page)), (4 << 10, 1 << 20));
        for _ in 0..200 {
            memory.note_answer(AnswerKind::Page, 100);
        }
        assert_eq!(room(AnswerKind::Page), ANSWER_BYTES_MIN);
        memory.note_answer(AnswerKind::Row, 2 << 20);
        assert_eq!(room(AnswerKind::Row), 2 << 20);
        memory.note_answer(AnswerKind::Page, 2 * MAX);
        assert_eq!(room(AnswerKind::Page), MAX, "more never fits");
    }

    #[test]
    fn small_answers_do_not_wait_behind_large_ones() {
        let memory = ConnectionMemory::new(MAX);
        let mut unread = memory.account();
        unread.resize(MAX);
        let mut page = Box::pin(memory.room(AnswerKind::Page));
        assert!(poll(page.as_mut()).is_pending());
        assert!(memory.is_wanted() && !memory.is_full());
        drop(ready(poll(pin!(memory.room(AnswerKind::Row)))));
        drop(page);
        assert!(!memory.is_wanted(), "who gave up wants nothing");
    }

    #[test]
    fn over_the_limit_one_connection_at_a_time_goes_on() {
        let memory = ConnectionMemory::new(MAX);
        let mut unread = memory.account();
        unread.resize(MAX + 1);
        let [one, two, three] = [(); 3].map(|()| Rc::new(Place::default()));
        let waker = Waker::noop();
        assert!(memory.may_go_on(&one, waker) && memory.may_go_on(&one, waker));
        assert!(!memory.may_go_on(&two, waker) && !memory.may_go_on(&three, waker));
        drop(two);
        memory.end_turn(&one);
        assert!(memory.may_go_on(&three, waker), "who is gone takes no turn");
        assert!(!memory.may_go_on(&one, waker));
        drop(three);
        assert!(memory.may_go_on(&one, waker), "a turn ends with its connection");
        drop(unread);
        assert!(!memory.is_full());
    }
}
