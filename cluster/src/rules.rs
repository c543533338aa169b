//! Rules that tests can break, one at a time, to show that the checks would notice.
//!
//! The cores ask [`is_kept`] where a rule is one comparison. Outside tests the answer is a constant,
//! and nothing of this is left in the program.

/// A rule of `docs/consensus.md` or `docs/liveness.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "some are rules of the shell, which is simulated")
)]
pub(crate) enum Rule {
    /// A withdrawn epoch is never supported again.
    WithdrawnIsOver,
    /// A request is for one life of its supporter.
    RequestNamesALife,
    /// A restarted node does not vote while a promise of its former life may be relied on.
    RestartWaits,
    /// Support is relied on from sending, not from hearing the answer.
    FromSending,
    /// Support is relied on for less time than it is promised for.
    Margin,
    /// A requester that restarts begins a new epoch.
    RestartBeginsAnEpoch,
    /// A voter that is fenced to a leader votes for no other.
    FencesHoldVotes,
    /// A leader counts only those that fortified it.
    LeaseNeedsFences,
    /// It counts them under the epoch in which they did.
    LeaseCountsTheEpoch,
    /// It needs a majority.
    LeaseOfAMajority,
    /// A leader that hands over has no lease any more.
    ReleaseEndsTheLease,
    /// A leader serves reads once it has applied an entry of its own term.
    ReadsAreSettled,
    /// A leader looks at the clock after it has read.
    ClockAfterRead,
    /// A new leader closes nothing below what its predecessors may have closed.
    NewLeaderStartsAbove,
    /// Beats close only what a committed entry has reserved.
    BeatsCloseWhatIsReserved,
    /// A follower believes a closed time when it has applied what came before.
    BelievedWhenApplied,
    /// A beat of the closed time names an entry by its term too.
    BeatsNameATerm,
    /// An envelope that is missed ends the session.
    MissedEndsTheSession,
    /// An entry is durable before it is acknowledged.
    EntriesAreSynced,
    /// An entry is committed when a majority holds it.
    CommitsByMajority,
    /// A vote is durable before it is given.
    VotesAreSynced,
    /// Only what is committed is applied.
    AppliesCommitted,
    /// A promise is kept for as long as it was made.
    SupportIsKept,
    /// Only entries of the leader's own term are committed by counting.
    CommitsOwnTerm,
    /// A member votes for complete logs only.
    CompleteLogsOnly,
    /// A replica that is made anew votes as if it held what the one before it held.
    FormerLogsCount,
    /// A change of members waits until the one before is committed.
    OneChangeAtATime,
    /// A write at an index voids what the log held at and above it.
    WritesVoidTheTail,
    /// A snapshot that is installed replaces the log before it.
    SnapshotReplacesTheLog,
}

/// Whether a rule is kept.
#[cfg(not(test))]
#[inline]
pub(crate) const fn is_kept(_: Rule) -> bool {
    true
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Whether a rule is kept on this thread.
#[cfg(test)]
pub(crate) fn is_kept(rule: Rule) -> bool {
    BROKEN.get() != Some(rule)
}

/// Runs seeds with a rule broken on this thread, until one panics, as one should; whether one did.
#[cfg(test)]
pub(crate) fn is_noticed(broken: Rule, seeds: std::ops::Range<u64>, run: fn(u64)) -> bool {
    BROKEN.set(Some(broken));
    let noticed = seeds.into_iter().find(|&seed| std::panic::catch_unwind(|| run(seed)).is_err());
    BROKEN.set(None);
    println!("{broken:?} is noticed by seed {noticed:?}");
    noticed.is_some()
}
