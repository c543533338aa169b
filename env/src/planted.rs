//! Bugs that tests plant, one at a time, to show that the checks would notice.
//!
//! A harness that has never failed proves nothing. So where a rule of the program is one comparison,
//! the code asks [`is_planted`], and a test that plants the bug on its thread wants to see a check
//! fail. `docs/planted-bugs.md` has the table of all bugs, with the test that catches each.
//!
//! A switch costs nothing where it could do harm: without `debug_assertions`, which release builds
//! and the image do not have, the answer is a constant and nothing of this is left in the program. With
//! them it is one thread-local word, which only code in the same thread can set: there is no
//! environment variable, no flag and no statement that would. That is why it is no Cargo feature:
//! features are unified over the workspace, so one would build everything twice, or plant the bugs in
//! the program that other tests run.
//!
//! It reaches what runs on the thread that planted it, which is all of a simulated node. The crate
//! `cluster` has its own switches of the same kind (`cluster/src/rules.rs`), seen by its tests alone.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The commit log counts entries as durable that were written and not synced.
    AcknowledgesUnsynced,
    /// Replay takes damage in the middle of the log for its end.
    ReplayStopsAtDamage,
    /// Checksums of blocks are not looked at.
    SkipsChecksums,
    /// A merge forgets tombstones whose victims may be outside of it.
    PurgesTooEarly,
    /// A snapshot misses what is in memory.
    SnapshotMissesTheLast,
    /// Conditions do not see what is undecided.
    ConditionsMissUndecided,
    /// Images do not see what is undecided.
    ImagesMissUndecided,
    /// A preimage shows the write itself.
    PreimageAfterWrite,
    /// A late write is logged as it stands, whatever it changed.
    LateWritesLoggedWhole,
    /// The first of what a write has logged is left out.
    LogsAllButOne,
    /// The server repeats increments of which it does not know what became.
    RepeatsIncrements,
    /// The same of conditional writes.
    RepeatsConditions,
    /// The same of writes whose timestamps a leader gives.
    RepeatsUndated,
    /// `Unavailable` is told after a write was sent.
    UnavailableAfterSending,
    /// A page goes on with the next range, whatever was left of the last.
    PagesSkipARange,
    /// A feed's position is saved before its sink has acknowledged.
    SavesBeforeDelivery,
    /// A feed's position is behind a whole change as soon as the first event of it is acknowledged.
    SavesWithinAChange,
    /// What changes in rows while they are scanned is left out of the scan.
    ScansMissChanges,
    /// A change of the ring is finished whatever its groups still lack.
    RingChangesWithoutMoving,
    /// Groups that an earlier change of the ring has moved count as moved by the next.
    RingChangesUnfenced,
    /// A log counts as closed up to where most of it is, whoever says nothing.
    ClosesOverThePaused,
    /// A change of the schema that no majority has answered is told as made.
    SchemaByAMinority,
    /// A log counts as turned on before the leaders of its table's rows have said that they know.
    LogsTurnedOnUnheard,
    /// A leader decides writes by metadata that lack a log which those before it knew.
    LeadsByOlderMetadata,
    /// A node whose log has failed stays, and leads what others could lead.
    LeadsWithoutItsLog,
}

/// Whether a bug is planted on this thread.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn is_planted(_: Bug) -> bool {
    false
}

#[cfg(debug_assertions)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether a bug is planted on this thread.
#[cfg(debug_assertions)]
#[inline]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug on this thread and runs something with numbers from `seeds` until it panics, as it
/// should; says whether it did.
#[cfg(debug_assertions)]
#[expect(clippy::print_stdout, reason = "tests call it, and show which seed it was")]
pub fn is_noticed(bug: Bug, seeds: std::ops::Range<u64>, run: impl Fn(u64)) -> bool {
    let fails = |seed: &u64| {
        PLANTED.set(Some(bug));
        let run = std::panic::AssertUnwindSafe(|| run(*seed));
        let is_noticed = std::panic::catch_unwind(run).is_err();
        PLANTED.set(None);
        is_noticed
    };
    let seed = seeds.into_iter().find(fails);
    println!("{bug:?} is noticed by seed {seed:?}");
    seed.is_some()
}
