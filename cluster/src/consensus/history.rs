//! The terms of a log's entries, as runs of equal terms.
//!
//! A leader's entries all have its term, so the history of a log takes a few words per election
//! since the oldest entry that is kept.

use super::message::{EntryId, LogIndex, Term, TermRun};

/// Which entries a log holds, without their bytes.
///
/// Invariants: runs ascend strictly by index and by term; the first begins right after `base`; the
/// last begins at or before `last`; there are none when `last` is `base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    /// The last entry that was discarded; (0, 0) when none was.
    base: EntryId,
    runs: Vec<TermRun>,
    last: EntryId,
    /// The first entry of the last run, as it is in `runs`: most questions are about that run, and
    /// need not look there.
    last_run_first: LogIndex,
}

impl Default for History {
    fn default() -> Self {
        let (base, last) = (EntryId::default(), EntryId::default());
        History { base, runs: Vec::new(), last, last_run_first: LogIndex(1) }
    }
}

impl History {
    /// The history of a log on the disk; nothing if the runs break an invariant.
    pub(super) fn recover(base: EntryId, runs: Vec<TermRun>, last: LogIndex) -> Option<History> {
        let Some(final_run) = runs.last() else {
            let last_run_first = base.index.next();
            return (last == base.index).then_some(History {
                base,
                runs,
                last: base,
                last_run_first,
            });
        };
        let ascends = runs
            .windows(2)
            .all(|pair| pair[0].first < pair[1].first && pair[0].term < pair[1].term);
        let joins_base = runs[0].first == base.index.next() && runs[0].term >= base.term;
        let last = EntryId { index: last, term: final_run.term };
        let last_run_first = final_run.first;
        let is_whole = ascends && joins_base && last_run_first <= last.index;
        is_whole.then_some(History { base, runs, last, last_run_first })
    }

    #[inline]
    pub(super) fn base(&self) -> EntryId {
        self.base
    }

    #[inline]
    pub(super) fn last(&self) -> EntryId {
        self.last
    }

    /// The term of the entry at `index`; nothing if it was discarded or does not exist.
    #[inline]
    pub(super) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index > self.last.index || index < self.base.index {
            return None;
        }
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index >= self.last_run_first {
            return Some(self.last.term);
        }
        self.runs.iter().rev().find(|run| run.first <= index).map(|run| run.term)
    }

    /// Adds an entry at the end. Terms never fall.
    #[inline]
    pub(super) fn append(&mut self, term: Term) -> EntryId {
        assert!(term >= self.last.term, "terms never fall along a log");
        let index = self.last.index.next();
        if term != self.last.term || self.last.index == self.base.index {
            self.runs.push(TermRun { first: index, term });
            self.last_run_first = index;
        }
        self.last = EntryId { index, term };
        self.last
    }

    /// Removes every entry at or above `first`, which must not have been discarded.
    pub(super) fn truncate_from(&mut self, first: LogIndex) {
        assert!(first > self.base.index, "discarded entries cannot be truncated");
        while self.runs.last().is_some_and(|run| run.first >= first) {
            self.runs.pop();
        }
        let term = self.runs.last().map_or(self.base.term, |run| run.term);
        self.last = EntryId { index: first.previous(), term };
        self.find_last_run();
    }

    fn find_last_run(&mut self) {
        self.last_run_first = self.runs.last().map_or(self.base.index.next(), |run| run.first);
    }

    /// Forgets entries up to `up_to`.
    pub(super) fn discard(&mut self, up_to: LogIndex) {
        let Some(term) = self.term_at(up_to) else {
            return;
        };
        self.base = EntryId { index: up_to, term };
        // The run that holds the base begins after it now, or is gone.
        let kept = self.runs.partition_point(|run| run.first <= up_to);
        let cut_run = kept.checked_sub(1).filter(|_| up_to < self.last.index);
        let cut_run =
            cut_run.filter(|_| self.runs.get(kept).is_none_or(|r| r.first > up_to.next()));
        match cut_run {
            Some(position) => {
                self.runs[position].first = up_to.next();
                self.runs.drain(..position);
            }
            None => {
                self.runs.drain(..kept);
            }
        }
        self.find_last_run();
    }

    /// The last entry whose index and term are not above those of `limit`; nothing if it was
    /// discarded. Of two logs, the last entry they share is not above this.
    pub(super) fn last_not_above(&self, limit: EntryId) -> Option<EntryId> {
        let mut index = limit.index.min(self.last.index);
        for run in self.runs.iter().rev().skip_while(|run| run.first > limit.index) {
            if run.term <= limit.term {
                return Some(EntryId { index, term: run.term });
            }
            index = run.first.previous();
        }
        (self.base.index <= index && self.base.term <= limit.term).then_some(self.base)
    }

    /// The runs of terms.
    pub(super) fn into_runs(self) -> Vec<TermRun> {
        self.runs
    }

    /// Panics if an invariant does not hold.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let recovered = History::recover(self.base, self.runs.clone(), self.last.index);
        assert_eq!(recovered.as_ref(), Some(self));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(terms: &[u64]) -> History {
        let mut history = History::default();
        for &term in terms {
            history.append(Term(term));
        }
        history
    }

    fn terms(history: &History) -> Vec<Option<u64>> {
        (0..=history.last().index.0 + 1)
            .map(|index| history.term_at(LogIndex(index)).map(|term| term.0))
            .collect()
    }

    #[test]
    fn terms_survive_truncating_and_discarding_at_every_index() {
        let all = [1, 1, 2, 4, 4, 4, 7];
        for discarded in 0..=all.len() as u64 {
            for truncated in discarded + 1..=all.len() as u64 + 1 {
                let mut history = history(&all);
                history.discard(LogIndex(discarded));
                history.check_invariants();
                history.truncate_from(LogIndex(truncated));
                history.check_invariants();
                let kept = terms(&history);
                for (index, &term) in (1_u64..).zip(&all) {
                    let expected = (discarded..truncated).contains(&index).then_some(term);
                    let found = kept.get(index as usize).copied().flatten();
                    assert_eq!(found, expected, "{index} of {discarded}..{truncated}");
                }
            }
        }
    }

    #[test]
    fn the_last_entry_not_above_a_limit_is_found_by_index_and_term() {
        let history = history(&[1, 1, 2, 4, 4, 4, 7]);
        let find = |index, term| {
            let limit = EntryId { index: LogIndex(index), term: Term(term) };
            history.last_not_above(limit).map(|entry| entry.to_string()).unwrap_or_default()
        };
        assert_eq!(find(9, 9), "7@7");
        assert_eq!(find(9, 6), "6@4");
        assert_eq!(find(5, 6), "5@4");
        assert_eq!(find(5, 3), "3@2");
        assert_eq!(find(5, 0), "0@0");
    }

    #[test]
    fn broken_runs_are_not_recovered() {
        let run = |first, term| TermRun { first: LogIndex(first), term: Term(term) };
        let recover = |runs: &[TermRun], last| {
            History::recover(EntryId::default(), runs.to_vec(), LogIndex(last))
        };
        assert!(recover(&[run(1, 1), run(3, 2)], 3).is_some());
        assert!(recover(&[run(2, 1)], 3).is_none(), "a gap after the base");
        assert!(recover(&[run(1, 2), run(3, 2)], 3).is_none(), "equal terms in two runs");
        assert!(recover(&[run(1, 1), run(4, 2)], 3).is_none(), "a run after the last entry");
        assert!(recover(&[], 1).is_none(), "entries without a run");
    }
}
