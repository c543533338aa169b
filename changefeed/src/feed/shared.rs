//! Messages that are made once for all feeds that tell of changes alike.
//!
//! Feeds on the same tables that differ in their destination alone make the same messages of the same
//! log rows: numbers are a property of the log ([`crate::sequence`]), and the rest is decided by a few
//! options ([`Renderer::likeness`]). Whoever comes first to a group of rows makes its messages and keeps
//! them here; the others take them, which shares their memory too. Ten such feeds so cost little more
//! rendering than one.
//!
//! ```text
//!   feed 1 ──renders──▶ ┌ likeness ─────────────┐
//!   feed 2 ◀──takes──── │ groups, in log order  │   the oldest go first
//!   feed 3 ◀──takes──── └───────────────────────┘
//! ```
//!
//! A feed that finds nothing here, since it is far behind the others or counts otherwise, renders by
//! itself: what is kept decides nothing but the cost. So it is given up first: it is within the memory
//! of all feeds ([`crate::memory`]), and has a small part of it at most.

use super::Skipped;
use crate::envelope::Renderer;
use crate::memory::{Account, FeedMemory};
use crate::position::{LogKey, Sequence};
use crate::sequence::Group;
use crate::sink::Message;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

/// Bytes of messages that are kept for others, over all likenesses of a thread,
pub const SHARED_BYTES_MAX: usize = if cfg!(test) { 64 << 10 } else { 8 << 20 };
/// or one in so many parts of the memory of all feeds, if that is less.
const MEMORY_PART: usize = 16;
/// What a group of rows counts beside its messages.
const GROUP_BYTES: usize = 160;

/// The messages that feeds of one thread share.
#[derive(Debug)]
pub struct SharedMessages {
    memory: Rc<FeedMemory>,
    likenesses: RefCell<Vec<(Renderer, Weak<RefCell<Made>>)>>,
    /// What each may keep.
    bytes_max: Rc<Cell<usize>>,
}

impl SharedMessages {
    /// None yet, within the memory of the feeds.
    pub fn new(memory: Rc<FeedMemory>) -> SharedMessages {
        SharedMessages { memory, likenesses: RefCell::default(), bytes_max: Rc::default() }
    }

    /// Those of the feeds that tell of changes as this renderer does.
    pub(super) fn join(&self, renderer: &Renderer) -> Taker {
        let likeness = renderer.likeness();
        let mut all = self.likenesses.borrow_mut();
        all.retain(|(_, made)| made.strong_count() > 0);
        let known = all.iter().find(|(known, _)| *known == likeness);
        let made = known.and_then(|(_, made)| made.upgrade()).unwrap_or_else(|| {
            let made = Rc::new(RefCell::new(Made::new(self.memory.account())));
            all.push((likeness, Rc::downgrade(&made)));
            made
        });
        let bytes_max = SHARED_BYTES_MAX.min(self.memory.bytes_max() / MEMORY_PART);
        self.bytes_max.set(bytes_max / all.len());
        Taker { made, bytes_max: self.bytes_max.clone(), next: 0 }
    }
}

/// One feed's place among the messages that it shares.
#[derive(Debug)]
pub(super) struct Taker {
    made: Rc<RefCell<Made>>,
    bytes_max: Rc<Cell<usize>>,
    /// The number of the group behind the last one that was found: usually that of the next.
    next: u64,
}

impl Taker {
    /// Appends the messages that were made of a group, if they are here; what was left out of it.
    pub(super) fn take(&mut self, group: &Group, out: &mut Vec<Message>) -> Option<Skipped> {
        let made = self.made.borrow();
        let number = made.find(&group.rows.first()?.key, self.next)?;
        let found = made.group(number).filter(|found| found.first == group.first)?;
        self.next = number + 1;
        let start = (found.messages_start - made.messages_gone) as usize;
        let end = start + found.message_count as usize;
        out.extend(made.messages.range(start..end).cloned());
        Some(found.skipped.clone())
    }

    /// Keeps the messages that were made of a group, if there are others who may want them.
    pub(super) fn keep(&mut self, group: &Group, messages: &[Message], skipped: &Skipped) {
        let Some(first) = group.rows.first() else { return };
        let mut made = self.made.borrow_mut();
        if Rc::strong_count(&self.made) > 1 {
            made.push(first.key, group.first, messages, skipped);
            made.give_up(self.bytes_max.get());
        } else {
            made.give_up(0);
        }
        self.next = made.groups_gone + made.groups.len() as u64;
    }
}

/// What was made of the log lately by feeds of one likeness.
///
/// Invariant: groups ascend by their keys; their messages follow each other without gaps.
#[derive(Debug)]
struct Made {
    groups: VecDeque<MadeGroup>,
    messages: VecDeque<Message>,
    /// How many groups and messages were given up: numbers count from the first ever.
    groups_gone: u64,
    messages_gone: u64,
    /// Holds what they take.
    memory: Account,
}

#[derive(Debug)]
struct MadeGroup {
    /// Of its first row.
    key: LogKey,
    /// The number of that row.
    first: Sequence,
    messages_start: u64,
    message_count: u32,
    skipped: Skipped,
}

impl Made {
    fn new(memory: Account) -> Made {
        let (groups, messages) = (VecDeque::new(), VecDeque::new());
        Made { groups, messages, groups_gone: 0, messages_gone: 0, memory }
    }

    fn group(&self, number: u64) -> Option<&MadeGroup> {
        self.groups.get(usize::try_from(number.checked_sub(self.groups_gone)?).ok()?)
    }

    /// The number of the group with that key; it is likely to be `guess`.
    fn find(&self, key: &LogKey, guess: u64) -> Option<u64> {
        if self.group(guess).is_some_and(|group| group.key == *key) {
            return Some(guess);
        }
        let index = self.groups.binary_search_by(|group| group.key.cmp(key)).ok()?;
        Some(self.groups_gone + index as u64)
    }

    /// Adds a group that lies behind all others; what does not is not kept.
    fn push(&mut self, key: LogKey, first: Sequence, messages: &[Message], skipped: &Skipped) {
        if self.groups.back().is_some_and(|last| last.key >= key) {
            return;
        }
        let Ok(message_count) = u32::try_from(messages.len()) else { return };
        let messages_start = self.messages_gone + self.messages.len() as u64;
        let skipped = skipped.clone();
        self.groups.push_back(MadeGroup { key, first, messages_start, message_count, skipped });
        self.messages.extend(messages.iter().cloned());
        self.memory.hold(GROUP_BYTES + bytes_of(messages.iter()));
    }

    /// Gives up the oldest, until it is no more than that, and others have the room that they need.
    fn give_up(&mut self, bytes_max: usize) {
        while (self.memory.bytes() > bytes_max || !self.memory.has_room())
            && let Some(group) = self.groups.pop_front()
        {
            let count = group.message_count as usize;
            self.memory.release(GROUP_BYTES + bytes_of(self.messages.drain(..count)));
            self.groups_gone += 1;
            self.messages_gone += u64::from(group.message_count);
        }
    }
}

fn bytes_of<M: std::borrow::Borrow<Message>>(messages: impl Iterator<Item = M>) -> usize {
    messages.map(|message| size_of::<Message>() + message.borrow().byte_count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::{BoundTable, FeedRender, Tables};
    use crate::pump::Render;
    use crate::sequence::Sequencer;
    use crate::testing::Feed;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    /// Changes of some rows, with an event, a tombstone, and rows that the filter would not see.
    fn changes(options: &str) -> Feed {
        let mut feed = Feed::new("p int, c int, a int", options);
        for micros in 101..160 {
            let row = micros % 7;
            let text = match micros % 5 {
                0 => format!("delete {row} @{micros}"),
                _ => format!("insert {row} a={micros} @{micros} + insert 9 a=1 @{micros}"),
            };
            feed.write(&text).unwrap();
        }
        feed
    }

    fn render_of(feed: &Feed, name: &str, from: i64) -> FeedRender<impl Tables + use<>> {
        let table = Arc::new(BoundTable { shape: feed.shape.clone(), filter: feed.filter.clone() });
        FeedRender::new(name, &feed.options, Sequencer::start(from).0, move |_| Some(table.clone()))
    }

    /// Feeds that began at different times take turns of different lengths. Each says what it would
    /// say alone, and those that are near each other share it.
    #[test]
    fn feeds_that_share_say_what_they_would_say_alone() {
        let feeds = [changes(""), changes("tombstones=true"), changes("envelope=cloudevents")];
        let shared = SharedMessages::new(FeedMemory::ample());
        let groups: Vec<_> = feeds[0].log.chunk_by(|a, b| a.key.is_same_group(&b.key)).collect();
        let mut readers: Vec<_> = (0..9)
            .map(|number| {
                let feed = &feeds[number % feeds.len()];
                let (name, from) =
                    (format!("feed {}", number / 6), if number < 7 { 0 } else { 130 });
                let sharing = render_of(feed, &name, from).sharing(&shared);
                (sharing, render_of(feed, &name, from), 0, Vec::new())
            })
            .collect();
        let mut state = 1_u64;
        while readers.iter().any(|(_, _, next, _)| *next < groups.len()) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
            let reader = (state >> 33) as usize % readers.len();
            let (sharing, alone, next, said) = &mut readers[reader];
            for group in groups.iter().skip(*next).take((state >> 40) as usize % 4) {
                *next += 1;
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                let position = sharing.render(group, None, &mut found).unwrap();
                assert_eq!(alone.render(group, None, &mut expected).unwrap(), position);
                assert_eq!(found, expected);
                said.extend(found);
            }
        }
        let said = readers.iter().flat_map(|(_, _, _, said)| said);
        let places: Vec<_> = said.map(|message: &Message| message.key.as_ptr()).collect();
        let made: BTreeSet<_> = places.iter().collect();
        assert!(2 * made.len() < places.len(), "{} of {} were made", made.len(), places.len());
        let kept = readers.iter().map(|(sharing, ..)| kept_bytes(sharing)).max().unwrap();
        assert!((1..=SHARED_BYTES_MAX / 4).contains(&kept), "{kept}");
    }

    fn kept_bytes<T>(render: &FeedRender<T>) -> usize {
        render.shared.as_ref().unwrap().made.borrow().memory.bytes()
    }

    #[test]
    fn a_feed_by_itself_keeps_nothing() {
        let feed = changes("");
        let mut groups = feed.log.chunk_by(|a, b| a.key.is_same_group(&b.key));
        let shared = SharedMessages::new(FeedMemory::ample());
        let mut render = render_of(&feed, "f", 0).sharing(&shared);
        render.render(groups.next().unwrap(), None, &mut Vec::new()).unwrap();
        assert_eq!(kept_bytes(&render), 0);
        let other = render_of(&feed, "g", 0).sharing(&shared);
        render.render(groups.next().unwrap(), None, &mut Vec::new()).unwrap();
        assert!(kept_bytes(&other) > 0);
    }

    /// A part of the memory at most, what others leave of it, and nothing once a feed is alone.
    #[test]
    fn what_is_kept_is_within_the_memory_of_all_feeds() {
        let feed = changes("");
        let groups: Vec<_> = feed.log.chunk_by(|a, b| a.key.is_same_group(&b.key)).collect();
        let (last, groups) = groups.split_last().unwrap();
        let kept_beside = |others: usize| {
            let memory = FeedMemory::new(8_192 * MEMORY_PART, 64, Arc::default());
            let other = memory.account();
            other.hold(others);
            let shared = SharedMessages::new(memory.clone());
            let mut one = render_of(&feed, "f", 0).sharing(&shared);
            let two = render_of(&feed, "g", 0).sharing(&shared);
            for group in groups {
                one.render(group, None, &mut Vec::new()).unwrap();
            }
            let kept = kept_bytes(&one);
            assert_eq!(memory.held_bytes(), others + kept);
            drop(two);
            one.render(last, None, &mut Vec::new()).unwrap();
            assert_eq!((kept_bytes(&one), memory.held_bytes()), (0, others));
            kept
        };
        let ample = kept_beside(0);
        assert!((4_096..=8_192).contains(&ample), "{ample}");
        let scarce = kept_beside(8_192 * MEMORY_PART);
        assert!((1..=1_024).contains(&scarce), "its share: {scarce}");
    }
}
