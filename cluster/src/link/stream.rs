//! One end of a link: sessions, acknowledgements, and the bytes under way.

use super::envelope::{Envelope, Item, Progress};
use super::outbox::{EntryBytes, Outbox};
use crate::liveness::{Incarnation, MonotonicNanos};
use crate::placement::GroupId;
use crate::rules::{Rule, is_kept};
use std::collections::VecDeque;

/// Bytes that were sent and not yet taken, beyond which nothing with items is sent.
pub const BYTES_IN_FLIGHT_MAX: usize = 4 << 20;

/// How long what was sent may go unacknowledged before it is said again how much that was.
pub const REPEAT_NANOS: u64 = 100_000_000;

/// When so many bytes are under way, the other end is to say what it has taken; below, it says so with
/// what it sends anyhow, or when it is asked after [`REPEAT_NANOS`].
const ANSWERED_BYTES_MIN: usize = BYTES_IN_FLIGHT_MAX / 2;

/// How long nothing is sent after the other end has refused a session: what its log had no room for
/// would be refused again at once. About what a disk takes to make room.
pub const REST_NANOS: u64 = 20_000_000;

/// Sessions of one life; the sessions of the next begin above them.
const SESSIONS_PER_LIFE: u64 = 1 << 32;

/// What the shell is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Hand these to their groups, in order.
    Items(Vec<(GroupId, Item)>),
    /// Messages were lost, in one direction or the other: step every group that is led here and has
    /// a member at the other end with [`Input::Resend`](crate::consensus::Input::Resend).
    Reset,
}

/// One end.
#[derive(Clone, Debug)]
pub struct Link {
    outbox: Outbox,
    sent: Progress,
    /// How much of `sent` the other end has taken.
    acknowledged_count: u64,
    /// Sizes of what it has not taken.
    in_flight: VecDeque<usize>,
    in_flight_bytes: usize,
    taken: Progress,
    /// Whether an envelope of the session in `taken` was missed.
    is_refused: bool,
    /// Whether the other end should hear of `taken`.
    owes_acknowledgement: bool,
    repeat_at: Option<MonotonicNanos>,
    /// Until when nothing with items is sent, after a refusal.
    rests_until: Option<MonotonicNanos>,
}

impl Link {
    /// A link of a node in one of its lives.
    pub fn new(incarnation: Incarnation) -> Link {
        let session = incarnation.0.saturating_mul(SESSIONS_PER_LIFE).saturating_add(1);
        Link {
            outbox: Outbox::default(),
            sent: Progress { session, count: 0 },
            acknowledged_count: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            taken: Progress::default(),
            is_refused: false,
            owes_acknowledgement: false,
            repeat_at: None,
            rests_until: None,
        }
    }

    /// Puts a message of a group into the outbox.
    pub fn push(&mut self, group: GroupId, item: Item) {
        self.outbox.push(group, item);
    }

    /// Whether [`Link::take`] has something now.
    pub fn is_ready(&self, now: MonotonicNanos) -> bool {
        (self.may_send(now) && !self.outbox.is_empty())
            || self.owes_acknowledgement
            || self.repeat_at.is_some_and(|moment| moment <= now)
    }

    fn may_send(&self, now: MonotonicNanos) -> bool {
        let is_resting = self.rests_until.is_some_and(|moment| now < moment);
        self.in_flight_bytes < BYTES_IN_FLIGHT_MAX && !is_resting
    }

    /// When [`Link::is_ready`] may turn true by itself; nothing on a link that is silent.
    pub fn next_tick(&self) -> Option<MonotonicNanos> {
        let sends_at = self.rests_until.filter(|_| !self.outbox.is_empty());
        [self.repeat_at, sends_at].into_iter().flatten().min()
    }

    /// The next envelope, if there is a reason to send one. The shell adds the entries of its appends.
    pub fn take(&mut self, entries: &impl EntryBytes, now: MonotonicNanos) -> Option<Envelope> {
        if !self.is_ready(now) {
            return None;
        }
        let items = if self.may_send(now) && !self.outbox.is_empty() {
            self.rests_until = None;
            let (items, bytes) = self.outbox.fill(entries);
            if !items.is_empty() {
                self.sent.count += 1;
                self.in_flight.push_back(bytes);
                self.in_flight_bytes += bytes;
            }
            items
        } else {
            Vec::new()
        };
        let is_repeat = self.repeat_at.is_some_and(|moment| moment <= now);
        if items.is_empty() && !self.owes_acknowledgement && !is_repeat {
            // All that waited was void.
            return None;
        }
        self.owes_acknowledgement = false;
        self.repeat_at = (!self.in_flight.is_empty()).then(|| now.after(REPEAT_NANOS));
        let is_much = self.in_flight_bytes >= ANSWERED_BYTES_MIN;
        let wants_answer = !self.in_flight.is_empty() && (is_repeat || is_much);
        let Link { sent, taken, is_refused, .. } = *self;
        Some(Envelope { sent, taken, is_refused, wants_answer, items })
    }

    /// Takes an envelope from the other end.
    pub fn receive(&mut self, envelope: Envelope, now: MonotonicNanos, events: &mut Vec<Event>) {
        let Envelope { sent, taken, is_refused, wants_answer, items } = envelope;
        self.hear_of_own(taken, is_refused, now, events);
        if sent.session < self.taken.session {
            return;
        }
        if sent.session > self.taken.session {
            // Whatever was under way in the session before is lost.
            if self.taken.session != 0 && !self.is_refused {
                events.push(Event::Reset);
            }
            self.taken = Progress { session: sent.session, count: 0 };
            self.is_refused = false;
        }
        self.owes_acknowledgement |= wants_answer;
        let carries = u64::from(!items.is_empty());
        if self.is_refused || sent.count < self.taken.count + carries {
            return;
        }
        if sent.count == self.taken.count + carries || !is_kept(Rule::MissedEndsTheSession) {
            self.taken.count = sent.count;
            if carries == 1 {
                events.push(Event::Items(items));
            }
        } else {
            self.refuse(events);
        }
    }

    /// Takes no more of the session that the other end is in: something of it could not be handled, and
    /// counts as lost with all that follows.
    pub fn refuse(&mut self, events: &mut Vec<Event>) {
        self.is_refused = true;
        self.owes_acknowledgement = true;
        events.push(Event::Reset);
    }

    /// The stream below was lost: what was under way may be lost with it.
    pub fn break_off(&mut self, events: &mut Vec<Event>) {
        self.begin_session();
        events.push(Event::Reset);
    }

    fn hear_of_own(
        &mut self,
        taken: Progress,
        is_refused: bool,
        now: MonotonicNanos,
        events: &mut Vec<Event>,
    ) {
        if taken.session != self.sent.session || taken.count > self.sent.count {
            return;
        }
        if is_refused {
            self.break_off(events);
            self.rests_until = Some(now.after(REST_NANOS));
            return;
        }
        while self.acknowledged_count < taken.count {
            self.acknowledged_count += 1;
            self.in_flight_bytes -= self.in_flight.pop_front().unwrap_or_default();
        }
        if self.in_flight.is_empty() {
            self.repeat_at = None;
        }
    }

    /// Drops what waits: leaders begin anew, and followers answer that.
    fn begin_session(&mut self) {
        self.outbox.clear();
        self.sent = Progress { session: self.sent.session + 1, count: 0 };
        self.acknowledged_count = 0;
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.repeat_at = None;
        self.rests_until = None;
    }

    /// Bytes that were sent and not yet taken.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }
}
