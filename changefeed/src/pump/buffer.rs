//! Messages between reading and delivering: bounded, in order, each with how far the feed has come
//! once it is acknowledged.
//!
//! How far the feed has come is also known without messages, when rows were not to be sent or time
//! has passed without any: such an [`Advance`] holds once everything before it is acknowledged, so
//! it is kept with the message before it, or apart (`lead`) if there is none.
//!
//! What waits, and what is under way until it is settled, is in an [`Account`] of the memory of all
//! feeds. While there is no room for more, nothing is waited for that would make a batch fuller.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use env::Clock;
use env::planted::{Bug, is_planted};
use tokio::sync::Notify;

use super::{End, Resolved, Skipped, Stop};
use crate::memory::Account;
use crate::position::Position;
use crate::scan::Scanned;
use crate::sink::Message;

/// Reading waits when so many messages wait to be sent,
pub const BUFFERED_MESSAGES_MAX: usize = 20_000;
/// or so many bytes of them; a group of rows that was begun is finished first.
pub const BUFFERED_BYTES_MAX: usize = 16 << 20;
/// One call to a sink takes no more than this, but for a single message that is larger.
const TAKEN_BYTES_MAX: usize = 8 << 20;

/// How far a feed has come; what is none did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Advance {
    /// Behind this row.
    pub(super) position: Option<Position>,
    /// Behind this time.
    pub(super) resolved: Option<Resolved>,
    /// These events were left out on the way.
    pub(super) skipped: Skipped,
    /// With the scan.
    pub(super) scanned: Option<Arc<Scanned>>,
}

impl Advance {
    /// This, and then that.
    pub(super) fn then(self, next: Advance) -> Advance {
        Advance {
            position: next.position.or(self.position),
            resolved: next.resolved.or(self.resolved),
            skipped: self.skipped.then(next.skipped),
            scanned: next.scanned.or(self.scanned),
        }
    }

    fn add(&mut self, next: Advance) {
        *self = std::mem::take(self).then(next);
    }

    pub(super) fn is_nothing(&self) -> bool {
        *self == Advance::default()
    }
}

/// What is delivered next.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Holds already.
    pub(super) lead: Advance,
    /// Messages to send.
    pub(super) messages: Vec<Message>,
    /// What holds when each of them is acknowledged.
    pub(super) advances: Vec<Advance>,
    /// Nothing follows.
    pub(super) end: Option<End>,
    /// What the messages take in memory, to be given back by [`Buffer::settle`].
    pub(super) held_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    lead: Advance,
    end: Option<End>,
}

#[derive(Debug)]
struct Waiting {
    message: Message,
    advance: Advance,
    since_nanos: u64,
}

impl Waiting {
    /// What a message takes in memory while it waits, or is under way: its bytes are there once more
    /// in the client or request that sends it.
    fn held_bytes(message: &Message) -> usize {
        size_of::<Waiting>() + 2 * message.byte_count()
    }
}

/// One reader's end and one deliverer's end.
#[derive(Debug)]
pub(super) struct Buffer {
    clock: Clock,
    /// Whether what is taken ends with the last message of a group of rows.
    takes_whole_groups: bool,
    memory: Account,
    /// Reading waits for room.
    is_held: Cell<bool>,
    state: RefCell<State>,
    filled: Notify,
    emptied: Notify,
}

impl Buffer {
    pub(super) fn new(clock: Clock, memory: Account) -> Buffer {
        Buffer {
            clock,
            takes_whole_groups: false,
            memory,
            is_held: Cell::new(false),
            state: RefCell::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// One that gives out groups of rows as a whole, however large they are: behind each there is a
    /// position.
    pub(super) fn of_whole_groups(clock: Clock, memory: Account) -> Buffer {
        Buffer { takes_whole_groups: true, ..Buffer::new(clock, memory) }
    }

    /// Whether every batch ends behind a whole group, also the rows of a scan, which are one.
    pub(super) fn takes_whole_groups(&self) -> bool {
        self.takes_whole_groups
    }

    /// Waits until there is room, here and in the memory of all feeds.
    pub(super) async fn room(&self) {
        while !self.has_room() {
            self.emptied.notified().await;
        }
        if !self.memory.has_room() {
            self.is_held.set(true);
            self.filled.notify_one();
        }
        self.memory.room().await;
        self.is_held.set(false);
    }

    fn has_room(&self) -> bool {
        let state = self.state.borrow();
        state.waiting.len() < BUFFERED_MESSAGES_MAX && state.bytes < BUFFERED_BYTES_MAX
    }

    /// Adds messages, and how far the feed has come with the last of them.
    pub(super) fn push(&self, messages: impl Iterator<Item = Message>, advance: Advance) {
        let mut state = self.state.borrow_mut();
        let since_nanos = self.clock.monotonic_nanos();
        for message in messages {
            state.bytes += message.byte_count();
            self.memory.hold(Waiting::held_bytes(&message));
            let is_early = is_planted(Bug::SavesWithinAChange);
            let advance = if is_early { advance.clone() } else { Advance::default() };
            state.waiting.push_back(Waiting { message, advance, since_nanos });
        }
        match state.waiting.back_mut() {
            Some(last) => last.advance.add(advance),
            None => state.lead.add(advance),
        }
        drop(state);
        self.filled.notify_one();
    }

    /// What was taken is not under way any more, so its memory is free.
    pub(super) fn settle(&self, held_bytes: usize) {
        self.memory.release(held_bytes);
    }

    /// Says that nothing follows, and why.
    pub(super) fn finish(&self, end: End) {
        self.state.borrow_mut().end = Some(end);
        self.filled.notify_one();
    }

    /// Waits for a batch: `size` messages, or fewer when the first of them has waited for `flush`,
    /// nothing follows, or reading waits for room. Takes up to `size_max` if they are there. Returns without messages when the
    /// feed has come further without any, and when it is to stop.
    pub(super) async fn take(
        &self,
        size: usize,
        size_max: usize,
        flush: Duration,
        stop: &Stop,
    ) -> Taken {
        loop {
            let wait_until = {
                let mut state = self.state.borrow_mut();
                let lead = std::mem::take(&mut state.lead);
                let first = state.waiting.front().map(|first| first.since_nanos);
                let due = first.map(|since| since.saturating_add(flush.as_nanos() as u64));
                let is_due = due.is_some_and(|due| self.clock.monotonic_nanos() >= due);
                let is_full = state.waiting.len() >= size
                    || state.bytes >= TAKEN_BYTES_MAX
                    || self.is_held.get();
                if stop.is_requested() {
                    return Taken { lead, end: Some(End::Stopped), ..Taken::default() };
                }
                if first.is_some() && (is_full || is_due || state.end.is_some()) {
                    let taken = self.take_up_to(&mut state, size_max);
                    return Taken { lead, ..taken };
                }
                if first.is_none() && state.end.is_some() {
                    return Taken { lead, end: state.end.take(), ..Taken::default() };
                }
                if !lead.is_nothing() {
                    return Taken { lead, ..Taken::default() };
                }
                due
            };
            tokio::select! {
                biased;
                () = self.filled.notified() => {}
                () = stop.requested() => {}
                () = self.sleep_until(wait_until) => {}
            }
        }
    }

    async fn sleep_until(&self, deadline_nanos: Option<u64>) {
        match deadline_nanos {
            Some(deadline) => self.clock.sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    }

    fn take_up_to(&self, state: &mut State, size_max: usize) -> Taken {
        let mut taken = Taken::default();
        let mut bytes = 0;
        while let Some(next) = state.waiting.front() {
            let length = next.message.byte_count();
            let is_full = taken.messages.len() >= size_max || bytes + length > TAKEN_BYTES_MAX;
            let is_behind_group =
                taken.advances.last().is_some_and(|advance| advance.position.is_some());
            let may_end =
                !taken.messages.is_empty() && (is_behind_group || !self.takes_whole_groups);
            if is_full && may_end {
                break;
            }
            bytes += length;
            taken.held_bytes += Waiting::held_bytes(&next.message);
            let next = state.waiting.pop_front().expect("it was just looked at");
            taken.messages.push(next.message);
            taken.advances.push(next.advance);
        }
        state.bytes -= bytes;
        self.emptied.notify_one();
        taken
    }
}
