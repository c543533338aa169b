//! The write path of a group with one member allocates nothing: each write of a single node takes it.

#![expect(unsafe_code, reason = "counting allocations takes a global allocator")]

use cluster::consensus::{
    Effect, EntryId, Group, HardState, Input, Kind, LogIndex, Membership, Recovered,
};
use cluster::liveness::{Board, Incarnation, MonotonicNanos};
use cluster::replica::{
    Committed, Decided, Local, LocalLog, LocalState, LogPosition, NewReplica, PartitionMask,
    Replicas,
};
use cluster::{GroupId, HostId};
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

/// A log that counts what is appended.
struct CountingLog(u64);

impl LocalLog for CountingLog {
    type Error = std::convert::Infallible;

    fn admit(&self, _: GroupId, _: usize) -> Result<(), Self::Error> {
        Ok(())
    }

    fn payload_bytes_max(&self) -> usize {
        usize::MAX
    }

    fn append(
        &mut self,
        _: GroupId,
        _: EntryId,
        _: &Kind,
        _: &[u8],
    ) -> Result<LogPosition, Self::Error> {
        self.0 += 1;
        Ok(LogPosition(self.0))
    }

    fn save_vote(&mut self, _: GroupId, _: HardState) -> Result<LogPosition, Self::Error> {
        self.0 += 1;
        Ok(LogPosition(self.0))
    }
}

/// Data that counts what is applied, and in how many runs.
#[derive(Default)]
struct CountingState {
    entries: u64,
    runs: u64,
}

impl LocalState for CountingState {
    fn apply<'a>(
        &mut self,
        entries: impl Iterator<Item = Committed<'a>>,
    ) -> Vec<(GroupId, LogIndex)> {
        self.entries += entries.count() as u64;
        self.runs += 1;
        Vec::new()
    }
}

#[test]
fn the_shell_allocates_nothing_either() {
    let (me, id) = (HostId(1), GroupId(9));
    let memberships = vec![(LogIndex(0), Arc::new(Membership::of_voters([me])))];
    let recovered = Recovered { memberships, ..Recovered::default() };
    let mut replicas: Replicas<u64> = Replicas::new(me, Incarnation(1));
    let new = NewReplica { recovered, ..NewReplica::default() };
    replicas.add(id, new, MonotonicNanos(1)).unwrap();
    let (mut log, mut state, support) =
        (CountingLog(0), CountingState::default(), Board::default());
    let mut decided = Decided::default();
    let mut run = |replicas: &mut Replicas<u64>, write_count: u64| {
        let (log, state, now) = (&mut log, &mut state, MonotonicNanos(2));
        let mut local = Local { log, state, support: &support, now };
        if write_count == 0 {
            let Ok(()) = replicas.campaign(id, &mut local);
        }
        for number in 0..write_count {
            let mut payload = replicas.payload_buffer();
            payload.extend_from_slice(&[7; 300]);
            replicas.propose(id, payload, PartitionMask(1), || number, &mut local).unwrap();
        }
        // The first report makes a leader, whose first entry the second one commits.
        for _ in 0..2 {
            let position = LogPosition(local.log.0);
            let Ok(()) = replicas.log_synced(position, &mut local);
        }
        let Ok(()) = replicas.tick(&mut local);
        assert!(replicas.may_serve(id, &support, now));
        replicas.take_decided(&mut decided);
        let answered = decided.applied.len() as u64;
        decided.applied.clear();
        (answered, local.state.entries, local.state.runs)
    };
    assert_eq!(run(&mut replicas, 0), (0, 1, 1), "the leader's first entry");
    // Twice, for the two vectors of what was decided.
    for _ in 0..2 {
        run(&mut replicas, 100);
    }
    let before = ALLOCATIONS.get();
    for turn in 0..10 {
        assert_eq!(run(&mut replicas, 100), (100, 301 + turn * 100, 4 + turn));
    }
    assert_eq!(ALLOCATIONS.get(), before, "allocations on the write path");
}
