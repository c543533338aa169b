//! The write path of a group with one member allocates nothing: each write of a single node takes it.

#![expect(unsafe_code, reason = "counting allocations takes a global allocator")]

use cluster::HostId;
use cluster::consensus::{Effect, Group, Input, LogIndex, Membership, Recovered};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn proposing_and_committing_allocates_nothing() {
    let me = HostId(1);
    let members = vec![(LogIndex(0), Arc::new(Membership::of_voters([me])))];
    let mut group =
        Group::recover(me, Recovered { memberships: members, ..Recovered::default() }).unwrap();
    let mut effects = Vec::with_capacity(8);
    group.step(Input::Campaign, &mut effects);
    let Some(Effect::SaveVote(vote)) = effects.pop() else {
        panic!("a campaign saves a vote");
    };
    group.step(Input::VoteSynced(vote), &mut effects);
    assert!(group.is_leader());

    let before = ALLOCATIONS.get();
    let mut committed = LogIndex(0);
    for _ in 0..1_000 {
        effects.clear();
        group.step(Input::Propose, &mut effects);
        let Some(&Effect::Append { entry, log_epoch, .. }) = effects.first() else {
            panic!("a leader appends");
        };
        group.step(Input::LogSynced { up_to: entry.index, log_epoch }, &mut effects);
        if let Some(&Effect::Committed { up_to }) = effects.last() {
            committed = up_to;
        }
    }
    assert_eq!(ALLOCATIONS.get(), before, "allocations on the write path");
    assert_eq!(committed, LogIndex(1_001), "the no-op and a thousand entries");
}
