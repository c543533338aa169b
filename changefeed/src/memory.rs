//! What the feeds of a thread hold in memory together, under one limit, and who may take more of it.
//!
//! Whoever holds something for a feed has an [`Account`]: it says what it holds, and waits for room
//! before it takes more. Half of the limit is the accounts' own: to each a small *share* that nobody
//! else can take. The other half is the *pool*, for what goes beyond the shares.
//!
//! ```text
//!   |<------------- half: shares ------------->|<------------ half: the pool ------------>|
//!   | stuck | stuck | fast |  of accounts that  | stuck      | stuck | fast |    free     |
//!   |       |       |      |  may yet be opened |            |       |      |             |
//! ```
//!
//! - An account takes more while it holds less than its share: one that gives back what it takes, as
//!   a feed does that delivers, goes on however much the others hold for ever.
//! - Beyond that it takes more while it has less of the pool than is free there. So nobody takes all of
//!   it: the first that are stuck leave half, then a quarter, to those that come later.
//! - Those that wait are woken one after the other, each by the one before it, and only if there is
//!   room for it: giving back costs no wake-ups of feeds that cannot go on anyway.
//!
//! The limit is one on beginning: what an account takes in one step, such as the messages of one
//! group of log rows, may exceed it by that step.
//!
//! It counts what it is told. What allocators, client libraries and the log itself take besides is not
//! known here.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// No account needs more than this to go on at its full pace, or nearly.
pub const SHARE_BYTES_MAX: usize = 256 << 10;

/// The memory of the feeds of one thread.
///
/// Invariant: `pooled_bytes` is the sum of what each account holds beyond a share, and `held_bytes`
/// of all that they hold.
#[derive(Debug)]
pub struct FeedMemory {
    bytes_max: usize,
    share_bytes: usize,
    pool_bytes_max: usize,
    pooled_bytes: Cell<usize>,
    /// For whoever wants to see it, on any thread.
    held_bytes: Arc<AtomicUsize>,
    /// Accounts that wait, those first that came first.
    waiting: RefCell<VecDeque<Rc<State>>>,
}

/// What one holder has of it. All is given back when it is dropped.
#[derive(Debug)]
pub struct Account {
    memory: Rc<FeedMemory>,
    state: Rc<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Cell<usize>,
    is_waiting: Cell<bool>,
    /// It was woken, and has not said yet whether others may be.
    is_woken: Cell<bool>,
    woken: Notify,
}

impl FeedMemory {
    /// So many bytes in all, for at most so many accounts. `held_bytes` shows what they hold.
    pub fn new(
        bytes_max: usize,
        account_count_max: usize,
        held_bytes: Arc<AtomicUsize>,
    ) -> Rc<FeedMemory> {
        let shares_bytes_max = bytes_max / 2;
        let share_bytes = (shares_bytes_max / account_count_max.max(1)).min(SHARE_BYTES_MAX);
        Rc::new(FeedMemory {
            bytes_max,
            share_bytes,
            pool_bytes_max: bytes_max - shares_bytes_max,
            pooled_bytes: Cell::new(0),
            held_bytes,
            waiting: RefCell::default(),
        })
    }

    /// All of it: shares and pool.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What all accounts hold.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// For tests and measurements: room for everything.
    pub fn ample() -> Rc<FeedMemory> {
        FeedMemory::new(usize::MAX / 2, 1, Arc::default())
    }

    /// Holds nothing yet.
    pub fn account(self: &Rc<Self>) -> Account {
        Account { memory: self.clone(), state: Rc::default() }
    }

    fn pooled(&self, bytes: usize) -> usize {
        bytes.saturating_sub(self.share_bytes)
    }

    fn free_bytes(&self) -> usize {
        self.pool_bytes_max.saturating_sub(self.pooled_bytes.get())
    }

    /// Whether one that holds so much may take more.
    fn has_room(&self, bytes: usize) -> bool {
        bytes < self.share_bytes || self.pooled(bytes) < self.free_bytes()
    }

    /// An account holds another number of bytes from now on.
    fn change(&self, state: &State, bytes: usize) {
        let before = state.bytes.replace(bytes);
        let pooled = self.pooled_bytes.get() + self.pooled(bytes) - self.pooled(before);
        self.pooled_bytes.set(pooled);
        self.held_bytes.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Wakes the first that waits and has room.
    fn wake_next(&self) {
        let mut waiting = self.waiting.borrow_mut();
        let next = waiting.iter().position(|state| self.has_room(state.bytes.get()));
        let Some(state) = next.and_then(|next| waiting.remove(next)) else { return };
        state.is_waiting.set(false);
        state.is_woken.set(true);
        state.woken.notify_one();
    }
}

impl Account {
    /// Holds so many bytes more.
    pub fn hold(&self, bytes: usize) {
        self.memory.change(&self.state, self.state.bytes.get() + bytes);
    }

    /// Gives so many back.
    pub fn release(&self, bytes: usize) {
        let held = self.state.bytes.get();
        assert!(bytes <= held, "nobody gives back more than it holds");
        if bytes > 0 {
            self.memory.change(&self.state, held - bytes);
            self.memory.wake_next();
        }
    }

    /// Holds so many bytes, whatever it held before.
    pub fn set(&self, bytes: usize) {
        let held = self.state.bytes.get();
        match bytes.checked_sub(held) {
            Some(more) => self.hold(more),
            None => self.release(held - bytes),
        }
    }

    /// What it holds.
    pub fn bytes(&self) -> usize {
        self.state.bytes.get()
    }

    /// Whether it may take more.
    pub fn has_room(&self) -> bool {
        self.memory.has_room(self.state.bytes.get())
    }

    /// How much it may take at once, about: what is left of its share, or as much of the pool as leaves
    /// as much to others.
    pub fn room_bytes(&self) -> usize {
        let bytes = self.state.bytes.get();
        let of_share = self.memory.share_bytes.saturating_sub(bytes);
        let of_pool = self.memory.free_bytes().saturating_sub(self.memory.pooled(bytes)) / 2;
        of_share.max(of_pool)
    }

    /// Waits until it may take more. May be dropped before that.
    pub async fn room(&self) {
        let state = &self.state;
        while !self.has_room() {
            if !state.is_waiting.replace(true) {
                self.memory.waiting.borrow_mut().push_back(state.clone());
            }
            state.woken.notified().await;
            if !self.has_room() {
                // Others may have room that were not asked.
                self.pass_on();
            }
        }
        self.pass_on();
    }

    /// Whoever was woken lets the next look for itself.
    fn pass_on(&self) {
        if self.state.is_woken.replace(false) {
            self.memory.wake_next();
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.state.is_waiting.get() {
            self.memory.waiting.borrow_mut().retain(|state| !Rc::ptr_eq(state, &self.state));
        }
        self.release(self.state.bytes.get());
        self.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    const SHARE: usize = 100;
    const ACCOUNTS: usize = 10;

    /// A pool as large as ten shares.
    fn memory() -> (Rc<FeedMemory>, Arc<AtomicUsize>) {
        let shown = Arc::new(AtomicUsize::new(0));
        (FeedMemory::new(2 * SHARE * ACCOUNTS, ACCOUNTS, shown.clone()), shown)
    }

    fn is_ready(room: Pin<&mut impl Future<Output = ()>>) -> bool {
        room.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    fn fill(account: &Account, step: usize) {
        while account.has_room() {
            account.hold(step);
        }
    }

    #[test]
    fn those_that_give_nothing_back_leave_something_and_never_the_shares() {
        let (memory, shown) = memory();
        let stuck: Vec<Account> = (0..ACCOUNTS - 1).map(|_| memory.account()).collect();
        for account in &stuck {
            fill(account, 1);
        }
        let held: Vec<usize> = stuck.iter().map(Account::bytes).collect();
        assert_eq!(held[..4], [SHARE + 500, SHARE + 250, SHARE + 125, SHARE + 63]);
        assert!(held.iter().all(|held| *held >= SHARE));
        let fast = memory.account();
        for _ in 0..100 {
            assert!(fast.has_room() && fast.room_bytes() >= SHARE);
            fast.hold(SHARE);
            fast.release(SHARE);
        }
        assert!(shown.load(Ordering::Relaxed) <= 2 * SHARE * ACCOUNTS);
        assert_eq!(shown.load(Ordering::Relaxed), held.iter().sum::<usize>());
        drop((stuck, fast));
        assert_eq!((shown.load(Ordering::Relaxed), memory.pooled_bytes.get()), (0, 0));
    }

    #[test]
    fn who_waits_is_woken_when_there_is_room_for_it_and_wakes_the_next() {
        let (memory, _) = memory();
        let [large, one, two, three] = [(); 4].map(|()| memory.account());
        large.hold(SHARE + 1_000);
        for account in [&one, &two, &three] {
            account.hold(SHARE);
        }
        let (mut first, mut given_up, mut last) =
            (pin!(one.room()), Box::pin(two.room()), pin!(three.room()));
        assert!(!is_ready(first.as_mut()) && !is_ready(given_up.as_mut()));
        assert!(!is_ready(last.as_mut()));
        large.release(10);
        // The one that was woken passes it on, also when it does not wait any longer.
        assert!(is_ready(first.as_mut()));
        drop(given_up);
        assert!(!is_ready(last.as_mut()), "the second was woken, and has not looked");
        drop(two);
        assert!(is_ready(last.as_mut()));
    }

    #[test]
    fn who_has_too_much_of_the_pool_does_not_stand_before_others() {
        let (memory, _) = memory();
        let [large, small, other] = [(); 3].map(|()| memory.account());
        large.hold(SHARE + 600);
        small.hold(SHARE + 10);
        other.hold(SHARE + 390);
        let (mut of_large, mut of_small) = (pin!(large.room()), pin!(small.room()));
        assert!(!is_ready(of_large.as_mut()) && !is_ready(of_small.as_mut()));
        other.release(50);
        assert!(!is_ready(of_large.as_mut()) && is_ready(of_small.as_mut()));
    }

    #[test]
    fn who_is_woken_too_late_wakes_the_next_all_the_same() {
        let (memory, _) = memory();
        let [large, late, small, other] = [(); 4].map(|()| memory.account());
        large.hold(SHARE + 900);
        late.hold(SHARE + 20);
        small.hold(SHARE + 80);
        let (mut of_late, mut of_small) = (pin!(late.room()), pin!(small.room()));
        assert!(!is_ready(of_late.as_mut()) && !is_ready(of_small.as_mut()));
        small.release(SHARE + 80);
        // Before the first of them looks, somebody else takes what was free.
        other.hold(SHARE + 70);
        assert!(!is_ready(of_late.as_mut()));
        assert!(is_ready(of_small.as_mut()), "it has its share");
    }

    /// By turns: some never give back, others always do. Nobody that gives back waits for ever, and
    /// the limit holds.
    #[test]
    fn the_limit_holds_and_nobody_starves_whatever_the_order() {
        for seed in 1..200_u64 {
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let mut below = |bound: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state % bound as u64) as usize
            };
            let (memory, shown) = memory();
            let accounts: Vec<Account> = (0..ACCOUNTS).map(|_| memory.account()).collect();
            let stuck_count = below(ACCOUNTS);
            for _ in 0..500 {
                let number = below(ACCOUNTS);
                let account = &accounts[number];
                if account.has_room() {
                    account.hold(1 + below(SHARE / 10));
                }
                if number >= stuck_count && below(3) == 0 {
                    account.release(account.bytes());
                    assert!(account.has_room());
                }
                let steps = ACCOUNTS * SHARE / 10;
                let held = shown.load(Ordering::Relaxed);
                assert!(held <= 2 * SHARE * ACCOUNTS + steps, "seed {seed}: {held}");
            }
        }
    }
}
