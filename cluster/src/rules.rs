//! Rules that tests can break, one at a time, to show that the checks would notice.
//!
//! The cores ask [`is_kept`] where a rule is one comparison. Outside tests the answer is a constant,
//! and nothing of this is left in the program.

/// A rule of `docs/consensus.md` or `docs/liveness.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Runs `act` with a rule broken on this thread; whether it panicked, as it should.
#[cfg(test)]
pub(crate) fn is_noticed(broken: Rule, act: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    BROKEN.set(Some(broken));
    let result = std::panic::catch_unwind(act);
    BROKEN.set(None);
    result.is_err()
}
